"""How clients reach Kafka and the schema registry: settings as their libraries want them.

- One set of settings (`SEALTRAIL_KAFKA_*`, `SEALTRAIL_REGISTRY_*`) for librdkafka, for aiokafka (an
  SSL context) and for the registry's client, so that all clients of a process are one identity.
- A certificate file that is replaced is picked up without a restart: `Watched` tells, and who holds
  a client opens it anew once nothing is under way (docs/security.md, "Rotation").
"""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sealtrail.errors import ConfigurationError
from sealtrail.identity import of_certificate, safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sealtrail.settings import CommonSettings

LOOK_S = 1.0
Stamp = tuple[tuple[int, int, int] | None, ...]


def librdkafka(settings: CommonSettings, identity: str) -> dict[str, str]:
    """Properties of librdkafka: brokers, transport security, who we are.

    Args:
        settings: of any room.
        identity: the name under which this client comes, unless `kafka_identity` says another.

    Raises:
        ConfigurationError: a password file cannot be read.
    """
    found = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security,
    }
    if settings.kafka_ca_file is not None:
        found["ssl.ca.location"] = str(settings.kafka_ca_file)
    certificate, key = _pair(settings, identity)
    if certificate is not None:
        found["ssl.certificate.location"] = str(certificate)
        found["ssl.key.location"] = str(key)
    if settings.kafka_key_passphrase.get_secret_value():
        found["ssl.key.password"] = settings.kafka_key_passphrase.get_secret_value()
    if settings.kafka_security.startswith("SASL"):
        found["sasl.mechanism"] = settings.kafka_sasl
        found["sasl.username"] = username(settings, identity)
        found["sasl.password"] = password(settings, identity)
    return found


def username(settings: CommonSettings, identity: str) -> str:
    """The SASL user of a client."""
    return settings.kafka_username or settings.kafka_identity or identity


def password(settings: CommonSettings, identity: str) -> str:
    """The SASL password of a client.

    Raises:
        ConfigurationError: its file cannot be read.
    """
    if settings.kafka_password_file is None:
        return settings.kafka_password.get_secret_value()
    file = _filled(settings.kafka_password_file, settings, identity)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"Kafka's password cannot be read: {error}",
            hint="check SEALTRAIL_KAFKA_PASSWORD_FILE",
        ) from None


def name(settings: CommonSettings, identity: str) -> str | None:
    """The name that the brokers will see, None where they see none.

    Raises:
        ConfigurationError: the certificate cannot be read.
    """
    if settings.kafka_security == "SASL_SSL":
        return username(settings, identity)
    certificate, _ = _pair(settings, identity)
    if settings.kafka_security == "SSL" and certificate is not None:
        return of_certificate(certificate)
    return None


def _pair(settings: CommonSettings, identity: str) -> tuple[Path | None, Path | None]:
    """Files of a client's certificate and of its key."""
    if settings.kafka_cert_file is None:
        return None, None
    certificate = _filled(settings.kafka_cert_file, settings, identity)
    if settings.kafka_key_file is None:
        return certificate, certificate
    return certificate, _filled(settings.kafka_key_file, settings, identity)


def _filled(file: Path, settings: CommonSettings, identity: str) -> Path:
    return Path(str(file).replace("{identity}", safe_name(settings.kafka_identity or identity)))


def kafka_context(settings: CommonSettings, identity: str) -> ssl.SSLContext | None:
    """The SSL context of a client that is not librdkafka's; None where there is no TLS.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    if not settings.kafka_security.endswith("SSL"):
        return None
    context = ssl.create_default_context()
    load_files(context, settings, identity)
    return context


def load_files(context: ssl.SSLContext, settings: CommonSettings, identity: str) -> None:
    """Read CA and certificate into a context; connections that are opened from now on use them.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    try:
        if settings.kafka_ca_file is not None:
            context.load_verify_locations(settings.kafka_ca_file)
        certificate, key = _pair(settings, identity)
        if certificate is not None:
            context.load_cert_chain(
                certificate,
                key,
                settings.kafka_key_passphrase.get_secret_value() or None,
            )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"Kafka's certificates cannot be read: {error}",
            hint="check SEALTRAIL_KAFKA_CA_FILE, SEALTRAIL_KAFKA_CERT_FILE and _KEY_FILE",
        ) from None


def registry(settings: CommonSettings, identity: str) -> dict[str, Any]:
    """Configuration of the schema registry's client; arguments as those of `librdkafka`."""
    found: dict[str, Any] = {"url": settings.registry_url}
    if settings.registry_ca_file is not None:
        found["ssl.ca.location"] = str(settings.registry_ca_file)
    if settings.registry_cert_file is not None:
        certificate = _filled(settings.registry_cert_file, settings, identity)
        key = settings.registry_key_file
        found["ssl.certificate.location"] = str(certificate)
        found["ssl.key.location"] = str(_filled(key, settings, identity) if key else certificate)
    if settings.registry_username:
        password = settings.registry_password.get_secret_value()
        found["basic.auth.user.info"] = f"{settings.registry_username}:{password}"
    return found


def store_address(url: str) -> dict[str, Any]:
    """Where the store is, as arguments of clickhouse_connect's `get_client`.

    Not `dsn`: of that the driver takes host and port, and speaks HTTP to an https URL.
    """
    parts = urlsplit(url)
    return {
        "interface": parts.scheme,
        "host": parts.hostname,
        "port": parts.port or (8443 if parts.scheme == "https" else 8123),
        "proxy_path": parts.path.strip("/"),
    }


def store_context(settings: CommonSettings) -> ssl.SSLContext:
    """Whom a client of the store believes: the CAs that the settings name, or the system's.

    Raises:
        ConfigurationError: they cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=settings.store_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the store's CAs cannot be read: {error}", hint="check SEALTRAIL_STORE_CA_FILE"
        ) from None


def store_ca(settings: CommonSettings) -> str | None:
    """The file with the CAs that sign the store, for who reads it; None for the system's.

    Raises:
        ConfigurationError: it cannot be read.
    """
    if settings.store_ca_file is None:
        return None
    store_context(settings)
    return str(settings.store_ca_file)


_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


class Watched:
    """Tells whether the certificate files of a client were replaced since it was asked last.

    Args:
        properties: of librdkafka; they name the files.
        steady: seconds that never go back.
    """

    def __init__(
        self, properties: Mapping[str, Any], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = tuple(Path(properties[name]) for name in _FILES if name in properties)
        self._steady = steady
        self._stamp = self._look()
        self._looked = steady()

    def changed(self) -> bool:
        """Whether they are others than before; looks at the disk once a second at most."""
        if not self._files or self._steady() - self._looked < LOOK_S:
            return False
        self._looked = self._steady()
        stamp = self._look()
        # A file that is away just now is being replaced.
        if stamp == self._stamp or None in stamp:
            return False
        self._stamp = stamp
        return True

    def _look(self) -> Stamp:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
