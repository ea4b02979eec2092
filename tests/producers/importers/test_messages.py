"""The lines that carry messages and their causes between the example services."""

from __future__ import annotations

import io

import pytest

from sealtrail import ids
from sealtrail.errors import MalformedError
from sealtrail.event import ParentRef
from sealtrail_producer import reference
from sealtrail_producer.services import messages

CAUSE = ParentRef(ids.event_id(bytes(range(32)), 7), 1_700_000_000_000_001, bytes(range(32)))


def test_messages_travel_as_lines():
    header = (reference.HEADER, reference.format(CAUSE))
    sent = [messages.Message({"order": "ä"}, (header, ("x", "y"), header)), messages.Message({})]
    stream = io.StringIO()
    for message in sent:
        messages.write(stream, message)
    stream.seek(0)
    received = list(messages.read(stream))
    assert received == sent
    assert received[0].parents() == [CAUSE, CAUSE]
    assert received[1].parents() == []


@pytest.mark.parametrize("line", ["{}", "no json", '{"headers": [1], "body": {}}'])
def test_a_line_that_is_no_message_is_refused(line: str):
    with pytest.raises(MalformedError, match="line 1"):
        list(messages.read([line]))
