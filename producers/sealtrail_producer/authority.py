"""What operators do: sign roots, key records and schema pins, and remember what was signed.

- Each signed record is kept as a file beside the trust root: publishing it again means the same
  bytes (a copy changes nothing), and the next version of a key's record names the one before it.
- What other operators published is learned from the keys topic (`learn`): any of them can act.
- A record that this machine's operator keys cannot complete waits as a file, for others to sign.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import avro, dsse
from sealtrail.errors import ContractError, SignatureError
from sealtrail.records import Directory, KeyRecord, Record, Revocation, SchemaPin, SignedRecord
from sealtrail.statement import ZERO
from sealtrail.trust import TrustRoot
from sealtrail.validate import event_subject
from sealtrail_producer import keyring, signing
from sealtrail_producer.errors import KeyFileError, MoreSignaturesError
from sealtrail_producer.files import write_private

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from sealtrail.keys import PublicKey
    from sealtrail_producer.settings import ProducerSettings

# Brokers' and operators' clocks differ; a key is of no use to anybody before it is made.
BACKDATED_US = 3_600 * 1_000_000


class Authority:
    """The operators of a trust root, as far as their keys are on this machine.

    Args:
        settings: where the root lies, and for which environment, tenant and topic it speaks.
    """

    def __init__(self, settings: ProducerSettings) -> None:
        self.settings = settings
        self.folder = settings.state_dir / "trust"
        self.root_file: Path = settings.trust_root or self.folder / "root.json"
        self.key_file = self.folder / "operator.pem"

    # -- roots ----------------------------------------------------------------

    def init(
        self, *, operators: int = 1, threshold: int = 1, keys: Sequence[str] = ()
    ) -> TrustRoot:
        """Pin the first root.

        Args:
            operators: so many keys are made here, as encrypted files.
            threshold: how many must sign.
            keys: files or URIs of keys that are there, instead of making some.

        Raises:
            KeyFileError: there is a root already, or a key does not open.
            ConfigurationError: threshold and keys do not fit.
        """
        if self.root_file.exists():
            raise KeyFileError(
                f"{self.root_file} exists already",
                hint="a trust root is replaced by its operators: sealtrail keys root rotate",
            )
        if keys:
            found = [keyring.open_key(key, self._operator_settings()).public_key for key in keys]
        else:
            found = [self.new_operator() for _ in range(operators)]
        root = TrustRoot(threshold, tuple(found))
        write_private(self.root_file, root.to_json().encode())
        return root

    def new_operator(self) -> PublicKey:
        """Make one more operator key here, in a file of its own."""
        number, file = 1, self.key_file
        while file.exists():
            number += 1
            file = self.folder / f"operator-{number}.pem"
        secret = self.settings.operator_passphrase.get_secret_value()
        return signing.new_file(file, secret).public_key

    def root(self) -> TrustRoot:
        """The pinned root.

        Raises:
            KeyFileError: there is none.
            ConfigurationError: it cannot be read.
        """
        if not self.root_file.exists():
            raise KeyFileError(
                f"no trust root at {self.root_file}", hint="make one with: sealtrail keys init-root"
            )
        return TrustRoot.from_json(self.root_file.read_text(encoding="utf-8"))

    def roots(self) -> list[SignedRecord]:
        """The signed roots after the pinned one that are known here, in order."""
        found, at = [], self.root()
        while (record := self._stored(f"root-{at.version + 1}")) is not None:
            following = record.open(at)
            assert isinstance(following, TrustRoot)
            at = following
            found.append(record)
        return found

    def current(self) -> TrustRoot:
        """The newest root that is known here."""
        roots = self.roots()
        return TrustRoot.decode(roots[-1].body) if roots else self.root()

    def next_root(
        self, *, add: Sequence[PublicKey], remove: Collection[bytes], threshold: int | None
    ) -> SignedRecord:
        """The root that follows, signed by the operators that are here.

        Args:
            add: new operators.
            remove: fingerprints of those who leave.
            threshold: how many must sign from then on; as before by default.

        Raises:
            ConfigurationError: threshold and keys do not fit, or nobody of that name is there.
            MoreSignaturesError: others must sign, too.
        """
        now = self.current()
        strangers = set(remove) - {k.fingerprint for k in now.keys}
        if strangers:
            names = ", ".join(sorted(s.hex() for s in strangers))
            raise KeyFileError(f"no operator of root {now.version}: {names}")
        keys = [k for k in now.keys if k.fingerprint not in remove] + list(add)
        root = now.successor(now.threshold if threshold is None else threshold, keys)
        return self._sign(f"root-{root.version}", root)

    def operators(self) -> list[dsse.Signer]:
        """The operator keys that are on this machine, or behind the URIs that are set.

        Raises:
            KeyFileError: none is there, or one does not open.
        """
        named = self.settings.operator_keys.split()
        named = named or sorted(str(file) for file in self.folder.glob("operator*.pem"))
        if not named:
            raise KeyFileError(
                f"no operator key in {self.folder}",
                hint="set SEALTRAIL_OPERATOR_KEYS, or act where the operators' keys are",
            )
        return keyring.open_all(named, self._operator_settings())

    def _operator_settings(self) -> ProducerSettings:
        """Operator keys have a passphrase of their own, each with a file beside it."""
        own = {"key_passphrase": self.settings.operator_passphrase, "key_passphrase_file": None}
        return self.settings.model_copy(update=own)

    # -- records --------------------------------------------------------------

    def register(self, producer: str, key: PublicKey, now_us: int) -> SignedRecord:
        """A key record for a producer, the stored one if it says the same.

        Args:
            producer: service identity.
            key: its key.
            now_us: microseconds since 1970.

        Raises:
            MoreSignaturesError: others must sign, too.
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
                return self._again(key.fingerprint.hex(), stored)
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
            fingerprint: of the key; its record is known here.
            reason: RETIRED or COMPROMISED.
            time_us: from when on, microseconds since 1970.

        Raises:
            KeyFileError: no record of the key is known here, or it has ended so already.
            MoreSignaturesError: others must sign, too.
        """
        stored = self._stored(fingerprint.hex())
        if stored is None:
            raise KeyFileError(
                f"no record of key {fingerprint.hex()} is kept in {self.folder}",
                hint="revoke it where it was registered",
            )
        known = KeyRecord.decode(stored.body)
        end = known.revocation
        later = end is not None and end.reason == "COMPROMISED" and time_us >= end.time
        if end is not None and (later or reason != "COMPROMISED"):
            raise KeyFileError(
                f"key {fingerprint.hex()} is {end.reason} already",
                hint="an end is for good; only a (still earlier) COMPROMISED replaces it",
            )
        ended = replace(_after(known, stored.body), revocation=Revocation(time_us, reason))
        return self._sign(fingerprint.hex(), ended)

    def retire(self, fingerprint: bytes, time_us: int) -> SignedRecord:
        """As `revoke` with RETIRED; the stored record when the key is retired already."""
        stored = self._stored(fingerprint.hex())
        end = None if stored is None else KeyRecord.decode(stored.body).revocation
        if stored is not None and end is not None and end.reason == "RETIRED":
            return self._again(fingerprint.hex(), stored)
        return self.revoke(fingerprint, "RETIRED", time_us)

    def pin_schema(self, now_us: int) -> SignedRecord:
        """The pin of this version's event schema, the stored one if there is one."""
        codec = avro.codec("ProvenanceEvent")
        subject = event_subject(self.settings.topic)
        name = _pin_name(subject, codec.fingerprint)
        stored = self._stored(name)
        if stored is not None:
            return self._again(name, stored)
        schema = json.dumps(avro.load_schema("ProvenanceEvent"), separators=(",", ":"))
        pin = SchemaPin(subject, codec.fingerprint, now_us - BACKDATED_US, schema)
        return self._sign(name, pin)

    # -- several operators ----------------------------------------------------

    def add_signatures(self, record: SignedRecord) -> tuple[SignedRecord, bool]:
        """A record with the signatures of the operators that are here; whether they suffice now.

        Raises:
            ContractError: it is no record, or one that cannot count.
            KeyFileError: no operator's key is here.
        """
        now = self.current()
        entitled = {k.fingerprint for k in now.keys}
        if record.payload_type == dsse.ROOT:
            entitled |= {k.fingerprint for k in TrustRoot.decode(record.body).keys}
        ours = [s for s in self.operators() if s.public_key.fingerprint in entitled]
        signed = record.signed(ours)
        try:
            # Whoever verifies will open it like this: better found here.
            signed.open(now)
        except SignatureError:
            return signed, False
        return signed, True

    def knows(self, key: PublicKey) -> bool:
        """Whether a record of a key is kept here."""
        return self._stored(key.fingerprint.hex()) is not None

    def accept(self, record: SignedRecord) -> Record:
        """Keep a record that enough operators signed.

        Raises:
            ContractError: they did not.
        """
        opened = record.open(self.current())
        self._keep(_name(opened), record)
        return opened

    def learn(self, published: Iterable[tuple[bytes, int]]) -> int:
        """Keep what others published and is newer than what is kept here.

        Args:
            published: (value, arrival) of the keys topic, in order.

        Returns:
            How many values are no records of these operators.
        """
        directory = Directory(self.root())
        refused = latest = 0
        for value, arrival in published:
            # The order of the topic counts; clocks behind it may differ.
            latest = max(latest, arrival)
            try:
                record = directory.add(value, latest)
            except ContractError:
                # Anybody may write to a topic: what operators did not sign is not there.
                refused += 1
                continue
            if record is not None and self._newer(record):
                self._keep(_name(record), SignedRecord.decode(value))
        return refused

    def _newer(self, record: Record) -> bool:
        stored = self._stored(_name(record))
        if stored is None or not isinstance(record, KeyRecord):
            return stored is None
        return record.version > KeyRecord.decode(stored.body).version

    def _stored(self, name: str) -> SignedRecord | None:
        file = self.folder / "records" / f"{name}.record"
        return SignedRecord.decode(file.read_bytes()) if file.exists() else None

    def _sign(self, name: str, record: Record) -> SignedRecord:
        unsigned = SignedRecord.sign(record, ())
        waiting = self._pending(name)
        if waiting.exists():
            # What others signed already counts, if it is the same that we want.
            held = SignedRecord.decode(waiting.read_bytes())
            unsigned = held if held.body == unsigned.body else unsigned
        return self._complete(name, unsigned)

    def _again(self, name: str, stored: SignedRecord) -> SignedRecord:
        """A stored record, with today's operators' signatures where theirs are missing.

        Compaction keeps the last copy of a record alone: whoever reads it then judges it by the
        operators of then.
        """
        try:
            stored.open(self.current())
        except SignatureError:
            return self._complete(name, stored)
        return stored

    def _complete(self, name: str, record: SignedRecord) -> SignedRecord:
        signed, complete = self.add_signatures(record)
        if not complete:
            place = self._pending(name)
            write_private(place, signed.encode())
            raise MoreSignaturesError(
                f"other operators must sign, too; the record waits in {place}",
                hint="take it to them: sealtrail keys sign FILE, then keys publish FILE",
            )
        self._keep(name, signed)
        return signed

    def _pending(self, name: str) -> Path:
        return self.folder / "pending" / f"{name}.record"

    def _keep(self, name: str, record: SignedRecord) -> None:
        write_private(self.folder / "records" / f"{name}.record", record.encode())
        self._pending(name).unlink(missing_ok=True)


def _name(record: Record) -> str:
    """The file name of a record."""
    if isinstance(record, TrustRoot):
        return f"root-{record.version}"
    if isinstance(record, SchemaPin):
        return _pin_name(record.subject, record.fingerprint)
    return record.fingerprint.hex()


def _pin_name(subject: str, fingerprint: bytes) -> str:
    return f"schema-{sha256(subject.encode()).hexdigest()[:16]}-{fingerprint.hex()}"


def _scope(record: KeyRecord) -> tuple[str, str, str, tuple[str, ...]]:
    return record.producer, record.tenant, record.environment, record.topics


def _after(known: KeyRecord, body: bytes) -> KeyRecord:
    """The version that follows a record, otherwise alike."""
    return replace(known, version=known.version + 1, previous=sha256(body).digest())


def topic_key(record: Record) -> bytes:
    """The Kafka key of a record: compaction keeps the newest of each key, and every root."""
    if isinstance(record, TrustRoot):
        return b"root:%d" % record.version
    name = record.fingerprint.hex()
    return (name if isinstance(record, KeyRecord) else f"schema:{record.subject}:{name}").encode()


def kafka_pairs(records: Iterable[SignedRecord]) -> list[tuple[bytes, bytes]]:
    """(key, value) of records on the keys topic."""
    return [(topic_key(signed.read()), signed.encode()) for signed in records]
