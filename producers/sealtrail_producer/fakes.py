"""A fake for each port: brokers, registry, consumer group and clock in memory.

For tests, ours and our users'.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sealtrail.errors import UnavailableError
from sealtrail_producer.ports import BusyError, Delivered, Delivery, Message


@dataclass
class FakeClock:
    """Moves when told, and by step_s at each look at the steady one: deadlines pass."""

    time_us: int = 1_780_000_000_000_000
    steady: float = 0.0
    step_s: float = 0.001
    bound_us: int | None = None

    def now_us(self) -> int:
        """The wall clock, microseconds since 1970."""
        return self.time_us

    def error_us(self) -> int | None:
        """As set."""
        return self.bound_us

    def steady_s(self) -> float:
        """The steady clock, seconds."""
        self.steady += self.step_s
        return self.steady

    def advance(self, seconds: float) -> None:
        """Both clocks move."""
        self.steady += seconds
        self.time_us += int(seconds * 1_000_000)


@dataclass
class FakeBroker:
    """Topics in memory, with the faults that a network has.

    counts: partitions per topic (others have default_count).
    down: nothing answers.
    lose_acks: so many of the next messages are kept, but reported as failed.
    refuse: so many of the next messages are refused.
    largest: messages of more bytes are refused for good.
    """

    default_count: int = 4
    counts: dict[str, int] = field(default_factory=dict)
    logs: dict[tuple[str, int], list[Message]] = field(default_factory=dict)
    down: bool = False
    lose_acks: int = 0
    refuse: int = 0
    largest: int = 1_048_588
    connections: int = 0
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    lives: int = 1

    def connect(self) -> FakeTransport:
        """A new connection."""
        self.connections += 1
        return FakeTransport(self)

    def log(self, topic: str, partition: int) -> list[Message]:
        """What one partition holds."""
        return self.logs.setdefault((topic, partition), [])

    def messages(self) -> list[Message]:
        """Everything, partition by partition."""
        return [message for place in sorted(self.logs) for message in self.logs[place]]

    def take(self, message: Message) -> Delivery:
        """What becomes of a message now."""
        if message.size > self.largest:
            return Delivery(-1, "message size too large", final=True)
        if self.refuse > 0:
            self.refuse -= 1
            return Delivery(-1, "refused")
        log = self.log(message.topic, message.partition)
        log.append(message)
        if self.lose_acks > 0:
            self.lose_acks -= 1
            return Delivery(-1, "acknowledgement lost")
        return Delivery(len(log) - 1)

    def begin_anew(self) -> None:
        """A broker without a disk restarts: offsets begin at 0, and the groups have none."""
        self.logs.clear()
        self.committed.clear()
        self.lives += 1

    # -- as a consumer group (`ports.GroupOffsets`) -----------------------------

    def cluster(self) -> str:
        """Another one after each beginning."""
        return str(self.lives)

    def consumed(self, topic: str, partition: int) -> int:
        """The group's offset."""
        return self.committed.get((topic, partition), 0)

    def end(self, topic: str, partition: int) -> int:
        """The log's end."""
        return len(self.log(topic, partition))

    def close(self) -> None:
        """Nothing to leave."""

    def abandon(self) -> None:
        """Nothing to forget."""


class FakeTransport:
    """One connection to a FakeBroker; like librdkafka it delivers from within poll, in order.

    Args:
        broker: where messages go.
        capacity: messages that wait at most.
    """

    def __init__(self, broker: FakeBroker, capacity: int = 1000) -> None:
        self.broker = broker
        self.capacity = capacity
        self.closed = False
        self._waiting: deque[tuple[Message, Delivered]] = deque()

    def partitions(self, topic: str) -> int:
        """As the broker says."""
        if self.broker.down:
            raise UnavailableError("the fake broker is down")
        return self.broker.counts.get(topic, self.broker.default_count)

    def standing(self, topic: str, partition: int) -> str:
        """Where it is."""
        return f"{topic}[{partition}] is {'down' if self.broker.down else 'up'}"

    def send(self, message: Message, done: Delivered) -> None:
        """Queue a message."""
        if len(self._waiting) >= self.capacity:
            raise BusyError
        self._waiting.append((message, done))

    def poll(self, timeout_s: float) -> None:
        """Deliver what waits, unless the broker is down."""
        del timeout_s
        while self._waiting and not self.broker.down and not self.closed:
            message, done = self._waiting.popleft()
            done(self.broker.take(message))

    def close(self) -> None:
        """Drop what waits."""
        self.closed = True
        self._waiting.clear()

    def abandon(self) -> None:
        """Nothing runs in the background."""


@dataclass
class FakeRegistry:
    """Gives ids in the order of registration."""

    down: bool = False
    schemas: dict[tuple[str, str], int] = field(default_factory=dict)
    compatibility: dict[str, str] = field(default_factory=dict)
    first: int = 1

    def register(self, subject: str, schema: str, compatibility: str) -> int:
        """The id of a schema."""
        if self.down:
            raise UnavailableError("the fake registry is down")
        self.compatibility[subject] = compatibility
        return self.schemas.setdefault((subject, schema), self.first + len(self.schemas))

    def close(self) -> None:
        """Nothing to close."""
