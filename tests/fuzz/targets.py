"""What reads bytes of strangers: one function a parser, all errors but ours are findings.

A parser may raise `SealtrailError`; the functions say what else holds, such as that what was
decoded encodes to the same bytes. Parsers that the product does not have yet are in `WAITING`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx
from aiokafka import codec
from tests.contract import mutations as m
from tests.contract import world as w
from tests.fuzz import files, servers

from sealtrail import avro, avro_schema, ids, records
from sealtrail.batch import SignedBatch, frame, unframe
from sealtrail.causal import causal_prefix
from sealtrail.cli import values
from sealtrail.errors import ContractError, SealtrailError
from sealtrail.headers import consistent
from sealtrail.statement import BatchStatement, Heartbeat, read_signers
from sealtrail.validate import Refused, validate
from sealtrail_audit import sql
from sealtrail_audit.reader import QueryError, read_answer
from sealtrail_audit.store import manifest
from sealtrail_processor.commands import quarantine as quarantine_cli
from sealtrail_processor.judging import released
from sealtrail_processor.judging.model import Log
from sealtrail_processor.kafka.header_names import Records
from sealtrail_processor.linking import heads
from sealtrail_processor.pipeline import marks
from sealtrail_processor.quarantine.dissect import dissect
from sealtrail_processor.quarantine.held import Held
from sealtrail_producer import reference, spool_record
from sealtrail_producer.kafka import KafkaRegistry
from sealtrail_producer.registration import Registration
from sealtrail_producer.services import messages
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

# Formats that nothing in the product reads yet: they come with the transparency log.
WAITING = ("note", "checkpoint", "tile", "evidence bundle")
# Kafka protocol, "Record Batch", up to the records; the checksum is looked at before.
_RECORD_BATCH = struct.Struct(">qiibIhiqqqhii")
# A record of one byte, as a batch holds it: length, attributes, deltas, key, value, headers.
_RECORD = b"\x0e\x00\x00\x00\x01\x02x\x00"
_ENCODERS = (codec.snappy_encode, codec.lz4_encode, codec.zstd_encode)
MOST_RECORDS = 256
_STATUS = (200, 404, 409, 401, 500)


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
    for parse in (
        *(ids.from_text, reference.entity, lambda t: sql.parameters([t])),
        *(quarantine_cli.place, quarantine_cli.finding),
        *(lambda t: values.MOMENT.convert(t, None, None),),
        *(lambda t: values.FINGERPRINT.convert(t, None, None),),
    ):
        with contextlib.suppress(SealtrailError, click.UsageError):
            parse(text)


def store_answer(data: bytes) -> None:
    """Lines of the store's answer."""
    with contextlib.suppress(QueryError):
        read_answer(iter(data.splitlines(keepends=True)), 10)


def chain_heads(data: bytes) -> None:
    """A message of the heads topic."""
    heads.unpack(data)


def record_batch(data: bytes) -> None:
    """What a broker hands out, all of it its writer's words: read, or refused whole."""
    codec, last, body = (data[0] & 7, data[1], data[2:]) if len(data) > 1 else (0, 0, b"")
    head = _RECORD_BATCH.pack(0, 49 + len(body), 0, 2, 0, codec, last, 7, 7, -1, -1, -1, last + 1)
    records = Records(head + body)
    while (part := records.next_batch()) is not None:
        if sum(1 for _ in part) > MOST_RECORDS:
            raise AssertionError("more records than the batch can hold")


def quarantine(data: bytes) -> None:
    """A refused message, taken apart for people as far as it goes."""
    log = Log("log", w.TOPIC, 1)
    about = (7, m.ARRIVAL, len(data), "quarantined", "MALFORMED", 2, "why")
    held = Held(log, *about, key=data[:9], value=data, headers=(("name", data[:99]),))
    for directory in (None, _directory()):
        found = dissect(held, directory, w.PLACE, w.NOW)
        json.dumps(found, default=bytes.hex)


def registry_answer(data: bytes) -> None:
    """What a registry answers when a producer registers its schemas: status, then the body."""
    status, body = _STATUS[data[0] % len(_STATUS)] if data else 200, data[1:]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, request=request)

    registry = KafkaRegistry(ProducerSettings(registry_url="http://registry.invalid"), "orders")
    rest: Any = registry._client._rest_client
    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as wire,
        tempfile.TemporaryDirectory() as folder,
    ):
        rest.session = wire
        known = Registration(lambda: registry, w.TOPIC, Path(folder) / "ids.json", "a registry")
        ids_of = known.ensure()
    sealed = m.sealed(m.whole(3)[1], tuple(m.EVENTS[:3]))
    replace(sealed, event_schema_id=ids_of.event).encode()
    frame(ids_of.batch, b"")


def manifest_file(data: bytes) -> None:
    """The manifest that `audit restore` holds a store against."""
    manifest.Manifest.from_json(data.decode("utf-8", "replace"))


def death_mark(data: bytes) -> None:
    """What a worker that died left in its file."""
    marks.read_mark(data, "worker")
    marks.read_mark(b"STMARK1\n" + data.ljust(marks.PAGE, data[-1:] or b"\0"), "worker")


def service_line(data: bytes) -> None:
    """Lines that one example service hands to the next."""
    for _ in messages.read(data.decode("utf-8", "replace").splitlines()):
        pass


def spool(data: bytes) -> None:
    """A record of the spool, as a failing disk may give it."""
    size = spool_record.PREFIX.size
    spool_record.decode(0, data[:size].ljust(size, b"\x00"), data[size:])


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        *(message, envelope, statement, heartbeat, event, key_record, trust_root, schema),
        *(kafka_headers, http_headers, command_line, store_answer, chain_heads, spool),
        *(record_batch, quarantine, registry_answer, manifest_file, death_mark, service_line),
        *(*files.ALL, *servers.ALL),
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
        "record_batch": [
            bytes([codec, 0]) + body
            for codec, body in enumerate(
                (_RECORD, gzip.compress(_RECORD), *(e(_RECORD) for e in _ENCODERS))
            )
        ],
        "quarantine": [w.framed(batch), beating],
        "registry_answer": [
            b'\x00{"subject":"s","version":1,"id":1,"schema":"\\"string\\""}',
            b'\x01{"error_code":40403,"message":"not found"}',
        ],
        "manifest_file": [
            manifest.Manifest(1, (("l", "t", 0, 9),), (), (), 0).to_json().encode(),
        ],
        "death_mark": [bytes([2]) + bytes(63)],
        "service_line": [b'{"headers":[["a","b"]],"body":{"c":1}}'],
        **files.seeds(),
        **servers.seeds(),
    }
