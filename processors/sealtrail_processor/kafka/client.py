"""What all clients of librdkafka here share: their log, their patience, a message as ours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from sealtrail_processor.judging.model import RawMessage

if TYPE_CHECKING:
    from confluent_kafka import Message

# Its own lines: each lost connection, once a broker and client.
rdkafka = logging.getLogger("librdkafka")

TIMEOUT_S = 10.0
# What to do about an operator's question that was not answered, or not to this client.
ADMIN_ROLE = "it takes the role admin of deploy/kafka/access.yaml"
LOOK_AT_SETTINGS = "check SEALTRAIL_KAFKA_*, user and certificates included"


def raw_message(message: Message) -> RawMessage:
    """A message of confluent_kafka as a value of ours, without its headers.

    No record has any that count, and a name among them that is no UTF-8, by whoever may write to
    the topic, leaves confluent_kafka with a half-made tuple and the process in an undefined state.
    """
    kind, milliseconds = message.timestamp()
    return RawMessage(
        int(message.offset() or 0),
        message.key(),
        message.value(),
        (),
        milliseconds * 1000,
        kind == TIMESTAMP_LOG_APPEND_TIME,
    )
