"""A producer comes to Kafka under the name that its keys speak for."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealtrail.errors import ConfigurationError
from sealtrail_local.certs.folder import Folder
from sealtrail_producer import kafka
from sealtrail_producer.settings import ProducerSettings


@pytest.fixture
def certs(tmp_path: Path) -> Folder:
    now, found = datetime.now(UTC), Folder(tmp_path / "certs")
    found.init(now, timedelta(days=1))
    for name in ("billing", "orders"):
        found.issue(name, [], now, timedelta(hours=1))
    return found


def mutual(certs: Folder, **more: Any) -> ProducerSettings:
    files = certs.root / "issued" / "{identity}.pem"
    return ProducerSettings(
        kafka_security="SSL", kafka_ca_file=certs.bundle, kafka_cert_file=files, **more
    )


def test_its_own_certificate_is_found_by_its_name(certs: Folder) -> None:
    settings = mutual(certs)
    kafka.check_identity(settings, "billing")
    assert kafka.config(settings, "billing")["ssl.key.location"].endswith("/billing.pem")


def test_a_certificate_of_another_is_refused(certs: Folder) -> None:
    with pytest.raises(ConfigurationError, match="as 'orders' and signs as 'billing'"):
        kafka.check_identity(mutual(certs, kafka_identity="orders"), "billing")


def test_a_user_of_another_name_is_refused() -> None:
    own = ProducerSettings(kafka_security="SASL_SSL", kafka_password="p")
    kafka.check_identity(own, "billing")
    assert kafka.config(own, "billing")["sasl.username"] == "billing"
    other = own.model_copy(update={"kafka_username": "shared"})
    with pytest.raises(ConfigurationError, match="as 'shared' and signs as 'billing'"):
        kafka.check_identity(other, "billing")


def test_a_mismatch_can_be_allowed_and_is_said(
    certs: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    settings = mutual(certs, kafka_identity="orders", identity_mismatch="warn")
    with caplog.at_level(logging.WARNING):
        kafka.check_identity(settings, "billing")
    assert "as 'orders' and signs as 'billing'" in caplog.text


def test_without_transport_security_there_is_no_name_to_compare() -> None:
    kafka.check_identity(ProducerSettings(), "billing")


def test_passwords_may_lie_in_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "billing").write_text("hush\n")
    settings = ProducerSettings(
        kafka_security="SASL_SSL", kafka_password_file=tmp_path / "{identity}"
    )
    assert kafka.config(settings, "billing")["sasl.password"] == "hush"
    with pytest.raises(ConfigurationError, match="password cannot be read"):
        kafka.config(settings, "orders")
