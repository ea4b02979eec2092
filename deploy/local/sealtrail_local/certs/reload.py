"""Has running brokers read their certificate files again: no restart, no connection lost.

Kafka reads them anew when a broker's own settings of a listener are set, even to what they were.
It answers before it has read them, and keeps the old ones if the new ones do not fit (another
broker must be able to verify them with the CAs that it trusts by then): so each broker is looked at
afterwards.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Those of deploy/kafka/secure.properties; controllers take other certificates at their start alone.
LISTENERS: Final = ("client", "mutual", "internal")
_TIMEOUT_S: Final = 10.0
# A broker with much to do was seen to take more than ten seconds.
_SHOWN_S: Final = 60.0
_POLL_S: Final = 0.1


def brokers(properties: Mapping[str, Any], which: Sequence[str]) -> dict[int, tuple[str, int]]:
    """Have all brokers of a cluster read their files again; where each can be looked at.

    Args:
        properties: librdkafka's, of somebody who may alter the cluster's configuration.
        which: "truststore", "keystore" or both. New CAs must be trusted by all brokers before the
            first one shows a certificate that they signed.

    Raises:
        UnavailableError: one does not answer or refuses.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    try:
        admin = AdminClient({**properties, "log_level": 3})
        found = admin.list_topics(timeout=_TIMEOUT_S).brokers
        for number in found:
            resource = ConfigResource(ResourceType.BROKER, str(number))
            answers = admin.describe_configs([resource], request_timeout=_TIMEOUT_S)
            now = answers[resource].result()
            # Where the broker sees its files: in a container that is not where we do.
            places = {kind: now[f"ssl.{kind}.location"].value for kind in which}
            _set(admin, number, places)
    except KafkaException as error:
        raise UnavailableError(
            f"brokers cannot be told of their new certificates: {error.args[0]}",
            hint="they read them at their next start; try `sealtrail certs reload` again",
        ) from None
    return {number: (str(broker.host), broker.port) for number, broker in found.items()}


def _set(admin: Any, number: int, places: Mapping[str, str]) -> None:
    from confluent_kafka.admin import (
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    entries = [
        ConfigEntry(
            f"listener.name.{listener}.ssl.{kind}.location",
            place,
            incremental_operation=AlterConfigOpType.SET,
        )
        for listener in LISTENERS
        for kind, place in places.items()
    ]
    resource = ConfigResource(ResourceType.BROKER, str(number), incremental_configs=entries)
    for done in admin.incremental_alter_configs([resource], request_timeout=_TIMEOUT_S).values():
        done.result()


def shown(host: str, port: int) -> x509.Certificate | None:
    """The certificate that a server shows now, whoever signed it; None if there is no answer."""
    context = ssl.create_default_context()
    context.check_hostname = False
    # Only looked at, never trusted: the point is to see which one it is.
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    return None


def wait_for(places: Mapping[int, tuple[str, int]], serials: Mapping[str, int]) -> None:
    """Until each broker shows the certificate that it was given.

    Args:
        places: host and port by broker.
        serials: serial numbers that may be shown, by name in the certificate.

    Raises:
        UnavailableError: one still shows another after a minute.
    """
    deadline = time.monotonic() + _SHOWN_S
    for number, (host, port) in places.items():
        while True:
            certificate = shown(host, port)
            if certificate is not None and certificate.serial_number in serials.values():
                break
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"broker {number} still shows its old certificate at {host}:{port}",
                    hint="its log says why; a new CA is to be trusted by all brokers before",
                )
            time.sleep(_POLL_S)
