"""The keys that a producer signs with: where they are, and whether they were rotated.

A key is named by a file or by a URI (`signers`). A file holds an encrypted key, or, for keys that
are elsewhere, a URI in one line: whoever rotates such a key writes the file anew, and nobody has to
be restarted.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sealtrail.errors import SealtrailError
from sealtrail.keys import Algorithm
from sealtrail_producer import signing
from sealtrail_producer.files import safe_name
from sealtrail_producer.signers import is_uri, open_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.dsse import Signer
    from sealtrail_producer.settings import ProducerSettings

log = logging.getLogger(__name__)

# A URI in a file is short; an encrypted ML-DSA key has some 4 kB.
_POINTER_BYTES = 2_048


def default_file(settings: ProducerSettings, producer: str, algorithm: Algorithm) -> Path:
    """Where the SDK looks for a producer's key."""
    ending = ".pem" if algorithm is Algorithm.ED25519 else ".ml-dsa-44.pem"
    return settings.state_dir / "keys" / (safe_name(producer) + ending)


def references(settings: ProducerSettings, producer: str) -> list[str]:
    """What names the keys of a producer.

    SEALTRAIL_SIGNERS, else SEALTRAIL_KEY_FILE, else the default files as far as they are there.
    """
    if settings.signers:
        return settings.signers.split()
    if settings.key_file:
        return [name for name in settings.key_file.split(os.pathsep) if name]
    first, second = (default_file(settings, producer, a) for a in Algorithm)
    return [str(first), *([str(second)] if second.exists() else [])]


def open_key(reference: str, settings: ProducerSettings) -> Signer:
    """The key that a file or URI names.

    Raises:
        KeyFileError: a file is missing, open to others or does not decrypt.
        ConfigurationError, UnavailableError: see `signers.open_uri`.
    """
    if is_uri(reference):
        return open_uri(reference, settings)
    file = Path(reference)
    # Before the passphrase: whoever has neither wants to hear of the key.
    held = signing.read_private(file)
    pointer = held[:_POINTER_BYTES].decode("latin-1").strip()
    if len(held) <= _POINTER_BYTES and is_uri(pointer) and "\n" not in pointer:
        return open_uri(pointer, settings)
    given = settings.key_passphrase.get_secret_value()
    place = settings.key_passphrase_file or file.with_suffix(".pass")
    return signing.load(file, signing.passphrase(given, place))


def open_all(named: Sequence[str], settings: ProducerSettings) -> list[Signer]:
    """The keys that files or URIs name, sorted by fingerprint."""
    signers = [open_key(reference, settings) for reference in named]
    return sorted(signers, key=lambda s: s.public_key.fingerprint)


class Keyring:
    """A producer's keys, looked at again now and then.

    Args:
        settings: where they are.
        producer: service identity.

    Raises:
        KeyFileError, ConfigurationError, UnavailableError: see `open_key`.
    """

    def __init__(self, settings: ProducerSettings, producer: str) -> None:
        self._settings = settings
        self._producer = producer
        self._complained = ""
        self._state = self._look()
        self.signers: tuple[Signer, ...] = tuple(open_all(references(settings, producer), settings))

    def poll(self) -> tuple[Signer, ...] | None:
        """The keys when they are others than before; None else, and while they cannot be read.

        Whoever holds the old ones goes on with them: a key that is just being written, or a vault
        that does not answer, stops nobody.
        """
        state = self._look()
        if state == self._state:
            return None
        try:
            found = tuple(open_all(references(self._settings, self._producer), self._settings))
        except SealtrailError as error:
            if error.message != self._complained:
                log.warning("keys of %s were changed: %s", self._producer, error.message)
            self._complained = error.message
            return None
        self._state, self._complained = state, ""
        before = [s.public_key for s in self.signers]
        if [s.public_key for s in found] == before:
            return None
        self.signers = found
        return found

    def _look(self) -> list[tuple[str, int, int, int]]:
        """What the files look like from outside; keys behind URIs are fixed."""
        found = []
        for reference in references(self._settings, self._producer):
            if is_uri(reference):
                found.append((reference, 0, 0, 0))
                continue
            try:
                about = Path(reference).stat()
            except OSError:
                found.append((reference, -1, 0, 0))
            else:
                found.append((reference, about.st_mtime_ns, about.st_ino, about.st_size))
        return found
