"""References and entities as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail import ids
from sealtrail.errors import EventError
from sealtrail.event import MAX_MICROS, MIN_MICROS, EntityRef, ParentRef
from sealtrail_producer import reference

if TYPE_CHECKING:
    from collections.abc import Callable


@given(
    chain=st.binary(min_size=32, max_size=32),
    seq=st.integers(0, ids.MAX_SEQ),
    when=st.integers(MIN_MICROS, MAX_MICROS),
    leaf=st.binary(min_size=32, max_size=32),
)
def test_a_reference_survives_its_text(chain: bytes, seq: int, when: int, leaf: bytes):
    ref = ParentRef(ids.event_id(chain, seq), when, leaf)
    assert reference.parse(reference.format(ref)) == ref


@given(st.text())
def test_any_other_text_is_refused_by_our_error(text: str):
    with pytest.raises(EventError):
        reference.parse(text)


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "A", lambda t: "A" + t[1:-9]])
def test_a_changed_text_is_refused(change: Callable[[str], str]):
    good = reference.format(ParentRef(ids.event_id(bytes(32), 7), 5, bytes(32)))
    with pytest.raises(EventError):
        reference.parse(change(good))


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("ns:a", EntityRef("ns", "a")),
        ("ns:a@3", EntityRef("ns", "a", "3")),
        ("ns:a:b", EntityRef("ns", "a:b")),
        ("s3://bucket:key/x@1", EntityRef("s3://bucket", "key/x", "1")),
        ("postgres://h:5432:db.t", EntityRef("postgres://h:5432", "db.t")),
    ],
)
def test_entities(text: str, entity: EntityRef):
    assert reference.entity(text) == entity


@pytest.mark.parametrize("text", ["", "a", ":a", "a:", "@", "x@1"])
def test_what_is_no_entity_is_refused(text: str):
    with pytest.raises(EventError):
        reference.entity(text)
