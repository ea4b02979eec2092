"""The header that names a cause, and the lines that carry it."""

from __future__ import annotations

import io

import pytest

from sealtrail import ids
from sealtrail.errors import MalformedError
from sealtrail.event import ParentRef
from sealtrail_producer.services import messages

REFERENCE = ParentRef(ids.event_id(bytes(range(32)), 7), 1_700_000_000_000_001, bytes(range(32)))


def test_a_header_says_the_same_on_the_other_side():
    for reference in (REFERENCE, ParentRef(REFERENCE.event_id, -1, REFERENCE.leaf_hash)):
        assert messages.parse_parent(messages.format_parent(reference)) == reference


@pytest.mark.parametrize(
    "value",
    ["", "a.b", "..", "####.####.####", "a" * 22 + ".AAAAAAAAAAA." + "A" * 43, "A.A.A.A"],
)
def test_a_header_that_names_nothing_is_refused(value: str):
    with pytest.raises(MalformedError):
        messages.parse_parent(value)


def test_messages_travel_as_lines():
    header = (messages.PARENT, messages.format_parent(REFERENCE))
    sent = [messages.Message({"order": "ä"}, (header, header)), messages.Message({})]
    stream = io.StringIO()
    for message in sent:
        messages.write(stream, message)
    stream.seek(0)
    received = list(messages.read(stream))
    assert received == sent
    assert received[0].parents() == [REFERENCE, REFERENCE]
    with pytest.raises(MalformedError, match="line 1"):
        list(messages.read(["{}"]))
