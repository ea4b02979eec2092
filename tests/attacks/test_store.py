"""Rows of the catalogue about data at rest: rows edited, parts dropped, cut and exchanged."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.attacks import edits, make_edits
from tests.crash.harness import Pipeline
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[str], None]

EVENTS, EDITS, SEED = 12_000, 80, 7


@pytest.mark.row("F1")
def test_f1_each_edit_is_named(happened: Say) -> None:
    with Pipeline(make_edits.SETTINGS | {"SEALTRAIL_BATCH_EVENTS": "64"}) as pipeline:
        sent = make_edits.fill(pipeline, EVENTS, late=2)
        assert make_edits.audit(pipeline, 0)["events"] == sent
        law = conservation.check(pipeline.folder)
        assert (law.differences, law.events) == ([], sent)
        figures = edits.run(pipeline.folder, EDITS, SEED, 1, lambda: make_edits.audit(pipeline, 1))
    assert (figures["rows_edited"], figures["parts_dropped"]) == (EDITS, 1)
    assert (figures["located"], figures["false"]) == (figures["edits"], 0), figures
    happened(
        f"{figures['rows_edited']} rows and {figures['parts_dropped']} part of {sent} events "
        f"edited: {figures['located']} named, {figures['false']} others"
    )


@pytest.mark.row("F2")
def test_f2_cold_parts(happened: Say) -> None:
    """One removed, one cut, one exchanged for another: with the files, while the store is down."""
    with Pipeline(make_edits.SETTINGS | {"SEALTRAIL_BATCH_EVENTS": "64"}) as pipeline:
        settings = conservation.variables(pipeline.folder)
        edits.command(settings, "SYSTEM STOP MERGES sealtrail.events")
        for _ in range(2):
            make_edits.fill(pipeline, 2_000)
        assert conservation.check(pipeline.folder).differences == []
        edits.command(settings, "SYSTEM STOP MERGES sealtrail.events")
        parts = cold(pipeline)
        removed, cut, older, newer = parts[0], parts[1], parts[2], parts[-1]
        messages = {
            (row["partition"], row["offset"])
            for row in pipeline.sql(
                "SELECT DISTINCT partition, offset FROM events WHERE _part IN "
                f"{tuple(p.name for p in (removed, cut, newer))}"
            )
        }
        stop_store(pipeline)
        shutil.rmtree(removed)
        data = max(cut.glob("*.bin"), key=lambda f: f.stat().st_size)
        os.truncate(data, data.stat().st_size // 2)
        shutil.rmtree(newer)
        shutil.copytree(older, newer)
        pipeline.sealtrail("local", "up")
        report = make_edits.audit(pipeline, 1)
        named = {
            (f["key"]["partition"], f["key"]["offset"])
            for f in report["findings"]
            if f["table"] == "events"
        }
    assert messages <= named, (len(messages), len(named), report["counts"])
    codes = ", ".join(f"{count} {code}" for code, count in report["counts"].items())
    happened(f"one part removed, one cut, one exchanged: {len(messages)} messages named ({codes})")


def cold(pipeline: Pipeline) -> list[Path]:
    """Move the events to the cold volume; folders of their parts, oldest first."""
    settings = conservation.variables(pipeline.folder)
    months = pipeline.sql(
        "SELECT DISTINCT partition FROM system.parts "
        "WHERE active AND database = 'sealtrail' AND table = 'events'"
    )
    for month in months:
        name = month["partition"]
        edits.command(settings, f"ALTER TABLE events MOVE PARTITION {name} TO VOLUME 'cold'")
    rows = pipeline.sql(
        "SELECT path, disk_name FROM system.parts WHERE active AND database = 'sealtrail' "
        "AND table = 'events' ORDER BY min_block_number"
    )
    assert len(rows) >= 4
    assert {r["disk_name"] for r in rows} == {"cold"}, rows
    return [Path(r["path"].rstrip("/")) for r in rows]


def stop_store(pipeline: Pipeline) -> None:
    """SIGTERM for the store alone."""
    import json

    record = json.loads((pipeline.folder / "run" / "store.json").read_text())
    os.kill(int(record["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{record['pid']}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
