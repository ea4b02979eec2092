"""/metrics, /healthz and /readyz under TLS: what is shown to whom, and another certificate."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from tests import tls

from sealtrail.errors import ConfigurationError
from sealtrail.serving import ServerCertificate
from sealtrail.settings import load
from sealtrail_local.certs import reload
from sealtrail_local.certs.folder import Folder, now, read
from sealtrail_processor.reporting import health
from sealtrail_processor.reporting.health import HealthServer
from sealtrail_processor.reporting.metrics import Metrics, Status
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"


@pytest.fixture
def certs(tmp_path: Path) -> Folder:
    found = tls.authority(tmp_path / "certs")
    found.issue("health", [HOST, "localhost"], now(), tls.DAY)
    return found


def shown(certs: Folder) -> ServerCertificate:
    return ServerCertificate("the health endpoint", certs.file("health"), None, "")


@pytest.fixture
def port(certs: Folder) -> Iterator[int]:
    status = Status(ready=True, loop_beat=time.monotonic())
    with closing(HealthServer(HOST, 0, Metrics(), status, shown(certs))) as server:
        yield server.port


def test_whoever_believes_our_ca_is_answered(certs: Folder, port: int) -> None:
    base = f"https://{HOST}:{port}"
    with httpx.Client(base_url=base, verify=tls.trusting(certs.bundle), trust_env=False) as client:
        assert "sealtrail_events_total" in client.get("/metrics").text
        codes = [client.get(path).status_code for path in ("/healthz", "/readyz", "/other")]
    assert codes == [200, 200, 404]


def test_a_server_that_another_ca_signed_is_not_believed(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tls.authority(tmp_path / "other")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(
            f"https://{HOST}:{port}/healthz", verify=tls.trusting(other.bundle), trust_env=False
        )
    # A probe that goes away is no trouble of the worker's.
    assert capsys.readouterr().err == ""


def test_plain_http_gets_nothing(certs: Folder, port: int) -> None:
    tls.assert_no_http((HOST, port), "/metrics")
    answer = httpx.get(
        f"https://{HOST}:{port}/healthz", verify=tls.trusting(certs.bundle), trust_env=False
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(("version", "taken"), tls.VERSIONS)
def test_old_tls_is_refused(
    certs: Folder, port: int, version: ssl.TLSVersion, *, taken: bool
) -> None:
    context = tls.trusting(certs.bundle, version)
    with socket.create_connection((HOST, port), timeout=tls.PATIENCE_S) as plain:
        if not taken:
            with pytest.raises(OSError, match=tls.REFUSED):
                context.wrap_socket(plain, server_hostname=HOST)
            return
        with context.wrap_socket(plain, server_hostname=HOST) as secured:
            assert secured.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


def test_who_connects_and_says_nothing_keeps_nobody_waiting(
    certs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler_patience_s = 1.0
    monkeypatch.setattr(health, "PATIENCE_S", handler_patience_s)
    status = Status(ready=True, loop_beat=time.monotonic())
    with (
        closing(HealthServer(HOST, 0, Metrics(), status, shown(certs))) as server,
        socket.create_connection((HOST, server.port), timeout=tls.PATIENCE_S) as silent,
    ):
        url = f"https://{HOST}:{server.port}/readyz"
        assert httpx.get(url, verify=tls.trusting(certs.bundle), trust_env=False).status_code == 200
        # And is let go.
        assert silent.recv(1) == b""


def test_another_certificate_is_shown_and_a_broken_one_is_not(
    certs: Folder, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sealtrail.serving")

    def wait_for(word: str) -> None:
        deadline = time.monotonic() + tls.PATIENCE_S
        while word not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    before = reload.shown(HOST, port)
    [held] = certs.issued(now())
    assert before == held.certificate
    fresh = certs.renew(held, now())
    wait_for("another certificate is shown from now on")
    assert reload.shown(HOST, port) == fresh.certificate != before
    certs.file("health").write_text("nothing")
    wait_for("the one before is shown on")
    assert "PRIVATE" not in caplog.text
    assert reload.shown(HOST, port) == fresh.certificate


@pytest.mark.parametrize("problem", ["missing", "no key", "another's key", "a passphrase"])
def test_a_certificate_that_is_none_is_said_at_the_start(
    certs: Folder, tmp_path: Path, problem: str
) -> None:
    certificate, key = certs.file("health"), None
    if problem == "missing":
        certificate = tmp_path / "missing.pem"
    elif problem == "no key":
        certificate = certs.bundle
    elif problem == "a passphrase":
        locked = serialization.BestAvailableEncryption(b"secret")
        pem = read(certificate).key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
        )
        key = tmp_path / "locked.pem"
        key.write_bytes(pem)
    else:
        key = certs.issue("other", [], now(), tls.DAY).file
    with pytest.raises(ConfigurationError, match="the health endpoint's certificate") as caught:
        ServerCertificate("the health endpoint", certificate, key, "look there")
    assert caught.value.hint == "look there"


def test_a_key_without_a_certificate_is_refused(tmp_path: Path) -> None:
    given = {"SEALTRAIL_STATE_DIR": str(tmp_path), "SEALTRAIL_HEALTH_KEY_FILE": "x.pem"}
    with pytest.raises(ConfigurationError, match="needs SEALTRAIL_HEALTH_CERT_FILE"):
        load(WorkerSettings, given)
