"""The command `sealtrail`: exit codes, errors as one line, JSON, lazy rooms."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import EntryPoint
from pathlib import Path
from uuid import UUID

import click
import pytest
from pydantic import SecretStr

from sealtrail import __version__, cli
from sealtrail.cli import lazy
from sealtrail.cli.main import run
from sealtrail.cli.output import Output, printable, to_json
from sealtrail.errors import ConfigurationError, UnavailableError

SEALTRAIL = Path(sys.executable).with_name("sealtrail")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("SEALTRAIL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SEALTRAIL_STATE_DIR", str(tmp_path))


@pytest.fixture
def probe() -> Iterator[click.Group]:
    """A group under the real root, gone after the test."""
    group = click.Group("probe")
    cli.root.add_command(group)
    yield group
    del cli.root.commands["probe"]


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == cli.OK
    text = capsys.readouterr().out
    for room in lazy.ROOMS.values():
        assert room.heading in text
        for name in room.commands:
            assert f"  {name} " in text
    for word in ("Exit codes", "config", "--debug", "interrupted"):
        assert word in text


def test_help_imports_no_room() -> None:
    code = (
        "import sys; from sealtrail.cli.main import run; run(['--help']);"
        "rooms = {'sealtrail_' + r for r in ('producer', 'processor', 'audit', 'local')};"
        "heavy = {'faust', 'chdb', 'confluent_kafka', 'clickhouse_connect', 'pydantic'};"
        "sys.exit(bool((rooms | heavy) & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_table_of_help_lines_is_what_the_rooms_declare() -> None:
    declared = {
        (lazy.room_of(point), point.name) for point in cli.root._points() if point.dist is not None
    }
    table = {(package, name) for package, room in lazy.ROOMS.items() for name in room.commands}
    assert table == declared


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == cli.OK
    assert capsys.readouterr().out == f"sealtrail {__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["config", "nonsense"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    assert run(arguments) == cli.USAGE


def test_an_error_is_one_line_with_a_hint(
    probe: click.Group, capsys: pytest.CaptureFixture[str]
) -> None:
    @probe.command()
    def fail() -> None:
        raise ConfigurationError("no \x1b[2Jkey\nhere", hint="make one")

    assert run(["probe", "fail"]) == cli.FAILED
    assert capsys.readouterr().err == "error: no \\x1b[2Jkey\\nhere (make one)\n"


def test_an_unexpected_error_is_one_line_and_a_traceback_only_with_debug(
    probe: click.Group, capsys: pytest.CaptureFixture[str]
) -> None:
    @probe.command()
    def fail() -> None:
        raise ZeroDivisionError

    assert run(["probe", "fail"]) == cli.FAILED
    error = capsys.readouterr().err
    assert error.startswith("error: unexpected ZeroDivisionError (")
    assert error.count("\n") == 1
    assert run(["--debug", "probe", "fail"]) == cli.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_commands_return_their_exit_code(probe: click.Group) -> None:
    probe.command("findings")(lambda: cli.FINDINGS)
    probe.command("fine")(lambda: None)

    @probe.command("exit")
    @click.pass_context
    def leave(ctx: click.Context) -> None:
        ctx.exit(cli.FINDINGS)

    @probe.command("abort")
    def abort() -> None:
        raise KeyboardInterrupt

    @probe.command("file")
    def file() -> None:
        raise click.FileError("x", hint="not there")

    codes = {name: run(["probe", name]) for name in ("findings", "fine", "exit", "abort", "file")}
    assert codes == {"findings": 1, "fine": 0, "exit": 1, "abort": 130, "file": 3}


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(option: list[str]) -> None:
    code = (
        "import sys, click; from sealtrail import cli\n"
        "@cli.root.command('flood')\n"
        "@cli.pass_output\n"
        "def flood(out):\n"
        "    for _ in range(100_000): out.data('x' * 80)\n"
        "cli.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "flood", *option],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# --- Rooms -----------------------------------------------------------------


def group_with(*points: tuple[str, str]) -> lazy.LazyGroup:
    entries = [EntryPoint(name=n, value=v, group=lazy.GROUP) for n, v in points]
    return lazy.LazyGroup("test", points=lambda: entries)


def load(group: lazy.LazyGroup, name: str) -> click.Command | None:
    return group.get_command(click.Context(group), name)


def test_a_command_of_a_room_is_loaded_by_name() -> None:
    group = group_with(("config", "sealtrail.cli.config:config_command"))
    found = load(group, "config")
    assert isinstance(found, click.Group)
    assert load(group, "other") is None
    assert group.list_commands(click.Context(group)) == ["config"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sealtrail_nowhere.cli:x", "No module named"),
        ("sealtrail.cli.config:missing", "missing"),
        ("sealtrail.cli.config:os", "is not a command"),
    ],
)
def test_a_broken_installation_is_said_so(value: str, message: str) -> None:
    with pytest.raises(UnavailableError, match=message) as caught:
        load(group_with(("x", value)), "x")
    assert caught.value.hint


def test_a_missing_extra_is_named(probe: click.Group, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ModuleNotFoundError("No module named 'faust'", name="faust.app")
    error = lazy.explain_missing(missing, "worker", "sealtrail_processor")
    assert error.message == "`sealtrail worker` needs faust, which is not installed"
    assert error.hint == 'pip install "sealtrail[processor]"'

    @probe.command("late")
    def late() -> None:
        raise missing

    assert run(["probe", "late"]) == cli.FAILED
    assert "No module named" in capsys.readouterr().err


def test_commands_of_others_are_listed_too() -> None:
    group = group_with(("extra", "somebody.cli:x"))
    group.add_command(click.Command("secret", hidden=True))
    text = group.get_help(click.Context(group))
    assert "From somebody." in text
    assert "secret" not in text
    assert group.command_room("extra") == "somebody"
    assert group.command_room("config") == "sealtrail"


# --- Output ----------------------------------------------------------------


class Colour(Enum):
    RED = 1


@dataclass
class Point:
    at: datetime


def test_json_knows_the_values_of_our_records() -> None:
    value = {
        "id": UUID(int=1),
        "hash": b"\x01\xff",
        "when": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "naive": datetime(2026, 1, 2),  # noqa: DTZ001  # a time without a zone is the case
        "day": datetime(2026, 1, 2, tzinfo=UTC).date(),
        "colour": Colour.RED,
        "set": {"b", "a"},
        "point": Point(datetime(2026, 1, 2, tzinfo=UTC)),
        "secret": SecretStr("hunter2"),
    }
    assert json.loads(json.dumps(value, default=to_json)) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "hash": "01ff",
        "when": "2026-01-02T03:04:05.000006+00:00",
        "naive": "2026-01-02T00:00:00",
        "day": "2026-01-02",
        "colour": "RED",
        "set": ["a", "b"],
        "point": {"at": "2026-01-02T00:00:00+00:00"},
        "secret": "**********",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (3, "3"),
        (b"\x00\x01", "0001"),
        ("a\tb\x1b[31m\u202e", "a\\tb\\x1b[31m\\u202e"),
        ([1, "ü"], '[1, "ü"]'),
        ({"a": b"\x01"}, '{"a": "01"}'),
    ],
)
def test_printable(value: object, text: str) -> None:
    assert printable(value) == text


def test_output_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.table(("name", "n"), [("[bold]a[/bold]" + "x" * 200, 1), ("b\x07", None)], title="T")
    out.data({"events": 3, "id": b"\x01"})
    out.data([1])
    out.line("plain [red]")
    out.remark("working")
    with out.progress("work", total=2) as advance:
        advance(2)
    captured = capsys.readouterr()
    lines = [line.rstrip() for line in captured.out.splitlines()]
    assert lines[0] == "T"
    assert lines[2].startswith("[bold]a[/bold]xxx")
    assert lines[2].endswith("1")
    assert lines[3] == "b\\x07"
    assert lines[4:] == ["events  3", "id      01", "[1]", "plain [red]"]
    assert captured.err == "working\n"


def test_output_as_json_holds_nothing_else(
    probe: click.Group, capsys: pytest.CaptureFixture[str]
) -> None:
    @probe.command("rows")
    @click.option("--count", default=1)
    @cli.pass_output
    def rows(output: Output, count: int) -> int:
        output.line("for people")
        output.table(("a", "b"), [(i, b"\xff") for i in range(count)])
        return cli.FINDINGS

    assert run(["probe", "rows", "--json", "--count", "2"]) == cli.FINDINGS
    assert json.loads(capsys.readouterr().out) == [{"a": 0, "b": "ff"}, {"a": 1, "b": "ff"}]


def test_json_drives_no_terminal(probe: click.Group, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x9b31m\u202e\u2066\x7fé"

    @probe.command("hostile")
    @cli.pass_output
    def shown(output: Output) -> None:
        output.data([hostile])

    assert run(["probe", "hostile", "--json"]) == cli.OK
    text = capsys.readouterr().out
    assert json.loads(text) == [hostile]
    assert text.rstrip("\n").isprintable()
    assert "é" in text


# --- config ----------------------------------------------------------------


def test_config_show_masks_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALTRAIL_STORE_PASSWORD", "hunter2")
    assert run(["config", "show", "--json"]) == cli.OK
    text = capsys.readouterr().out
    assert "hunter2" not in text
    rows = {row["setting"]: row for row in json.loads(text)}
    assert rows["SEALTRAIL_STORE_PASSWORD"]["value"] == "********"
    assert rows["SEALTRAIL_STORE_PASSWORD"]["origin"] == "environment"
    assert set(rows["SEALTRAIL_TOPIC"]["rooms"]) == {"auditor", "local", "processor", "producer"}
    assert run(["config", "show"]) == cli.OK
    text = capsys.readouterr().out
    assert "hunter2" not in text
    assert "SEALTRAIL_TOPIC" in text


def test_config_show_refuses_unknown_settings_but_lists_the_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALTRAIL_TOPICK", "x")
    assert run(["config", "show"]) == cli.FAILED
    assert "SEALTRAIL_TOPIC?" in capsys.readouterr().err
    assert run(["config", "show", "--defaults"]) == cli.OK
    assert "SEALTRAIL_TOPIC" in capsys.readouterr().out


def test_config_without_pydantic_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sealtrail.settings", None)
    monkeypatch.delattr("sealtrail.settings", raising=False)
    assert run(["config", "show"]) == cli.FAILED
    assert "sealtrail[auditor]" in capsys.readouterr().err


def test_the_installed_command_runs() -> None:
    shown = subprocess.run(
        [SEALTRAIL, "--version"], check=True, capture_output=True, text=True
    ).stdout
    assert shown == f"sealtrail {__version__}\n"
