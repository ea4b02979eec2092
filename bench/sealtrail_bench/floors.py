"""`sealtrail bench --quick`: ratios against floors that every change must keep; for CI.

Ratios of variants that take turns on the same machine within the same minutes, never times: a slow
or busy machine slows all of them. The floors are some 0.6 of the least that was seen, on a quiet
machine and on busy ones: one short turn of each variant is a rough measure (docs/performance.md).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from sealtrail.cli import FINDINGS, OK
from sealtrail_bench import report
from sealtrail_bench.rates import Plan, Rates, topics
from sealtrail_bench.rig import Rig

if TYPE_CHECKING:
    from sealtrail.cli import Output

FLOORS = {
    "full_vs_obvious": 5.0,
    "full_vs_unverified": 0.5,
    "faust_vs_plain": 0.55,
}
PLAN = Plan(rounds=1, seconds=8.0, warm_s=2.0)
VARIANTS = ("full", "obvious", "unverified", "plain")


def judge(ratios: dict[str, float]) -> list[tuple[str, float, float, str]]:
    """(ratio, measured, floor, kept or broken) of each floor; a ratio that is missing is broken."""
    return [
        (name, ratios.get(name, 0.0), floor, "kept" if ratios.get(name, 0.0) >= floor else "broken")
        for name, floor in FLOORS.items()
    ]


def check(output: Output) -> int:
    """Measure, compare, print; the exit code."""
    with Rig(topics=topics(PLAN, VARIANTS)) as rig:
        measured = Rates(rig, PLAN, output.remark)
        measured.run(VARIANTS)
    figures: dict[str, Any] = report.rates(measured)
    rows = judge(figures["ratios"])
    if not output.json:
        output.table(("ratio", "measured", "floor", ""), rows)
    kept = all(row[3] == "kept" for row in rows)
    click.echo(json.dumps({**figures, "floors": FLOORS, "kept": kept}))
    return OK if kept else FINDINGS
