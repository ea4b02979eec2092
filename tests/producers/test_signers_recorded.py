"""Vault, AWS KMS and Google Cloud KMS: their clients, and answers that were recorded of them."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import kms_v1
from pydantic import SecretStr
from tests.producers.backends import (
    AWS,
    GCP,
    GOOGLE,
    MESSAGE,
    TOKEN,
    VAULT,
    Aws,
    Gcp,
    Service,
    Vault,
    der,
    good,
    serving,
)
from tests.producers.google_grpc import client_of

from sealtrail.errors import ConfigurationError, SealtrailError, UnavailableError
from sealtrail_producer.errors import SigningError
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signers import RemoteSigner, gcp, open_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.producers.world import Seen, World

RECORDED = {Vault: VAULT, Aws: AWS, Gcp: GOOGLE}


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
    """Over REST, as with an endpoint in the key's URI."""
    with serving(Gcp()) as service:
        yield service


@pytest.fixture
def google_grpc(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Over gRPC, as without one."""
    service = Gcp()
    with client_of(service) as client:
        usual = kms_v1.KeyManagementServiceClient.get_transport_class()
        assert isinstance(client.transport, usual)
        monkeypatch.setattr(gcp, "_client", lambda endpoint: client)
        yield service


@pytest.fixture(params=["vault", "aws", "google", "google_grpc"])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    return found


def opened(service: Service) -> RemoteSigner:
    uri = {
        Vault: "vault:transit/orders",
        Aws: f"aws-kms:alias/orders?region=eu-central-1&endpoint={service.url}",
        Gcp: f"gcp-kms:{GCP}" + (f"?endpoint={service.url}" if service.url else ""),
    }[type(service)]
    settings = ProducerSettings(vault_url=service.url, vault_token=SecretStr(TOKEN))
    return open_uri(uri, settings)


# -- what they signed, and what they refused ------------------------------------------------


def test_what_a_service_signed_is_taken_as_it_answered(service: Service) -> None:
    recorded = RECORDED[type(service)]["sign"]
    service.replays = True
    signer = opened(service)
    message = base64.b64decode(recorded.message)
    signature = signer.sign(message)
    assert base64.b64encode(signature).decode() in str(recorded.body)
    with pytest.raises(SigningError, match="no signature of its key"):
        signer.sign(message + b".")


# Waiting mends these, and nobody's hand is needed.
PASSING = {
    Vault: {"version-ended", "throttled", "outage"},
    Aws: {"throttled", "outage"},
    Gcp: {"pending", "throttled", "outage", "unavailable"},
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's client gives up soon."""
    monkeypatch.setattr(gcp, "RETRY", gcp.RETRY.with_timeout(0.3))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("when", ["opened", "signing"])
def test_each_refusal_is_of_the_right_kind_and_tells_no_secret(service: Service, when: str) -> None:
    answers = RECORDED[type(service)]
    refusals = {name: said for name, said in answers.items() if said.status >= 400}
    assert len(refusals) >= 6
    signer = opened(service)
    for name, said in refusals.items():
        service.refusal = said
        passes = name in PASSING[type(service)]
        with pytest.raises(SealtrailError) as caught:
            opened(service) if when == "opened" else signer.sign(MESSAGE)
        assert isinstance(caught.value, UnavailableError if passes else ConfigurationError), name
        assert caught.value.hint, name
        assert TOKEN not in f"{caught.value} {caught.value.hint}"
    service.refusal = None
    good(signer)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", ["throttled", "denied", "outage"])
def test_no_event_is_lost_while_a_service_refuses(
    service: Service, world: World, judged: Callable[[], Seen], name: str
) -> None:
    world.signers = [opened(service)]
    trail = world.open(spool_full="raise")
    trail.emit("first", event_type="CREATE")
    assert trail._core.flush_step()
    service.refusal = RECORDED[type(service)][name]
    trail.emit("second", event_type="CREATE")
    assert not trail._core.flush_step()
    with pytest.raises(SigningError):
        trail.emit("third", event_type="CREATE")
    service.refusal = None
    assert trail._core.flush_step()
    assert trail.close()
    seen = judged()
    assert not seen.findings
    assert len(seen.events) == 2


def test_google_is_asked_again_when_it_is_away_for_a_moment(google_grpc: Service) -> None:
    signer = opened(google_grpc)
    google_grpc.refusal, google_grpc.once = GOOGLE["unavailable"], True
    before = len(google_grpc.asked)
    signer.public_key.verify(signer.sign(MESSAGE), MESSAGE)
    assert len(google_grpc.asked) == before + 2
    assert gcp.RETRY._timeout == gcp.TIMEOUT_S  # and not the minute of the library


def test_what_aws_has_no_name_for_is_waited_for(aws: Service) -> None:
    signer = opened(aws)
    aws.refusal = replace(AWS["outage"], status=503, body={"__type": "SomethingNew"})
    with pytest.raises(SigningError, match="SomethingNew"):
        signer.sign(MESSAGE)


def test_each_recording_says_what_it_is() -> None:
    for answers in RECORDED.values():
        assert {"public-key", "sign", "denied", "throttled", "outage"} <= set(answers)
        for name, said in answers.items():
            kinds = {"recorded", "neighbour", "unattested", "assembled", "reference"}
            assert said.evidence in kinds, name
            assert len(said.source) > 30, name
            assert said.operation, name


# -- what they may do besides -----------------------------------------------------------------


def test_a_service_signs_with_the_key_that_it_names(service: Service) -> None:
    signer = opened(service)
    assert signer.public_key.der == der(service.key)
    good(signer)
    assert TOKEN not in repr(signer)


def test_a_signature_of_another_key_never_leaves(service: Service) -> None:
    signer = opened(service)
    service.wrong = True
    with pytest.raises(SigningError, match="no signature of its key"):
        signer.sign(MESSAGE)
    service.wrong = False
    good(signer)


def test_a_key_of_another_kind_is_refused(service: Service) -> None:
    service.damage = {
        Vault: VAULT["other-type"].body["data"],
        Aws: {"KeySpec": "ECC_NIST_P256"},
        Gcp: {"algorithm": "EC_SIGN_P256_SHA256"},
    }[type(service)]
    with pytest.raises(ConfigurationError) as caught:
        opened(service)
    assert re.search("ed(wards)?25519", caught.value.hint.lower())


def test_a_derived_key_of_vault_has_no_public_half(vault: Service) -> None:
    vault.refusal = VAULT["derived"]
    with pytest.raises(ConfigurationError, match="derived") as caught:
        opened(vault)
    assert "without derived" in caught.value.hint


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
