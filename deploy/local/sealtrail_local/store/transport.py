"""TLS of a secured stack's store; its certificate is read again once it was replaced.

Landlock locks this process into the store's folder, where no key may lie: what is in there can be
read by SQL. So the key is read before the lock, and read again by a thread that started before it
(docs/adr/0121). That thread runs nothing but what stands here.
"""

import logging
import ssl
import threading
import time
from pathlib import Path
from typing import Final

from sealtrail.connections import Watched
from sealtrail.errors import ConfigurationError

_LOOK_S: Final = 1.0

_log = logging.getLogger(__name__)


class Transport:
    """What the server shows whoever connects.

    Args:
        file: key and certificate.

    Raises:
        ConfigurationError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._watched = Watched({"ssl.certificate.location": str(file)})
        self._newest = self._read()
        self.context = self._newest
        # Not into the context in use: between certificate and key it would have none that fit.
        self.context.sni_callback = self._hand_over

    def watch(self) -> None:
        """Look at the file once a second from now on, until the process ends."""
        threading.Thread(target=self._watch, name="certificate", daemon=True).start()

    def _hand_over(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        # Called for each connection, with a name or without.
        del name, context
        connection.context = self._newest

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            if not self._watched.changed():
                continue
            try:
                self._newest = self._read()
            except ConfigurationError as error:
                _log.warning("%s: the one before is shown on", error.message)
            else:
                _log.info("another certificate is shown from now on")

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"the store's certificate {self._file} cannot be read: {error}",
                hint="`sealtrail local up --secure` makes one",
            ) from None
        return context
