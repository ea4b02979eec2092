"""How far an import really came: what its spool holds decides, not what it meant to send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.batch import SignedBatch, unframe
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.statement import BatchStatement
from sealtrail_producer import slots
from sealtrail_producer.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from sealtrail_producer.importers.checkpoint import Checkpoint
    from sealtrail_producer.spool_record import Record


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of what is on disk: first 82 bits of the chain's id, and its next sequence number."""

    prefix: int
    next_seq: int

    def sent(self, event_id: bytes) -> bool:
        """Whether an event of this chain is on disk; one of another chain is judged as not."""
        prefix, seq = ids.parse(event_id)
        return prefix == self.prefix and seq < self.next_seq


def mark(root: Path, producer: str, instance: str, max_bytes: int) -> Mark | None:
    """The end of the spool of an import, None if it has none.

    Args:
        root: folder of all spools.
        producer: service identity.
        instance: of this import.
        max_bytes: bound of the spool.

    Raises:
        UnavailableError: another process holds the spool.
    """
    slot = slots.claim(root, producer, instance)
    try:
        if slot.instance != instance:
            raise UnavailableError(
                f"another process is importing as {instance}", hint="wait for it, or stop it"
            )
        spool = Spool(slot.folder, max_bytes=max_bytes)
        try:
            return _of(spool.last())
        finally:
            spool.close()
    finally:
        slot.release()


def resume(checkpoint: Checkpoint, found: Mark | None, group_events: int) -> int:
    """Bring a checkpoint into line with the spool; how many commits must be told again.

    Raises:
        ConfigurationError: they have nothing to do with one another.
    """
    if not len(checkpoint):
        return 0
    unsent = checkpoint.tail(found.sent if found else _never)
    # Each group is remembered just before it goes to the spool: one can be missing there, not two.
    if unsent > group_events:
        raise ConfigurationError(
            f"the spool of this import is gone: {unsent} commits may have been sent or not",
            hint="to tell the whole history again as new events: sealtrail import git --anew",
        )
    checkpoint.forget(unsent)
    return unsent


def _never(_event_id: bytes) -> bool:
    return False


def _of(record: Record | None) -> Mark | None:
    if record is None:
        return None
    value = record.message.value
    body = unframe(value)[1] if record.framed else value
    statement = BatchStatement.decode(SignedBatch.decode(body).statement)
    return Mark(ids.chain_prefix(statement.chain_id), statement.first_seq + statement.count)
