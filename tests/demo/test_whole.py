"""The demo as a user runs it, on a small history: the way through all the rooms."""

from __future__ import annotations

import json
import signal
import tempfile
from typing import TYPE_CHECKING

import pytest

from sealtrail.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def handlers() -> Iterator[None]:
    """The demo is a whole process: it takes the signals for itself."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_everything_is_stored_linked_and_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Other demos and stacks may run on this machine.
    for name in ("LOCAL_KAFKA", "LOCAL_REGISTRY", "LOCAL_STORE", "HEALTH"):
        monkeypatch.delenv(f"SEALTRAIL_{name}_PORT", raising=False)
    code = run(["demo", "--limit", "150", "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    outcome = json.loads(shown.out.splitlines()[-1])
    assert outcome["problems"] == []
    assert outcome["events_stored"] == outcome["events_sent"] == 150 + 2 * 300
    assert outcome["duplicates_found"] == outcome["duplicates_sent"] > 0
    assert outcome["links_unresolved"] == 0
    assert outcome["forged_found"] == outcome["forged_sent"] == 2
    assert outcome["edited_rows_found"] == outcome["edited_rows"] == 1
    assert "mallory" in shown.err
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_what_is_no_repository_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run(["demo", "--repo", str(tmp_path)]) == 3
    assert "no git repository" in capsys.readouterr().err
