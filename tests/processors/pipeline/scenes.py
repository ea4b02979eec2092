"""A partition over the ports in memory, fed with messages of the contract's test world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.contract import world

from sealtrail.validate import Place
from sealtrail_processor.judging.clock import Tolerances
from sealtrail_processor.judging.judge import Examined, Rules, examine
from sealtrail_processor.judging.model import Finding, Flush, Log, RawMessage
from sealtrail_processor.memory import MemoryBroker, MemoryLedger
from sealtrail_processor.pipeline.cutting import Caps
from sealtrail_processor.pipeline.holding import Holding
from sealtrail_processor.pipeline.marks import PAGE, Mark
from sealtrail_processor.pipeline.partition import Partition
from sealtrail_processor.pipeline.step import Ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail.records import Directory

SECOND = 1_000_000
PLACE = Place("local", frozenset({"default"}), world.TOPIC, 1)
RULES = Rules(PLACE, Tolerances(), 30 * SECOND)


def raw(offset: int, value: bytes | None, at: int | None = None, **changes: Any) -> RawMessage:
    """A message; with a time it is the broker's."""
    headers = changes.pop("headers", ())
    return RawMessage(offset, b"key", value, headers, at or 0, append_time=at is not None)


@dataclass
class Scene:
    """One partition of one broker, and what happens to it."""

    examine: Callable[..., Examined] = examine
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    directory: Directory = field(default_factory=world.directory)
    reports: list[tuple[Log, int, Finding]] = field(default_factory=list)
    told: list[Flush] = field(default_factory=list)
    now: int = world.NOW + SECOND
    caps: Caps = field(default_factory=lambda: Caps(1000, 2**24))
    rules: Rules = RULES
    holding: Holding = field(default_factory=lambda: Holding(10_000))
    page: bytearray = field(default_factory=lambda: bytearray(PAGE))

    def __post_init__(self) -> None:
        self.mark = Mark(self.page)

    @property
    def log(self) -> Log:
        return Log(self.broker.cluster, world.TOPIC, 1)

    def partition(self) -> Partition:
        """As after an assignment."""
        ports = Ports(
            self.ledger,
            self.ledger,
            self.broker,
            self.directory,
            lambda: None,
            lambda log, offset, finding: self.reports.append((log, offset, finding)),
            self.told.append,
            lambda: self.now,
            self.mark,
            self.holding,
            self.examine,
        )
        made = Partition(self.log, ports, self.rules, self.caps)
        made.catch_up()
        made.suspect(self.ledger.deaths(self.log.log_id, self.log.topic))
        return made

    def append(self, *values: bytes | None, at: int | None = None, **changes: Any) -> None:
        """Messages at the end of the log."""
        log = self.broker.logs.setdefault(1, [])
        for value in values:
            offset = log[-1].offset + 1 if log else self.broker.starts.get(1, 0)
            log.append(raw(offset, value, at, **changes))

    def run(self, partition: Partition | None = None) -> Partition:
        """Process what is in the log from the cursor on."""
        partition = partition or self.partition()
        messages = [m for m in self.broker.logs.get(1, []) if m.offset >= partition.next_offset]
        partition.process(messages)
        return partition

    def dispositions(self) -> list[str]:
        """What became of each offset, over all logs in the order of their commits."""
        return [j.disposition.value for j in self.ledger.judged()]

    def codes(self) -> list[str]:
        """Codes of all findings of flushes."""
        return [f.code.value for j in self.ledger.judged() for f in j.findings]
