"""TLS of a secured stack's store; its certificate is read again once it was replaced.

Landlock locks this process into the store's folder, where no key may lie: what is in there can be
read by SQL. So the key is read before the lock, and read again by a thread that started before it
(docs/adr/0121). That thread runs nothing but what stands here.
"""

import threading
import time
from pathlib import Path
from typing import Final

from sealtrail.serving import ServerCertificate

_LOOK_S: Final = 1.0


class Transport(ServerCertificate):
    """What the store shows whoever connects.

    Args:
        file: key and certificate.

    Raises:
        ConfigurationError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        super().__init__("the store", file, None, "`sealtrail local up --secure` makes one")

    def watch(self) -> None:
        """Look at the file once a second from now on, until the process ends."""
        threading.Thread(target=self._watch, name="certificate", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            self.look()
