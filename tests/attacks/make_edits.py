"""`make edits`: seeded edits of rows and parts of a store, all located by `sealtrail audit store`?

Honest events go through the whole pipeline (embedded stack, SDK, one worker); the worker ends; the
edits of tests/attacks/edits.py are made; one audit is run.

Options: EVENTS EDITS SEED (default 200000 1000 1). Ends with one line of JSON; exit status 1 unless
each edit was located and nothing else was.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from tests.attacks import edits, parts
from tests.crash.harness import Failed, Pipeline
from tests.scenarios import conservation

FEEDERS = 4
LATE_EVENTS = 100  # By each late feeder.
SETTINGS = {"SEALTRAIL_PACE_BYTES": "1500000", "SEALTRAIL_CLOSE_S": "300"}


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fill(pipeline: Pipeline, events: int, late: int = 0) -> int:
    """Honest events through everything, until all are visible; how many.

    Args:
        pipeline: without a worker.
        events: by feeders that run side by side.
        late: further feeders, one after the other; what they sent is not merged, so there are
            at least so many small parts of each table.
    """
    before = pipeline.committed()
    worker = pipeline.worker()
    feeders = [pipeline.feeder(f"honest-{n}", events // FEEDERS) for n in range(FEEDERS)]
    sent = 0
    for feeder in feeders:
        out, _ = feeder.communicate(timeout=7200)
        if feeder.returncode != 0:
            raise Failed(f"a feeder ended with {feeder.returncode}")
        sent += int(json.loads(out)["events"])
    pipeline.wait_for("drain", before + sent, 1800, worker)
    if late:
        parts.merges(conservation.variables(pipeline.folder), "STOP")
    for n in range(late):
        pipeline.feeder(f"late-{n}", LATE_EVENTS).communicate(timeout=600)
        sent += LATE_EVENTS
        pipeline.wait_for("late", before + sent, 600, worker)
    worker.send_signal(signal.SIGTERM)
    worker.wait(30)
    return sent


def audit(pipeline: Pipeline, expect: int) -> dict[str, Any]:
    """What `sealtrail audit store` says."""
    said = pipeline.sealtrail("audit", "store", "--json", expect=expect)
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    return report


def edit(pipeline: Pipeline, rows: int, seed: int, few: int) -> dict[str, Any]:
    """Drop a few parts, edit rows, audit; figures."""
    settings = conservation.variables(pipeline.folder)
    # First, for edits spread over all parts.
    dropped = parts.drop(settings, few)
    parts.merges(settings, "START")
    return edits.run(pipeline.folder, rows, seed, dropped, lambda: audit(pipeline, 1))


def main(arguments: list[str]) -> int:
    """Fill, edit, audit, print."""
    events, count, seed = [*map(int, arguments), *(200_000, 1_000, 1)[len(arguments) :]]
    with Pipeline(SETTINGS) as pipeline:
        began = time.monotonic()
        few = max(1, count // 100)
        sent = fill(pipeline, events, late=2 * few)
        say(f"{sent} events stored in {time.monotonic() - began:.0f} s")
        clean = audit(pipeline, 0)
        say(f"audit of the untouched store: clean, {clean['seconds']:.1f} s")
        figures = edit(pipeline, count - few, seed, few)
    figures = {"seed": seed, "clean_audit_seconds": clean["seconds"]} | figures
    for kind, number in figures["kinds"].items():
        say(f"{number:6}  {kind}")
    say(f"{figures['located']} of {figures['edits']} located, {figures['false']} false")
    say(json.dumps(figures))
    return int(
        figures["located"] != figures["edits"] or figures["edits"] != count or figures["false"] > 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
