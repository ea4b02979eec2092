"""What operators sign is what the contract's directory takes."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from sealtrail import avro
from sealtrail.errors import ConfigurationError, ContractError
from sealtrail.records import Directory, KeyRecord, SignedRecord
from sealtrail.trust import TrustRoot
from sealtrail_producer import signing
from sealtrail_producer.authority import Authority, kafka_pairs
from sealtrail_producer.errors import KeyFileError, MoreSignaturesError
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
    assert authority.root().keys == tuple(s.public_key for s in authority.operators())
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
    (first, value), (second, _) = kafka_pairs(records)
    assert first == key.fingerprint.hex().encode()
    assert KeyRecord.decode(SignedRecord.decode(value).body).producer == "orders"
    assert second.startswith(b"schema:provenance.event-record-value:")


# -- several operators ---------------------------------------------------------------------------


def elsewhere(tmp_path: Path, name: str, **changes: Any) -> Authority:
    """Another operator's machine: the same pinned root, keys of its own."""
    folder = tmp_path / name
    (folder / "trust").mkdir(parents=True)
    return Authority(ProducerSettings(state_dir=folder, **changes))


def apart(tmp_path: Path) -> tuple[Authority, Authority]:
    """Two operators of a root that needs both, each with one key."""
    one, two = elsewhere(tmp_path, "one"), elsewhere(tmp_path, "two")
    one.init(operators=2, threshold=2)
    two.root_file.write_text(one.root_file.read_text())
    for file in one.folder.glob("operator-2.*"):
        file.rename(two.folder / file.name)
    return one, two


def test_a_record_waits_until_enough_operators_signed(tmp_path: Path, key: PublicKey):
    one, two = apart(tmp_path)
    with pytest.raises(MoreSignaturesError) as caught:
        one.register("orders", key, NOW)
    assert "keys sign" in caught.value.hint
    (waiting,) = (one.folder / "pending").iterdir()
    half = SignedRecord.decode(waiting.read_bytes())
    again, complete = one.add_signatures(half)
    assert (len(again.signatures), complete) == (1, False)
    whole, complete = two.add_signatures(half)
    assert (len(whole.signatures), complete) == (2, True)
    assert one.accept(whole) == KeyRecord.decode(whole.body)
    assert not waiting.exists()
    assert one.register("orders", key, NOW + 1).encode() == whole.encode()
    with pytest.raises(ContractError):
        two.accept(half)


def test_what_one_operator_published_another_goes_on_from(tmp_path: Path, key: PublicKey):
    one = elsewhere(tmp_path, "one")
    one.init()
    two = elsewhere(tmp_path, "two")
    two.root_file.write_text(one.root_file.read_text())
    for file in one.folder.glob("operator.*"):
        (two.folder / file.name).write_bytes(file.read_bytes())
        (two.folder / file.name).chmod(0o600)
    first = one.register("orders", key, NOW)
    with pytest.raises(KeyFileError, match="no record"):
        two.revoke(key.fingerprint, "RETIRED", NOW)
    assert two.learn([(b"junk", 1), (first.encode(), 2), (first.encode(), 3)]) == 1
    ended = KeyRecord.decode(two.revoke(key.fingerprint, "RETIRED", NOW).body)
    assert (ended.version, ended.previous) == (2, sha256(first.body).digest())


def test_a_key_ends_once_and_is_only_found_worse(authority: Authority, key: PublicKey):
    authority.register("orders", key, NOW)
    retired = authority.retire(key.fingerprint, NOW)
    assert authority.retire(key.fingerprint, NOW + 1).encode() == retired.encode()
    with pytest.raises(KeyFileError, match="is RETIRED already"):
        authority.revoke(key.fingerprint, "RETIRED", NOW)
    authority.revoke(key.fingerprint, "COMPROMISED", NOW)
    for reason, time in (("RETIRED", NOW - 9), ("COMPROMISED", NOW), ("COMPROMISED", NOW + 1)):
        with pytest.raises(KeyFileError, match="is COMPROMISED already"):
            authority.revoke(key.fingerprint, reason, time)
    earlier = KeyRecord.decode(authority.revoke(key.fingerprint, "COMPROMISED", NOW - 1).body)
    assert earlier.version == 4


def test_operators_change_and_history_stays(authority: Authority, key: PublicKey):
    directory = Directory(authority.root())
    old = authority.register("orders", key, NOW)
    directory.add(old.encode(), 10)
    (before,) = authority.operators()
    fresh = authority.new_operator()
    record = authority.next_root(
        add=[fresh], remove=[before.public_key.fingerprint], threshold=None
    )
    root = directory.add(record.encode(), 20)
    assert isinstance(root, TrustRoot)
    assert (root.version, root.keys) == (2, (fresh,))
    assert authority.current() == root
    assert authority.root().version == 1  # what is pinned is not touched
    other = signing.KeySigner.generate().public_key
    late = SignedRecord.sign(KeyRecord.decode(authority.register("x", other, NOW).body), [before])
    with pytest.raises(ContractError):
        directory.add(late.encode(), 30)
    assert directory.key(key.fingerprint, 40).producer == "orders"
    # Published again it bears today's signatures too: a fresh reader of the topic takes it.
    again = authority.register("orders", key, NOW)
    assert again.body == old.body
    reader = Directory(authority.root())
    reader.add(record.encode(), 1)
    assert reader.add(again.encode(), 2) == KeyRecord.decode(old.body)
    assert kafka_pairs([record])[0][0] == b"root:2"


def test_nobody_leaves_who_is_not_there(authority: Authority, key: PublicKey):
    with pytest.raises(KeyFileError, match="no operator of root 1"):
        authority.next_root(add=[], remove=[key.fingerprint], threshold=None)
    with pytest.raises(ConfigurationError, match="threshold"):
        authority.next_root(add=[], remove=[], threshold=2)


def test_an_operator_whose_key_is_elsewhere_is_told(tmp_path: Path, key: PublicKey):
    one = elsewhere(tmp_path, "one")
    one.init()
    for file in one.folder.glob("operator*"):
        file.unlink()
    with pytest.raises(KeyFileError, match="no operator key"):
        one.register("orders", key, NOW)
