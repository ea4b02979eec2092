"""Event ids: 82 bits of a chain id and 40 of a sequence number in a UUID of version 8."""

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail import ids
from sealtrail.errors import MalformedError


@given(st.binary(min_size=32, max_size=32), st.integers(0, ids.MAX_SEQ))
def test_round_trip(chain_id: bytes, seq: int) -> None:
    made = ids.event_id(chain_id, seq)
    bits = int.from_bytes(chain_id, "big") >> (256 - 82)
    assert ids.parse(made) == (bits, seq) == (ids.chain_prefix(chain_id), seq)
    assert ids.from_text(ids.text(made)) == made
    parsed = UUID(bytes=made)
    assert (parsed.version, parsed.variant) == (8, RFC_4122)
    assert made[-5:] == seq.to_bytes(5, "big")
    assert ids.template(chain_id) + seq == int.from_bytes(made, "big")


def test_the_bits_fill_the_rest_in_order() -> None:
    assert ids.event_id(b"\xff" * 32, 0).hex() == "ffffffffffff8fffbfffff0000000000"
    chain_id = bytes(range(32))
    assert ids.text(ids.event_id(chain_id, 1)) == "00010203-0405-8060-9c20-240000000001"


@pytest.mark.parametrize("seq", [-1, 2**40])
def test_sequence_numbers_outside_of_forty_bits_are_refused(seq: int) -> None:
    with pytest.raises(MalformedError):
        ids.event_id(bytes(32), seq)


@pytest.mark.parametrize("raw", [b"", bytes(16), bytes(15), bytes(17), b"\xff" * 16])
def test_other_bytes_are_no_event_id(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        ids.parse(raw)


@pytest.mark.parametrize("text", ["", "x", "123e4567-e89b-42d3-a456-426614174000"])
def test_other_text_is_no_event_id(text: str) -> None:
    with pytest.raises(MalformedError):
        ids.from_text(text)
