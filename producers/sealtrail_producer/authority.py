"""What operators do: pin themselves as the trust root, register producers' keys, pin event schemas.

Each signed record is kept as a file beside the trust root: publishing it again means the same bytes
(a copy changes nothing), and the next version of a key's record names the one before it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import avro
from sealtrail.records import KeyRecord, Revocation, SchemaPin, SignedRecord, TrustRoot
from sealtrail.statement import ZERO
from sealtrail.validate import event_subject
from sealtrail_producer import signing
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sealtrail.keys import PublicKey
    from sealtrail_producer.settings import ProducerSettings
    from sealtrail_producer.signing import KeySigner

# Brokers' and operators' clocks differ; a key is of no use to anybody before it is made.
BACKDATED_US = 3_600 * 1_000_000


class Authority:
    """The operator of this machine's trust root.

    Args:
        settings: where the root lies, and for which environment, tenant and topic it speaks.
    """

    def __init__(self, settings: ProducerSettings) -> None:
        self.settings = settings
        self.folder = settings.state_dir / "trust"
        self.root_file: Path = settings.trust_root or self.folder / "root.json"
        self.key_file = self.folder / "operator.pem"

    # -- the root -------------------------------------------------------------

    def init(self) -> TrustRoot:
        """Make an operator key and pin it.

        Raises:
            KeyFileError: there is one already.
        """
        if self.root_file.exists():
            raise KeyFileError(
                f"{self.root_file} exists already",
                hint="a trust root is replaced by hand, never by accident",
            )
        operator = signing.new_file(
            self.key_file, self.settings.operator_passphrase.get_secret_value()
        )
        root = TrustRoot(1, (operator.public_key,))
        write_private(self.root_file, root.to_json().encode())
        return root

    def root(self) -> TrustRoot:
        """The pinned operators.

        Raises:
            KeyFileError: there is no root.
            ConfigurationError: it cannot be read.
        """
        if not self.root_file.exists():
            raise KeyFileError(
                f"no trust root at {self.root_file}", hint="make one with: sealtrail keys init-root"
            )
        return TrustRoot.from_json(self.root_file.read_text(encoding="utf-8"))

    def operator(self) -> KeySigner:
        """The operator's key.

        Raises:
            KeyFileError: it is not there or does not open.
        """
        secret = signing.passphrase(
            self.settings.operator_passphrase.get_secret_value(), self.key_file.with_suffix(".pass")
        )
        return signing.load(self.key_file, secret)

    # -- records --------------------------------------------------------------

    def register(self, producer: str, key: PublicKey, now_us: int) -> SignedRecord:
        """A key record for a producer, the stored one if it says the same.

        Args:
            producer: service identity.
            key: its key.
            now_us: microseconds since 1970.
        """
        wanted = KeyRecord(
            fingerprint=key.fingerprint,
            version=1,
            previous=ZERO,
            algorithm=str(key.algorithm),
            public_key=key.der,
            producer=producer,
            tenant=self.settings.tenant,
            environment=self.settings.environment,
            topics=(self.settings.topic,),
            valid_from=now_us - BACKDATED_US,
        )
        stored = self._stored(key.fingerprint.hex())
        if stored is not None:
            known = KeyRecord.decode(stored.body)
            # A revoked key stays revoked: its record is final and is published as it is.
            if known.revocation or _scope(wanted) == _scope(known):
                return stored
            wanted = replace(
                _after(known, stored.body),
                producer=producer,
                tenant=wanted.tenant,
                environment=wanted.environment,
                topics=wanted.topics,
            )
        return self._sign(key.fingerprint.hex(), wanted)

    def revoke(self, fingerprint: bytes, reason: str, time_us: int) -> SignedRecord:
        """The record that ends a key.

        Args:
            fingerprint: of the key; it was registered here.
            reason: RETIRED or COMPROMISED.
            time_us: from when on, microseconds since 1970.

        Raises:
            KeyFileError: no record of the key is kept here.
        """
        stored = self._stored(fingerprint.hex())
        if stored is None:
            raise KeyFileError(
                f"no record of key {fingerprint.hex()} is kept in {self.folder}",
                hint="revoke it where it was registered",
            )
        known = KeyRecord.decode(stored.body)
        ended = replace(_after(known, stored.body), revocation=Revocation(time_us, reason))
        return self._sign(fingerprint.hex(), ended)

    def pin_schema(self, now_us: int) -> SignedRecord:
        """The pin of this version's event schema, the stored one if there is one."""
        codec = avro.codec("ProvenanceEvent")
        subject = event_subject(self.settings.topic)
        name = f"schema-{sha256(subject.encode()).hexdigest()[:16]}-{codec.fingerprint.hex()}"
        stored = self._stored(name)
        if stored is not None:
            return stored
        schema = json.dumps(avro.load_schema("ProvenanceEvent"), separators=(",", ":"))
        pin = SchemaPin(subject, codec.fingerprint, now_us - BACKDATED_US, schema)
        return self._sign(name, pin)

    def _stored(self, name: str) -> SignedRecord | None:
        file = self.folder / "records" / f"{name}.record"
        return SignedRecord.decode(file.read_bytes()) if file.exists() else None

    def _sign(self, name: str, record: KeyRecord | SchemaPin) -> SignedRecord:
        signed = SignedRecord.sign(record, [self.operator()])
        # Whoever verifies will open it like this: better found here.
        signed.open(self.root())
        write_private(self.folder / "records" / f"{name}.record", signed.encode())
        return signed


def _scope(record: KeyRecord) -> tuple[str, str, str, tuple[str, ...]]:
    return record.producer, record.tenant, record.environment, record.topics


def _after(known: KeyRecord, body: bytes) -> KeyRecord:
    """The version that follows a record, otherwise alike."""
    return replace(known, version=known.version + 1, previous=sha256(body).digest())


def kafka_pairs(records: Iterable[SignedRecord], root: TrustRoot) -> list[tuple[bytes, bytes]]:
    """(key, value) of records on the keys topic: compaction keeps the newest record of each key."""
    pairs = []
    for signed in records:
        record = signed.open(root)
        name = record.fingerprint.hex()
        key = name if isinstance(record, KeyRecord) else f"schema:{record.subject}:{name}"
        pairs.append((key.encode(), signed.encode()))
    return pairs
