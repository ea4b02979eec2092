"""What the rows of one message agree on, and the disposition that it must have. Pure.

Rows of a message stand in four places: dispositions, payloads, batches and the tables of events.
Bytes decide what bytes can decide. What they do not say (arrival, time source, branch) is put to
the vote of the four; the disposition's vote counts more when its commit's digest holds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail import headers
from sealtrail.findings import NOT_KEPT, Code
from sealtrail.statement import ZERO
from sealtrail.validate import Place, Refused, VerifiedBatch, validate
from sealtrail_audit.store.commits import REFUSED, Disposition
from sealtrail_audit.store.compare import Finding
from sealtrail_audit.store.expected import Meta

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sealtrail.records import Directory

FOREVER = 2**63 - 1
Row = dict[str, Any]


@dataclass(slots=True)
class Message:
    """All stored rows of one offset; copies are one row.

    events: the commonest (arrival, time_source, branch) of its rows in events; None without any.
    known_at: when its key and schema were known, of a released message; else its arrival counts.
    """

    offset: int
    dispositions: list[Disposition] = field(default_factory=list)
    payloads: list[Row] = field(default_factory=list)
    batches: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    events: tuple[int, bytes, int] | None = None
    known_at: int | None = None

    @property
    def supports(self) -> int:
        """How many places besides dispositions hold rows of an accepted message."""
        return bool(self.payloads) + bool(self.batches) + (self.events is not None)


@dataclass(slots=True)
class Reading:
    """A message after its bytes were looked at.

    Args:
        batch: verified; None when the payload is missing or does not hold.
        payload: the row that was taken for the message's.
        disposition: what its row must be, None if there must be none.
        refused: why the payload does not hold.
    """

    message: Message
    batch: VerifiedBatch | None = None
    payload: Row | None = None
    disposition: Disposition | None = None
    refused: Refused | None = None

    def meta(self) -> Meta:
        """What the rows of its events share."""
        must = self.disposition
        if must is None:
            raise ValueError("a message without a disposition has no rows")
        return Meta(must.offset, must.arrival, must.time_source.encode(), must.branch)


@dataclass(frozen=True, slots=True)
class Judge:
    """Verifies payloads. place names log_id, topic and partition."""

    directory: Directory
    environment: str
    tenants: Collection[str]

    def verify(
        self, place: Mapping[str, Any], value: bytes, arrival: int, known_at: int | None
    ) -> VerifiedBatch | Refused:
        """Steps 1 to 9 for the bytes of an accepted batch."""
        where = Place(self.environment, self.tenants, place["topic"], place["partition"])
        outcome = validate(value, where, arrival, self.directory, known_at=known_at)
        if isinstance(outcome, VerifiedBatch | Refused):
            return outcome
        return Refused(Code.MALFORMED, 2, "the payload is a heartbeat")


def read(judge: Judge, place: Mapping[str, Any], message: Message, *, sure: bool) -> Reading:
    """Verify a message's bytes and find the disposition that it must have.

    Args:
        judge: verifies payloads.
        place: log_id, topic and partition.
        message: its stored rows.
        sure: whether the digest of its commit holds with the disposition as stored.
    """
    stored = message.dispositions[0] if message.dispositions else None
    if sure and (stored is None or not stored.taken):
        return Reading(message, disposition=stored)
    if message.quarantine and (stored is None or stored.disposition in REFUSED):
        return Reading(message, disposition=_of_quarantine(message, stored))
    weak = message.supports + (stored is not None and stored.taken) < 2
    if weak and not sure:
        # One row alone is no message: it stands by itself, and is named as added.
        return Reading(message, disposition=stored)
    return _accepted(judge, place, message, stored, sure=sure)


def _accepted(
    judge: Judge,
    place: Mapping[str, Any],
    message: Message,
    stored: Disposition | None,
    *,
    sure: bool,
) -> Reading:
    arrival = _vote(message, stored, 0, "arrival", sure=sure)
    source = _vote(message, stored, 1, "time_source", sure=sure)
    branch = _vote(message, stored, 2, "branch", sure=sure)
    time_source = source.decode() if isinstance(source, bytes) else str(source)
    payload = _pick(message, stored)
    outcome: VerifiedBatch | Refused | None = None
    if payload is not None:
        outcome = judge.verify(place, payload["value"], arrival, message.known_at)
    batch = outcome if isinstance(outcome, VerifiedBatch) else None
    must = stored or Disposition(
        message.offset, arrival, time_source, "accepted", "", 0, "", ZERO, ZERO, 0, branch, 0
    )
    if stored is not None and not stored.taken:
        # Its events are stored, so it was taken, whatever the row says now.
        must = replace(must, disposition="released" if stored.from_topic else "accepted")
    must = replace(must, arrival=arrival, time_source=time_source, branch=branch)
    must = replace(must, code="", step=0, detail="")
    if batch is not None and payload is not None and _is_it(batch, message, stored):
        statement = batch.statement
        must = replace(
            must,
            digest=sha256(payload["value"]).digest(),
            chain_id=statement.chain_id,
            batch_seq=statement.batch_seq,
            events=statement.count,
        )
    elif batch is not None:
        # A batch that verifies, but another one than this message was.
        batch, outcome = None, Refused(Code.ROW_CHANGED, 0, "another batch stands in its place")
    elif message.batches:
        row = message.batches[0]
        names = ("chain_id", "batch_seq")
        if stored is None:
            must = replace(must, **{n: row[n] for n in names}, events=row["count"])
    refused = outcome if isinstance(outcome, Refused) else None
    return Reading(message, batch, payload, must, refused)


def _is_it(batch: VerifiedBatch, message: Message, stored: Disposition | None) -> bool:
    """Whether verified bytes are those of this message, by its other rows (if it has any)."""
    number = (batch.statement.chain_id, batch.statement.batch_seq)
    if stored is not None and (stored.chain_id, stored.batch_seq) == number:
        return True
    if any(row["statement_hash"] == batch.statement_hash for row in message.batches):
        return True
    return stored is None and not message.batches


def _pick(message: Message, stored: Disposition | None) -> Row | None:
    """Of several payloads of one offset the one whose digest the disposition names."""
    if len(message.payloads) > 1 and stored is not None:
        for row in message.payloads:
            if sha256(row["value"]).digest() == stored.digest:
                return row
    return message.payloads[0] if message.payloads else None


def _vote(message: Message, stored: Disposition | None, at: int, name: str, *, sure: bool) -> Any:
    votes: Counter[Any] = Counter()

    def cast(value: Any, weight: int) -> None:
        votes[value.encode() if isinstance(value, str) else value] += weight

    # The disposition goes last: on a tie the first counts, and a digest that fails points at it.
    if message.events is not None:
        cast(message.events[at], 2)
    for row in message.batches[:1]:
        cast(row[name], 2)
    if name == "arrival":
        for row in message.payloads[:1]:
            cast(row[name], 2)
    if stored is not None:
        cast(getattr(stored, name), 5 if sure else 2)
    return votes.most_common(1)[0][0]


def _of_quarantine(message: Message, stored: Disposition | None) -> Disposition:
    """The disposition of a refused message, from its row in quarantine."""
    row = message.quarantine[0]
    base = stored or Disposition(
        message.offset, row["arrival"], "", "", "", 0, "", ZERO, ZERO, 0, 0, 0
    )
    return replace(
        base,
        arrival=row["arrival"],
        disposition=row["disposition"].decode(),
        code=row["code"].decode(),
        step=row["step"],
        detail=row["detail"].decode("utf-8", "replace"),
        digest=quarantined_digest(row["value"], base),
    )


def quarantined_digest(value: bytes | None, must: Disposition) -> bytes:
    """SHA-256 of a refused message's bytes, as its disposition has it where they were not kept.

    That says so itself, under the digest of its commit: bytes that were taken away are missed.
    """
    if value is None and must.detail.startswith(NOT_KEPT):
        return must.digest
    return ZERO if value is None else sha256(value).digest()


def payload_findings(place: Mapping[str, Any], reading: Reading) -> list[Finding]:
    """What is wrong with the payload row of a message that was taken."""
    key = {**place, "offset": reading.message.offset}
    must, taken = reading.disposition, reading.payload
    if must is None:
        return []
    if taken is None:
        detail = "the signed bytes are gone: rows of its events cannot be checked"
        return [Finding(Code.ROW_MISSING, "payloads", key, detail, computed=must.digest)]
    findings = [
        Finding(Code.ROW_CHANGED, "payloads", key, "two rows", "value", _digest(row), must.digest)
        for row in reading.message.payloads
        if row is not taken and row != taken
    ]
    if reading.refused is not None:
        detail = f"{reading.refused.code}: {reading.refused.detail}"
        if _digest(taken) == must.digest:
            # The bytes fit all that is stored about them, but nobody signed them.
            code = reading.refused.code
            findings.append(Finding(code, "payloads", key, reading.refused.detail, "value"))
        else:
            findings.append(
                Finding(
                    Code.ROW_CHANGED,
                    "payloads",
                    key,
                    detail,
                    "value",
                    _digest(taken),
                    must.digest,
                )
            )
        return findings
    wrong = _columns_of_payload(reading, taken, must)
    if wrong:
        also = ", ".join(name for name, _, _ in wrong[1:])
        detail = f"also {also}" if also else ""
        findings.append(Finding(Code.ROW_CHANGED, "payloads", key, detail, *wrong[0]))
    return findings


def _columns_of_payload(
    reading: Reading, row: Row, must: Disposition
) -> Sequence[tuple[str, Any, Any]]:
    wrong: list[tuple[str, Any, Any]] = []
    if row["arrival"] != must.arrival:
        wrong.append(("arrival", row["arrival"], must.arrival))
    if reading.batch is not None:
        statement = reading.batch.statement
        if row["key"] != statement.chain_id:
            wrong.append(("key", row["key"], statement.chain_id))
        found = headers.wrong(statement, row["headers.name"], row["headers.value"])
        wrong += [(f"headers.{name.decode()}", is_, says) for name, is_, says in found]
    return wrong


def _digest(row: Row) -> bytes:
    return sha256(row["value"]).digest()
