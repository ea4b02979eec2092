"""The certificate that a server of ours shows; another one is taken in without a restart.

- Whoever serves calls `look` now and then: the disk is looked at once a second at most.
- Connections that are open stay; the next one is shown the new certificate.
- A file that cannot be read leaves the certificate before in use, and the log says so.
"""

import logging
import ssl
from pathlib import Path

from sealtrail.connections import Watched
from sealtrail.errors import ConfigurationError

_log = logging.getLogger(__name__)


class ServerCertificate:
    """What a server shows whoever connects: TLS 1.2 or later.

    Args:
        whose: the server, for messages.
        certificate: PEM, with the key if there is no `key`.
        key: PEM.
        hint: what to do if they cannot be read.

    Raises:
        ConfigurationError: they cannot be read.
    """

    def __init__(self, whose: str, certificate: Path, key: Path | None, hint: str) -> None:
        self._whose, self._hint = whose, hint
        self._files = certificate, key or certificate
        names = ("ssl.certificate.location", "ssl.key.location")
        self._watched = Watched(dict(zip(names, self._files, strict=True)))
        self._newest = self._read()
        self.context = self._newest
        # Not into the context in use: between certificate and key it would have none that fit.
        self.context.sni_callback = self._hand_over

    def look(self) -> None:
        """Take another certificate in, if there is one."""
        if not self._watched.changed():
            return
        try:
            self._newest = self._read()
        except ConfigurationError as error:
            _log.warning("%s: the one before is shown on", error.message)
        else:
            _log.info("another certificate is shown from now on")

    def _hand_over(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        # Called for each connection, with a name or without.
        del name, context
        connection.context = self._newest

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate, key = self._files
        try:
            # Or OpenSSL would ask the terminal for the passphrase of a key that has one.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{self._whose}'s certificate {certificate} cannot be read: {error}",
                hint=self._hint,
            ) from None
        return context
