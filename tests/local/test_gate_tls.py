"""nginx before the registry, without the registry: whom it believes behind it."""

import os
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from tests.conftest import real_variables
from tests.local.serving import Answering, serving

from sealtrail.errors import UnavailableError
from sealtrail.settings import load
from sealtrail_local import addresses, health
from sealtrail_local.certs import folder, x509
from sealtrail_local.real import gate, secure
from sealtrail_local.settings import LocalSettings

PATIENCE_S = 20.0
OPEN = 'map "" $gate_allows {\n    default 1;\n}\n'
LIFE = timedelta(hours=1)
HOSTS = (secure.REGISTRY, "localhost", addresses.HOST)


class Registry(Answering):
    """As far as the gate sees it."""

    body = b"[]"


@pytest.fixture(scope="module")
def settings() -> Iterator[LocalSettings]:
    """Of a secured stack whose gate runs, and nothing else of it."""
    with tempfile.TemporaryDirectory(prefix="sealtrail-gate-") as name:
        variables = real_variables(Path(name)) | {"SEALTRAIL_LOCAL_SECURE": "true"}
        found = load(LocalSettings, variables)
        launch = gate.launch(found, print)
        (found.state_dir / gate.NAME / "rules.conf").write_text(OPEN)
        log = (found.state_dir / "log").open("wb")
        environment = {**os.environ, **launch.environment}
        with log, subprocess.Popen(launch.command, env=environment, stderr=log) as process:
            try:
                deadline = time.monotonic() + PATIENCE_S
                while True:
                    try:
                        health.gate(found)
                        break
                    except UnavailableError:
                        assert time.monotonic() < deadline, (found.state_dir / "log").read_text()
                        time.sleep(0.1)
                yield found
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("the registry's", 200),
        ("that of a producer", 502),
        ("that of another server of this machine", 502),
        ("the registry's name, signed by another CA", 502),
        ("one that has ended", 502),
        ("none: plain HTTP", 502),
    ],
)
def test_the_gate_believes_the_registry_alone(
    settings: LocalSettings, shown: str, code: int, tmp_path: Path
) -> None:
    ours, other = secure.certificates(settings), folder.Folder(tmp_path / "other")
    other.init(folder.now(), LIFE)
    certificate: Path | None = ours.file(secure.REGISTRY)
    if shown == "that of a producer":
        certificate = ours.issue("billing", [], folder.now(), LIFE).file
    elif shown == "that of another server of this machine":
        certificate = ours.file("store")
    elif shown == "the registry's name, signed by another CA":
        certificate = other.issue(secure.REGISTRY, HOSTS, folder.now(), LIFE).file
    elif shown == "one that has ended":
        pair = x509.issue(ours.signing(), secure.REGISTRY, HOSTS, folder.now() - 2 * LIFE, LIFE)
        certificate = tmp_path / "ended.pem"
        folder.write(certificate, pair.key_pem + pair.certificate_pem)
    elif shown == "none: plain HTTP":
        certificate = None
    else:
        assert shown == "the registry's"
    trusting = ssl.create_default_context(cafile=ours.bundle)
    trusting.load_cert_chain(ours.issue("operator", [], folder.now(), LIFE).file)
    with serving(Registry, certificate, addresses.registry_port(settings)):
        url = f"{addresses.registry(settings)}/subjects"
        answer = httpx.get(url, verify=trusting, timeout=PATIENCE_S, trust_env=False)
    assert answer.status_code == code, (settings.state_dir / "log").read_text()
