"""Keys that never leave their home: SoftHSM for real, the others as documented."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr
from tests.producers.backends import ARN, GCP, TOKEN, Aws, Gcp, Service, Vault, der, serving
from tests.producers.softhsm import ORDERS, Hsm

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer import keyring, signers
from sealtrail_producer.errors import SigningError
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signers import gcp, open_uri, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sealtrail.dsse import Signer

MESSAGE = b"DSSEv1 1 a 3 abc"


def good(signer: Signer) -> None:
    signer.public_key.verify(signer.sign(MESSAGE), MESSAGE)
    # Ed25519 itself, not pre-hashed: deterministic (RFC 8032 section 5.1.6).
    assert signer.sign(MESSAGE) == signer.sign(MESSAGE)


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "orders", "file:/x", "pkcs11:", "vault:?x=1", "http://x", "aws-kms"]
)
def test_what_names_no_key(text: str) -> None:
    with pytest.raises(ConfigurationError, match="names no key"):
        signers.KeyUri.parse(text)
    assert not signers.is_uri("orders.pem")


def test_uris_are_taken_apart() -> None:
    uri = signers.KeyUri.parse("pkcs11:token=a%20b;object=c?module-path=/x.so&pin-source=file:/p")
    assert uri.attributes() == {"token": "a b", "object": "c"}
    assert dict(uri.query) == {"module-path": "/x.so", "pin-source": "file:/p"}
    assert signers.KeyUri.parse(f"aws-kms:{ARN}?region=r").path == ARN


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(signers._MODULES, "vault", "a_module_that_is_not_there")
    with pytest.raises(UnavailableError) as caught:
        open_uri("vault:transit/orders", ProducerSettings())
    assert "sealtrail[signers]" in caught.value.hint


# -- PKCS#11, with SoftHSM ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    before = os.environ.get("SOFTHSM2_CONF")
    made = Hsm(tmp_path_factory.mktemp("hsm"))
    os.environ |= made.env
    yield made
    token._sessions.clear()
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def test_a_key_in_a_token_signs(hsm: Hsm) -> None:
    signer = open_uri(ORDERS, hsm.settings())
    good(signer)
    again = open_uri(ORDERS, hsm.settings())
    assert again.public_key == signer.public_key
    assert hsm.pin not in repr(signer)


def test_the_pin_may_lie_in_a_file_that_nobody_else_reads(hsm: Hsm, tmp_path: Path) -> None:
    place = tmp_path / "pin"
    place.write_text(f"{hsm.pin}\n")
    named = f"{ORDERS}?pin-source=file:{place}"
    settings = hsm.settings(pkcs11_pin=SecretStr(""))
    place.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to other users"):
        open_uri(named, settings)
    place.chmod(0o600)
    good(open_uri(named, settings))
    with pytest.raises(ConfigurationError, match="would be seen"):
        open_uri(f"{ORDERS}?pin-value=1234", settings)


# The library's destructors complain of the handle that is gone; nothing else does.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_was_lost_is_opened_again(hsm: Hsm) -> None:
    signer = open_uri(ORDERS, hsm.settings())
    token._sessions[token.DEFAULT_MODULE, "a token"]._open.close()
    good(signer)


def test_a_forked_child_signs_with_a_login_of_its_own(hsm: Hsm) -> None:
    signer = open_uri(ORDERS, hsm.settings())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signer.public_key.verify(signer.sign(MESSAGE), MESSAGE)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    good(signer)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("pkcs11:token=a%20token;object=nobody", "NoSuchKey"),
        ("pkcs11:token=another;object=orders", "NoSuchToken"),
        ("pkcs11:token=a%20token", "no token and object"),
        ("pkcs11:object=orders", "no token and object"),
        (f"{ORDERS}?module-path=/nowhere.so", "cannot be loaded"),
    ],
)
def test_what_a_token_does_not_have_is_said(hsm: Hsm, uri: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        open_uri(uri, hsm.settings())
    assert hsm.pin not in f"{caught.value} {caught.value.hint}"


def test_a_wrong_pin_is_refused_and_not_repeated(hsm: Hsm) -> None:
    with pytest.raises(ConfigurationError, match="PinIncorrect") as caught:
        open_uri("pkcs11:token=locked;object=x", hsm.settings(pkcs11_pin=SecretStr("wrong-pin")))
    assert "wrong-pin" not in f"{caught.value} {caught.value.hint}"


def test_a_file_may_name_a_key_in_a_token_and_be_written_anew(hsm: Hsm, tmp_path: Path) -> None:
    place = tmp_path / "orders.pem"
    place.write_text(ORDERS + "\n")
    place.chmod(0o600)
    ring = keyring.Keyring(hsm.settings(key_file=str(place)), "orders")
    assert ring.signers[0].public_key == open_uri(ORDERS, hsm.settings()).public_key
    assert ring.poll() is None
    place.write_text(ORDERS + "-2\n")
    (fresh,) = ring.poll()
    assert fresh.public_key == open_uri(f"{ORDERS}-2", hsm.settings()).public_key
    good(fresh)
    assert ring.poll() is None


# -- the others, as documented ------------------------------------------------------------


@pytest.fixture
def vault() -> Iterator[Service]:
    with serving(Vault()) as service:
        yield service


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(Aws()) as service:
        yield service


@pytest.fixture
def google() -> Iterator[Service]:
    with serving(Gcp()) as service:
        yield service


def uri_of(service: Service) -> str:
    return {
        Vault: "vault:transit/orders",
        Aws: f"aws-kms:alias/orders?region=eu-central-1&endpoint={service.url}",
        Gcp: f"gcp-kms:{GCP}?endpoint={service.url}",
    }[type(service)]


def opened(service: Service) -> signers.RemoteSigner:
    settings = ProducerSettings(vault_url=service.url, vault_token=SecretStr(TOKEN))
    return open_uri(uri_of(service), settings)


@pytest.fixture(params=["vault", "aws", "google"])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    return found


def test_a_service_signs_with_the_key_that_it_names(service: Service) -> None:
    signer = opened(service)
    assert signer.public_key.der == der(service.keys[0])
    good(signer)
    assert TOKEN not in repr(signer)


def test_a_signature_of_another_key_never_leaves(service: Service) -> None:
    signer = opened(service)
    service.wrong = True
    with pytest.raises(SigningError, match="no signature of its key"):
        signer.sign(MESSAGE)
    service.wrong = False
    good(signer)


REFUSALS = {
    Vault: (403, "permission denied"),
    Aws: (400, "AccessDeniedException"),
    Gcp: (403, "PERMISSION_DENIED"),
}
OUTAGES = {
    Vault: (503, "sealed"),
    Aws: (400, "KMSInternalException"),
    Gcp: (500, "INTERNAL"),
}


def test_a_refusal_is_the_users_to_mend_and_tells_no_secret(service: Service) -> None:
    service.status, service.code = REFUSALS[type(service)]
    with pytest.raises(ConfigurationError, match="refuses") as caught:
        opened(service)
    assert caught.value.hint
    assert TOKEN not in f"{caught.value} {caught.value.hint}"


def test_an_outage_is_waited_for(service: Service) -> None:
    signer = opened(service)
    service.status, service.code = OUTAGES[type(service)]
    with pytest.raises(SigningError):
        signer.sign(MESSAGE)
    service.status = 200
    good(signer)


def test_a_key_of_another_kind_is_refused(service: Service) -> None:
    service.damage = {
        Vault: {"type": "rsa-2048"},
        Aws: {"KeySpec": "ECC_NIST_P256"},
        Gcp: {"algorithm": "EC_SIGN_P256_SHA256"},
    }[type(service)]
    with pytest.raises(ConfigurationError) as caught:
        opened(service)
    assert re.search("ed(wards)?25519", caught.value.hint.lower())


def test_nobody_at_the_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ProducerSettings(vault_url="http://127.0.0.1:9", vault_token=SecretStr(TOKEN))
    with pytest.raises(UnavailableError, match="does not answer") as caught:
        open_uri("vault:transit/orders", settings)
    assert TOKEN not in str(caught.value)


def test_a_vault_needs_an_address_and_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_ADDR", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="no Vault"):
        open_uri("vault:transit/orders", ProducerSettings())
    with pytest.raises(ConfigurationError, match="names no key"):
        open_uri("vault:orders", ProducerSettings())


def test_a_rotation_in_vault_is_another_key_and_not_another_answer(vault: Service) -> None:
    signer = opened(vault)
    vault.keys.append(Ed25519PrivateKey.generate())
    good(signer)  # version 1, whatever is the latest
    assert opened(vault).public_key.der == der(vault.keys[1])
    settings = ProducerSettings(vault_url=vault.url, vault_token=SecretStr(TOKEN))
    first = open_uri("vault:transit/orders?version=1", settings)
    assert first.public_key == signer.public_key
    with pytest.raises(ConfigurationError, match="no version 7"):
        open_uri("vault:transit/orders?version=7", settings)


def test_kms_signs_short_messages_only(aws: Service) -> None:
    signer = opened(aws)
    with pytest.raises(ConfigurationError, match="4096"):
        signer.sign(bytes(4097))


@pytest.mark.parametrize(
    "damage", [{"signatureCrc32c": "1"}, {"verifiedDataCrc32c": False}, {"name": "other"}]
)
def test_what_google_says_was_damaged_is_not_used(google: Service, damage: Any) -> None:
    signer = opened(google)
    google.damage = damage
    with pytest.raises(SigningError, match="damaged"):
        signer.sign(MESSAGE)


def test_the_check_sum_is_the_one_that_google_asks_for() -> None:
    # RFC 3720 appendix B.4: 32 bytes of zeros, of ones, ascending.
    assert gcp._crc(bytes(32)) == 0x8A9136AA
    assert gcp._crc(b"\xff" * 32) == 0x62A8AB43
    assert gcp._crc(bytes(range(32))) == 0x46DD794E


def test_names_of_key_versions_are_whole() -> None:
    with pytest.raises(ConfigurationError, match="no key version"):
        open_uri("gcp-kms:projects/p/keys/k", ProducerSettings())
