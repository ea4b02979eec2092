"""The commands `import git` and `service`, with a broker in memory."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sealtrail.cli.main import run
from sealtrail_producer.fakes import FakeBroker, FakeRegistry
from sealtrail_producer.importers.run import Importer, Told
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signing import KeySigner
from sealtrail_producer.trail import Ports, Trail

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeBroker:
    """Where `Trail.from_env` sends to; the environment has nothing but a state folder."""
    found = FakeBroker()
    signer = KeySigner.generate()

    def from_env(
        producer: str, *, settings: ProducerSettings | None = None, clock: Any = None, **other: Any
    ) -> Trail:
        base = settings or ProducerSettings(state_dir=tmp_path)
        whole = ProducerSettings(**{**base.model_dump(), **other, "pace_bytes": 0})
        ports = Ports(transport=found.connect, registry=FakeRegistry)
        if clock is not None:
            ports = Ports(transport=found.connect, registry=FakeRegistry, clock=clock)
        return Trail(producer, whole, [signer], ports)

    monkeypatch.setattr(Trail, "from_env", from_env)
    monkeypatch.setenv("SEALTRAIL_STATE_DIR", str(tmp_path))
    return found


@pytest.mark.usefixtures("broker")
def test_an_import_tells_its_numbers_and_goes_on(capsys: pytest.CaptureFixture[str]):
    assert run(["import", "git", "sample:etcd", "--limit", "300", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["commits"], told["events"], told["child_events"]) == (300, 300, 0)
    assert told["parents_missing"] == 0
    assert run(["import", "git", "sample:etcd", "--limit", "350", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["commits"], again["known_before"]) == (50, 300)
    assert run(["import", "git", "sample:etcd", "--limit", "10", "--anew", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commits"] == 10


@pytest.mark.usefixtures("broker")
def test_what_cannot_be_imported_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run(["import", "git", str(tmp_path / "missing")]) == 3
    assert run(["import", "git", "sample:nothing"]) == 3
    errors = capsys.readouterr().err
    assert "is not a folder" in errors
    assert "missing from this installation" in errors


def test_a_pipe_joins_the_services(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert run(["service", "orders", "--count", "4", "--every", "0", "--clock-offset", "90"]) == 0
    handed = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(handed))
    assert run(["service", "billing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"events": 4}
    assert len(handed.splitlines()) == 4
    assert broker.messages()


def test_an_import_that_is_held_up_says_so():
    class Slow:
        answers = iter([False, True])

        def flush(self, _timeout: float) -> bool:
            return next(self.answers)

    said: list[str] = []
    slow: Any = Slow()
    checkpoint: Any = {}
    importer = Importer(slow, checkpoint, str, lambda: said.append("waiting"))

    class Nothing:
        repository, head, total = "r", "", 0

        def commits(self) -> Any:
            return []

    nothing: Any = Nothing()
    assert importer.run(nothing, lambda _: None) == Told()
    assert said == ["waiting"]
