"""What operators sign is what the contract's directory takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sealtrail import avro
from sealtrail.errors import ConfigurationError
from sealtrail.records import Directory, KeyRecord, SignedRecord
from sealtrail_producer import signing
from sealtrail_producer.authority import Authority, kafka_pairs
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from sealtrail.keys import PublicKey

NOW = 1_780_000_000_000_000


@pytest.fixture
def authority(tmp_path: Path):
    found = Authority(ProducerSettings(state_dir=tmp_path))
    found.init()
    return found


@pytest.fixture
def key():
    return signing.KeySigner.generate().public_key


def test_the_operators_key_is_encrypted_and_private(authority: Authority):
    assert b"ENCRYPTED" in authority.key_file.read_bytes()
    assert authority.key_file.stat().st_mode & 0o077 == 0
    assert authority.root().keys == (authority.operator().public_key,)
    assert authority.root().threshold == 1


def test_a_root_is_never_replaced(authority: Authority):
    with pytest.raises(KeyFileError, match="exists already"):
        authority.init()


def test_without_a_root_the_hint_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(KeyFileError) as caught:
        Authority(ProducerSettings(state_dir=tmp_path)).root()
    assert "init-root" in caught.value.hint


def test_a_broken_root_is_a_clear_error(authority: Authority):
    authority.root_file.write_text("{}")
    with pytest.raises(ConfigurationError):
        authority.root()


def test_registering_again_gives_the_same_bytes(authority: Authority, key: PublicKey):
    first = authority.register("orders", key, NOW)
    assert authority.register("orders", key, NOW + 10**12).encode() == first.encode()
    assert authority.pin_schema(NOW).encode() == authority.pin_schema(NOW + 1).encode()


def test_the_directory_takes_key_pin_and_revocation(authority: Authority, key: PublicKey):
    directory = Directory(authority.root())
    assert directory.add(authority.register("orders", key, NOW).encode(), 1)
    assert directory.add(authority.pin_schema(NOW).encode(), 2)
    assert directory.pins(avro.codec("ProvenanceEvent").fingerprint, 2)
    revoked = authority.revoke(key.fingerprint, "COMPROMISED", NOW)
    assert directory.add(revoked.encode(), 3)
    record = directory.key(key.fingerprint, 3)
    assert record.version == 2
    assert record.revocation.reason == "COMPROMISED"
    # There is no way back.
    assert authority.register("orders", key, NOW).encode() == revoked.encode()


def test_another_environment_is_the_next_version_of_the_record(
    authority: Authority, key: PublicKey, tmp_path: Path
):
    directory = Directory(authority.root())
    directory.add(authority.register("orders", key, NOW).encode(), 1)
    elsewhere = Authority(ProducerSettings(state_dir=tmp_path, environment="prod"))
    directory.add(elsewhere.register("orders", key, NOW).encode(), 2)
    assert directory.key(key.fingerprint, 1).environment == "local"
    assert directory.key(key.fingerprint, 2).environment == "prod"


def test_an_unknown_key_cannot_be_revoked_here(authority: Authority, key: PublicKey):
    with pytest.raises(KeyFileError, match="no record"):
        authority.revoke(key.fingerprint, "RETIRED", NOW)


def test_records_go_under_keys_that_compaction_may_use(authority: Authority, key: PublicKey):
    records = [authority.register("orders", key, NOW), authority.pin_schema(NOW)]
    (first, value), (second, _) = kafka_pairs(records, authority.root())
    assert first == key.fingerprint.hex().encode()
    assert KeyRecord.decode(SignedRecord.decode(value).body).producer == "orders"
    assert second.startswith(b"schema:provenance.event-record-value:")
