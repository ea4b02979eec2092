"""Processes of the demo: started, failed, stopped; none is left behind."""

from __future__ import annotations

import io
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_local import addresses
from sealtrail_local.demo import repository, stage, surroundings
from sealtrail_local.demo.report import Report
from sealtrail_local.demo.stage import Stage, wait_until
from sealtrail_local.demo.verdict import Outcome


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage whose commands are shell scripts."""
    monkeypatch.setattr(stage, "SEALTRAIL", ("/bin/sh", "-c"))
    return Stage(dict(os.environ), tmp_path / "logs")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_gives_its_output_and_json(shell: Stage):
    with shell:
        assert shell.run("echo hello; exit 1", codes=(0, 1)).out == "hello\n"
        assert shell.ask('echo remark; echo "[1]" #') == [1]
        assert shell.running == []


def test_a_failed_command_says_what_it_wrote(shell: Stage, tmp_path: Path):
    with shell, pytest.raises(UnavailableError, match="ended with code 3: why not") as caught:
        shell.run("echo why not >&2; exit 3")
    assert str(tmp_path) in caught.value.hint
    with shell, pytest.raises(UnavailableError, match="no JSON"):
        shell.ask("echo nothing #")
    with shell, pytest.raises(UnavailableError, match="not ended after"):
        shell.run("sleep 60", timeout_s=0.2)


def test_everything_ends_with_the_stage(shell: Stage):
    with shell:
        stubborn = shell.start("a", "trap '' INT; sleep 60 & wait")
        plain = shell.start("b", "sleep 60")
        shell.check()
    assert not _alive(stubborn.pid)
    assert not _alive(plain.pid)


def test_a_service_that_died_is_noticed(shell: Stage):
    with shell:
        shell.start("worker", "echo broken >&2; exit 3").wait()
        with pytest.raises(UnavailableError, match=r"worker.*ended with code 3: broken"):
            shell.check()


def test_what_a_finished_command_left_running_is_left(shell: Stage):
    with shell:
        pid = int(shell.run("sleep 30 >&- 2>&- & echo $!").out)
    assert _alive(pid)
    os.kill(pid, 9)


def test_waiting_ends():
    answers = iter([False, True])
    assert wait_until(lambda: next(answers), lambda: None, 5, 0)
    began = time.monotonic()
    assert not wait_until(lambda: False, lambda: None, 0.05, 0.01)
    assert time.monotonic() - began < 5


def test_a_demo_has_surroundings_of_its_own(tmp_path: Path):
    given = {
        "PATH": "/bin",
        "SEALTRAIL_TENANT": "real",
        "SEALTRAIL_STORE_PASSWORD": "real",
        "SEALTRAIL_LOCAL_STORE_PORT": "23199",
    }
    found = surroundings.environment(given, tmp_path)
    assert found["PATH"] == "/bin"
    assert found["SEALTRAIL_LOCAL_STORE_PORT"] == "23199"
    assert "SEALTRAIL_TENANT" not in found
    assert "SEALTRAIL_STORE_PASSWORD" not in found
    ports = [v for k, v in found.items() if k.endswith("_PORT")]
    assert len(set(ports)) == 4
    assert surroundings.settings(found).state_dir == tmp_path


def test_ports_that_are_taken_are_passed_over(tmp_path: Path):
    usual = surroundings.PORTS["local_kafka_port"]
    with socket.socket() as other:
        # Of three real brokers the last one's: whoever has it, none of them can stay there.
        with suppress(OSError):
            other.bind(("127.0.0.1", usual + 22))
        found = surroundings.environment({}, tmp_path, addresses.ports(0, 3))
    assert int(found["SEALTRAIL_LOCAL_KAFKA_PORT"]) in surroundings.OTHERS


def test_the_shipped_history_knows_its_truth():
    history = repository.shipped()
    assert history.commits == 25173
    assert history.causality is not None
    assert len(history.causality) == 4
    assert repository.shipped(limit=100).causality is None


def test_a_folder_without_history_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no git repository"):
        repository.on_disk(tmp_path)


def test_what_strangers_wrote_cannot_drive_the_terminal():
    out = io.StringIO()
    report = Report(Console(file=out))
    report.opening("x")
    report.step("Look")
    report.output("line\n" * 30 + "\x1b[31mred")
    report.table(("name",), [["\x1b[2Jgone"], ["[bold]no markup[/bold]"]])
    report.numbers([("events", "1", "of 1")])
    report.command("sql", "SELECT 1")
    report.verdict(Outcome(problems=["events stored: 1, not 2"]))
    report.verdict(Outcome())
    report.farewell("/somewhere", 1, "SELECT 1")
    text = out.getvalue()
    assert "\x1b" not in text
    assert "[bold]no markup[/bold]" in text
    assert '$ sealtrail sql "SELECT 1"' in text
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in text
    assert "... 7 more lines" in text
    assert "events stored: 1, not 2" in text
