"""One event and what proves it, recomputed from stored bytes alone.

(1) the payload is a batch whose signatures, keys, schema and root hold (`sealtrail.validate`);
(2) the event is the one at its sequence number in that batch, and an inclusion proof leads from its
    leaf hash to the signed root;
(3) the leaf hash in the event's row is that of the signed bytes.

Pure: the payload and the directory come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealtrail import merkle
from sealtrail.errors import ContractError
from sealtrail.validate import Place, VerifiedBatch, validate

if TYPE_CHECKING:
    from sealtrail_audit.trust import Trust


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an event's row says that it belongs."""

    chain_id: bytes
    seq: int
    branch: int
    leaf_hash: bytes
    log_id: str
    topic: str
    partition: int
    offset: int
    arrival: int
    known_at: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What holds. problems is empty when everything does.

    event: the decoded record, from the signed bytes; None if it could not be reached.
    path: the inclusion proof, leaf to root.
    """

    problems: tuple[str, ...]
    event: dict[str, Any] | None = None
    batch: VerifiedBatch | None = None
    index: int = 0
    leaf_hash: bytes = b""
    path: tuple[bytes, ...] = ()


def prove(stored: Stored, payload: bytes | None, environment: str, trust: Trust) -> Proof:
    """Verify one event from the bytes of its batch.

    Args:
        stored: what the event's row says.
        payload: the Kafka value at its coordinates, None if there is none.
        environment: the environment that batches must name.
        trust: keys and schemas.
    """
    if payload is None:
        return Proof(("the store has no payload for this event",))
    place = Place(environment, trust.tenants, stored.topic, stored.partition)
    batch = validate(payload, place, stored.arrival, trust.directory, known_at=stored.known_at)
    if not isinstance(batch, VerifiedBatch):
        detail = getattr(batch, "detail", "it is no batch of events")
        code = getattr(batch, "code", "MALFORMED")
        return Proof((f"{code}: {detail}",))
    statement = batch.statement
    index = stored.seq - statement.first_seq
    if stored.chain_id != statement.chain_id or not 0 <= index < statement.count:
        return Proof(("the payload at its coordinates is another batch",), batch=batch)
    leaf = batch.leaf_hashes[index]
    path = tuple(merkle.inclusion_proof(batch.leaf_hashes, index))
    problems = []
    event: dict[str, Any] | None = None
    try:
        merkle.verify_inclusion(leaf, index, statement.count, path, statement.root)
        event = batch.schema.decode(batch.envelope.events[index])
    except ContractError as error:
        problems.append(error.message)
    if leaf != stored.leaf_hash:
        problems.append("leaf_hash of the row is not that of the signed event")
    return Proof(tuple(problems), event, batch, index, leaf, path)
