"""A broker in memory: a topic, what becomes of messages at its door, and what it may lose."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail.errors import UnavailableError
from sealtrail_processor.judging.model import RawMessage
from sealtrail_producer.ports import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.group import SimGroup
    from tests.simulation.tape import Tape

    from sealtrail_producer.ports import Message

# What may happen to a message at the broker's door; the first is what should.
TAKEN, ACK_LOST, REFUSED, TWICE, WAITS, CORRUPT = range(6)
_FATES = (*[TAKEN] * 14, ACK_LOST, REFUSED, TWICE, WAITS, WAITS, CORRUPT)


@dataclass
class SimBroker:
    """One topic in memory (`ports.Broker` of the pipeline, `ports.GroupOffsets` of the SDK).

    late: messages of connections that were given up, still on their way.
    bent: values that were corrupted on the way; lost: those that were dropped unread.
    """

    tape: Tape
    now: Callable[[], int]
    note: Callable[[str], None]
    group: SimGroup
    append_time: bool = True
    lives: int = 1
    away: int = 0
    logs: dict[int, list[RawMessage]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    late: deque[Message] = field(default_factory=deque)
    bent: set[bytes] = field(default_factory=set)
    lost: list[RawMessage] = field(default_factory=list)

    def log(self, partition: int) -> list[RawMessage]:
        """What a partition ever held in this life; the first `starts` of it are gone."""
        return self.logs.setdefault(partition, [])

    def ask(self) -> None:
        """Any question."""
        if self.away > 0:
            self.away -= 1
            raise UnavailableError("the simulated broker is away")

    # -- from producers -------------------------------------------------------

    def take(self, message: Message) -> Delivery | None:
        """What becomes of a message now; None: it waits in front of the broker."""
        if self.away > 0:
            self.away -= 1
            return Delivery(-1, "away")
        fate = _FATES[self.tape.below(len(_FATES))]
        if fate == WAITS:
            return None
        if fate == REFUSED:
            self.note("a message is refused")
            return Delivery(-1, "refused")
        if fate == CORRUPT:
            self._corrupt(message)
        offset = self.append(message, message.value)
        if fate == TWICE:
            self.note(f"offset {offset} arrives twice")
            self.append(message, message.value)
        if fate == ACK_LOST:
            self.note(f"the acknowledgement of offset {offset} is lost")
            return Delivery(-1, "acknowledgement lost")
        return Delivery(offset)

    def _corrupt(self, message: Message) -> None:
        at = self.tape.below(len(message.value))
        value = bytearray(message.value)
        value[at] ^= 1 << self.tape.below(8)
        self.bent.add(bytes(value))
        offset = self.append(message, bytes(value))
        self.note(f"a copy with byte {at} bent arrives at offset {offset}")

    def append(self, message: Message, value: bytes) -> int:
        """Put a message at the end of its partition."""
        log = self.log(message.partition)
        raw = RawMessage(
            len(log), message.key, value, message.headers, self.now(), self.append_time
        )
        log.append(raw)
        return raw.offset

    def deliver_late(self) -> None:
        """A message of a connection that is long given up comes in after all."""
        if self.late:
            message = self.late.popleft()
            offset = self.append(message, message.value)
            self.note(f"a message of an old connection arrives at offset {offset}")

    # -- losses ---------------------------------------------------------------

    def drop_head(self, partition: int, count: int, read: int) -> None:
        """Retention: the oldest messages go, read or not."""
        start = self.starts.get(partition, 0)
        end = min(start + count, len(self.log(partition)))
        self.lost += self.log(partition)[max(start, read) : end]
        self.starts[partition] = end
        self.note(f"partition {partition} loses its offsets below {end}")

    def begin_anew(self) -> None:
        """A broker without a disk restarts: another log, from offset 0, and no group."""
        self.logs.clear()
        self.starts.clear()
        self.group.forget()
        self.lives += 1
        self.note("the broker lost everything and began anew")

    # -- as the pipeline's `ports.Broker` ---------------------------------------

    def log_id(self, topic: str) -> str:
        """Another one in each life."""
        del topic
        self.ask()
        return f"cluster-{self.lives}"

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset, and the one after the last."""
        del topic
        self.ask()
        return self.starts.get(partition, 0), len(self.log(partition))

    def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Offset of the first message at or after an offset."""
        del topic
        at = max(offset, self.starts.get(partition, 0))
        if at >= len(self.log(partition)):
            raise UnavailableError(f"no message from {offset} on")
        return at

    def read(self, partition: int, offset: int, count: int) -> Sequence[RawMessage]:
        """Messages from an offset on."""
        at = max(offset, self.starts.get(partition, 0))
        return self.log(partition)[at : at + count]

    # -- as the SDK's `ports.GroupOffsets` --------------------------------------

    def cluster(self) -> str:
        """Which life this is."""
        self.ask()
        return str(self.lives)

    def consumed(self, topic: str, partition: int) -> int:
        """The group's offset."""
        del topic
        return self.group.offsets.get(partition, 0)

    def end(self, topic: str, partition: int) -> int:
        """The log's end."""
        del topic
        return len(self.log(partition))

    def close(self) -> None:
        """Nothing to leave."""

    def abandon(self) -> None:
        """Nothing to forget."""
