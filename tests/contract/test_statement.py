"""Statements, heartbeats and envelopes by themselves."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world as w

from sealtrail import avro, batch, dsse
from sealtrail.errors import ContractError, MalformedError, NotCanonicalError
from sealtrail.event import MAX_MICROS
from sealtrail.statement import (
    ZERO,
    BatchStatement,
    Continues,
    Genesis,
    Heartbeat,
    Identity,
    check_signers,
    read_signers,
    statement_hash,
)

HASHES = st.binary(min_size=32, max_size=32)
NAMES = st.text(min_size=1, max_size=8)
LONGS = st.integers(0, 2**63 - 1)
MICROS = st.integers(0, MAX_MICROS)
SIGNERS = st.sets(HASHES, min_size=1, max_size=4).map(lambda s: tuple(sorted(s)))
GENESES = st.builds(
    Genesis,
    HASHES,
    MICROS,
    st.integers(1, 86_400),
    st.none() | st.builds(Continues, HASHES, LONGS, HASHES),
)
IDENTITIES = st.builds(Identity, NAMES, NAMES, NAMES, st.integers(0, 2**31 - 1), NAMES, NAMES)


@st.composite
def statements(draw: st.DrawFn) -> BatchStatement:
    who, genesis = draw(IDENTITIES), draw(st.none() | GENESES)
    first = genesis is not None
    return BatchStatement(
        **{name: getattr(who, name) for name in Identity.__dataclass_fields__},
        signers=draw(SIGNERS),
        kind=draw(st.sampled_from(["EVENTS", "CLOSE"])),
        genesis=genesis,
        chain_id=draw(HASHES) if genesis is None else who.chain_id(genesis),
        batch_seq=0 if first else draw(st.integers(1, 2**63 - 1)),
        first_seq=0 if first else draw(st.integers(0, 2**39)),
        count=draw(st.integers(1, 1000)),
        root=draw(HASHES),
        previous=ZERO if first else draw(HASHES.filter(lambda h: h != ZERO)),
        event_schema=draw(HASHES),
        signed_at=draw(MICROS),
        clock_error_us=draw(st.none() | LONGS),
        sampled_out=draw(LONGS),
    )


@given(statements())
def test_statements_round_trip(statement: BatchStatement) -> None:
    data = statement.encode()
    assert BatchStatement.decode(data) == statement
    assert read_signers(data, names=6) == statement.signers
    for other in (data[:-1], data + b"\x00", b""):
        with pytest.raises(ContractError):
            BatchStatement.decode(other)


@given(st.builds(Heartbeat, SIGNERS, HASHES, LONGS, HASHES, MICROS))
def test_heartbeats_round_trip(heartbeat: Heartbeat) -> None:
    data = heartbeat.encode()
    assert Heartbeat.decode(data) == heartbeat
    assert read_signers(data, names=0) == heartbeat.signers
    with pytest.raises(NotCanonicalError):
        Heartbeat.decode(data + b"\x00")


ENVELOPES = st.builds(
    batch.SignedBatch,
    st.sampled_from(sorted(dsse.PAYLOAD_TYPES)),
    st.binary(),
    st.lists(st.binary(), max_size=3).map(tuple),
    st.integers(-(2**31), 2**31 - 1),
    st.lists(st.binary(), max_size=4).map(tuple),
    st.lists(st.binary(), max_size=2).map(tuple),
)


@given(ENVELOPES)
def test_envelopes_round_trip(envelope: batch.SignedBatch) -> None:
    schema_id, body = batch.unframe(batch.frame(7, envelope.encode()))
    assert schema_id == 7
    assert batch.SignedBatch.decode(body) == envelope
    with pytest.raises(ContractError):
        batch.SignedBatch.decode(body + b"\x00")


FIRST = w.Producer().statement([w.event().encode()])
GENESIS = FIRST.genesis
assert GENESIS is not None
LATER = replace(FIRST, batch_seq=1, first_seq=1, genesis=None, previous=w.digest("head"))


def regenesis(**changes: Any) -> dict[str, Any]:
    """A genesis with changes, and the chain id that goes with it."""
    assert GENESIS is not None
    genesis = replace(GENESIS, **changes)
    return {"genesis": genesis, "chain_id": w.IDENTITY.chain_id(genesis)}


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        (LATER, {"signers": ()}),
        (LATER, {"signers": tuple(sorted((w.digest("b"), w.digest("a")), reverse=True))}),
        (LATER, {"signers": (w.digest("a"),) * 2}),
        (LATER, {"signers": tuple(sorted(w.digest(str(i)) for i in range(5)))}),
        (LATER, {"partition": -1}),
        (LATER, {"environment": ""}),
        (LATER, {"producer": "x" * 2049}),
        (LATER, {"batch_seq": -1}),
        (LATER, {"first_seq": -1}),
        (LATER, {"count": -1}),
        (LATER, {"count": 0}),
        (LATER, {"first_seq": 2**40}),
        (LATER, {"genesis": GENESIS}),
        (LATER, {"previous": ZERO}),
        (LATER, {"sampled_out": -1}),
        (LATER, {"clock_error_us": -1}),
        (LATER, {"signed_at": -1}),
        (LATER, {"signed_at": MAX_MICROS + 1}),
        (LATER, {"batch_seq": 0}),
        (FIRST, {"genesis": None}),
        (FIRST, {"previous": w.digest("head")}),
        (FIRST, {"first_seq": 1}),
        (FIRST, {"chain_id": w.digest("other")}),
        (FIRST, {"producer": "billing"}),
        (FIRST, {"topic": "other"}),
        (FIRST, regenesis(heartbeat_s=0)),
        (FIRST, regenesis(heartbeat_s=86_401)),
        (FIRST, regenesis(opened_at=-1)),
        (FIRST, regenesis(opened_at=MAX_MICROS + 1)),
        (FIRST, regenesis(continues=Continues(w.digest("a"), -1, w.digest("b")))),
    ],
    ids=range(30),
)
def test_a_statement_that_contradicts_itself(statement: BatchStatement, changes: Any) -> None:
    BatchStatement.decode(statement.encode())
    with pytest.raises(MalformedError):
        BatchStatement.decode(replace(statement, **changes).encode())


def test_close_may_hold_no_events() -> None:
    statement = replace(LATER, kind="CLOSE", count=0)
    assert BatchStatement.decode(statement.encode()).closes


@pytest.mark.parametrize("changes", [{"batch_seq": -1}, {"time": -1}, {"signers": ()}])
def test_a_heartbeat_that_contradicts_itself(changes: Any) -> None:
    beat = Heartbeat((w.digest("a"),), w.digest("chain"), 0, w.digest("head"), w.NOW)
    with pytest.raises(MalformedError):
        Heartbeat.decode(replace(beat, **changes).encode())


def test_the_chain_id_depends_on_everything_that_makes_a_chain() -> None:
    assert GENESIS is not None
    who, genesis = w.IDENTITY, GENESIS
    ids = {
        who.chain_id(genesis),
        *(
            Identity(**{**asdict(who), name: "x" if name != "partition" else 2}).chain_id(genesis)
            for name in asdict(who)
        ),
        who.chain_id(replace(genesis, nonce=bytes(32))),
        who.chain_id(replace(genesis, opened_at=1)),
        who.chain_id(replace(genesis, heartbeat_s=1)),
        who.chain_id(replace(genesis, continues=Continues(ZERO, 0, ZERO))),
        # The bounds of neighbouring names count.
        replace(who, producer=who.producer + "o", instance=who.instance[1:]).chain_id(genesis),
    }
    assert len(ids) == 6 + 6


def test_signers_are_read_from_what_is_not_canonical_too() -> None:
    data = LATER.encode()
    at = data.index(LATER.signers[0])
    key = data[at : at + 32]
    head, tail = data[: at - 1], data[at + 33 :]
    size = avro.Codec("long").encode(32)
    for signers in (
        b"\x82\x00" + key + b"\x00",
        b"\x01" + size + key + b"\x00",
        b"\x02" + key + b"\x80\x00",
        b"\x02" + key + b"\x00",
    ):
        assert read_signers(head + signers + tail, names=6) == LATER.signers
    many = head + b"\xfe\x01" + key * 127 + b"\x00"
    assert len(read_signers(many, names=6)) == 5
    with pytest.raises(MalformedError):
        check_signers(read_signers(many, names=6))


@given(st.binary(max_size=400), st.sampled_from([0, 6]))
def test_signers_of_hostile_bytes(data: bytes, names: int) -> None:
    try:
        signers = read_signers(data, names)
    except MalformedError:
        return
    assert len(signers) <= 5
    assert all(len(s) == 32 for s in signers)


def test_hash_of_a_statement() -> None:
    assert len(statement_hash(LATER.encode())) == 32


def test_only_batches_hold_events() -> None:
    assert batch.is_batch(dsse.BATCH)
    assert not batch.is_batch(dsse.HEARTBEAT)


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\x00\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01\x00", bytes(9_000_000)]
)
def test_framing(value: bytes) -> None:
    with pytest.raises(MalformedError):
        batch.unframe(value)
