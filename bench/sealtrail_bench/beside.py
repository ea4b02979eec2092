"""What is measured beside the rates: recovery, audit, and cost as stores and chains grow."""

from __future__ import annotations

import json
import time
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sealtrail.errors import UnavailableError
from sealtrail_bench import synthetic, tape, usage
from sealtrail_bench.rates import WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_bench.rig import Rig

PATIENCE_S = 900.0
SAMPLE = 150_000
# Of each size of the store: one pass of five seconds differs from the next by a fifth.
PASSES = 4


def send(rig: Rig, *, events: int, chains: int, batch: int, name: str) -> dict[str, Any]:
    """Send events through a worker of their own until all are committed.

    Args:
        rig: where.
        events: how many, about.
        chains: how many chains they are of.
        batch: events in a batch.
        name: of the instances.

    Returns:
        events, seconds until the last commit, CPU of worker and store in us an event (of the store
        with the merges that follow), peak MB.
    """
    batches = max(events // batch, chains)
    generator = rig.generator(11, chains, name, batches * batch // chains * 37)
    file = rig.folder / "tape"
    total = tape.write(file, generator.batches(batches, batch))
    topic = rig.worker_settings.topic
    group = rig.group(name, topic)
    changes = {"SEALTRAIL_GROUP": group}
    before = _committed(rig)
    worker = rig.start("workers.full", changes=changes)
    rig.assigned(worker)
    pids = {"worker": worker.pid, "store": rig.pid("store")}
    cpu = {name: usage.cpu_s(pid) for name, pid in pids.items()}
    began = time.monotonic()
    arguments = (str(file), topic, group, str(WINDOW_BYTES), "0", str(PATIENCE_S))
    feed = rig.start("feed", *arguments, pipe=True, changes=changes)
    try:
        while _committed(rig) - before < total.events:
            if worker.poll() is not None or feed.poll() not in (None, 0):
                raise UnavailableError("the worker or the feeder ended")
            if time.monotonic() - began > PATIENCE_S:
                raise UnavailableError("it does not drain")
            time.sleep(0.1)
        seconds = time.monotonic() - began
        worked = usage.cpu_s(worker.pid)
        peak = usage.peak_mb(worker.pid)
    finally:
        rig.stop(feed)
        rig.stop(worker)
        file.unlink()
    # What the events leave to merge is theirs, whether it falls into the pass or not.
    rig.settle()
    ends = {"worker": worked, "store": usage.cpu_s(pids["store"])}
    used = {name: (ends[name] - cpu[name]) / total.events * 1e6 for name in pids}
    return {
        "events": total.events,
        "seconds": round(seconds, 2),
        "cpu_us": {name: round(value, 2) for name, value in used.items()},
        "cpu_us_total": round(sum(used.values()), 2),
        "worker_rss_mb": round(peak),
    }


def _committed(rig: Rig) -> int:
    return int(rig.store.query("SELECT sum(rows) FROM commits WHERE log_id != 'synthetic'")[0][0])


def recovery(rig: Rig, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds from a worker's start to all partitions taken over, with what the store holds."""
    events = _committed(rig)
    began = time.monotonic()
    worker = rig.start("workers.full")
    try:
        rig.assigned(worker)
        seconds = time.monotonic() - began
    finally:
        rig.stop(worker)
    found = {
        "events": events,
        "seconds": round(seconds, 2),
        "seconds_per_million": round(seconds / max(events, 1) * 1e6, 2),
    }
    say(f"recovery: {found}")
    return found


def audit(rig: Rig, say: Callable[[str], None]) -> dict[str, Any]:
    """`sealtrail audit store` over what was sent through the rig; microseconds an event."""
    events = _committed(rig)
    began = time.monotonic()
    out = rig.command("audit", "store", "--json", changes={"SEALTRAIL_AUDIT_SETTLE_S": "0"})
    seconds = time.monotonic() - began
    report = json.loads(out.strip().splitlines()[-1])
    found = {
        "events": events,
        "seconds": round(seconds, 2),
        "us_per_event": round(seconds / events * 1e6, 1),
        "report": {k: v for k, v in report.items() if isinstance(v, int | str | bool)},
    }
    say(f"audit: {found}")
    return found


def held(rig: Rig) -> int:
    """Synthetic events in the store."""
    return int(rig.store.query("SELECT sum(rows) FROM commits WHERE log_id = 'synthetic'")[0][0])


def grow(rig: Rig, size: int, say: Callable[[str], None]) -> None:
    """Bring the store to so many synthetic events, and wait for its merges."""
    before, began = held(rig), time.monotonic()
    if size > before:
        synthetic.fill(rig.store, before, size - before)
    filled = time.monotonic()
    settled = rig.settle()
    say(
        f"{size:,} events: filled in {filled - began:.0f} s, "
        f"{'merged' if settled else 'still merging'} after {time.monotonic() - filled:.0f} s"
    )


def grown(rig: Rig, size: int, say: Callable[[str], None]) -> dict[str, Any]:
    """CPU of worker and store an event, with so many events in the tables already.

    The mean of some passes: merges are costs of all events, and fall to few of the passes.
    """
    passes = []
    for number in range(PASSES):
        name = f"grown-{size}-{number}"
        passes.append(send(rig, events=SAMPLE, chains=16, batch=1024, name=name))
        say(f"{size:,} events in the store: {passes[-1]}")
    cpu = {n: fmean(found["cpu_us"][n] for found in passes) for n in passes[0]["cpu_us"]}
    return {
        "events": sum(found["events"] for found in passes),
        "seconds": round(sum(found["seconds"] for found in passes), 2),
        "cpu_us": {name: round(value, 2) for name, value in cpu.items()},
        "cpu_us_total": round(sum(cpu.values()), 2),
        "worker_rss_mb": max(found["worker_rss_mb"] for found in passes),
    }


def chain_growth(rig: Rig, counts: tuple[int, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """The same events of ever more chains: batches get smaller as they do in life."""
    found: dict[str, Any] = {}
    for count in counts:
        batch = max(min(SAMPLE // count, 1024), 4)
        name = f"chains-{count}"
        found[str(count)] = send(rig, events=SAMPLE, chains=count, batch=batch, name=name)
        say(f"{count:,} chains: {found[str(count)]}")
    return found
