"""What the SDK needs of the outside, as small protocols.

`sealtrail_producer.fakes` has one fake for each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Wall clock for signatures and a steady one for deadlines."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""

    def error_us(self) -> int | None:
        """Bound of the wall clock's error in microseconds, if the host's time service tells."""

    def steady_s(self) -> float:
        """Seconds that never go back."""


class SystemClock:
    """The machine's clocks.

    Args:
        offset_us: added to the wall clock: what a machine that is set wrong would say.
    """

    def __init__(self, offset_us: int = 0) -> None:
        self._offset_us = offset_us

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000 + self._offset_us

    def error_us(self) -> int | None:
        """None: the bound is not asked of the host here."""
        return None

    def steady_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


# n -> n unpredictable bytes.
Entropy = Callable[[int], bytes]
system_entropy: Entropy = os.urandom


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message: explicit partition, headers in order."""

    topic: str
    partition: int
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes

    @property
    def size(self) -> int:
        """Bytes that count against limits."""
        return len(self.key) + len(self.value) + sum(len(k) + len(v) for k, v in self.headers)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message: its offset, or why it was not taken.

    final: sending it again cannot help.
    """

    offset: int
    error: str = ""
    final: bool = False


Delivered = Callable[[Delivery], None]


class BusyError(Exception):
    """The transport's own queue is full: poll, then try again."""


class Transport(Protocol):
    """Carries messages to the brokers, per partition in the order given."""

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            UnavailableError: the brokers do not tell.
        """

    def standing(self, topic: str, partition: int) -> str:
        """What the brokers say of a partition, for people; they may be away."""

    def send(self, message: Message, done: Delivered) -> None:
        """Take a message; `done` is called once from within `poll`.

        Raises:
            BusyError: not now.
        """

    def poll(self, timeout_s: float) -> None:
        """Wait for reports, at most so long."""

    def close(self) -> None:
        """Give up: what is under way is neither waited for nor reported."""

    def abandon(self) -> None:
        """Forget it in a forked child, whose copy has no threads: nothing else may be called."""


class Registry(Protocol):
    """A schema registry."""

    def register(self, subject: str, schema: str, compatibility: str) -> int:
        """Id of a schema under a subject whose compatibility is set.

        Raises:
            UnavailableError: it cannot be reached.
            ConfigurationError: it refuses the schema.
        """

    def close(self) -> None:
        """Close its connections."""


class GroupOffsets(Protocol):
    """How far a consumer group has come on a topic.

    Each method may raise UnavailableError.
    """

    def cluster(self) -> str:
        """Which log this is: changes when the brokers lost everything and began anew."""

    def consumed(self, topic: str, partition: int) -> int:
        """The next offset that the group wants; 0 while it has none."""

    def end(self, topic: str, partition: int) -> int:
        """The next offset that the log will give."""

    def close(self) -> None:
        """Leave."""

    def abandon(self) -> None:
        """Forget it in a forked child."""


@dataclass(frozen=True)
class Ports:
    """The outside. Each is opened when it is needed first, and again after a fork.

    transport: opens a connection to the brokers.
    registry: opens the schema registry.
    group: opens the consumer group that pacing looks at.
    """

    transport: Callable[[], Transport]
    registry: Callable[[], Registry]
    group: Callable[[], GroupOffsets] | None = None
    clock: Clock = SystemClock()  # noqa: RUF009 - it has no state
    entropy: Entropy = system_entropy
