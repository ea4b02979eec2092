"""What every crash scenario ends with: what was sent, against what readers see."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.crash.harness import Failed
from tests.scenarios import conservation

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable

    from tests.crash.harness import Pipeline

_VERIFIED = "SELECT count() FROM provenance.links WHERE verdict = 'VERIFIED'"
# Batches of one chain whose place in the log is not that of their number.
_OUT_OF_ORDER = """
    SELECT count() FROM (
        SELECT batch_seq, lagInFrame(batch_seq, 1, 0) OVER (
            PARTITION BY chain_id, branch, log_id ORDER BY offset
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS before
        FROM committed_batches
    ) WHERE batch_seq < before
"""


def sent(feeders: Iterable[subprocess.Popen[bytes]], timeout_s: float = 900) -> dict[str, int]:
    """Wait for feeders; how many events and links they sent."""
    total = {"events": 0, "links": 0}
    for feeder in feeders:
        out, _ = feeder.communicate(timeout=timeout_s)
        if feeder.returncode != 0:
            raise Failed(f"a feeder ended with {feeder.returncode}")
        said = json.loads(out)
        total = {name: count + said[name] for name, count in total.items()}
    return total


def judge(
    pipeline: Pipeline, total: dict[str, int], links_timeout_s: float = 180
) -> dict[str, Any]:
    """What is in the store, against what was sent; `ok` says whether all is as it must be."""
    number = pipeline.number
    deadline = time.monotonic() + links_timeout_s
    while number(_VERIFIED) < total["links"] and time.monotonic() < deadline:
        time.sleep(1)
    law = conservation.check(pipeline.folder)
    audit = json.loads(pipeline.sealtrail("audit", "store", "--json").splitlines()[-1])
    figures: dict[str, Any] = {
        "events_sent": total["events"],
        "events_visible": number("SELECT count() FROM provenance.events"),
        "events_distinct": number("SELECT uniqExact(event_id) FROM provenance.events"),
        "links_expected": total["links"],
        "links_verified": number(_VERIFIED),
        "batches_out_of_order": number(_OUT_OF_ORDER),
        "findings": {
            row["code"]: int(row["n"])
            for row in pipeline.sql(
                "SELECT code, count() AS n FROM provenance.open_findings GROUP BY code"
            )
        },
        "dispositions": law.dispositions,
        "overlapping_commits": law.overlaps,
        "conservation_differences": [str(found) for found in law.differences],
        "audit": audit,
    }
    figures["lost"] = total["events"] - figures["events_distinct"]
    figures["doubled"] = figures["events_visible"] - figures["events_distinct"]
    figures["ok"] = (
        figures["lost"] == figures["doubled"] == figures["batches_out_of_order"] == 0
        and figures["links_verified"] == total["links"]
        and not figures["findings"]
        and law.holds
    )
    return figures


def main(run: Callable[[Any], dict[str, Any]], options: Any) -> int:
    """Run a scenario; print its figures as the last line, and say by the status whether it held."""
    # Whoever is asked to stop takes the processes of the scenario along.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        figures = run(options)
    except Failed as failure:
        sys.stdout.write(
            f"FAILED: {failure}\n{json.dumps({'ok': False, 'failure': str(failure)[:500]})}\n"
        )
        return 1
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(not figures["ok"])
