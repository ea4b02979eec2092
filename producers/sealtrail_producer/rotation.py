"""A producer's key takes the place of another without a gap, and without a restart.

Order, and what a crash leaves behind:
1. the new key is made beside the old one (found again when this is run again);
2. its record is published and acknowledged: from here on what it signs is accepted; and that of the
   old one, which ends as RETIRED when the overlap is over: until then both are good, and afterwards
   what it signed before may still come out of spools for 7 days;
3. the new key takes the old one's place in one rename: services look at the file now and then and
   sign with it from their next batch on, in the same chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sealtrail_producer import keyring, signing
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.files import write_private
from sealtrail_producer.signers import is_uri

if TYPE_CHECKING:
    from sealtrail.keys import Algorithm, PublicKey
    from sealtrail_producer.settings import ProducerSettings


@dataclass(frozen=True, slots=True)
class Replacement:
    """A key file, the key in it, and what is to take its place.

    fresh: the new key's file until it is put in place.
    kept: where the old key lies afterwards.
    """

    file: Path
    old: PublicKey
    new: PublicKey
    fresh: Path

    @property
    def kept(self) -> Path:
        """Where the old key lies afterwards, under its fingerprint."""
        return self.file.with_name(f"{self.file.name}.{self.old.fingerprint.hex()[:16]}")

    def put_in_place(self) -> None:
        """The new key takes the old one's place; a crash in between leaves one or the other."""
        write_private(self.kept, signing.read_private(self.file))
        self.fresh.replace(self.file)


def prepare(
    settings: ProducerSettings, producer: str, algorithm: Algorithm, to: str = ""
) -> Replacement:
    """Make the key that takes over, or open the one that is named.

    Args:
        settings: where keys are.
        producer: whose key.
        algorithm: of which key, when the producer has several.
        to: URI of a key that is there already; its name is put into the file.

    Raises:
        KeyFileError: the producer's key lies in no file here, or the new key is the old one.
    """
    file = _file_of(settings, producer, algorithm)
    old = keyring.open_key(str(file), settings).public_key
    fresh = file.with_name(f"{file.stem}.next{file.suffix}")
    if to:
        new = keyring.open_key(to, settings).public_key
        write_private(fresh, f"{to}\n".encode())
    else:
        new = _made(settings, file, fresh, algorithm)
    if new == old:
        raise KeyFileError(
            f"{to or fresh} is the key that {producer} has", hint="name another version of the key"
        )
    return Replacement(file, old, new, fresh)


def _file_of(settings: ProducerSettings, producer: str, algorithm: Algorithm) -> Path:
    for reference in keyring.references(settings, producer):
        if is_uri(reference):
            continue
        if keyring.open_key(reference, settings).public_key.algorithm is algorithm:
            return Path(reference)
    raise KeyFileError(
        f"no {algorithm} key of {producer} lies in a file here",
        hint="a key that settings name by its URI is rotated by another URI: register it, change "
        "SEALTRAIL_SIGNERS, restart, then `keys revoke` the old one; or put the URI into a file",
    )


def _made(settings: ProducerSettings, file: Path, fresh: Path, algorithm: Algorithm) -> PublicKey:
    """A new key, encrypted as the old one, so that one rename puts it in place."""
    given = settings.key_passphrase.get_secret_value()
    place = settings.key_passphrase_file or file.with_suffix(".pass")
    secret = signing.passphrase(given, place)
    if fresh.exists():
        return signing.load(fresh, secret).public_key
    signer = signing.KeySigner.generate(algorithm)
    write_private(fresh, signer.to_pem(secret))
    return signer.public_key
