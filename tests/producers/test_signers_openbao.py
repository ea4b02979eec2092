"""Vault's transit engine for real: OpenBao, its free fork, runs here."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.producers.backends import MESSAGE, TOKEN, VAULT, Vault, good
from tests.producers.openbao import OpenBao, running

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer.errors import SigningError
from sealtrail_producer.signers import open_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.producers.world import Seen, World

ORDERS = "vault:transit/orders"
SIGN = {"input": base64.b64encode(MESSAGE).decode(), "key_version": 1}


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with running(tmp_path_factory.mktemp("bao")) as server:
        yield server


@contextmanager
def one_a_minute(bao: OpenBao) -> Iterator[None]:
    """A quota that takes one request and refuses those that follow."""
    quota = {"path": "transit", "rate": 1, "interval": "1m"}
    bao.ask("POST", "sys/quotas/rate-limit/few", quota).raise_for_status()
    try:
        bao.ask("GET", "transit/keys/orders", token=bao.token).raise_for_status()
        yield
    finally:
        bao.ask("DELETE", "sys/quotas/rate-limit/few").raise_for_status()


@contextmanager
def sealed(bao: OpenBao) -> Iterator[None]:
    bao.seal()
    try:
        yield
    finally:
        bao.unseal()


def key(bao: OpenBao, name: str, **wanted: Any) -> None:
    """A new key."""
    bao.ask("POST", f"transit/keys/{name}", {"type": "ed25519"} | wanted).raise_for_status()


def test_it_signs(bao: OpenBao) -> None:
    signer = open_uri(ORDERS, bao.settings())
    good(signer)
    assert open_uri(f"{ORDERS}?version=1", bao.settings()).public_key == signer.public_key
    assert bao.token not in repr(signer)


def test_a_long_statement_is_signed_whole(bao: OpenBao) -> None:
    signer = open_uri(ORDERS, bao.settings())
    message = MESSAGE * 10_000
    signer.public_key.verify(signer.sign(message), message)


def test_a_rotation_is_another_key_until_the_old_one_may_not_sign(bao: OpenBao) -> None:
    key(bao, "turning")
    uri, root = "vault:transit/turning", bao.settings(bao._root)
    first = open_uri(uri, root)
    bao.ask("POST", "transit/keys/turning/rotate").raise_for_status()
    good(first)  # version 1, whatever is the latest
    second = open_uri(uri, root)
    assert second.public_key != first.public_key
    good(second)
    bao.ask("POST", "transit/keys/turning/config", {"min_encryption_version": 2})
    with pytest.raises(SigningError, match="fails to use transit/turning, version 1") as refused:
        first.sign(MESSAGE)
    assert "min_encryption_version" in refused.value.hint
    with pytest.raises(ConfigurationError, match="may not sign with version 1 any more"):
        open_uri(f"{uri}?version=1", root)
    good(second)
    bao.ask("POST", "transit/keys/turning/config", {"min_decryption_version": 2})
    for version in (1, 7):
        with pytest.raises(ConfigurationError, match=f"no version {version} with a public key"):
            open_uri(f"{uri}?version={version}", root)


def test_what_is_no_key_to_sign_with_is_said(bao: OpenBao) -> None:
    key(bao, "p256", type="ecdsa-p256")
    key(bao, "aes", type="aes256-gcm96")
    key(bao, "derived", derived=True)
    root = bao.settings(bao._root)
    for name, why in {
        "p256": "of type 'ecdsa-p256'",
        "aes": "of type 'aes256-gcm96'",
        "derived": "derived key",
        "nobody": "refuses transit/nobody: InvalidPath",
    }.items():
        with pytest.raises(ConfigurationError, match=why) as caught:
            open_uri(f"vault:transit/{name}", root)
        assert caught.value.hint


def test_a_key_that_is_deleted_signs_no_more(bao: OpenBao) -> None:
    key(bao, "short")
    root = bao.settings(bao._root)
    signer = open_uri("vault:transit/short", root)
    good(signer)
    bao.ask("POST", "transit/keys/short/config", {"deletion_allowed": True})
    bao.ask("DELETE", "transit/keys/short/soft-delete").raise_for_status()
    with pytest.raises(SigningError, match="fails to use"):
        signer.sign(MESSAGE)
    with pytest.raises(ConfigurationError, match="may not sign"):
        open_uri("vault:transit/short", root)
    bao.ask("POST", "transit/keys/short/soft-delete-restore").raise_for_status()
    good(signer)
    bao.ask("DELETE", "transit/keys/short").raise_for_status()
    with pytest.raises(ConfigurationError, match="InvalidRequest"):
        signer.sign(MESSAGE)


def test_a_token_may_do_what_its_policy_says_until_it_is_revoked(bao: OpenBao) -> None:
    key(bao, "others")
    with pytest.raises(ConfigurationError, match="Forbidden") as caught:
        open_uri("vault:transit/others", bao.settings())
    assert bao.token not in f"{caught.value} {caught.value.hint}"
    token = bao.new_token()
    signer = open_uri(ORDERS, bao.settings(token))
    good(signer)
    bao.ask("POST", "auth/token/revoke", {"token": token}).raise_for_status()
    with pytest.raises(ConfigurationError, match="Forbidden") as caught:
        signer.sign(MESSAGE)
    assert token not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("trouble", [one_a_minute, sealed])
def test_no_event_is_lost_while_it_is_throttled_or_sealed(
    bao: OpenBao,
    world: World,
    judged: Callable[[], Seen],
    trouble: Callable[[OpenBao], Any],
) -> None:
    world.signers = [open_uri(ORDERS, bao.settings())]
    trail = world.open(spool_full="raise")
    trail.emit("first", event_type="CREATE")
    assert trail._core.flush_step()
    with trouble(bao):
        trail.emit("second", event_type="CREATE")
        assert not trail._core.flush_step()
        with pytest.raises(SigningError, match=r"RateLimitExceeded|VaultDown"):
            trail.emit("third", event_type="CREATE")
        with pytest.raises(UnavailableError):
            open_uri(ORDERS, bao.settings())
    assert trail._core.flush_step()
    assert trail.close()
    seen = judged()
    assert not seen.findings
    assert len(seen.events) == 2


def shape(value: Any) -> Any:
    """The names of members, all the way down; versions of a key are like one another."""
    if isinstance(value, dict):
        return {"1" if name.isdecimal() else name: shape(said) for name, said in value.items()}
    return type(value)


def test_the_recordings_are_what_it_still_answers(bao: OpenBao) -> None:
    ask, path = bao.ask, "transit/sign/orders"
    answers = {
        "public-key": ask("GET", "transit/keys/orders", token=bao.token),
        "sign": ask("POST", path, SIGN, bao.token),
        "denied": ask("POST", path, SIGN, "s.nobody"),
        "no-key": ask("GET", "transit/keys/nobody"),
        "no-signing-key": ask("POST", "transit/sign/nobody", SIGN),
    }
    key(bao, "ended")
    ask("POST", "transit/keys/ended/rotate")
    ask("POST", "transit/keys/ended/config", {"min_encryption_version": 2})
    answers["version-ended"] = ask("POST", "transit/sign/ended", SIGN)
    with one_a_minute(bao):
        answers["throttled"] = ask("POST", path, SIGN, bao.token)
    with sealed(bao):
        answers["outage"] = ask("POST", path, SIGN, bao.token)
    of_openbao = {name for name, said in VAULT.items() if "OpenBao" in said.source}
    assert set(answers) == of_openbao
    for name, answer in answers.items():
        assert answer.status_code == VAULT[name].status, name
        if answer.status_code == 200:
            assert shape(answer.json()) == shape(VAULT[name].body), name
        else:
            assert answer.json() == VAULT[name].body, name


def test_the_service_of_the_other_tests_answers_as_it_does(bao: OpenBao) -> None:
    for method, path, body in (
        ("GET", "transit/keys/orders", None),
        ("POST", "transit/sign/orders", SIGN),
    ):
        said = Vault().say(f"/v1/{path}", body, {"X-Vault-Token": TOKEN})[1]
        assert shape(said) == shape(bao.ask(method, path, body, bao.token).json())
