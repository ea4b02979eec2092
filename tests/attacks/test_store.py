"""Rows of the catalogue about data at rest: rows edited, parts dropped, cut and exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.attacks import edits, make_edits, parts
from tests.crash.harness import Pipeline
from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[str], None]

EVENTS, EDITS, SEED = 12_000, 80, 7
# Parts that are harmed in each way.
EACH = 2


@pytest.mark.row("F1")
def test_f1_each_edit_is_named(happened: Say) -> None:
    with Pipeline(make_edits.SETTINGS | {"SEALTRAIL_BATCH_EVENTS": "64"}) as pipeline:
        sent = make_edits.fill(pipeline, EVENTS, late=2)
        assert make_edits.audit(pipeline, 0)["events"] == sent
        law = conservation.check(pipeline.folder)
        assert (law.differences, law.events) == ([], sent)
        figures = make_edits.edit(pipeline, EDITS, SEED, 1)
    assert (figures["rows_edited"], figures["parts"]) == (EDITS, {"part dropped": 1})
    assert (figures["located"], figures["false"]) == (figures["edits"], 0), figures
    happened(
        f"{figures['rows_edited']} rows and a part of {sent} events "
        f"edited: {figures['located']} named, {figures['false']} others"
    )


@pytest.mark.row("F2")
def test_f2_cold_parts(happened: Say) -> None:
    """Some removed, some cut, some exchanged for another: with the files, the store being down."""
    with Pipeline(make_edits.SETTINGS | {"SEALTRAIL_BATCH_EVENTS": "64"}) as pipeline:
        make_edits.fill(pipeline, 2_000, late=8)
        assert conservation.check(pipeline.folder).differences == []
        harmed = parts.harm_files(pipeline.stack, EACH, [])
        assert len(harmed) == EACH * len(parts.FILES)
        figures = edits.judge([], harmed, make_edits.audit(pipeline, 1))
    assert (figures["located"], figures["false"]) == (len(harmed), 0), figures
    codes = ", ".join(f"{count} {code}" for code, count in figures["codes"].items())
    happened(f"{EACH} parts removed, {EACH} cut, {EACH} exchanged: all named ({codes})")
