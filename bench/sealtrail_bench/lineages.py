"""How long `lineage` takes, by depth and by how much is stored."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from sealtrail_audit import graph, lineage, reader
from sealtrail_audit.settings import AuditSettings
from sealtrail_bench import synthetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_bench.rig import Rig

DEPTHS = (1, 3, 10)
WALKS = 24
NODES = 500


def measure(rig: Rig, size: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds at the median and at 95 %, upwards and downwards mixed, for each depth.

    Args:
        rig: where.
        size: synthetic events in the store.
        say: shows what was found.
    """
    found = {str(depth): _walks(rig, size, depth) for depth in DEPTHS}
    say(f"lineage, {size:,} events: {found}")
    return found


def _walks(rig: Rig, size: int, depth: int) -> dict[str, float]:
    rng = random.Random(size + depth)  # noqa: S311 - reproducible choice
    store = reader.connect(rig.load(AuditSettings))
    starts = [synthetic.event_id(rig.store, rng.randrange(size)) for _ in range(WALKS)]
    taken, events = [], 0
    for number, start in enumerate(starts):
        began = time.monotonic()
        source = graph.StoreSource(store)
        walked = lineage.walk(source, [start], up=number % 2 == 0, depth=depth, max_nodes=NODES)
        taken.append(time.monotonic() - began)
        events += len(walked.nodes)
        if not walked.nodes[start].stored:
            raise AssertionError("the walk did not find the event that it starts from")
    taken.sort()
    return {
        "p50_s": round(taken[WALKS // 2], 4),
        "p95_s": round(taken[round(WALKS * 0.95) - 1], 4),
        "events": round(events / WALKS, 1),
    }
