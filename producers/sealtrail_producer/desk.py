"""Where operators work: what was published is read, what they sign is recorded and published."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import control
from sealtrail.event import EntityRef
from sealtrail.identity import OPERATOR
from sealtrail.keys import Algorithm
from sealtrail.records import KeyRecord, SchemaPin
from sealtrail.trust import TrustRoot
from sealtrail_producer import keyring, signing
from sealtrail_producer.authority import Authority, kafka_pairs
from sealtrail_producer.control import as_control, recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail.records import Record, SignedRecord
    from sealtrail_producer.settings import ProducerSettings


def now_us() -> int:
    """The time, microseconds since 1970."""
    return time.time_ns() // 1000


class Desk:
    """One operator's session.

    Args:
        settings: brokers, topics, folders.
    """

    def __init__(self, settings: ProducerSettings) -> None:
        self.settings = settings
        self.authority = Authority(settings)
        # Of what was read: how many messages are no records of these operators.
        self.refused = 0

    def published(self) -> list[tuple[bytes, int]]:
        """(value, time) of all that the keys topic holds now.

        Raises:
            UnavailableError: the brokers do not answer.
        """
        from sealtrail_producer import kafka

        properties = kafka.config(self.settings, OPERATOR)
        found = kafka.read_all(properties, self.settings.keys_topic)
        return [(value, at) for _, value, at in found]

    def learn(self) -> None:
        """Take in what other operators published.

        Raises:
            UnavailableError: the brokers do not answer.
        """
        self.refused = self.authority.learn(self.published())

    def publish(self, records: Sequence[SignedRecord]) -> None:
        """Publish records, and wait until the brokers have them.

        Raises:
            UnavailableError: they do not take them.
        """
        from sealtrail_producer import kafka

        properties = kafka.config(self.settings, OPERATOR)
        kafka.publish(properties, self.settings.keys_topic, kafka_pairs(records))

    def act(
        self,
        activity: str,
        records: Sequence[SignedRecord],
        details: Mapping[str, str] | None = None,
    ) -> bool:
        """Publish records as an act that is signed into the control chain first.

        Returns:
            Whether the brokers have the events of the control chain, too.

        Raises:
            UnavailableError: the brokers do not take the records.
            MoreSignaturesError: the control chain has no registered key, and others must sign it.
        """
        self._prepare_control()
        subjects = tuple(subject(r) for r in records)
        act = control.Act(activity, subjects, details or {})
        with recording(self.settings, act) as outcome:
            self.publish(records)
        return outcome.sent

    def _prepare_control(self) -> None:
        """The control chain's own key: made and registered by the first act on this machine."""
        settings = as_control(self.settings)
        file = keyring.default_file(settings, control.PRODUCER, Algorithm.ED25519)
        if not settings.signers and not file.exists():
            signing.new_file(file, settings.key_passphrase.get_secret_value())
        signers = keyring.Keyring(settings, control.PRODUCER).signers
        keys = [s.public_key for s in signers]
        unknown = [k for k in keys if not self.authority.knows(k)]
        if unknown:
            at = now_us()
            self.publish([self.authority.register(control.PRODUCER, k, at) for k in unknown])


def subject(signed: SignedRecord) -> EntityRef:
    """A record as the control chain names it."""
    record: Record = signed.read()
    digest = sha256(signed.body).digest()
    if isinstance(record, KeyRecord):
        return EntityRef(control.KEYS, record.fingerprint.hex(), str(record.version), digest)
    if isinstance(record, SchemaPin):
        name = f"schema:{record.subject}:{record.fingerprint.hex()}"
        return EntityRef(control.KEYS, name, None, digest)
    assert isinstance(record, TrustRoot)
    return EntityRef(control.KEYS, "root", str(record.version), digest)
