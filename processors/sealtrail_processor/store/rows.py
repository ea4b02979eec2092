"""Rows of a flush for the tables that hold one row a message, batch or finding. Pure.

What stands in a row is a function of the message, its recorded arrival and what judging made of it:
    a flush that is done again gives the same bytes. Column names here are those of
    deploy/clickhouse/migrations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail import headers
from sealtrail.findings import SEVERITIES, Disposition
from sealtrail.statement import ZERO
from sealtrail_processor.judging.model import finding_id
from sealtrail_processor.store.container import Accepted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.judging.model import Finding, Flush, Judged, Log, RawMessage

Row = tuple[Any, ...]

COORDINATES = ("log_id", "topic", "partition", "offset")
BATCHES = (
    "tenant",
    "chain_id",
    "batch_seq",
    "branch",
    "first_seq",
    "count",
    "statement_hash",
    "previous",
    "root",
    "closes",
    "environment",
    "producer",
    "instance",
    "signers",
    "heartbeat_s",
    "continues_chain",
    "continues_batch",
    "continues_head",
    "opened_at",
    "event_schema",
    "signed_at",
    "clock_error_us",
    "sampled_out",
    *COORDINATES,
    "arrival",
    "time_source",
)
PAYLOADS = (*COORDINATES, "arrival", "key", "value", "headers")
DISPOSITIONS = (
    *COORDINATES,
    "arrival",
    "time_source",
    "disposition",
    "code",
    "step",
    "detail",
    "digest",
    "chain_id",
    "batch_seq",
    "branch",
    "events",
    "from_log_id",
    "from_topic",
    "from_partition",
    "from_offset",
)
QUARANTINE = (
    *COORDINATES,
    "arrival",
    "key",
    "value",
    "headers",
    "disposition",
    "code",
    "step",
    "detail",
)
FINDINGS = (
    "finding_id",
    "code",
    "severity",
    "origin",
    "tenant",
    "chain_id",
    "batch_seq",
    "event_id",
    "suspect",
    "estimate_us",
    "tolerance_us",
    "detail",
    *COORDINATES,
    "arrival",
    "found_at",
)
HEARTBEATS = ("chain_id", "batch_seq", "head", "time", "arrival", *COORDINATES)
COMMITS = (
    "log_id",
    "topic",
    "partition",
    "first_offset",
    "last_offset",
    "kind",
    "messages",
    "rows",
    "digest",
    "arrival",
)

TAKEN = (Disposition.ACCEPTED, Disposition.RELEASED)
REFUSED = (Disposition.QUARANTINED, Disposition.PARKED)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for one table."""

    name: str
    columns: tuple[str, ...]
    rows: list[Row]


def accepted(flush: Flush) -> list[Accepted]:
    """The batches of a flush whose events are to be stored."""
    number = flush.log.partition
    return [
        Accepted(j, j.batch, number)
        for j in flush.judged
        if j.disposition in TAKEN and j.batch is not None
    ]


def dispositions(flush: Flush) -> list[Row]:
    """What became of each message; all else of a flush is made from these rows and the messages."""
    return [disposition(flush.log, j) for j in flush.judged]


def tables(flushes: Sequence[Flush], became: Sequence[list[Row]]) -> list[Table]:
    """All rows of flushes but their events and commits, dispositions first.

    Tables without rows are left out.

    Args:
        flushes: what was judged.
        became: the `dispositions` of each.
    """
    all_ = [(flush.log, j) for flush in flushes for j in flush.judged]
    refused = [(log, j) for log, j in all_ if j.disposition in REFUSED]
    taken = [(flush.log, a) for flush in flushes for a in accepted(flush)]
    found = [
        Table("dispositions", DISPOSITIONS, [row for each in became for row in each]),
        Table("batches", BATCHES, [_batch(log, a) for log, a in taken]),
        Table("payloads", PAYLOADS, [_payload(log, a.judged) for log, a in taken]),
        Table("findings", FINDINGS, [_finding(log, j, f) for log, j in all_ for f in j.findings]),
        Table("quarantine", QUARANTINE, [_quarantine(log, j) for log, j in refused]),
        Table(
            "heartbeats",
            HEARTBEATS,
            [row for flush in flushes for row in _heartbeats(flush.log, flush.judged)],
        ),
    ]
    return [table for table in found if table.rows]


def commits(flushes: Sequence[Flush], became: Sequence[list[Row]]) -> Table:
    """The rows that make flushes visible; became: the `dispositions` of each."""
    return Table("commits", COMMITS, list(map(_commit, flushes, became)))


def _commit(flush: Flush, became: list[Row]) -> Row:
    log = flush.log
    return (
        log.log_id,
        log.topic,
        log.partition,
        flush.first_offset,
        flush.last_offset,
        "flush",
        len(flush.judged),
        sum(a.rows for a in accepted(flush)),
        commit_digest(became),
        # Not the last one's: a released message has the arrival of its first try.
        max(j.arrival for j in flush.judged),
    )


def lost(log: Log, first_offset: int, last_offset: int, arrival: int) -> Table:
    """The commit of offsets that were gone from the log before they were read."""
    row = (
        log.log_id,
        log.topic,
        log.partition,
        first_offset,
        last_offset,
        "lost",
        0,
        0,
        commit_digest([]),
        arrival,
    )
    return Table("commits", COMMITS, [row])


def commit_digest(became: list[Row]) -> bytes:
    """SHA-256 over dispositions in the order of their offsets (docs/sql.md, "Commits").

    For each: the JSON array of its columns from `offset` on, bytes as hex, ASCII only, no blanks,
        and a newline.
    """
    digest = sha256()
    for row in became:
        plain = [v.hex() if isinstance(v, bytes) else v for v in row[3:]]
        digest.update(json.dumps(plain, separators=(",", ":")).encode() + b"\n")
    return digest.digest()


def content(flushes: Sequence[Flush], became: Sequence[list[Row]]) -> bytes:
    """SHA-256 of all that `tables` makes of flushes: what insert tokens are made of."""
    digest = sha256()
    for flush, dispositions_ in zip(flushes, became, strict=True):
        log = flush.log
        where = [log.log_id, log.topic, log.partition, flush.first_offset]
        digest.update(json.dumps(where).encode())
        digest.update(commit_digest(dispositions_))
        for j in flush.judged:
            message = j.message
            extra = (message.key, message.headers, [_finding(log, j, f) for f in j.findings])
            digest.update(sha256(repr(extra).encode()).digest())
    return digest.digest()


def events_content(chunk: list[Accepted]) -> bytes:
    """SHA-256 of all that one insert of events stores; a statement's hash covers its events."""
    digest = sha256()
    for item in chunk:
        j = item.judged
        line = [
            item.partition,
            j.message.offset,
            j.arrival,
            j.time_source,
            j.branch,
            item.batch.statement_hash.hex(),
        ]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.digest()


def _coordinates(log: Log, message: RawMessage) -> Row:
    return (log.log_id, log.topic, log.partition, message.offset)


def disposition(log: Log, j: Judged) -> Row:
    """The row of one message in `dispositions`."""
    believed = j.disposition not in REFUSED
    chain_id, batch_seq, events = ZERO, 0, 0
    if believed and j.batch is not None:
        statement = j.batch.statement
        chain_id, batch_seq, events = statement.chain_id, statement.batch_seq, statement.count
    elif believed and j.heartbeat is not None:
        chain_id, batch_seq = j.heartbeat.chain_id, j.heartbeat.batch_seq
    refused = j.refused
    return (
        *_coordinates(log, j.message),
        j.arrival,
        j.time_source,
        str(j.disposition),
        "" if refused is None else str(refused.code),
        0 if refused is None else refused.step,
        "" if refused is None else refused.detail,
        ZERO if j.message.value is None else sha256(j.message.value).digest(),
        chain_id,
        batch_seq,
        j.branch,
        events,
        *(j.released_from or ("", "", 0, 0)),
    )


def _batch(log: Log, item: Accepted) -> Row:
    j, s = item.judged, item.batch.statement
    genesis = s.genesis
    continues = None if genesis is None else genesis.continues
    origin = (
        (ZERO, -1, ZERO)
        if continues is None
        else (continues.chain_id, continues.batch_seq, continues.head)
    )
    return (
        s.tenant,
        s.chain_id,
        s.batch_seq,
        j.branch,
        s.first_seq,
        s.count,
        item.batch.statement_hash,
        s.previous,
        s.root,
        s.closes,
        s.environment,
        s.producer,
        s.instance,
        list(s.signers),
        0 if genesis is None else genesis.heartbeat_s,
        *origin,
        0 if genesis is None else genesis.opened_at,
        s.event_schema,
        s.signed_at,
        s.clock_error_us,
        s.sampled_out,
        *_coordinates(log, j.message),
        j.arrival,
        j.time_source,
    )


def _payload(log: Log, j: Judged) -> Row:
    m, batch = j.message, j.batch
    where = (*_coordinates(log, m), j.arrival)
    if batch is None:
        return (*where, m.key or b"", m.value or b"", list(m.headers))
    # Key and headers as the signed bytes give them: anybody can change the message's own on its
    # way, and an audit could not tell that from a row that was tampered with.
    said = headers.consistent(batch.statement, m.headers)
    return (*where, batch.statement.chain_id, m.value or b"", said)


def _quarantine(log: Log, j: Judged) -> Row:
    m, refused = j.message, j.refused
    reason = ("", 0, "") if refused is None else (str(refused.code), refused.step, refused.detail)
    body = (m.key, m.value, list(m.headers)) if j.kept else (None, None, [])
    return (*_coordinates(log, m), j.arrival, *body, str(j.disposition), *reason)


def _heartbeats(log: Log, judged: tuple[Judged, ...]) -> list[Row]:
    latest = {
        j.heartbeat.chain_id: (
            j.heartbeat.chain_id,
            j.heartbeat.batch_seq,
            j.heartbeat.head,
            j.heartbeat.time,
            j.arrival,
            *_coordinates(log, j.message),
        )
        for j in judged
        if j.disposition is Disposition.HEARTBEAT and j.heartbeat is not None
    }
    return list(latest.values())


def _finding(log: Log, j: Judged, finding: Finding) -> Row:
    offset = j.message.offset
    tenant = "" if j.batch is None or j.disposition in REFUSED else j.batch.statement.tenant
    return finding_row(log, offset, finding, tenant=tenant, arrival=j.arrival, origin="ingest")


def finding_row(  # noqa: PLR0913 - a row of a table, and its parts come from different hands
    log: Log,
    offset: int,
    finding: Finding,
    *,
    tenant: str,
    arrival: int,
    origin: str,
    found_at: int | None = None,
) -> Row:
    """A row of `findings`; arrival and found_at (default: arrival) in microseconds since 1970."""
    return (
        finding_id(log, offset, finding),
        str(finding.code),
        str(SEVERITIES[finding.code]),
        origin,
        tenant,
        finding.chain_id,
        finding.batch_seq,
        finding.event_id,
        finding.suspect,
        finding.estimate_us,
        finding.tolerance_us,
        finding.detail,
        log.log_id,
        log.topic,
        log.partition,
        offset,
        arrival,
        arrival if found_at is None else found_at,
    )
