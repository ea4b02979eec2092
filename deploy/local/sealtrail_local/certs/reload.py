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
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

# Those of deploy/kafka/secure.properties; controllers take other certificates at their start alone.
LISTENERS: Final = ("client", "mutual", "internal")
# A broker with much to do was seen to take more than ten seconds.
_TIMEOUT_S: Final = 30.0
_PATIENCE_S: Final = 60.0
# ApiVersions, version 0, without a client's name: what a broker answers to anybody whom it lets in.
_HELLO: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
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


@contextlib.contextmanager
def _connected(host: str, port: int, certificate: Path | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection to whoever is there: which certificates are shown and taken is the question."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate)
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        yield tls


def shown(host: str, port: int) -> x509.Certificate | None:
    """The certificate that a server shows now, whoever signed it; None if there is no answer."""
    with contextlib.suppress(OSError), _connected(host, port) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    return None


def accepts(host: str, port: int, certificate: Path) -> bool:
    """Whether a broker lets a client in that shows this certificate.

    With TLS 1.3 a client learns that it was refused when it reads, not when it shakes hands.

    Args:
        host: where it listens.
        port: likewise.
        certificate: with its key.
    """
    with contextlib.suppress(OSError), _connected(host, port, certificate) as tls:
        tls.sendall(_HELLO)
        return tls.recv(1) != b""
    return False


def wait_accepted(places: Mapping[int, tuple[str, int]], certificate: Path) -> None:
    """Until each broker lets in whoever a CA has signed that it was told to trust.

    Args:
        places: host and port by broker.
        certificate: signed by that CA, with its key.

    Raises:
        UnavailableError: one still refuses it after a minute.
    """
    _wait(
        places,
        lambda host, port: accepts(host, port, certificate),
        "does not trust the new CA yet",
        "its log says why; nothing was signed by the new CA, so rotate again",
    )


def wait_for(places: Mapping[int, tuple[str, int]], serials: Mapping[str, int]) -> None:
    """Until each broker shows the certificate that it was given.

    Args:
        places: host and port by broker.
        serials: serial numbers that may be shown, by name in the certificate.

    Raises:
        UnavailableError: one still shows another after a minute.
    """

    def given(host: str, port: int) -> bool:
        certificate = shown(host, port)
        return certificate is not None and certificate.serial_number in serials.values()

    _wait(
        places,
        given,
        "still shows its old certificate",
        "its log says why; a new CA is to be trusted by all brokers before",
    )


def _wait(
    places: Mapping[int, tuple[str, int]],
    holds: Callable[[str, int], bool],
    problem: str,
    hint: str,
) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    for number, (host, port) in places.items():
        while not holds(host, port):
            if time.monotonic() > deadline:
                raise UnavailableError(f"broker {number} at {host}:{port} {problem}", hint=hint)
            time.sleep(_POLL_S)
