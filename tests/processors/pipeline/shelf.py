"""A shelf of messages in quarantine, and a releaser that looks at it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from tests.contract import world
from tests.processors.pipeline.scenes import raw

from sealtrail.errors import UnavailableError
from sealtrail.findings import NOT_KEPT
from sealtrail_processor.judging.keys_reader import KeysReader
from sealtrail_processor.judging.model import Log
from sealtrail_processor.memory import MemoryBroker, MemoryKeys, MemoryPublisher
from sealtrail_processor.quarantine.held import Held
from sealtrail_processor.quarantine.originals import Originals
from sealtrail_processor.quarantine.releasing import Releaser
from sealtrail_processor.reporting.metrics import Metrics
from sealtrail_processor.reporting.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.judging.ports import Clock, Coordinates

LOG = Log("cluster-1", world.TOPIC, 1)


class Shelf:
    """A store with rows of quarantine, as its SQL would page through them."""

    def __init__(self, held: list[Held]) -> None:
        self.held = held
        self.acts: list[dict[str, Any]] = []
        self.findings: list[dict[str, Any]] = []
        # Inserts that succeed before the store is away.
        self.room = 1_000_000
        # Bytes of values that were read at a time.
        self.read: list[int] = []
        self.digests: dict[Coordinates, bytes] = {}
        self.broker = MemoryBroker(logs={1: []})

    def query(self, sql: str, parameters: Any) -> list[Any]:
        done = {(a["log_id"], a["topic"], a["partition"], a["offset"]) for a in self.acts}
        if sql.startswith("SELECT DISTINCT"):
            waiting = [h.log for h in self.held if h.coordinates not in done]
            numbers = {at.partition for at in waiting if at.topic == parameters["topic"]}
            return [(number,) for number in numbers & set(parameters["partitions"])]
        after = (parameters["after"], parameters["log_id"], parameters["offset"])
        limit = int(sql.rpartition("LIMIT ")[2])
        found = [
            h
            for h in self.held
            if (h.arrival, h.log.log_id, h.offset) > after and h.coordinates not in done
        ][:limit]
        if "hex(value)" not in sql:
            return [(*h.coordinates, h.arrival, h.size) for h in found]
        self.read.append(sum(h.size for h in found))
        return [self._row(h) for h in found]

    @staticmethod
    def _row(h: Held) -> tuple[Any, ...]:
        about = (h.size, h.disposition, h.code, h.step, h.detail, h.act)
        headers = [(n.encode().hex(), v.hex()) for n, v in h.headers]
        body = ((h.key or b"").hex(), (h.value or b"").hex(), headers)
        return (*h.coordinates, h.arrival, *about, *body, h.key is None, h.value is None)

    def insert(self, table: str, columns: Any, rows: Any, token: str) -> None:
        assert table in {"quarantine_acts", "findings"}
        self.room -= 1
        if self.room < 0:
            raise UnavailableError("the store is away")
        into = self.acts if table == "quarantine_acts" else self.findings
        into += [dict(zip(columns, row, strict=True)) for row in rows]

    def refused(self, coordinates: Sequence[Coordinates]) -> dict[Coordinates, tuple[int, bytes]]:
        """Digests.refused."""
        return {at: (world.NOW, self.digests[at]) for at in coordinates if at in self.digests}

    def beyond(self, offset: int, value: bytes, detail: str, log: Log = LOG) -> None:
        """A parked message that the store was not given; it lies in the topic."""
        row = Held(
            log,
            offset,
            world.NOW + offset,
            len(value),
            *("parked", "UNKNOWN_KEY", 3, f"{NOT_KEPT}{len(value)} bytes; {detail}"),
            key=None,
            value=None,
            headers=(),
        )
        self.held.append(row)
        self.digests[row.coordinates] = sha256(value).digest()
        self.broker.logs[1].append(raw(offset, value))


def held(offset: int, value: bytes | None, **changes: Any) -> Held:
    why = ("parked", "UNKNOWN_KEY", 3, "no record")
    size = len(value or b"")
    body: dict[str, Any] = {"key": b"key", "value": value, "headers": ()} | changes
    return Held(LOG, offset, world.NOW + offset, size, *why, **body)


def keys() -> KeysReader:
    topic = MemoryKeys()
    reader = KeysReader(world.directory(), topic, topic, lambda: "", lambda: world.NOW)
    reader.latest = world.NOW
    return reader


def releaser(
    shelf: Shelf, publisher: MemoryPublisher, now: Clock, metrics: Metrics | None = None
) -> Releaser:
    """As a worker has it, over a shelf."""
    metrics = metrics or Metrics()
    store = cast("Any", shelf)
    reports = Reports(
        store, MemoryPublisher(), metrics, alerts_topic="a", quarantine_topic="q", now=now
    )
    originals = Originals(lambda: shelf.broker, shelf)
    return Releaser(store, originals, publisher, reports, metrics, now)
