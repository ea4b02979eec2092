"""What all Kafka clients of a producer share: properties, log, patience, reasons."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException

from sealtrail import connections
from sealtrail.errors import ConfigurationError
from sealtrail_producer.signing import read_private

if TYPE_CHECKING:
    from sealtrail_producer.settings import ProducerSettings

log = logging.getLogger(__name__)

METADATA_S = 5.0
BROKERS_HINT = "check SEALTRAIL_KAFKA_BOOTSTRAP; `sealtrail local up` starts the embedded stack"
Config = dict[str, Any]


def _quiet(record: logging.LogRecord) -> bool:
    """Show librdkafka's lines (a retry is an ERROR to it) to those who debug alone."""
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return client_log.isEnabledFor(logging.DEBUG)


# Lost connections and refusals are reported by the sender in its own words.
client_log = logging.getLogger("sealtrail_producer.kafka.client")
client_log.addFilter(_quiet)


def config(settings: ProducerSettings, identity: str) -> Config:
    """Librdkafka properties of all clients.

    Args:
        identity: the name under which they come.
        settings: brokers and transport; `kafka_config` names a file with further properties
            (compression, buffers) as name=value lines, which may hold passwords.

    Raises:
        ConfigurationError: the file is open to others or holds something else.
    """
    found: Config = {**connections.librdkafka(settings, identity), "client.id": "sealtrail"}
    file = settings.kafka_config
    if file is None:
        return found
    for number, line in enumerate(read_private(file).decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ConfigurationError(f"{file}:{number} is not name=value")
        found[name.strip()] = value.strip()
    return found


def check_identity(settings: ProducerSettings, producer: str) -> None:
    """See that the brokers know a producer under the name that its keys speak for.

    Raises:
        ConfigurationError: they know it under another, and that is not allowed.
    """
    name = connections.name(settings, producer)
    if name is None or name == producer:
        return
    message = f"this client comes to Kafka as {name!r} and signs as {producer!r}"
    if settings.identity_mismatch == "refuse":
        raise ConfigurationError(
            message, hint=f"give it a certificate or user of the name {producer}"
        )
    log.warning("%s: SEALTRAIL_IDENTITY_MISMATCH allows it", message)


def consumer(properties: Config, group: str) -> Consumer:
    """A consumer that commits nothing by itself."""
    return Consumer(
        {
            **properties,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        },
        logger=client_log,
    )


def reason(error: KafkaException) -> str:
    """What librdkafka says of an error."""
    first = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first)
