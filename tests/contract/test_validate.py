"""Steps 1 to 9: each code at its step, with a message made to meet just that (A, B1, B2, C)."""

from dataclasses import replace
from typing import Any

import pytest
from tests.contract import world as w

from sealtrail import avro, batch, dsse, merkle, validate
from sealtrail.errors import ContractError
from sealtrail.findings import SEVERITIES, Code
from sealtrail.records import SPOOL_GRACE_US, Revocation, SignedRecord
from sealtrail.statement import Heartbeat, statement_hash
from sealtrail.validate import Place, Refused, VerifiedBatch, VerifiedHeartbeat

EVENTS = [w.event(i).encode() for i in range(3)]
STATEMENT = w.Producer().statement(EVENTS)
BODY = STATEMENT.encode()


def refused(outcome: Any) -> tuple[Code, int]:
    assert isinstance(outcome, Refused), outcome
    assert outcome.detail
    return outcome.code, outcome.step


def restated(events: list[bytes] = EVENTS, **changes: Any) -> bytes:
    """A batch whose statement was changed before it was signed."""
    return w.framed(w.seal(replace(STATEMENT, **changes).encode(), events))


@pytest.mark.parametrize(
    "keys",
    [(w.ORDERS,), (w.ORDERS_PQ,), (w.ORDERS, w.ORDERS_PQ)],
    ids=["Ed25519", "ML-DSA-44", "both"],
)
def test_an_honest_batch_is_verified(keys: tuple[w.TestKey, ...]) -> None:
    result = w.judge(w.Producer(keys=keys).send(5))
    assert isinstance(result, VerifiedBatch)
    assert result.leaf_hashes == tuple(merkle.leaf_hash(e) for e in result.envelope.events)
    assert result.occurred_at == tuple(w.NOW - 1000 + i for i in range(5))
    assert list(result.parents) == [()] * 5
    assert result.schema.fingerprint == result.statement.event_schema
    assert result.statement_hash == statement_hash(result.envelope.statement)


def test_an_honest_heartbeat_is_verified() -> None:
    producer = w.Producer()
    producer.send()
    result = w.judge(producer.heartbeat())
    assert isinstance(result, VerifiedHeartbeat)
    assert (result.heartbeat.batch_seq, result.heartbeat.head) == (0, producer.head)
    assert [record.producer for record in result.keys] == ["orders"]


def test_framing_schema_id_and_disclosures_are_hints() -> None:
    envelope = w.seal(BODY, EVENTS)
    for value in (
        batch.frame(99, envelope.encode()),
        w.framed(replace(envelope, event_schema_id=-1)),
        w.framed(replace(envelope, disclosures=(b"opening",))),
    ):
        result = w.judge(value)
        assert isinstance(result, VerifiedBatch)
        assert result.statement == STATEMENT


@pytest.mark.parametrize(
    "value", [None, b"", b"\x00\x00\x00\x00\x01", b"\x01" + bytes(50), bytes(8 * 2**20 + 1)]
)
def test_step_1(value: bytes | None) -> None:
    assert refused(w.judge(value)) == (Code.MALFORMED, 1)


def envelopes() -> dict[str, tuple[bytes, Code]]:
    good = w.seal(BODY, EVENTS)
    beat = w.seal(Heartbeat(STATEMENT.signers, bytes(32), 0, bytes(32), 0).encode(), [])
    beat = replace(beat, payload_type=dsse.HEARTBEAT)
    return {
        "trailing byte": (w.framed(good) + b"\x00", Code.MALFORMED),
        "cut": (w.framed(good)[:-1], Code.MALFORMED),
        "split array": (w.framed(good)[:-1] + b"\x03\x02\x00\x00", Code.MALFORMED),
        "unknown payload": (w.framed(replace(good, payload_type="x")), Code.UNKNOWN_PAYLOAD_TYPE),
        "key record": (
            w.framed(replace(good, payload_type=dsse.KEY_RECORD)),
            Code.UNKNOWN_PAYLOAD_TYPE,
        ),
        "too many events": (w.framed(replace(good, events=(b"",) * 65_537)), Code.MALFORMED),
        "heartbeat with events": (w.framed(replace(beat, events=(b"",))), Code.MALFORMED),
        "heartbeat with disclosures": (w.framed(replace(beat, disclosures=(b"",))), Code.MALFORMED),
        "empty statement": (w.framed(w.seal(b"", EVENTS)), Code.MALFORMED),
        "statement cut before its signers": (w.framed(w.seal(BODY[:60], EVENTS)), Code.MALFORMED),
        "heartbeat of nothing": (w.framed(w.seal(b"", [], kind=dsse.HEARTBEAT)), Code.MALFORMED),
        "number of eleven bytes": (w.framed(w.seal(b"\x80" * 11, EVENTS)), Code.MALFORMED),
    }


@pytest.mark.parametrize(("value", "code"), envelopes().values(), ids=envelopes().keys())
def test_step_2(value: bytes, code: Code) -> None:
    assert refused(w.judge(value)) == (code, 2)


def bad_signatures() -> dict[str, bytes]:
    good, both = w.seal(BODY, EVENTS), w.Producer(keys=(w.ORDERS, w.ORDERS_PQ))
    two = both.envelope(both.statement(EVENTS), EVENTS)
    beat = w.seal(BODY, EVENTS, kind=dsse.HEARTBEAT)
    return {
        "none": w.framed(replace(good, signatures=())),
        "bit flipped": w.framed(replace(good, signatures=(bytes(64),))),
        "other key": w.framed(w.seal(BODY, EVENTS, (w.BILLING,))),
        "statement changed": w.framed(replace(good, statement=BODY[:-1] + b"\x02")),
        "stripped": w.framed(replace(two, signatures=two.signatures[:1])),
        "stripped to the other": w.framed(replace(two, signatures=two.signatures[1:])),
        "swapped": w.framed(replace(two, signatures=two.signatures[::-1])),
        "one more": w.framed(replace(good, signatures=good.signatures * 2)),
        "of another context": w.framed(replace(beat, payload_type=dsse.BATCH)),
        "no signers": restated(signers=()),
        "signer twice": restated(signers=STATEMENT.signers * 2),
        "five signers": restated(signers=tuple(w.digest(str(i)) for i in range(5))),
    }


@pytest.mark.parametrize("value", bad_signatures().values(), ids=bad_signatures().keys())
def test_step_3_a_signature_is_bad(value: bytes) -> None:
    assert refused(w.judge(value)) == (Code.BAD_SIGNATURE, 3)


def test_step_3_an_unknown_key_is_parked_and_judged_again() -> None:
    known = w.directory()
    producer = w.Producer(keys=(w.STRANGER,))
    value = producer.send()
    arrival = w.NOW + w.HOUR
    assert refused(w.judge(value, known)) == (Code.UNKNOWN_KEY, 3)
    known.add(w.signed(w.key_record(w.STRANGER)), arrival + 5)
    assert refused(w.judge(value, known)) == (Code.UNKNOWN_KEY, 3)
    assert isinstance(w.judge(value, known, known_at=arrival + 5), VerifiedBatch)


def overlong(body: bytes) -> bytes:
    """A statement whose partition takes a byte more than it needs."""
    at = len(b"".join(avro.Codec("string").encode(s) for s in ("local", "default", w.TOPIC)))
    return body[:at] + b"\x82\x00" + body[at + 1 :]


@pytest.mark.parametrize(
    "body",
    [
        BODY + b"\x00",
        BODY[:-1],
        overlong(BODY),
        replace(STATEMENT, signed_at=-1).encode(),
        replace(STATEMENT, chain_id=w.digest("other")).encode(),
        BODY.replace(b"orders-1", b"orders-\xff"),
    ],
    ids=["trailing", "cut", "overlong", "contradiction", "chain id", "not UTF-8"],
)
def test_step_4_what_is_signed_but_not_canonical(body: bytes) -> None:
    assert refused(w.judge(w.framed(w.seal(body, EVENTS)))) == (Code.NOT_CANONICAL, 4)


def test_step_4_heartbeat() -> None:
    body = Heartbeat(STATEMENT.signers, bytes(32), 0, bytes(32), 0).encode() + b"\x00"
    value = w.framed(w.seal(body, [], kind=dsse.HEARTBEAT))
    assert refused(w.judge(value)) == (Code.NOT_CANONICAL, 4)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"environment": "staging"}, Code.WRONG_ENVIRONMENT),
        ({"tenant": "foreign"}, Code.WRONG_TENANT),
        ({"topic": "other.events"}, Code.WRONG_TOPIC),
        ({"partition": 2}, Code.WRONG_PARTITION),
    ],
)
def test_step_5_b1_b2_replay_elsewhere(changes: dict[str, Any], code: Code) -> None:
    producer = w.Producer(identity=replace(w.IDENTITY, **changes))
    assert refused(w.judge(producer.send())) == (code, 5)
    there = replace(w.PLACE, **{k: v for k, v in changes.items() if k != "tenant"})
    if "tenant" not in changes:
        assert refused(w.judge(w.Producer().send(), place=there)) == (code, 5)


def test_step_5_heartbeat_of_a_tenant_that_is_not_served() -> None:
    producer = w.Producer()
    producer.send()
    place = Place("local", {"other"}, w.TOPIC, 1)
    assert refused(w.judge(producer.heartbeat(), place=place)) == (Code.WRONG_TENANT, 5)


def of_key(**changes: Any) -> Any:
    """A directory in which STRANGER is a key of orders, but for some changes."""
    return w.directory(w.signed(w.key_record(w.STRANGER, **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"producer": "billing"},
        {"tenant": "other"},
        {"environment": "staging"},
        {"topics": ("other.events",)},
    ],
    ids=["producer", "tenant", "environment", "topic"],
)
def test_step_6_a2_a_key_may_not_speak_here(changes: dict[str, Any]) -> None:
    value = w.Producer(keys=(w.STRANGER,)).send()
    assert refused(w.judge(value, of_key(**changes))) == (Code.KEY_NOT_AUTHORISED, 6)


def test_step_6_a7_every_signer_belongs_to_the_producer() -> None:
    producer = w.Producer(keys=(w.ORDERS, w.BILLING))
    assert refused(w.judge(producer.send())) == (Code.KEY_NOT_AUTHORISED, 6)
    assert refused(w.judge(producer.heartbeat())) == (Code.KEY_NOT_AUTHORISED, 6)


END = w.NOW + 10
WEEK_LATER = END + SPOOL_GRACE_US


@pytest.mark.parametrize(
    ("changes", "arrival", "code"),
    [
        ({"valid_from": END}, END - 1, Code.KEY_EXPIRED),
        ({"valid_from": END}, END, None),
        ({"valid_until": END}, END - 1, None),
        ({"valid_until": END}, WEEK_LATER, None),  # from a spool
        ({"valid_until": END}, WEEK_LATER + 1, Code.KEY_EXPIRED),
        ({"valid_until": w.NOW}, w.NOW - 1, None),  # the producer's clock is ahead
        ({"valid_until": w.NOW}, w.NOW, Code.KEY_EXPIRED),  # signed at or after the end
        ({"revocation": Revocation(END, "RETIRED")}, END - 1, None),
        ({"revocation": Revocation(END, "RETIRED")}, WEEK_LATER, None),
        ({"revocation": Revocation(END, "RETIRED")}, WEEK_LATER + 1, Code.KEY_REVOKED),
        ({"revocation": Revocation(w.NOW, "RETIRED")}, w.NOW, Code.KEY_REVOKED),
        ({"revocation": Revocation(END, "COMPROMISED")}, END - 1, None),
        ({"revocation": Revocation(END, "COMPROMISED")}, END, Code.KEY_REVOKED),
    ],
)
def test_step_6_a4_a5_when_a_key_counts(changes: Any, arrival: int, code: Code | None) -> None:
    value = w.Producer(keys=(w.STRANGER,)).send()
    outcome = w.judge(value, of_key(**changes), arrival=arrival)
    if code is None:
        assert isinstance(outcome, VerifiedBatch)
    else:
        assert refused(outcome) == (code, 6)


def test_step_7_an_unknown_schema_is_parked_and_judged_again() -> None:
    schema = {**w.event_schema(), "fields": w.event_schema()["fields"][:-1]}
    value = restated(event_schema=avro.fingerprint(schema))
    known, arrival = w.directory(), w.NOW + w.HOUR
    assert refused(w.judge(value, known)) == (Code.UNKNOWN_SCHEMA, 7)
    known.add(w.signed(w.schema_pin(schema)), arrival + 1)
    assert refused(w.judge(value, known)) == (Code.UNKNOWN_SCHEMA, 7)
    assert isinstance(w.judge(value, known, known_at=arrival + 1), VerifiedBatch)


@pytest.mark.parametrize(
    "changes", [{"subject": "other-value"}, {"valid_from": w.NOW + w.HOUR + 1}], ids=str
)
def test_step_7_c1_a_schema_of_another_subject_or_time(changes: dict[str, Any]) -> None:
    schema = {**w.event_schema(), "fields": w.event_schema()["fields"][:-1]}
    value = restated(event_schema=avro.fingerprint(schema))
    known = w.directory(w.signed(w.schema_pin(schema, **changes)))
    assert refused(w.judge(value, known)) == (Code.SCHEMA_NOT_ALLOWED, 7)


def test_subject_of_a_topic() -> None:
    assert validate.event_subject(w.TOPIC) == w.PLACE.subject == w.SUBJECT


@pytest.mark.parametrize(
    "value",
    [
        restated(count=2),
        restated(root=w.digest("other")),
        restated(EVENTS[::-1]),
        restated(EVENTS[:2]),
        restated([*EVENTS[:2], w.event(9).encode()]),
        restated([*EVENTS, EVENTS[2]]),
        # A12: the two leaves of a node handed over as one event.
        restated(
            [merkle.leaf_hash(EVENTS[0]) + merkle.leaf_hash(EVENTS[1]), EVENTS[2]],
            count=2,
        ),
    ],
    ids=["count", "root", "order", "fewer", "swapped in", "last doubled", "node as leaf"],
)
def test_step_8(value: bytes) -> None:
    assert refused(w.judge(value)) == (Code.BAD_ROOT, 8)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x00\x00", b"\x00\x01", b"\x00" * (512 * 1024 + 1)],
    ids=["empty", "overlong", "negative block", "too large"],
)
def test_step_9(data: bytes) -> None:
    events = [EVENTS[0], data]
    root = merkle.root([merkle.leaf_hash(e) for e in events])
    assert refused(w.judge(restated(events, count=2, root=root))) == (Code.BAD_EVENT, 9)


def test_a_close_without_events() -> None:
    producer = w.Producer()
    producer.send()
    result = w.judge(producer.send(0, close=True))
    assert isinstance(result, VerifiedBatch)
    assert result.statement.root == merkle.EMPTY_ROOT


def test_every_finding_has_a_severity() -> None:
    assert set(SEVERITIES) == set(Code)


def test_a_record_and_a_batch_never_serve_for_each_other() -> None:
    record = w.key_record(w.ORDERS)
    body = record.encode()
    envelope = w.seal(body, [], (w.OPERATOR,), dsse.KEY_RECORD)
    assert refused(w.judge(w.framed(envelope))) == (Code.UNKNOWN_PAYLOAD_TYPE, 2)
    with pytest.raises(ContractError):
        SignedRecord.decode(w.Producer().send())
