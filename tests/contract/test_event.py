"""Events: caps, tombstones, the causal prefix and what the SDK refuses."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world as w

from sealtrail import avro, causal, event, ids, merkle
from sealtrail.errors import EventError, MalformedError

PARENT = event.ParentRef(ids.event_id(w.digest("chain"), 7), w.NOW, w.digest("leaf"))
TIMES = st.integers(event.MIN_MICROS, event.MAX_MICROS)
FIXED_16 = st.binary(min_size=16, max_size=16)
HASHES = st.binary(min_size=32, max_size=32)
TEXTS = st.text(max_size=12)
PARENTS = st.builds(
    event.ParentRef,
    st.builds(ids.event_id, HASHES, st.integers(0, ids.MAX_SEQ)),
    TIMES,
    HASHES,
)
ENTITIES = st.builds(
    event.EntityRef,
    TEXTS,
    TEXTS,
    st.none() | TEXTS,
    st.none() | HASHES,
    st.none() | st.integers(0, 2**63 - 1),
)
EVENTS = st.builds(
    event.ProvenanceEvent,
    occurred_at=TIMES,
    salt=FIXED_16,
    event_type=st.sampled_from(event.EventType),
    activity=TEXTS,
    actor=st.builds(event.Actor, TEXTS, st.sampled_from(event.ActorKind), st.none() | TEXTS),
    parents=st.lists(PARENTS, max_size=4).map(tuple),
    importance=st.sampled_from(event.Importance),
    run_id=st.none() | FIXED_16,
    inputs=st.lists(ENTITIES, max_size=3).map(tuple),
    outputs=st.lists(ENTITIES, max_size=3).map(tuple),
    code=st.none() | st.builds(event.Code, TEXTS, TEXTS, st.none() | TEXTS),
    trace_id=st.none() | FIXED_16,
    span_id=st.none() | st.binary(min_size=8, max_size=8),
    policy=st.none() | TEXTS,
    backfill=st.booleans(),
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=4),
    protected=st.lists(
        st.builds(event.Protected, FIXED_16, FIXED_16, st.binary(max_size=20)), max_size=2
    ).map(tuple),
    commitments=st.lists(HASHES, max_size=2).map(tuple),
)


@given(EVENTS)
def test_round_trip(made: event.ProvenanceEvent) -> None:
    data = made.encode()
    value = avro.codec("ProvenanceEvent").decode(data)
    assert value == made.value()
    occurred_at, parents = causal.causal_prefix(data)
    assert (occurred_at, tuple(parents)) == (made.occurred_at, made.parents)


@given(EVENTS, st.data())
def test_a_cut_causal_prefix_is_refused(made: event.ProvenanceEvent, data: st.DataObject) -> None:
    whole = made.encode()
    prefix = avro.Codec({**w.event_schema(), "fields": w.event_schema()["fields"][:2]})
    end = len(prefix.encode({k: made.value()[k] for k in ("occurred_at", "parents")}))
    cut = whole[: data.draw(st.integers(0, end - 1))]
    with pytest.raises(MalformedError):
        causal.causal_prefix(cut)


@given(st.binary(max_size=200))
def test_hostile_bytes_raise_only_our_errors(data: bytes) -> None:
    try:
        occurred_at, parents = causal.causal_prefix(data)
    except MalformedError:
        return
    assert event.MIN_MICROS <= occurred_at <= event.MAX_MICROS
    assert all(len(p.event_id) == 16 and len(p.leaf_hash) == 32 for p in parents)


def long(number: int) -> bytes:
    return avro.Codec("long").encode(number)


ONE = PARENT.event_id + long(5) + PARENT.leaf_hash


@pytest.mark.parametrize(
    "data",
    [
        b"",
        long(5),
        b"\x8a\x00\x00",  # a varint that is not minimal
        b"\x80" * 10 + b"\x01\x00",  # one of eleven bytes
        b"\xff" * 9 + b"\x7f\x00",  # one of 70 bits
        long(event.MAX_MICROS + 1) + b"\x00",
        long(event.MIN_MICROS - 1) + b"\x00",
        long(5) + long(1) + ONE,  # no end of the array
        long(5) + long(1) + ONE + long(1) + ONE + b"\x00",  # two blocks
        long(5) + long(-1) + long(len(ONE)) + ONE + b"\x00",  # a block with its size
        long(5) + long(2) + ONE + b"\x00",
        long(5) + long(65) + ONE * 65 + b"\x00",
        long(5) + long(2**40),
        long(5) + long(1) + PARENT.event_id + long(event.MAX_MICROS + 1) + PARENT.leaf_hash + b"\0",
        long(5) + long(1) + bytes(16) + long(5) + PARENT.leaf_hash + b"\x00",  # no event id
    ],
    ids=range(15),
)
def test_a_bad_causal_prefix_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        causal.causal_prefix(data)


def test_a_causal_prefix_may_be_all_that_a_reader_knows() -> None:
    assert causal.causal_prefix(long(5) + b"\x00" + b"later fields") == (5, [])
    assert len(causal.causal_prefix(long(5) + long(64) + ONE * 64 + b"\x00")[1]) == 64


REF = event.EntityRef("n", "e")


@pytest.mark.parametrize(
    "changes",
    [
        {"parents": (PARENT,) * 65},
        {"inputs": (REF,) * 1025, "outputs": (REF,) * 1024},
        {"attributes": {str(i): "" for i in range(65)}},
        {"protected": (event.Protected(bytes(16), bytes(16), b""),) * 33},
        {"activity": "x" * event.MAX_EVENT_BYTES},
        {"occurred_at": event.MAX_MICROS + 1},
        {"occurred_at": event.MIN_MICROS - 1},
        {"occurred_at": 1.5},
        {"occurred_at": True},
        {"occurred_at": None},
        {"parents": (event.ParentRef(PARENT.event_id, 0.5, PARENT.leaf_hash),)},  # type: ignore[arg-type]  # careless
        {"parents": (PARENT._replace(event_id=bytes(16)),)},
        {"parents": (PARENT._replace(event_id=b""),)},
        {"parents": (PARENT._replace(leaf_hash=b"short"),)},
        {"parents": (None,)},
        {"parents": None},
        {"salt": b"short"},
        {"activity": None},
        {"activity": b"bytes"},
        {"activity": "\ud800"},
        {"actor": None},
        {"actor": event.Actor(7)},  # type: ignore[arg-type]  # careless
        {"event_type": "NEW"},
        {"backfill": "yes"},
        {"attributes": {"a": 1}},
        {"attributes": {1: "a"}},
        {"run_id": b"short"},
        {"inputs": (event.EntityRef("n", "e", None, None, 1.5),)},  # type: ignore[arg-type]  # careless
        {"inputs": (replace(REF, digest=b"short"),)},
        {"commitments": (b"short",)},
    ],
    ids=range(30),
)
def test_what_cannot_become_an_event(changes: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        replace(w.event(), **changes).encode()


def test_a_tombstone_is_an_event() -> None:
    stone = event.tombstone(w.NOW, bytes(16), "orders", "no " * 200)
    value = avro.codec("ProvenanceEvent").decode(stone.encode())
    assert value["activity"] == event.TOMBSTONE_ACTIVITY
    assert value["event_type"] == "UNKNOWN"
    assert len(value["attributes"]["reason"]) == 200


def test_event_types_are_those_of_the_schema() -> None:
    fields = {f["name"]: f["type"] for f in w.event_schema()["fields"]}
    assert fields["event_type"]["symbols"] == list(event.EventType)
    assert fields["importance"]["symbols"] == list(event.Importance)
    kinds = {f["name"]: f["type"] for f in fields["actor"]["fields"]}["kind"]
    assert kinds["symbols"] == list(event.ActorKind)


def test_commitments_and_their_openings() -> None:
    opening = w.digest("random")[:16] + b"Ada"
    made = event.commitment(opening)
    assert made == sha256(b"sealtrail/commitment/v1\x00" + opening).digest()
    assert made != event.commitment(w.digest("other")[:16] + b"Ada")
    with pytest.raises(EventError):
        event.commitment(b"Ada")


def outcome(read: Any) -> Any:
    try:
        return read()
    except MalformedError as error:
        return error.message


FIRST_ID = ids.template(w.digest("chain")) + 3


def one_by_one(events: list[bytes]) -> Any:
    times, parents = [], []
    for index, data in enumerate(events):
        try:
            occurred_at, found = causal.causal_prefix(data)
        except MalformedError as error:
            return f"event {index}: {error.message}"
        times.append(occurred_at)
        parents.append(tuple(found))
    return tuple(times), parents


def at_once(events: list[bytes]) -> Any:
    leaves = tuple(map(merkle.leaf_hash, events))
    times, parents = causal.causal_prefixes(events, leaves, FIRST_ID)
    before = [
        event.ParentRef((FIRST_ID + n).to_bytes(16, "big"), *its)
        for n, its in enumerate(zip(times, leaves, strict=True))
    ]
    told = list(parents)
    assert [parents[n] for n in range(len(parents))] == told
    assert set(parents.following) == {n for n in range(1, len(told)) if told[n] == (before[n - 1],)}
    early = [n for n, of in enumerate(told) if any(p.occurred_at > times[n] for p in of)]
    assert parents.early() == early
    with pytest.raises(IndexError):
        parents[len(told)]
    return times, told


USUAL = st.integers(2**48, 2**55)
PREFIXES = st.one_of(
    st.builds(lambda t, rest: long(t) + b"\x00" + rest, USUAL, st.binary(max_size=4)),
    st.builds(
        lambda t, name, at, leaf: long(t) + long(1) + name + long(at) + leaf + b"\x00",
        USUAL,
        st.one_of(FIXED_16, st.just(PARENT.event_id)),
        st.one_of(USUAL, TIMES),
        HASHES,
    ),
    st.builds(lambda made: made.encode(), EVENTS),
    st.binary(max_size=80),
)


@given(st.lists(PREFIXES, max_size=4), st.data())
def test_many_prefixes_read_at_once_are_those_read_one_by_one(
    events: list[bytes], data: Any
) -> None:
    if events and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(events) - 1))
        broken = bytearray(events[at])
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        events[at] = bytes(broken)
    assert outcome(lambda: at_once(events)) == one_by_one(events)


@st.composite
def chained(draw: st.DrawFn) -> list[bytes]:
    """Events that name the one before them, or nearly so: another id, time or leaf hash."""
    events: list[bytes] = []
    at, leaf = 0, b""
    for n in range(draw(st.integers(2, 6))):
        time = draw(st.one_of(USUAL, TIMES))
        causes = []
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2])) if n else 0):
            wrong = draw(st.sampled_from(["", "", "", "id", "time", "leaf"]))
            name = (FIRST_ID + n - 1 - (wrong == "id")).to_bytes(16, "big")
            when = long(draw(USUAL) if wrong == "time" else at)
            causes.append(name + when + (draw(HASHES) if wrong == "leaf" else leaf))
        block = long(len(causes)) + b"".join(causes) + b"\x00" * bool(causes)
        events.append(long(time) + block + draw(st.binary(max_size=2)))
        at, leaf = time, merkle.leaf_hash(events[-1])
    return events


@given(chained())
def test_parents_are_told_as_they_are_named_whether_kept_or_made(events: list[bytes]) -> None:
    assert at_once(events) == one_by_one(events)
