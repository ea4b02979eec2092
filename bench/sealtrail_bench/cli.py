"""`sealtrail bench`: what this machine does, in figures."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.cli.ending import interrupt_when_ended

if TYPE_CHECKING:
    from sealtrail_bench.rig import Rig

SECTIONS = (
    "rates",
    "emit",
    "latency",
    "storage",
    "audit",
    "recovery",
    "chains",
    "lineage",
    "growth",
)
SIZES = (100_000, 1_000_000, 10_000_000)
CHAINS = (10, 1_000, 100_000)


@click.command("bench")
@click.option(
    "--section",
    "sections",
    type=click.Choice(SECTIONS),
    multiple=True,
    help="Only this; repeatable.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--seconds", type=float, default=20.0, show_default=True, help="Of each turn of a variant."
)
@click.option(
    "--warm", type=float, default=5.0, show_default=True, help="Seconds before each turn."
)
@click.option(
    "--most",
    type=click.IntRange(1000),
    default=SIZES[-1],
    show_default=True,
    help="Events in the largest synthetic store.",
)
@click.option(
    "--quick", is_flag=True, help="Two minutes: ratios against the floors of this version."
)
@click.option("--real", is_flag=True, help="On real servers (`sealtrail local up --real`).")
@click.option("--plots", type=click.Path(path_type=Path), help="Folder for plots (SVG).")
@pass_output
def bench_command(
    output: Output,
    sections: tuple[str, ...],
    rounds: int,
    seconds: float,
    warm: float,
    most: int,
    quick: bool,
    real: bool,
    plots: Path | None,
) -> int:
    """Measure rates, latency, memory, storage and cost on this machine.

    Everything runs here: a stack of its own, a worker, a feeder with batches that are signed
    before. Ends with one line of JSON.
    """
    from sealtrail_bench import floors, report
    from sealtrail_bench.rates import Plan, Rates, topics
    from sealtrail_bench.rig import Rig

    # Servers and workers must not outlive it, whoever ends it.
    interrupt_when_ended()
    if quick:
        return floors.check(output)
    wanted = sections or SECTIONS
    figures: dict[str, Any] = {"machine": _machine(real=real)}
    if "rates" in wanted:
        plan = Plan(rounds, seconds, warm)
        with Rig(topics=topics(plan), real=real) as rig:
            measured = Rates(rig, plan, output.remark)
            measured.run()
            figures |= report.rates(measured)
    # A stack each: what a variant believed unread is no fit subject for an audit, and stores that
    # differ in their size are to differ in nothing else, such as what is left to merge.
    if set(wanted) - {"rates", "growth", "lineage"}:
        with Rig(real=real) as rig:
            _others(rig, wanted, figures, seconds, output)
    if {"growth", "lineage"} & set(wanted):
        sizes = tuple(size for size in SIZES if size <= most) or (most,)
        walks = sizes[1:] or sizes
        for size in sizes if "growth" in wanted else walks:
            with Rig(real=real) as rig:
                _grown(rig, wanted, figures, size, walks, output)
    _summary(figures)
    rows = report.goals(figures)
    if not output.json:
        flat = [(n, v) for n, v in report.flat(figures) if ".columns." not in n]
        output.table(("figure", "value"), flat)
        output.table(("goal", "measured", "wanted", ""), rows)
    if plots is not None:
        _draw(figures, plots, output)
    click.echo(json.dumps(figures))
    return OK if all(row[3] == "met" for row in rows) else FINDINGS


def _machine(*, real: bool) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "stack": "real" if real else "embedded",
    }


def _others(
    rig: Rig, wanted: tuple[str, ...], figures: dict[str, Any], seconds: float, output: Output
) -> None:
    """Sections on a store that holds what went through the pipeline."""
    from sealtrail_bench import beside, delays, storage

    say = output.remark
    if "emit" in wanted:
        figures["emit"] = rig.answer(rig.start("emitting", "20000", pipe=True), 600)
        say(f"emit: {figures['emit']}")
    needs = {"storage", "audit", "recovery", "latency"} & set(wanted)
    sample: dict[str, Any] = {}
    if needs:
        sample = beside.send(rig, events=300_000, chains=16, batch=1024, name="sample")
        say(f"sample: {sample}")
    if "latency" in wanted:
        full = figures.get("variants", {}).get("full", {}).get("events_per_s")
        rate = full or sample["events"] / sample["seconds"]
        figures["latency"] = delays.measure(rig, rate, seconds, say)
    if "recovery" in wanted:
        figures["recovery"] = beside.recovery(rig, say)
    if "storage" in wanted:
        stored = figures["storage"] = storage.measure(rig.store, merge=True)
        cold = stored["cold"] = storage.cold(rig.store)
        say(f"storage: {stored['at_rest_bytes']} bytes an event, on cold {cold['at_rest_bytes']}")
    if "audit" in wanted:
        figures["audit"] = beside.audit(rig, say)
    if "chains" in wanted:
        figures["chains"] = beside.chain_growth(rig, CHAINS, say)


def _grown(
    rig: Rig,
    wanted: tuple[str, ...],
    figures: dict[str, Any],
    size: int,
    walks: tuple[int, ...],
    output: Output,
) -> None:
    """Sections on a store of so many synthetic rows."""
    from sealtrail_bench import beside, lineages

    beside.grow(rig, size, output.remark)
    if "lineage" in wanted and size in walks:
        found = lineages.measure(rig, size, output.remark)
        figures.setdefault("lineage", {})[str(size)] = found
    if "growth" in wanted:
        found = beside.grown(rig, size, output.remark)
        figures.setdefault("growth", {})[str(size)] = found


def _summary(figures: dict[str, Any]) -> None:
    """The figures that goals name, beside the sections that they come from."""
    ratios = figures.setdefault("ratios", {})
    emit = figures.get("emit")
    if emit:
        ratios["emit_p50_vs_signing"] = round(emit["signing_each_p50_us"] / emit["p50_us"], 2)
        ratios["emit_alone_p50_vs_signing"] = round(
            emit["alone_signing_each_p50_us"] / emit["alone_p50_us"], 2
        )
    growth = figures.get("growth", {})
    if {"100000", "10000000"} <= growth.keys():
        small, large = (growth[k]["cpu_us_total"] for k in ("100000", "10000000"))
        ratios["growth_10m_vs_100k"] = round(large / small, 3)
    deep = figures.get("lineage", {}).get("10000000", {}).get("10")
    if deep:
        figures["lineage_depth10_10m_p95_s"] = deep["p95_s"]
    if "storage" in figures:
        figures["evidence_bytes"] = figures["storage"]["evidence_bytes"]
    if "50%" in figures.get("latency", {}):
        figures["latency_half_load_p99_s"] = figures["latency"]["50%"]["p99_s"]


def _draw(figures: dict[str, Any], folder: Path, output: Output) -> None:
    from sealtrail_bench import report

    try:
        for file in report.plots(figures, folder):
            output.remark(f"drawn: {file}")
    except ModuleNotFoundError:
        output.remark("no plots: they need matplotlib")
