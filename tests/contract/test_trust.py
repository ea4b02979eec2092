"""Operators change as TUF's roots do: signed by those before and those after, never back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.contract import world as w

from sealtrail import avro, dsse
from sealtrail.errors import ConfigurationError, ContractError
from sealtrail.records import Directory, SignedRecord
from sealtrail.statement import ZERO
from sealtrail.trust import MAX_OPERATORS, Roots, TrustRoot

ONE, TWO, THREE = w.OPERATOR.public_key, w.OPERATOR_2.public_key, w.OPERATOR_3.public_key
PAIR = TrustRoot(2, (ONE, TWO))
NEXT = PAIR.successor(2, (TWO, THREE))
FOREVER = 2**63 - 1


def signed(root: TrustRoot, *operators: w.TestKey) -> SignedRecord:
    return SignedRecord.sign(root, operators)


def test_both_generations_must_sign() -> None:
    good = signed(NEXT, w.OPERATOR, w.OPERATOR_2, w.OPERATOR_3)
    assert good.open(PAIR) == NEXT
    for too_few in (
        (),
        (w.OPERATOR, w.OPERATOR_2),  # the old ones alone
        (w.OPERATOR_2, w.OPERATOR_3),  # the new ones alone
        (w.OPERATOR, w.OPERATOR_3),
        (w.OPERATOR, w.STRANGER, w.OPERATOR_3),
    ):
        with pytest.raises(ContractError):
            signed(NEXT, *too_few).open(PAIR)


def test_one_key_counts_once_however_often_it_signs() -> None:
    record = signed(NEXT, w.OPERATOR_2)
    (pair,) = record.signatures
    with pytest.raises(ContractError):
        replace(record, signatures=(pair, pair, pair)).open(PAIR)
    with pytest.raises(ConfigurationError):
        TrustRoot(2, (ONE, ONE))


def test_versions_are_a_chain_without_gaps() -> None:
    roots = Roots(PAIR)
    third = NEXT.successor(1, (THREE,))
    all_ = (w.OPERATOR, w.OPERATOR_2, w.OPERATOR_3)
    with pytest.raises(ContractError, match="version 2 is missing"):
        add(roots, signed(third, *all_), 5)
    assert add(roots, signed(NEXT, *all_), 10) == NEXT
    assert add(roots, signed(third, *all_), 20) == third
    assert add(roots, signed(NEXT, *all_), 30) is None  # a copy, later
    other = replace(NEXT, threshold=1)
    with pytest.raises(ContractError, match="already says something else"):
        add(roots, signed(other, *all_), 40)
    stray = replace(third.successor(1, (ONE,)), previous=w.digest("stray"))
    with pytest.raises(ContractError, match="previous is not the hash"):
        add(roots, signed(stray, *all_), 50)
    assert [roots.at(t) for t in (0, 10, 19, 20, FOREVER)] == [PAIR, NEXT, NEXT, third, third]
    assert roots.newest == third


def add(roots: Roots, record: SignedRecord, arrival: int) -> TrustRoot | None:
    return roots.add(record.body, record.signatures, arrival)


def test_a_record_is_judged_by_the_operators_of_its_arrival() -> None:
    directory = Directory(w.ROOT)
    root = w.ROOT.successor(1, (TWO,))
    before, after = w.key_record(w.ORDERS), w.key_record(w.BILLING, "billing")
    directory.add(w.signed(before), 10)
    assert directory.add(w.signed(root, w.OPERATOR, w.OPERATOR_2), 20) == root
    with pytest.raises(ContractError):
        directory.add(w.signed(after), 30)  # by an operator of yesterday
    # What counted when it came counts on, and a copy of it is no news.
    assert directory.add(w.signed(before), 30) is None
    assert directory.key(before.fingerprint, FOREVER) == before
    assert directory.add(w.signed(after, w.OPERATOR_2), 40) == after
    assert directory.key(after.fingerprint, 39) is None


def test_whoever_pins_a_later_root_goes_on_from_there() -> None:
    roots = Roots(NEXT)
    assert add(roots, signed(PAIR, w.OPERATOR, w.OPERATOR_2), 1) is None
    third = NEXT.successor(1, (THREE,))
    assert add(roots, signed(third, w.OPERATOR_2, w.OPERATOR_3), 2) == third
    assert TrustRoot.from_json(NEXT.to_json()) == NEXT


def test_a_root_record_does_not_take_the_place_of_the_pinned_one() -> None:
    mine = TrustRoot(1, (w.STRANGER.public_key,))
    with pytest.raises(ContractError):
        Directory(w.ROOT).add(w.signed(mine, w.STRANGER), 1)
    thief = w.ROOT.successor(1, (w.STRANGER.public_key,))
    with pytest.raises(ContractError):
        Directory(w.ROOT).add(w.signed(thief, w.STRANGER), 1)


def test_the_order_of_keys_in_a_file_does_not_matter() -> None:
    assert TrustRoot(2, (ONE, TWO)).digest == TrustRoot(2, (TWO, ONE)).digest


def bent(**changes: Any) -> bytes:
    keys = sorted(NEXT.keys, key=lambda k: k.fingerprint)
    value = {"version": 2, "previous": PAIR.digest, "threshold": 2, "keys": [k.der for k in keys]}
    return avro.codec("TrustRoot").encode(value | changes)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bent()[:-1],
        bent() + b"\0",
        bent(version=0),
        bent(version=-1),
        bent(version=1),
        bent(previous=ZERO),
        bent(threshold=0),
        bent(threshold=3),
        bent(keys=[]),
        bent(keys=[ONE.der, ONE.der]),
        bent(keys=sorted((TWO.der, THREE.der), key=lambda d: d != TWO.der)[::-1]),
        bent(keys=[b"junk", b"more"]),
        bent(keys=[TWO.der] * (MAX_OPERATORS + 1)),
    ],
    ids=range(14),
)
def test_a_root_that_means_nothing_is_refused(body: bytes) -> None:
    record = SignedRecord(dsse.ROOT, body, ())
    good = record.signed([w.OPERATOR, w.OPERATOR_2, w.OPERATOR_3])
    with pytest.raises(ContractError):
        good.open(PAIR)


def test_more_operators_may_sign_later() -> None:
    record = signed(NEXT, w.OPERATOR)
    with pytest.raises(ContractError):
        record.open(PAIR)
    assert record.signed([w.OPERATOR_2]).signed([w.OPERATOR_3, w.OPERATOR]).open(PAIR) == NEXT
