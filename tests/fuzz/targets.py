"""What reads bytes of strangers: one function a parser, all errors but ours are findings.

A parser may raise `SealtrailError`; the functions say what else holds, such as that what was
decoded encodes to the same bytes. Parsers that the product does not have yet are in `WAITING`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tests.contract import mutations as m
from tests.contract import world as w

from sealtrail import avro, avro_schema, ids, records
from sealtrail.batch import SignedBatch, unframe
from sealtrail.errors import ContractError, SealtrailError
from sealtrail.event import causal_prefix
from sealtrail.headers import consistent
from sealtrail.statement import BatchStatement, Heartbeat, read_signers
from sealtrail.validate import Refused, validate
from sealtrail_audit import sql
from sealtrail_audit.conservation import progress
from sealtrail_audit.reader import QueryError, read_answer
from sealtrail_processor.judging import released
from sealtrail_processor.linking import heads
from sealtrail_producer import reference, spool_record

if TYPE_CHECKING:
    from collections.abc import Callable

# Formats of the issue that nothing in the product reads yet.
WAITING = ("note", "checkpoint", "tile", "evidence bundle")


def message(data: bytes) -> None:
    """A whole Kafka value through steps 1 to 9: never raises, and nobody can sign for orders."""
    outcome = validate(data, w.PLACE, m.ARRIVAL, _directory())
    if not isinstance(outcome, Refused) and SignedBatch.decode(data[5:]).statement not in _honest():
        raise AssertionError("a message was accepted that nobody signed")


def envelope(data: bytes) -> None:
    """The envelope around a batch, with and without framing."""
    with contextlib.suppress(ContractError):
        unframe(data)
    if SignedBatch.decode(data).encode() != data:
        raise AssertionError("not canonical, and taken")


def statement(data: bytes) -> None:
    """A statement, and its signers as they are read before it is believed."""
    for names in (0, 6):
        with contextlib.suppress(ContractError):
            read_signers(data, names=names)
    if BatchStatement.decode(data).encode() != data:
        raise AssertionError("not canonical, and taken")


def heartbeat(data: bytes) -> None:
    """A heartbeat."""
    if Heartbeat.decode(data).encode() != data:
        raise AssertionError("not canonical, and taken")


def event(data: bytes) -> None:
    """An event: its causal prefix, and all of it."""
    with contextlib.suppress(ContractError):
        causal_prefix(data)
    avro.codec("ProvenanceEvent").decode(data)


def key_record(data: bytes) -> None:
    """A message of the keys topic."""
    with contextlib.suppress(ContractError):
        records.KeyRecord.decode(data)
    with contextlib.suppress(ContractError):
        records.SchemaPin.decode(data)
    records.Directory(w.ROOT).add(data, w.NOW)


def trust_root(data: bytes) -> None:
    """The file with the pinned keys."""
    records.TrustRoot.from_json(data.decode("utf-8", "replace"))


def schema(data: bytes) -> None:
    """A registry's answer: a schema as text."""
    avro_schema.check_schema(avro_schema.parse_json(data))


def kafka_headers(data: bytes) -> None:
    """Kafka headers: the name of each up to a zero, its value after it, lines."""
    pairs = tuple(
        (name.decode("utf-8", "replace"), value)
        for name, _, value in (line.partition(b"\x00") for line in data.split(b"\n"))
    )
    released.origin(pairs)
    released.strip(pairs)
    consistent(m.whole(3)[0], pairs)


def http_headers(data: bytes) -> None:
    """`sealtrail-parent` as it comes in HTTP, gRPC and Kafka headers."""
    reference.parse(data.decode("latin-1"))


def command_line(data: bytes) -> None:
    """Ids, entities and parameters as people type them."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (ids.from_text, reference.entity, lambda t: sql.parameters([t])):
        with contextlib.suppress(SealtrailError, click.UsageError):
            parse(text)


def store_answer(data: bytes) -> None:
    """Lines of the store's answer."""
    with contextlib.suppress(QueryError):
        read_answer(iter(data.splitlines(keepends=True)), 10)


def chain_heads(data: bytes) -> None:
    """A message of the heads topic."""
    heads.unpack(data)


def spool(data: bytes) -> None:
    """A record of the spool, as a failing disk may give it."""
    size = spool_record.PREFIX.size
    spool_record.decode(0, data[:size].ljust(size, b"\x00"), data[size:])


def state_file(data: bytes) -> None:
    """The state of `audit conservation`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state"
        file.write_bytes(data)
        progress.read(file)


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        *(message, envelope, statement, heartbeat, event, key_record, trust_root, schema),
        *(kafka_headers, http_headers, command_line, store_answer, chain_heads, spool, state_file),
    )
}


def run_one(name: str, data: bytes) -> None:
    """One input: returns, or raises what is a finding."""
    with contextlib.suppress(SealtrailError):
        TARGETS[name](data)


@cache
def _directory() -> records.Directory:
    known = records.Directory(w.ROOT)
    for arrival, value in m.record_values():
        with contextlib.suppress(ContractError):
            known.add(value, arrival)
    return known


@cache
def _honest() -> frozenset[bytes]:
    """Statements in the corpus that orders signed."""
    return frozenset(SignedBatch.decode(value[5:]).statement for value in seeds()["message"])


@cache
def seeds() -> dict[str, list[bytes]]:
    """Good inputs to begin with, made anew: what is kept in corpus/ comes on top."""
    batch = m.sealed(m.whole(3)[1], tuple(m.EVENTS))
    beat = w.Producer()
    beat.send()
    beating = beat.heartbeat()
    key = w.signed(w.key_record(w.ORDERS))
    pin = json.dumps(w.event_schema()).encode()
    return {
        "message": [w.framed(batch), beating],
        "envelope": [batch.encode(), beating[5:]],
        "statement": [batch.statement],
        "heartbeat": [SignedBatch.decode(beating[5:]).statement],
        "event": [*m.EVENTS, m.FULL],
        "key_record": [key, w.key_record(w.ORDERS).encode(), w.schema_pin().encode()],
        "trust_root": [w.ROOT.to_json().encode()],
        "schema": [pin, b'"string"', b'{"type":"array","items":"null"}'],
        "kafka_headers": [
            b"\n".join(n.encode() + b"\x00" + v for n, v in released.headers(("l", "t", 1, 2)))
        ],
        "http_headers": [reference.format(m.PARENT).encode()],
        "command_line": [ids.text(m.PARENT.event_id).encode(), b"s3://lake/a@1", b"n=1"],
        "store_answer": [b'["a"]\n["String"]\n["x"]\n'],
        "chain_heads": [heads.pack(0, 1, [])],
        "spool": [],
        "state_file": [b'{"version":1,"partitions":[]}'],
    }
