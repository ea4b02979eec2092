"""Headers of a message against the statement that they repeat (docs/wire-format.md). Pure.

Nobody signs them and no verifier reads them: one that says something else was changed on its way,
or at rest. The store keeps only those that say the same (and all that the wire format does not
name), so that an audit can tell the two apart.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from sealtrail import dsse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail.statement import BatchStatement

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def named(statement: BatchStatement) -> dict[bytes, bytes]:
    """What the headers that the wire format names must say, but for the time."""
    names = (statement.environment, statement.tenant, statement.producer, statement.instance)
    source = "/".join(("", "sealtrail", *(quote(name, safe="") for name in names)))
    return {
        b"content-type": dsse.BATCH.encode(),
        b"ce_specversion": b"1.0",
        b"ce_id": f"{statement.chain_id.hex()}:{statement.batch_seq}".encode(),
        b"ce_source": source.encode(),
        b"ce_type": b"sealtrail.batch.v1",
        b"ce_sequence": str(statement.batch_seq).encode(),
    }


def wrong(
    statement: BatchStatement, names: Sequence[bytes], values: Sequence[bytes]
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(name, stored value, what the statement says) of each header that contradicts it."""
    must = named(statement)
    for name, value in zip(names, values, strict=True):
        if name in must and value != must[name]:
            yield name, value, must[name]
        elif name == b"ce_time" and _micros(value) != statement.signed_at:
            yield name, value, str(statement.signed_at).encode()


def consistent(
    statement: BatchStatement, headers: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """The headers without those that contradict the statement."""
    names = [name.encode() for name, _ in headers]
    lies = {(name, value) for name, value, _ in wrong(statement, names, [v for _, v in headers])}
    return [header for header in headers if (header[0].encode(), header[1]) not in lies]


def _micros(value: bytes) -> int | None:
    """Microseconds since 1970 of a time in RFC 3339, None if it is none."""
    try:
        moment = datetime.fromisoformat(value.decode())
    except ValueError:
        return None
    return None if moment.tzinfo is None else (moment - _EPOCH) // timedelta(microseconds=1)
