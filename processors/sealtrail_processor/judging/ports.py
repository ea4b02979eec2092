"""What the pipeline needs of the outside: it blocks, may fail, and may be tried again.

`kafka.beside`, `store.ledger` and `store.sink` hold the real ones, `memory` the fakes that tests
use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sealtrail.chain import Link
    from sealtrail.statement import Continues
    from sealtrail_processor.judging.keeping import Spent
    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.judging.suspicion import Death

Coordinates = tuple[str, str, int, int]
# Microseconds since 1970.
Clock = Callable[[], int]


class LogChanged(UnavailableError):  # noqa: N818 - says what happened
    """The broker is not the one whose log was being read: what it holds is another log."""


class SkippedMessages(UnavailableError):  # noqa: N818 - says what happened
    """Between the cursor and the next message lie some that are in the log, or in the store."""


class Unreadable(UnavailableError):  # noqa: N818 - says what happened
    """The broker answers, and does not give a message that it says it has."""


@dataclass(frozen=True, slots=True, order=True)
class Life:
    """One life of a partition's log: what stands below the offset `end` counts."""

    log_id: str
    end: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A chain in the store; watched: time may still find something about it that was not told."""

    chain_id: bytes
    batches: int
    watched: bool


@dataclass(frozen=True, slots=True)
class History:
    """What the store knows of some chains: see `Chains.recall`. Links may be read as they come."""

    links: Iterable[Link]
    continued: Mapping[bytes, tuple[bytes, Continues]]


class Ledger(Protocol):
    """What the store remembers of a partition."""

    def settle(self, partition: int) -> None:
        """Wait until all that was acknowledged elsewhere can be read here; before anything else."""

    def cursor(self, log: Log) -> int | None:
        """Next offset after the contiguous commits of a log, None when it has none."""

    def last_arrival(self, log: Log) -> int:
        """Arrival of the last committed message of a log, microseconds; 0 when there is none."""

    def spent(self, log: Log, end: int) -> Spent:
        """Bytes of refused messages below an offset that were kept in the hour of the last one."""

    def lives(self, topic: str, partition: int) -> Sequence[Life]:
        """Lives of a partition's log as far as they are committed, in order of their beginnings.

        Chains outlive a broker's log, so that their batches are read in the order of the lives.
        """

    def chains(self, topic: str, partition: int, most: int) -> Sequence[Stored]:
        """Chains of a partition: at most so many, watched ones first, then those heard last."""

    def history(self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]) -> History:
        """Batches of some chains of a partition, of these lives, and who continues them."""

    def namesakes(
        self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]
    ) -> set[bytes]:
        """Chains in these lives whose events would have the ids of these chains' events."""

    def receipts(self, log: Log, offsets: Sequence[int], now: int) -> Mapping[int, int]:
        """Record `now` as receipt time of offsets that have none; what is on record, read back."""

    def receipts_of(
        self, offsets: Mapping[Log, Sequence[int]], now: int
    ) -> Mapping[Log, Mapping[int, int]]:
        """As `receipts`, for several partitions in one go."""

    def stored_hashes(
        self, place: Log, lives: Sequence[Life], keys: Collection[tuple[bytes, int]]
    ) -> Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]]:
        """(chain_id, batch_seq) -> [(statement_hash, branch)] of batches in these lives."""

    def deaths(self, log_id: str, topic: str) -> Sequence[Death]:
        """Deaths of workers that had messages of a topic's log in hand."""

    def record_death(self, death: Death) -> None:
        """Make a death durable; once more changes nothing."""

    def holds(self, log: Log, offset: int) -> bool:
        """Whether anything of a message is stored, committed or not."""

    def refused(
        self, coordinates: Collection[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """(arrival, SHA-256 of the value) of those messages that were parked or quarantined."""


class Broker(Protocol):
    """What is asked of the broker beside consuming."""

    def log_id(self, topic: str) -> str:
        """Identity of the log that a topic has now."""

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset, and the one after the last."""

    def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Offset of the first message at or after an offset, where there is one."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published; partition None leaves it to the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class Publisher(Protocol):
    """Where messages go out. failed: how many of those offered were given up, by the last poll."""

    failed: int

    def poll(self) -> None:
        """Take note of what became of messages; returns at once."""

    def offer(self, message: Outgoing) -> bool:
        """Queue a message and return at once; False when the queue is full and it was dropped."""

    def publish(self, messages: Sequence[Outgoing], timeout_s: float) -> list[int]:
        """Publish in order and wait; offsets that they got.

        Raises:
            UnavailableError: not all were acknowledged in time.
        """

    def close(self, timeout_s: float) -> int:
        """Wait for what is queued, so long; messages that are left."""
