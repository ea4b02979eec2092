"""A campaign can be played again by what it prints."""

from __future__ import annotations

import shlex

import pytest
from tests.faults.campaign import Campaign
from tests.faults.injectors.all import FAULTS, REAL
from tests.faults.schedule import plan

EVERY = tuple(sorted(FAULTS))
EMBEDDED = tuple(sorted(FAULTS.keys() - REAL))


def test_all_kinds_come_before_one_comes_again() -> None:
    planned = plan(7, EVERY, 3_600, 15)
    assert len(planned) >= 180
    assert {p.kind for p in planned[: len(EVERY)]} == set(EVERY)
    assert planned == plan(7, EVERY, 3_600, 15)
    # The schedule follows from more than the seed.
    assert planned != plan(8, EVERY, 3_600, 15)
    assert planned[:12] != plan(7, EVERY, 3_600, 10)[:12]
    assert planned[:12] != plan(7, EMBEDDED, 3_600, 15)[:12]


@pytest.mark.parametrize(
    ("every_s", "rate", "kinds", "real"),
    [
        (15.0, 1_040.0, EVERY, True),
        (10.0, 600.0, EMBEDDED, False),
        (12.5, 1_040.0, ("poison", "store-kill"), True),
    ],
)
def test_what_is_printed_names_all_that_the_schedule_follows_from(
    every_s: float, rate: float, kinds: tuple[str, ...], *, real: bool
) -> None:
    campaign = Campaign(11, 3.0, every_s, rate, kinds, real)
    make, target, *words = shlex.split(campaign.again())
    said = dict(word.split("=") for word in words)
    assert (make, target) == ("make", "faults")
    every = EVERY if said["SERVERS"] == "real" else EMBEDDED
    chosen = tuple(said["KINDS"].split(",")) if "KINDS" in said else every
    again = plan(int(said["SEED"]), chosen, float(said["MINUTES"]) * 60, float(said["EVERY_S"]))
    assert again == plan(11, kinds, 180, every_s)
    assert float(said["RATE"]) == rate
