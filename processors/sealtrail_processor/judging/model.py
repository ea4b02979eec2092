"""The values that the pipeline's steps hand to one another; nothing here does any I/O.

    RawMessage -> judge -> Judged (one an offset) -> Flush (one partition) -> Sink

All times are microseconds since 1970. *Coordinates* of a message are (log_id, topic, partition,
offset): offsets alone mean nothing, since a broker that starts anew begins again at 0 and is
another log.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from sealtrail.errors import SealtrailError
from sealtrail.statement import ZERO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.findings import Code, Disposition
    from sealtrail.statement import Heartbeat
    from sealtrail.validate import Refused, VerifiedBatch

# What `Judged.time_source` and the column of that name may hold.
LOG_APPEND = "LOG_APPEND"
RECEIPT = "RECEIPT"
ORIGINAL = "ORIGINAL"


@dataclass(frozen=True, slots=True)
class Log:
    """One partition of one life of a topic; log_id = cluster id and topic id, if any."""

    log_id: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A Kafka message as it was read.

    Args:
        timestamp_us: the message's timestamp, microseconds since 1970.
        append_time: whether the broker set it (LogAppendTime); else it is the producer's word.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_us: int
    append_time: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found about a message, batch or event.

    Args:
        suspect: id of the chain that is probably wrong, 32 bytes.
        estimate_us: how far off, microseconds.
        tolerance_us: what was tolerated, microseconds.
    """

    code: Code
    detail: str
    chain_id: bytes = ZERO
    batch_seq: int = 0
    event_id: bytes | None = None
    suspect: bytes | None = None
    estimate_us: int = 0
    tolerance_us: int = 0


def finding_id(log: Log, offset: int, finding: Finding) -> bytes:
    """Identity of a finding, 16 bytes: found again (by a flush done twice) it is the same row.

    What may become known later is left out: the detail (a waiting time, a count) and the suspect,
    which the linker adds when it is a chain of another partition.
    """
    parts = (
        finding.code.value.encode(),
        log.log_id.encode(),
        log.topic.encode(),
        b"%d/%d" % (log.partition, offset),
        finding.chain_id,
        b"%d" % finding.batch_seq,
        finding.event_id or b"",
    )
    return sha256(b"".join(b"%d:%b" % (len(p), p) for p in parts)).digest()[:16]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one message.

    Args:
        arrival: microseconds since 1970; of a released message the original's.
        time_source: LOG_APPEND, RECEIPT or ORIGINAL (a release).
        refused: why, when quarantined or parked.
        batch: when accepted (and of a duplicate, for its numbers).
        branch: where an accepted batch stands; 0 is the chain as first seen.
        released_from: coordinates of the refused original (log_id, topic, partition, offset).
        kept: whether a refused message's bytes go into the store.
    """

    message: RawMessage
    arrival: int
    time_source: str
    disposition: Disposition
    refused: Refused | None = None
    batch: VerifiedBatch | None = None
    heartbeat: Heartbeat | None = None
    branch: int = 0
    findings: tuple[Finding, ...] = ()
    released_from: tuple[str, str, int, int] | None = None
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Flush:
    """What one commit covers: offsets first_offset .. last_offset of a log, in order.

    `first_offset` is the previous commit's last + 1, so that it also covers holes which compaction
    and control records leave; the messages themselves may begin later and have holes.
    """

    log: Log
    first_offset: int
    judged: tuple[Judged, ...]

    @property
    def last_offset(self) -> int:
        """Offset of the last message."""
        return self.judged[-1].message.offset


class BoundaryBroken(SealtrailError):  # noqa: N818 - the name says what happened at the store
    """The engine did not read exactly the events that were hashed; nothing of the flush was stored.

    Args:
        offsets: the messages at fault, each found by itself.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        super().__init__(f"record boundary broken at offsets {', '.join(map(str, offsets))}")
        self.offsets = tuple(offsets)


class OneByOne(SealtrailError):  # noqa: N818 - says what is to be done
    """The store refuses flushes that were written together: each is to be written alone."""


class Sink(Protocol):
    """Where flushes become durable. Blocking; the caller runs it in a thread."""

    def write(self, flush: Flush) -> None:
        """Write all rows of a flush, then its commit. The same flush writes the same rows again.

        Raises:
            BoundaryBroken: some messages hold other events than they say; nothing was stored.
        """

    def write_together(self, flushes: Sequence[Flush]) -> None:
        """Write flushes of several partitions of one log id and topic, and commit all of them.

        Raises:
            OneByOne: the data of one of them are refused; no reader sees anything of any.
        """

    def write_lost(self, log: Log, first_offset: int, last_offset: int, arrival: int) -> None:
        """Commit offsets that were gone before they were read; arrival in microseconds."""
