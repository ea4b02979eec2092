"""Parked messages go back to their topic by themselves, once their key or schema is known.

- In the order of arrival, each to its own partition; what was parked beyond its hour's bytes
  (`keeping`) is read from the topic first, 16 MiB at a time, by a client of its own: nobody waits
  for it but the thread that runs this.
- What such a message waits for is on record, so that it is read once, when that has come.
- Where the topic has it no longer, it is told once (DATA_LOSS_WINDOW) and stays open as `gone`.
  What cannot be read just now holds up nobody: there is another look after some minutes.
- Told and sent first, written down after: a crash between the two does it twice. A finding that is
  told twice is one row, a message that is sent twice a duplicate.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail.findings import PARKED_CODES, Code, Disposition
from sealtrail.validate import Refused, validate
from sealtrail_processor.judging.model import Finding
from sealtrail_processor.judging.ports import Unreadable
from sealtrail_processor.quarantine.held import (
    WAITING,
    Held,
    find,
    fitting,
    give_up,
    parked,
    release,
)
from sealtrail_processor.quarantine.originals import OriginalGone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sealtrail_processor.judging.judge import Rules
    from sealtrail_processor.judging.keys_reader import KeysReader
    from sealtrail_processor.judging.model import Flush, Log
    from sealtrail_processor.judging.ports import Clock, Publisher
    from sealtrail_processor.quarantine.originals import Originals
    from sealtrail_processor.reporting.metrics import Metrics
    from sealtrail_processor.reporting.reports import Reports
    from sealtrail_processor.store.port import Store

log = logging.getLogger(__name__)

# How long parked messages are looked at in one turn.
TURN_US = 2_000_000
# After that time what could not be read is asked for once more.
AGAIN_US = 300_000_000
# Before all messages.
START: Mapping[str, object] = {"after": 0, "log_id": "", "offset": 0}
# As step 3 and 7 of validation say it.
AWAITED = re.compile(r"no record of (key|event schema) ([0-9a-f]{64})$")


@dataclass(slots=True)
class _Look:
    """One look at what is parked.

    known_at: records that arrived until then count, so that who came later is not judged by more;
    by the broker's clock, which may be ahead of ours.
    """

    state: tuple[int, int, int, frozenset[Log]]
    known_at: int
    left: list[Log]
    after: Mapping[str, object] = field(default_factory=lambda: START)


class Releaser:
    """Releases parked messages once their key or schema is known.

    Looks when key records have come, also while a message was judged without them, or partitions
    were assigned, not at every turn. Each look takes some seconds of a turn at most: the thread
    that it runs in has more to do, and whoever may write to the topic can have any number parked.

    Args:
        store: where they are.
        originals: the bytes of those that the store has not.
        publisher: where they go.
        reports, metrics: where to tell of them.
        now: the time, microseconds since 1970.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a release needs
        self,
        store: Store,
        originals: Originals,
        publisher: Publisher,
        reports: Reports,
        metrics: Metrics,
        now: Clock,
    ) -> None:
        self._store = store
        self._originals = originals
        self._publisher = publisher
        self._reports = reports
        self._releases = metrics.releases
        self._now = now
        self._seen: tuple[int, int, int, frozenset[Log]] = (-1, 0, 0, frozenset())
        self._overtaken = 0
        self._loads = 0
        self._again: int | None = None
        self._look: _Look | None = None

    def loaded(self) -> None:
        """Look once more: a partition was read anew, and another worker may have parked in it."""
        self._loads += 1

    def committed(self, flush: Flush, keys: KeysReader, rules: Callable[[Log], Rules]) -> None:
        """Look once more if what was parked is known by now; in the thread that committed it.

        A record may come after a message was judged; when a look followed before the commit, it
        did not find the message, and the next record may be a year away. One that was released
        before is no reason: whatever parks it again would have it go round and round.
        """
        for judged in flush.judged:
            if judged.disposition is Disposition.PARKED and judged.released_from is None:
                value, arrival = judged.message.value, judged.arrival
                if _known(value, arrival, keys, rules(flush.log), keys.latest):
                    self._overtaken += 1
                    return

    def run(self, logs: Sequence[Log], keys: KeysReader, rules: Callable[[Log], Rules]) -> int:
        """Look for parked messages of these partitions that can be judged now; how many went.

        Raises:
            UnavailableError: store or broker; call again.
        """
        began, count = self._now(), 0
        if self._look is None:
            state = (keys.generation, self._overtaken, self._loads, frozenset(logs))
            due = state != self._seen or (self._again is not None and began >= self._again)
            if not logs or not due:
                return 0
            # Asked of all together: what is parked is rare, and a partition's page dear.
            held = parked(self._store, logs)
            left = [at for at in logs if (at.topic, at.partition) in held]
            self._look, self._again = _Look(state, keys.latest, left), None
        look = self._look
        while look.left:
            at = look.left[0]
            # A partition may have been taken away since the look began.
            page = self._page(at, look.after) if at in logs else []
            if not page:
                look.left.pop(0)
                look.after = START
            while page:
                count += self._first(page, keys, rules(at), look)
                if self._now() - began >= TURN_US:
                    return count
        self._originals.close()
        self._seen, self._look = look.state, None
        return count

    def _page(self, at: Log, after: Mapping[str, object]) -> list[Held]:
        condition = (
            f"{WAITING} AND topic = {{topic:String}} "
            "AND partition = {partition:UInt16} AND (arrival, log_id, offset) > "
            "(fromUnixTimestamp64Micro({after:Int64}, 'UTC'), {log_id:String}, {offset:UInt64})"
        )
        return find(self._store, condition, {"topic": at.topic, "partition": at.partition, **after})

    def _first(self, page: list[Held], keys: KeysReader, rules: Rules, look: _Look) -> int:
        """Deal with the first messages of a page, which leave it; how many were released."""
        taken = self._taken(page, keys, look.known_at)
        lost = [(h, t) for h, t in zip(page, taken, strict=False) if isinstance(t, OriginalGone)]
        whole = [t for t in taken if isinstance(t, Held)]
        ready = [h for h in whole if _known(h.value, h.arrival, keys, rules, look.known_at)]
        self._tell(lost)
        self._send(ready)
        last = page[len(taken) - 1]
        look.after = _after(last.arrival, last.log.log_id, last.offset)
        del page[: len(taken)]
        return len(ready)

    def _taken(
        self, page: Sequence[Held], keys: KeysReader, known_at: int
    ) -> list[Held | OriginalGone | None]:
        """The first of some messages with their bytes, or why there are none; None: not now."""
        awaited = [h for h in page if not h.kept and _come(h, keys, known_at)]
        come, found = {h.coordinates for h in awaited}, deque(self._read(awaited))
        taken: list[Held | OriginalGone | None] = []
        for held in page:
            if held.coordinates not in come:
                taken.append(held if held.kept else None)
            elif found:
                taken.append(found.popleft())
            else:
                break
        return taken

    def _read(self, awaited: Sequence[Held]) -> Sequence[Held | OriginalGone | None]:
        try:
            return self._originals.first(awaited)
        except Unreadable as error:
            log.warning("%s stays parked for now: %s", awaited[0].name, error.message)
            self._releases.labels("unread").inc()
            self._again = self._now() + AGAIN_US
            return [None]

    def _tell(self, lost: Sequence[tuple[Held, OriginalGone]]) -> None:
        """The finding first: what is written down as gone is not looked at again."""
        found: dict[Log, list[tuple[int, Finding, str]]] = {}
        for held, error in lost:
            detail = f"parked, and its record came: {error.message}"
            finding = Finding(Code.DATA_LOSS_WINDOW, detail)
            found.setdefault(held.log, []).append((held.offset, finding, ""))
        for log_, findings in found.items():
            self._reports.write(log_, findings, "timer")
        give_up(self._store, [held for held, _ in lost], self._now())
        self._releases.labels("gone").inc(len(lost))

    def _send(self, ready: Sequence[Held]) -> None:
        left = list(ready)
        while left:
            few = fitting([len(h.key or b"") + len(h.value or b"") for h in left])
            release(self._store, self._publisher, left[:few], self._now())
            kept = sum(h.kept for h in left[:few])
            self._releases.labels("kept").inc(kept)
            self._releases.labels("topic").inc(few - kept)
            at = left[0].log
            log.info("%s[%d]: %d messages released", at.topic, at.partition, few)
            del left[:few]


def _after(arrival: int, log_id: str, offset: int) -> dict[str, object]:
    return {"after": arrival, "log_id": log_id, "offset": offset}


def _come(held: Held, keys: KeysReader, known_at: int) -> bool:
    """Whether the record is known that a message was parked for, by what is on record of it."""
    found = AWAITED.search(held.detail)
    if found is None:
        return True
    name, directory = bytes.fromhex(found[2]), keys.directory
    if found[1] == "key":
        return directory.key(name, known_at) is not None
    return bool(directory.pins(name, known_at))


def _known(
    value: bytes | None, arrival: int, keys: KeysReader, rules: Rules, known_at: int
) -> bool:
    outcome = validate(value, rules.place, arrival, keys.directory, known_at=known_at)
    return not (isinstance(outcome, Refused) and outcome.code in PARKED_CODES)
