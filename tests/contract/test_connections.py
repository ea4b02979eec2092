"""How settings become what the clients' libraries want."""

from pathlib import Path

import pytest

from sealtrail import connections, settings
from sealtrail.errors import ConfigurationError
from sealtrail.settings import CommonSettings


def test_the_default_is_plaintext_and_names_no_file() -> None:
    common = CommonSettings(kafka_bootstrap="h:1")
    assert connections.librdkafka(common, "me") == {
        "bootstrap.servers": "h:1",
        "security.protocol": "PLAINTEXT",
    }
    assert connections.kafka_context(common, "me") is None
    assert connections.registry(common, "me") == {"url": common.registry_url}


def test_scram_and_mutual_tls_name_what_each_needs() -> None:
    scram = CommonSettings(
        kafka_security="SASL_SSL",
        kafka_ca_file=Path("ca"),
        kafka_username="worker",
        kafka_password="secret",
    )
    assert connections.librdkafka(scram, "me") == {
        "bootstrap.servers": scram.kafka_bootstrap,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "ca",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "worker",
        "sasl.password": "secret",
    }
    mutual = CommonSettings(
        kafka_security="SSL", kafka_cert_file=Path("c"), kafka_key_passphrase="p"
    )
    assert connections.librdkafka(mutual, "me") == {
        "bootstrap.servers": scram.kafka_bootstrap,
        "security.protocol": "SSL",
        "ssl.certificate.location": "c",
        # One file may hold both, so that both change in one step.
        "ssl.key.location": "c",
        "ssl.key.password": "p",
    }


def test_the_registry_takes_a_certificate_or_a_password() -> None:
    both = CommonSettings(
        registry_ca_file=Path("ca"),
        registry_cert_file=Path("c"),
        registry_key_file=Path("k"),
        registry_username="u",
        registry_password="p",
    )
    assert connections.registry(both, "me") == {
        "url": both.registry_url,
        "ssl.ca.location": "ca",
        "ssl.certificate.location": "c",
        "ssl.key.location": "k",
        "basic.auth.user.info": "u:p",
    }


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"KAFKA_SECURITY": "SASL_SSL"}, "SEALTRAIL_KAFKA_PASSWORD"),
        ({"KAFKA_CA_FILE": "ca"}, "PLAINTEXT"),
        ({"KAFKA_USERNAME": "u", "KAFKA_PASSWORD": "hush"}, "PLAINTEXT"),
        ({"KAFKA_SECURITY": "SSL", "KAFKA_KEY_FILE": "k"}, "SEALTRAIL_KAFKA_CERT_FILE"),
        ({"REGISTRY_KEY_FILE": "k"}, "SEALTRAIL_REGISTRY_CERT_FILE"),
        ({"STORE_CA_FILE": "ca"}, "SEALTRAIL_STORE_URL"),
    ],
)
def test_half_a_transport_is_refused_and_no_secret_shown(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    environ = {f"SEALTRAIL_{name}": value for name, value in variables.items()}
    with pytest.raises(ConfigurationError, match=named) as caught:
        settings.load(CommonSettings, environ | {"SEALTRAIL_STATE_DIR": str(tmp_path)})
    assert "hush" not in caught.value.message


def test_certificates_that_cannot_be_read_are_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for text in (None, "no PEM"):
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigurationError, match="certificates cannot be read"):
            connections.kafka_context(
                CommonSettings(kafka_security="SSL", kafka_ca_file=file), "me"
            )
        with pytest.raises(ConfigurationError, match="CAs cannot be read"):
            connections.store_ca(CommonSettings(store_url="https://s:8443", store_ca_file=file))


def test_a_replaced_file_is_told_once_and_a_missing_one_waits(tmp_path: Path) -> None:
    file, clock = tmp_path / "c.pem", [0.0]
    file.write_text("one")
    watched = connections.Watched({"ssl.certificate.location": str(file)}, lambda: clock[0])
    assert not watched.changed()
    fresh = tmp_path / "fresh"
    fresh.write_text("two")
    fresh.replace(file)
    assert not watched.changed()  # the disk is looked at once a second
    clock[0] = 1.5
    assert watched.changed()
    clock[0] = 3
    assert not watched.changed()
    file.unlink()
    clock[0] = 5
    assert not watched.changed()
    file.write_text("three")
    clock[0] = 7
    assert watched.changed()
