"""Operator-signed records: threshold, versions, revocation, copies, what was known when (A15)."""

import json
from dataclasses import replace
from hashlib import sha256
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import world as w

from sealtrail import avro, dsse, records
from sealtrail.errors import ConfigurationError, ContractError, SignatureError
from sealtrail.records import KeyRecord, Revocation, SignedRecord, TrustRoot
from sealtrail.statement import ZERO

FIRST = w.key_record(w.ORDERS)
FOREVER = 2**63 - 1
TWO_OF_THREE = TrustRoot(
    2, (w.OPERATOR.public_key, w.OPERATOR_2.public_key, w.OPERATOR_3.public_key)
)


def after(record: KeyRecord, **changes: Any) -> KeyRecord:
    """The next version of a record."""
    previous = sha256(record.encode()).digest()
    return replace(record, version=record.version + 1, previous=previous, **changes)


SECOND = after(FIRST, topics=("other", w.TOPIC))
RETIRED = after(SECOND, revocation=Revocation(w.NOW, "RETIRED"))
COMPROMISED = after(RETIRED, revocation=Revocation(w.NOW - 5, "COMPROMISED"))


def known(*values: tuple[bytes, int], root: TrustRoot = w.ROOT) -> records.Directory:
    directory = records.Directory(root)
    for value, arrival in values:
        directory.add(value, arrival)
    return directory


@pytest.mark.parametrize(
    "record", [FIRST, SECOND, RETIRED, COMPROMISED, w.key_record(w.ORDERS_PQ), w.schema_pin()]
)
def test_records_round_trip(record: Any) -> None:
    assert type(record).decode(record.encode()) == record
    value = w.signed(record)
    assert SignedRecord.decode(value).encode() == value
    assert SignedRecord.decode(value).open(w.ROOT) == record
    for other in (value[:-1], value + b"\x00", b"", bytes(300_000)):
        with pytest.raises(ContractError):
            SignedRecord.decode(other)


def test_threshold_counts_distinct_operators() -> None:
    assert (
        SignedRecord.decode(w.signed(FIRST, w.OPERATOR, w.OPERATOR_3)).open(TWO_OF_THREE) == FIRST
    )
    one = SignedRecord.decode(w.signed(FIRST, w.OPERATOR))
    twice = replace(one, signatures=one.signatures * 2)
    strange = SignedRecord.decode(w.signed(FIRST, w.OPERATOR, w.STRANGER))
    for bad in (one, twice, strange):
        with pytest.raises(ContractError):
            bad.open(TWO_OF_THREE)
    # While operators change, records are signed by old and new keys: strangers do no harm.
    strange.open(w.ROOT)


def test_a15_forged_records_do_not_count() -> None:
    good = SignedRecord.decode(w.signed(FIRST))
    (signer, signature) = good.signatures[0]
    forged = [
        SignedRecord.decode(w.signed(FIRST, w.STRANGER)),
        replace(good, signatures=()),
        replace(good, body=SECOND.encode()),
        replace(good, payload_type=dsse.SCHEMA_PIN),
        replace(good, payload_type=dsse.BATCH),
        replace(good, signatures=((signer, signature[:-1]),)),
        replace(good, signatures=((signer, w.STRANGER.sign(b"")),)),
    ]
    directory = records.Directory(w.ROOT)
    for record in forged:
        with pytest.raises(ContractError):
            directory.add(record.encode(), 1)
    assert directory.keys() == []


def test_one_bad_signature_of_an_operator_spoils_the_record() -> None:
    good = SignedRecord.decode(w.signed(FIRST, w.OPERATOR, w.OPERATOR_2, w.OPERATOR_3))
    bad = replace(good, signatures=(*good.signatures[:2], (good.signatures[2][0], bytes(64))))
    with pytest.raises(SignatureError):
        bad.open(TWO_OF_THREE)


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": w.BILLING.public_key.fingerprint},
        {"algorithm": "ML_DSA_44"},
        {"public_key": w.BILLING.public_key.der},
        {"public_key": bytes.fromhex("302a300506032b6570032100") + bytes(32)},
        {"version": 0},
        {"version": 2},
        {"previous": w.digest("x")},
        {"topics": ()},
        {"topics": ("b", "a")},
        {"topics": ("a", "a")},
    ],
    ids=range(10),
)
def test_a_key_record_that_contradicts_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        KeyRecord.decode(replace(FIRST, **changes).encode())


def test_highest_version_wins_by_arrival() -> None:
    directory = known((w.signed(FIRST), 10), (w.signed(SECOND), 20))
    key = FIRST.fingerprint
    assert directory.key(key, 9) is None
    assert directory.key(key, 19) == FIRST
    assert directory.key(key, 20) == SECOND
    assert directory.key(w.digest("none"), 20) is None
    assert directory.keys() == [SECOND]


def test_replays_of_older_versions_change_nothing() -> None:
    directory = known((w.signed(FIRST), 10), (w.signed(SECOND), 20))
    assert directory.add(w.signed(FIRST), 30) is None
    assert directory.key(FIRST.fingerprint, FOREVER) == SECOND
    late = known((w.signed(SECOND), 20), (w.signed(FIRST), 30))
    assert late.key(FIRST.fingerprint, FOREVER) == SECOND


def test_of_copies_the_earliest_counts() -> None:
    directory = known((w.signed(FIRST), 30), (w.signed(w.schema_pin()), 30))
    assert directory.add(w.signed(FIRST), 10) is None
    assert directory.add(w.signed(w.schema_pin()), 10) is None
    assert directory.key(FIRST.fingerprint, 10) == FIRST
    print_ = avro.fingerprint(w.event_schema())
    assert directory.pins(print_, 9) == []
    assert w.schema_pin() in directory.pins(print_, 10)


def test_revocation_is_terminal() -> None:
    back = after(RETIRED, revocation=None)
    directory = known((w.signed(RETIRED), 10), (w.signed(back), 20))
    assert directory.key(FIRST.fingerprint, FOREVER) == RETIRED


def test_a_retired_key_may_be_found_compromised_but_not_the_other_way() -> None:
    directory = known((w.signed(RETIRED), 10), (w.signed(COMPROMISED), 20))
    assert directory.key(FIRST.fingerprint, 19) == RETIRED
    assert directory.key(FIRST.fingerprint, 20) == COMPROMISED
    later = after(COMPROMISED, revocation=Revocation(w.NOW + 5, "COMPROMISED"))
    honest = after(COMPROMISED, revocation=Revocation(w.NOW, "RETIRED"))
    for record in (later, honest):
        directory = known((w.signed(COMPROMISED), 10), (w.signed(record), 20))
        assert directory.key(FIRST.fingerprint, FOREVER) == COMPROMISED


@pytest.mark.parametrize("order", list(permutations([FIRST, SECOND, RETIRED, COMPROMISED])))
def test_the_last_word_does_not_depend_on_the_order(order: list[KeyRecord]) -> None:
    directory = known(*((w.signed(r), 10 + i) for i, r in enumerate(order)))
    assert directory.key(FIRST.fingerprint, FOREVER) == COMPROMISED


def test_versions_must_form_a_chain() -> None:
    directory = known((w.signed(FIRST), 1), (w.signed(SECOND), 2))
    other = replace(SECOND, topics=("other",))
    stray = replace(RETIRED, previous=w.digest("stray"))
    for record in (other, stray):
        with pytest.raises(ContractError):
            directory.add(w.signed(record), 3)
    backwards = known((w.signed(stray), 1))
    with pytest.raises(ContractError):
        backwards.add(w.signed(SECOND), 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=8))
def test_what_was_known_then_never_changes_later(arrivals: list[tuple[int, int]]) -> None:
    chain = [FIRST, SECOND, RETIRED, COMPROMISED]
    directory = records.Directory(w.ROOT)
    answers: dict[int, Any] = {}
    for which, arrival in sorted(arrivals, key=lambda a: a[1]):
        for at, answer in answers.items():
            assert directory.key(FIRST.fingerprint, at) == answer
        directory.add(w.signed(chain[which]), arrival)
        answers = {at: a for at, a in answers.items() if at < arrival}
        answers[arrival] = directory.key(FIRST.fingerprint, arrival)


def renamed(**changes: Any) -> Any:
    return {**w.event_schema(), **changes}


def swapped() -> Any:
    schema = w.event_schema()
    fields = schema["fields"]
    return {**schema, "fields": [fields[1], fields[0], *fields[2:]]}


@pytest.mark.parametrize(
    "schema",
    [
        swapped(),
        renamed(name="Other"),
        renamed(namespace="other"),
        renamed(fields=w.event_schema()["fields"][:1]),
        renamed(fields=[*w.event_schema()["fields"], {"name": "_batch", "type": "int"}]),
        {"type": "enum", "name": "ProvenanceEvent", "namespace": "sealtrail.v1", "symbols": ["A"]},
        "long",
        ["null", "long"],
    ],
    ids=range(8),
)
def test_c2_a_pin_without_the_causal_prefix_is_refused(schema: Any) -> None:
    with pytest.raises(ContractError):
        records.SchemaPin.decode(w.schema_pin(schema).encode())


def test_a_pin_may_add_fields_and_change_docs() -> None:
    fields = [{**f, "doc": "other words"} for f in w.event_schema()["fields"]]
    fields.append({"name": "added", "type": "long", "default": 0})
    pin = w.schema_pin(renamed(fields=fields))
    assert records.SchemaPin.decode(pin.encode()) == pin
    directory = known((w.signed(pin), 1))
    codec = directory.schema(pin.fingerprint)
    assert codec is not None
    assert codec.fingerprint == pin.fingerprint
    assert directory.schema(ZERO) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": w.digest("other")},
        {"schema": "{"},
        {"schema": "[" * 1000},
        {"schema": json.dumps({"type": "array", "items": "null"})},
    ],
    ids=range(4),
)
def test_a_pin_of_another_schema_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        records.SchemaPin.decode(replace(w.schema_pin(), **changes).encode())


def test_trust_roots_round_trip() -> None:
    assert TrustRoot.from_json(TWO_OF_THREE.to_json()) == TWO_OF_THREE


KEY = json.loads(w.ROOT.to_json())["keys"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"threshold": 1}',
        '{"threshold": 1, "keys": []}',
        '{"threshold": 1, "keys": ["!"]}',
        '{"threshold": 1, "keys": ["AAAA"]}',
        '{"threshold": 1, "keys": [7]}',
        json.dumps({"threshold": 0, "keys": [KEY]}),
        json.dumps({"threshold": 2, "keys": [KEY]}),
        json.dumps({"threshold": 2, "keys": [KEY, KEY]}),
        json.dumps({"threshold": 1.5, "keys": [KEY]}),
        json.dumps({"threshold": "1", "keys": [KEY]}),
        json.dumps({"threshold": True, "keys": [KEY]}),
        "[" * 100_000,
    ],
    ids=range(16),
)
def test_a_bad_trust_root_is_named_as_such(text: str) -> None:
    with pytest.raises(ConfigurationError, match="trust root") as error:
        TrustRoot.from_json(text)
    assert error.value.hint


@given(st.binary(max_size=300))
def test_hostile_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(ContractError):
        records.Directory(w.ROOT).add(data, 1)
