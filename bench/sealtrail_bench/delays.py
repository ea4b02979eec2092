"""From a message's acknowledgement by the feeder's clock to its rows being visible, under load."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from sealtrail_bench import rates, tape
from sealtrail_bench.rates import CHAINS, WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_bench.rig import Rig

EVENTS = 256
# Delays look longer by up to this. Looking more often would be a load of its own: a look takes the
# store some 7 ms.
LOOK_S = 0.1
# As before each turn of the rates: a worker that starts reads its chains and open links meanwhile.
WARM_S = 5.0


def measure(
    rig: Rig, full_rate: float, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds at 50 and 99 %, for shares of the full rate.

    Args:
        rig: where.
        full_rate: events a second that the pipeline takes at most.
        seconds: of each share.
        say: shows what is going on.
    """
    found: dict[str, Any] = {}
    for share in (0.25, 0.5, 0.8):
        found[f"{share:.0%}"] = _share(rig, full_rate * share, seconds)
        say(f"latency at {share:.0%} load: {found[f'{share:.0%}']}")
    return found


def _share(rig: Rig, rate: float, seconds: float) -> dict[str, float]:
    batches = max(round(rate * (seconds + WARM_S) / EVENTS), CHAINS)
    generator = rig.generator(7, CHAINS, f"delay-{time.time_ns()}", batches * EVENTS // CHAINS * 37)
    file = rig.folder / "tape"
    tape.write(file, generator.batches(batches, EVENTS))
    topic = rig.worker_settings.topic
    group = rig.group("delay", topic)
    changes = {"SEALTRAIL_GROUP": group}
    worker = rig.start("workers.full", changes=changes)
    rig.assigned(worker)
    feed = rig.start(
        "feed",
        str(file),
        topic,
        group,
        str(WINDOW_BYTES),
        str(rate / EVENTS),
        "600",
        "times",
        pipe=True,
        changes=changes,
    )
    seen: list[tuple[float, dict[int, int]]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_S):
            rows = rig.store.query(
                "SELECT partition, max(last_offset) FROM commit_ends GROUP BY partition"
            )
            seen.append((time.time(), {int(p): int(last) for p, last in rows}))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        sent = rig.answer(feed, 600)
        time.sleep(3)
    finally:
        stop.set()
        watcher.join()
        rig.stop(feed)
        rig.stop(worker)
        file.unlink()
    return _figures(sent["times"], seen)


def _figures(times: list[list[float]], seen: list[Any]) -> dict[str, float]:
    begin = times[0][2] + WARM_S if times else 0.0
    delays = []
    for partition, offset, sent in times:
        if sent < begin:
            continue
        visible = next((at for at, ends in seen if ends.get(int(partition), -1) >= offset), None)
        if visible is None:
            raise rates.WrongRowsError(f"offset {offset} of partition {partition} never came")
        delays.append(visible - sent)
    delays.sort()
    count = len(delays)
    if not count:
        raise rates.WrongRowsError("too short: everything was sent within the warm-up")
    return {
        "p50_s": round(delays[count // 2], 3),
        "p99_s": round(delays[min(count * 99 // 100, count - 1)], 3),
        "batches": count,
    }
