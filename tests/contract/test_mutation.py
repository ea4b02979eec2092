"""A1: any byte changed anywhere is refused, with our errors only.

Nothing signs the framing, `event_schema_id` and `disclosures`: there a change is refused, or
accepted with identical rows.
"""

from dataclasses import replace
from random import Random

import pytest
from tests.contract import world as w
from tests.vectors import generate

from sealtrail import batch, records
from sealtrail.errors import ContractError
from sealtrail.validate import Refused, VerifiedBatch

BATCHES = sorted(p.name for p in generate.GOLDEN.glob("batch-*.bin"))
RECORDS = sorted(p.name for p in generate.GOLDEN.glob("record-*.bin"))
KNOWN = w.directory()


def rows(result: VerifiedBatch) -> object:
    """All of a batch that becomes rows: everything but the hints."""
    envelope = replace(result.envelope, event_schema_id=0, disclosures=())
    return replace(result, envelope=envelope)


def unsigned(value: bytes) -> set[int]:
    """Positions of the framing, event_schema_id and disclosures of a batch without disclosures."""
    envelope = batch.SignedBatch.decode(value[5:])
    other = value[:5] + replace(envelope, event_schema_id=8).encode()
    (at,) = (i for i, (a, b) in enumerate(zip(value, other, strict=True)) if a != b)
    return {*range(5), at, len(value) - 1}


@pytest.mark.parametrize("name", BATCHES)
def test_a1_any_byte_changed_anywhere_is_refused(name: str) -> None:
    value = (generate.GOLDEN / name).read_bytes()
    good = w.judge(value, KNOWN)
    assert isinstance(good, VerifiedBatch)
    hints, rng = unsigned(value), Random(name)
    # Every bit of an Ed25519 batch; of the 2,420 bytes of ML-DSA one bit each.
    bits = [1 << i for i in range(8)] if len(value) < 2000 else None
    for at in range(len(value)):
        for mask in bits or [1 << rng.randrange(8)]:
            changed = value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :]
            result = w.judge(changed, KNOWN)
            if isinstance(result, Refused):
                continue
            assert at in hints, f"byte {at} changed by {mask}"
            assert rows(result) == rows(good)


@pytest.mark.parametrize("name", BATCHES)
def test_a1_any_cut_or_added_byte_is_refused(name: str) -> None:
    value, rng = (generate.GOLDEN / name).read_bytes(), Random(name)
    good = w.judge(value, KNOWN)
    assert isinstance(good, VerifiedBatch)
    hints, step = unsigned(value), 1 if len(value) < 2000 else 7
    for at in range(0, len(value), step):
        inserted = value[:at] + rng.randbytes(1) + value[at:]
        for changed in (value[:at], value[:at] + value[at + 1 :], inserted):
            result = w.judge(changed, KNOWN)
            if isinstance(result, Refused):
                continue
            # A byte more can only make event_schema_id a number of two bytes.
            assert at in hints, f"byte {at}"
            assert rows(result) == rows(good)


@pytest.mark.parametrize("name", RECORDS)
def test_a1_any_byte_of_a_record_changed_is_refused(name: str) -> None:
    value, rng = (generate.GOLDEN / name).read_bytes(), Random(name)
    everyone = (w.OPERATOR.public_key, w.OPERATOR_2.public_key)
    count = 2 if "two" in name else 1
    root = records.TrustRoot(count, everyone[:count])
    assert records.Directory(root).add(value, 1) is not None
    for at in range(len(value)):
        changed = bytearray(value)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ContractError):
            records.Directory(root).add(bytes(changed), 1)
