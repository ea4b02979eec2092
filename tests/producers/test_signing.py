"""Key files: encrypted, private, of our two algorithms, and each refusal with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pydantic import SecretStr

from sealtrail.keys import Algorithm
from sealtrail_producer import keyring, signing
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.files import safe_name, write_private
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from pathlib import Path


def load_all(files: list[Path], given: str, passphrase_file: Path | None):
    settings = ProducerSettings(
        key_passphrase=SecretStr(given), key_passphrase_file=passphrase_file
    )
    return keyring.open_all([str(file) for file in files], settings)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_signs_the_same_after_it_was_read_back(tmp_path: Path, algorithm: Algorithm):
    made = signing.new_file(tmp_path / "k.pem", "", algorithm)
    (read,) = load_all([tmp_path / "k.pem"], "", None)
    assert read.public_key == made.public_key
    read.public_key.verify(read.sign(b"m"), b"m")
    assert {f.stat().st_mode & 0o077 for f in tmp_path.iterdir()} == {0}
    assert b"ENCRYPTED" in (tmp_path / "k.pem").read_bytes()


def test_a_given_passphrase_is_written_nowhere(tmp_path: Path):
    signing.new_file(tmp_path / "k.pem", "secret")
    assert [f.name for f in tmp_path.iterdir()] == ["k.pem"]
    assert load_all([tmp_path / "k.pem"], "secret", None)


def test_signers_come_sorted(tmp_path: Path):
    files = [tmp_path / f"{n}.pem" for n in range(4)]
    for file in files:
        signing.new_file(file, "p")
    prints = [s.public_key.fingerprint for s in load_all(files, "p", None)]
    assert prints == sorted(prints)


def test_a_passphrase_file_may_lie_elsewhere(tmp_path: Path):
    signing.new_file(tmp_path / "k.pem", "p")
    write_private(tmp_path / "elsewhere", b"p\n")
    assert load_all([tmp_path / "k.pem"], "", tmp_path / "elsewhere")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660])
@pytest.mark.parametrize("name", ["k.pem", "k.pass"])
def test_files_that_others_can_open_are_refused(tmp_path: Path, mode: int, name: str):
    signing.new_file(tmp_path / "k.pem", "")
    (tmp_path / name).chmod(mode)
    with pytest.raises(KeyFileError, match="open to other users") as caught:
        load_all([tmp_path / "k.pem"], "", None)
    assert caught.value.hint == f"chmod 600 {tmp_path / name}"


def pem(key: Any, encryption: Any):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"nonsense", "not an encrypted"),
        (
            pem(ed25519.Ed25519PrivateKey.generate(), serialization.NoEncryption()),
            "not an encrypted",
        ),
        (
            pem(
                ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"p")
            ),
            "holds a",
        ),
        (
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "decrypt",
        ),
    ],
    ids=["nonsense", "plain", "other-algorithm", "damaged"],
)
def test_what_is_no_key_of_ours_is_refused(tmp_path: Path, data: bytes, why: str):
    write_private(tmp_path / "k.pem", data)
    with pytest.raises(KeyFileError, match=why):
        signing.load(tmp_path / "k.pem", b"p")


def test_a_wrong_passphrase_is_refused(tmp_path: Path):
    signing.new_file(tmp_path / "k.pem", "right")
    with pytest.raises(KeyFileError, match="cannot be decrypted"):
        signing.load(tmp_path / "k.pem", b"wrong")


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(KeyFileError, match="does not exist"):
        signing.load(tmp_path / "k.pem", b"")
    with pytest.raises(KeyFileError, match="cannot be read"):
        signing.load(tmp_path, b"")
    signing.new_file(tmp_path / "k.pem", "p")
    with pytest.raises(KeyFileError, match="no passphrase"):
        load_all([tmp_path / "k.pem"], "", None)
    write_private(tmp_path / "k.pass", b"\n")
    with pytest.raises(KeyFileError, match="is empty"):
        load_all([tmp_path / "k.pem"], "", None)


def test_a_key_is_never_overwritten(tmp_path: Path):
    signing.new_file(tmp_path / "k.pem", "p")
    with pytest.raises(KeyFileError, match="exists already"):
        signing.new_file(tmp_path / "k.pem", "p")


def test_a_signer_does_not_show_its_key(tmp_path: Path):
    signer = signing.KeySigner.generate()
    assert repr(signer).startswith("KeySigner(PublicKey(")


def test_names_become_single_path_components_and_stay_different():
    names = ["a", "a/b", "..", ".", "a%2Fb", "spiffe://x/y", "ä", ".hidden", "%2E"]
    safe = [safe_name(n) for n in names]
    assert len(set(safe)) == len(names)
    assert not any("/" in s or s.startswith(".") for s in safe)
