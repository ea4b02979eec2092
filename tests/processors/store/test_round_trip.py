"""What stands in the rows is what fastavro decodes from the signed bytes."""

import io
import json
from typing import Any

import fastavro
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.processors.store.making import NOW, Make, Maker, event

from sealtrail import avro, ids
from sealtrail.event import (
    MAX_MICROS,
    MIN_MICROS,
    Actor,
    ActorKind,
    Code,
    EntityRef,
    EventType,
    Importance,
    ParentRef,
    Protected,
    ProvenanceEvent,
)
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink

TIMES = st.one_of(
    st.integers(MIN_MICROS, MAX_MICROS),
    st.sampled_from([MIN_MICROS, -1, 0, 1, MAX_MICROS, NOW]),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
HASH = st.binary(min_size=32, max_size=32)
IDS = st.builds(ids.event_id, HASH, st.integers(0, ids.MAX_SEQ))
ENTITIES = st.lists(
    st.builds(
        EntityRef,
        TEXT,
        TEXT,
        st.none() | TEXT,
        st.none() | HASH,
        st.none() | st.integers(0, 2**63 - 1),
    ),
    max_size=3,
).map(tuple)
BYTES16 = st.binary(min_size=16, max_size=16)
EVENTS = st.builds(
    ProvenanceEvent,
    occurred_at=TIMES,
    salt=BYTES16,
    event_type=st.sampled_from(EventType),
    activity=TEXT,
    actor=st.builds(Actor, TEXT, st.sampled_from(ActorKind), st.none() | TEXT),
    parents=st.lists(st.builds(ParentRef, IDS, TIMES, HASH), max_size=3).map(tuple),
    importance=st.sampled_from(Importance),
    run_id=st.none() | BYTES16,
    inputs=ENTITIES,
    outputs=ENTITIES,
    code=st.none() | st.builds(Code, TEXT, TEXT, st.none() | TEXT),
    trace_id=st.none() | BYTES16,
    span_id=st.none() | st.binary(min_size=8, max_size=8),
    policy=st.none() | TEXT,
    backfill=st.booleans(),
    attributes=st.dictionaries(TEXT, TEXT, max_size=3),
    protected=st.lists(
        st.builds(Protected, BYTES16, BYTES16, st.binary(max_size=40)), max_size=2
    ).map(tuple),
    commitments=st.lists(HASH, max_size=2).map(tuple),
)

OWN = """
    SELECT seq, hex(event_id), hex(leaf_hash), toUnixTimestamp64Micro(occurred_at),
        arrayMap(x -> (hex(x.1), toUnixTimestamp64Micro(x.2), hex(x.3)), parents),
        hex(salt), event_type, importance, hex(activity), hex(run_id),
        hex(actor_id), actor_kind, hex(on_behalf_of),
        arrayMap(x -> (hex(x.1), hex(x.2), hex(x.3), hex(x.4), x.5), inputs),
        arrayMap(x -> (hex(x.1), hex(x.2), hex(x.3), hex(x.4), x.5), outputs),
        hex(code_repository), hex(code_revision), hex(code_image),
        hex(trace_id), hex(span_id), hex(policy), backfill,
        arraySort(arrayZip(arrayMap(x -> hex(x), mapKeys(attributes)),
                           arrayMap(x -> hex(x), mapValues(attributes)))),
        arrayMap(x -> (hex(x.1), hex(x.2), hex(x.3)), protected),
        arrayMap(x -> hex(x), commitments)
    FROM events FINAL WHERE log_id = {log:String} ORDER BY seq
"""


def hexed(value: str | bytes | None) -> str | None:
    """Text and bytes as ClickHouse's hex() shows them, None as None."""
    if value is None:
        return None
    return (value.encode() if isinstance(value, str) else value).hex().upper()


def expected(maker: Maker, seq: int, data: bytes, leaf: bytes) -> list[object]:
    """The row of an event, from fastavro's decoding of its bytes."""
    e: Any = fastavro.schemaless_reader(
        io.BytesIO(data), avro.codec("ProvenanceEvent").parsed, None
    )
    code = e["code"] or {"repository": None, "revision": None, "image_digest": None}
    entities = [
        [
            {"1": hexed(x["namespace"]), "2": hexed(x["name"]), "3": hexed(x["version"]),
             "4": hexed(x["digest"]), "5": x["size_bytes"]}
            for x in e[side]
        ]
        for side in ("inputs", "outputs")
    ]  # fmt: skip
    return [
        seq,
        hexed(ids.event_id(maker.chain_id, seq)),
        hexed(leaf),
        e["occurred_at"],
        [[hexed(p["event_id"]), p["occurred_at"], hexed(p["leaf_hash"])] for p in e["parents"]],
        hexed(e["salt"]),
        e["event_type"],
        e["importance"],
        hexed(e["activity"]),
        hexed(e["run_id"]),
        hexed(e["actor"]["id"]),
        e["actor"]["kind"],
        hexed(e["actor"]["on_behalf_of"]),
        *[[list(x.values()) for x in side] for side in entities],
        hexed(code["repository"]),
        hexed(code["revision"]),
        hexed(code["image_digest"]),
        hexed(e["trace_id"]),
        hexed(e["span_id"]),
        hexed(e["policy"]),
        e["backfill"],
        sorted([hexed(k), hexed(v)] for k, v in e["attributes"].items()),
        [[hexed(x["subject"]), hexed(x["key_id"]), hexed(x["ciphertext"])] for x in e["protected"]],
        [hexed(x) for x in e["commitments"]],
    ]


def plain(value: object) -> object:
    """Tuples of any kind as lists."""
    if isinstance(value, dict):
        return [plain(v) for v in value.values()]
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=st.lists(st.lists(EVENTS, min_size=1, max_size=8), min_size=1, max_size=4))
def test_every_column_is_what_fastavro_decodes(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, batches: list[list[ProvenanceEvent]]
):
    m = maker()
    m.log = type(m.log)(f"{m.log.log_id}-{id(batches)}", m.log.topic, 3)
    data = [[e.encode() for e in events] for events in batches]
    judged = [m.judged(m.batch(events)) for events in data]
    sink.write(m.flush(judged))
    leaves = [leaf for j in judged for leaf in j.batch.leaf_hashes]
    flat = [d for events in data for d in events]
    wanted = [expected(m, n, d, leaf) for n, (d, leaf) in enumerate(zip(flat, leaves, strict=True))]
    found = [plain(row) for row in store.query(OWN, {"log": m.log.log_id})]
    assert json.dumps(found) == json.dumps(wanted)


def test_columns_that_the_events_of_a_batch_share(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    first, second = maker(1, tenant="acme"), maker(2)
    second.offset = 1
    j1 = first.judged(first.batch([event(first.rng).encode() for _ in range(3)]), branch=2)
    j2 = second.judged(second.batch([event(second.rng).encode() for _ in range(2)]))
    sink.write(first.flush([j1, j2]))
    rows = store.query(
        "SELECT tenant, chain_id, seq, branch, batch_seq, topic, partition, offset,"
        " toUnixTimestamp64Micro(arrival), time_source, environment, producer, instance,"
        " toUnixTimestamp64Micro(signed_at)"
        " FROM events FINAL WHERE log_id = {log:String} ORDER BY offset, seq",
        {"log": first.log.log_id},
    )
    assert rows == [
        (m.tenant, m.chain_id, seq, j.branch, 0, m.log.topic, 3, j.message.offset, j.arrival,
         "LOG_APPEND", "test", "orders", f"i-{m.seed}", j.batch.statement.signed_at)
        for m, j in ((first, j1), (second, j2))
        for seq in range(len(j.batch.envelope.events))
    ]  # fmt: skip


def test_strings_of_producers_cannot_become_sql(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker(tenant="a'b\\", seed=5)
    sink.write(m.flush(m.accept(1)))
    rows = store.query(
        "SELECT tenant FROM events FINAL WHERE log_id = {log:String}", {"log": m.log.log_id}
    )
    assert rows == [("a'b\\",)]


def test_edges_and_entities_are_filled(store: ClickHouseStore, sink: ClickHouseSink, maker: Make):
    m = maker()
    refs = [
        ParentRef(ids.event_id(m.rng.randbytes(32), n), NOW - n, m.rng.randbytes(32))
        for n in range(3)
    ]
    same = EntityRef("ns", "same", None, None, 7)
    made = event(m.rng, parents=tuple(refs), inputs=(same, same), outputs=(same,))
    sink.write(m.flush([m.judged(m.batch([made.encode()]))]))
    for table in ("edges_by_parent", "edges_by_child"):
        rows = store.query(
            "SELECT ordinal, parent_id, toUnixTimestamp64Micro(parent_occurred_at), parent_leaf,"
            f" child_id, child_chain, child_seq FROM committed_{table}"
            " WHERE log_id = {log:String} ORDER BY ordinal",
            {"log": m.log.log_id},
        )
        own = (ids.event_id(m.chain_id, 0), m.chain_id, 0)
        assert rows == [
            (n, r.event_id, r.occurred_at, r.leaf_hash, *own) for n, r in enumerate(refs)
        ]
    rows = store.query(
        "SELECT direction, ordinal, namespace, name, version, size_bytes FROM"
        " committed_entity_events WHERE log_id = {log:String} ORDER BY direction, ordinal",
        {"log": m.log.log_id},
    )
    assert rows == [
        ("input", 0, "ns", "same", "", 7),
        ("input", 1, "ns", "same", "", 7),
        ("output", 0, "ns", "same", "", 7),
    ]


def evolved() -> avro.Codec:
    """A later version of the event schema: two fields more, in the middle and at the end."""
    schema = json.loads(json.dumps(avro.load_schema("ProvenanceEvent")))
    schema["fields"].insert(6, {"name": "region", "type": ["null", "string"], "default": None})
    schema["fields"].append({"name": "cost", "type": "long", "default": 0})
    return avro.Codec(schema)


def test_several_writer_schemas_in_one_flush(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    old, new = maker(1), maker(2, codec=evolved())
    new.offset = 1
    made = event(new.rng)
    value = made.value() | {"region": "eu", "cost": 12}
    j1 = old.judged(old.batch([event(old.rng).encode()]))
    j2 = new.judged(new.batch([new.codec.encode(value)]))
    sink.write(old.flush([j1, j2]))
    rows = store.query(
        "SELECT offset, activity, toUnixTimestamp64Micro(occurred_at) FROM committed_events"
        " WHERE log_id = {log:String} ORDER BY offset",
        {"log": old.log.log_id},
    )
    assert rows == [
        (0, "orders.enrich", j1.batch.occurred_at[0]),
        (1, "orders.enrich", made.occurred_at),
    ]


def test_a_writer_schema_without_optional_fields(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    schema = json.loads(json.dumps(avro.load_schema("ProvenanceEvent")))
    dropped = {"importance", "policy", "backfill", "commitments"}
    schema["fields"] = [f for f in schema["fields"] if f["name"] not in dropped]
    m = maker(codec=avro.Codec(schema))
    value = {k: v for k, v in event(m.rng).value().items() if k not in dropped}
    sink.write(m.flush([m.judged(m.batch([m.codec.encode(value)]))]))
    rows = store.query(
        "SELECT importance, policy, backfill, commitments FROM committed_events"
        " WHERE log_id = {log:String}",
        {"log": m.log.log_id},
    )
    assert rows == [("ESSENTIAL", None, False, [])]
