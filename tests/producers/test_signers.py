"""Names of keys that never leave their home, and a token: SoftHSM."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from tests.producers.backends import MESSAGE, good
from tests.producers.softhsm import ORDERS, Hsm

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer import keyring, signers
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signers import open_uri, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    arn = "arn:aws:kms:eu-central-1:000000000000:key/1234"
    assert signers.KeyUri.parse(f"aws-kms:{arn}?region=r").path == arn


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
