"""Rows of the catalogue that are played among honest traffic: each attack found, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.attacks.play import ATTACKS
from tests.attacks.registry import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.played import Played

PLAYED = sorted({row for name in ATTACKS for row in ROWS[name]}, key=lambda r: (r[0], int(r[1:])))


@pytest.mark.parametrize("row", [pytest.param(r, marks=pytest.mark.row(r)) for r in PLAYED])
def test_row(played: Played, row: str, happened: Callable[[str], None]) -> None:
    for name in ATTACKS:
        if row in ROWS[name]:
            happened(played.told(name))
            assert played.messages(name)
            assert played.wrong(name) == []
    assert played.flagged_wrongly() == []
    assert played.conservation.differences == []
    assert played.audit["findings"] == []
