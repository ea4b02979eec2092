"""The development CA: what it issues is accepted by strict verifiers, and how it rotates."""

import contextlib
import json
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealtrail import connections
from sealtrail.cli.main import run
from sealtrail.errors import ConfigurationError
from sealtrail.identity import of_certificate
from sealtrail.settings import CommonSettings, load
from sealtrail_local.certs import folder, reload, x509
from sealtrail_local.certs.folder import Folder, write
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

HOUR = timedelta(hours=1)
MONTH = timedelta(days=30)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def certs(tmp_path: Path, now: datetime) -> Folder:
    found = Folder(tmp_path / "certs")
    found.init(now, MONTH)
    return found


def shake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> str:
    """A TLS handshake in memory; the name in the client's certificate as the server sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs.getpeercert()["subject"][0][0][1]


def contexts(certs: Folder, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A broker's and a client's, as strict as Python 3.13 is by default."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(certs.bundle)
    server.load_cert_chain(certs.file("broker-1"))
    settings = CommonSettings(
        kafka_security="SSL",
        kafka_ca_file=certs.bundle,
        kafka_cert_file=certs.root / "issued" / "{identity}.pem",
    )
    client = connections.kafka_context(settings, name)
    for context in (server, client):
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return server, client


@pytest.mark.parametrize("name", ["billing", "spiffe://acme.example/billing"])
def test_strict_verifiers_take_both_sides(certs: Folder, now: datetime, name: str) -> None:
    certs.issue("broker-1", ["localhost", "127.0.0.1"], now, HOUR)
    certs.issue(name, [], now, HOUR)
    assert of_certificate(certs.file(name)) == name
    assert shake(*contexts(certs, name)) == name
    assert shake(*contexts(certs, name), host="127.0.0.1") == name
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(*contexts(certs, name), host="elsewhere")


def test_keys_are_private_and_a_client_is_no_server(certs: Folder, now: datetime) -> None:
    certs.issue("broker-1", ["localhost"], now, HOUR)
    certs.issue("billing", [], now, HOUR)
    assert {f.stat().st_mode & 0o077 for f in certs.root.rglob("*.pem") if f != certs.bundle} == {0}
    server, client = contexts(certs, "billing")
    server.load_cert_chain(certs.file("billing"))
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake(server, client)


@pytest.mark.parametrize("name", ["", "a b", "a,CN=admin", "a\nb", "x" * 65, "-a", 'a"b', "ä"])
def test_names_that_would_not_survive_are_refused(certs: Folder, now: datetime, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        certs.issue(name, [], now, HOUR)


def test_a_ca_is_rotated_with_both_trusted_meanwhile(certs: Folder, now: datetime) -> None:
    broker = certs.issue("broker-1", ["localhost"], now, HOUR)
    billing = certs.issue("billing", [], now, HOUR)
    before = contexts(certs, "billing")
    certs.trust(now + timedelta(seconds=1), MONTH)
    assert len(certs.trusted()) == 2
    # Whoever has read the bundle takes certificates of either CA, whichever side comes first.
    old_server, old_client = contexts(certs, "billing")
    certs.renew(broker, now)
    new_server, _ = contexts(certs, "billing")
    certs.renew(billing, now)
    _, new_client = contexts(certs, "billing")
    for server in (old_server, new_server):
        for client in (old_client, new_client):
            assert shake(server, client) == "billing"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(new_server, before[1])
    assert [i.problem for i in certs.issued(now)] == ["", ""]


def test_an_old_ca_is_forgotten_when_all_that_it_signed_has_ended(
    certs: Folder, now: datetime
) -> None:
    issued = certs.issue("billing", [], now, HOUR)
    certs.trust(now + timedelta(seconds=1), MONTH)
    certs.renew(issued, now)
    assert certs.forget(now) == []
    assert len(certs.trusted()) == 2
    assert len(certs.forget(now + HOUR)) == 1
    assert len(certs.trusted()) == 1
    assert [i.problem for i in certs.issued(now)] == [""]
    assert certs.forget(now + 2 * HOUR) == []


def test_what_is_wrong_is_said(certs: Folder, now: datetime, tmp_path: Path) -> None:
    good = certs.issue("good", [], now, HOUR)
    certs.issue("ended", [], now - 2 * HOUR, HOUR)
    certs.issue("early", [], now + 2 * HOUR, HOUR)
    other = Folder(tmp_path / "other")
    other.init(now, MONTH)
    stranger = other.issue("stranger", [], now, HOUR)
    write(certs.file("stranger"), stranger.file.read_bytes())
    write(certs.file("renamed"), good.file.read_bytes())
    certs.issue("open", [], now, HOUR).file.chmod(0o644)
    mixed = certs.issue("mixed", [], now, HOUR)
    key = certs.issue("open2", [], now, HOUR).file.read_bytes().partition(b"-----BEGIN CERT")[0]
    write(mixed.file, key + mixed.file.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2])
    found = {i.file.stem: i.problem for i in certs.issued(now)}
    assert found == {
        "good": "",
        "open2": "",
        "ended": "it has ended",
        "early": "it is not valid yet",
        "stranger": "no CA of ca.pem has signed it",
        "renamed": "the file has another's name",
        "open": "others may read its key",
        "mixed": "the key beside it is another one's",
    }


def test_the_commands_issue_list_check_and_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALTRAIL_STATE_DIR", str(tmp_path))

    def certs(*arguments: str) -> tuple[int, Any]:
        code = run(["certs", *arguments, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    assert certs("list") == (3, None)
    assert certs("issue", "billing") == (3, None)
    assert certs("init")[0] == 0
    assert certs("init") == (3, None)
    assert certs("issue", "billing")[0] == 0
    assert certs("issue", "broker-1", "--host", "localhost", "--hours", "5")[0] == 0
    assert certs("check") == (
        1,
        [row for row in certs("list")[1] if row["name"] == "broker-1"],
    )
    serial = Folder(tmp_path / "certs").issued(datetime.now(UTC))[0].certificate.serial_number
    assert certs("rotate") == (0, [])
    assert [row["name"] for row in certs("rotate", "billing")[1]] == ["billing"]
    assert certs("rotate", "nobody")[0] == 2
    after = Folder(tmp_path / "certs").issued(datetime.now(UTC))
    assert after[0].certificate.serial_number != serial
    assert certs("check", "--within", "4") == (0, [])


def test_certificates_of_controllers_are_listed_and_not_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALTRAIL_STATE_DIR", str(tmp_path))
    settings = load(LocalSettings)

    def certs(*arguments: str) -> Any:
        assert run(["certs", *arguments, "--json"]) == (1 if "check" in arguments else 0)
        return {row["name"]: row for row in json.loads(capsys.readouterr().out)}

    quorum = secure.controller(settings, "broker-1")
    before = quorum.file("broker-1").read_bytes()
    secure.prepare_files(settings)
    # Neither knows anybody of the other.
    others = Folder(tmp_path / "certs")
    for one, another in ((quorum, others), (others, quorum)):
        [ca] = one.trusted()
        assert not any(x509.signed_by(i.certificate, ca) for i in another.issued(folder.now()))
    listed = certs("list")
    servers = {"broker-1", "registry", "apicurio", "store", "health", "quorum/broker-1"}
    assert servers | {"bootstrap"} == listed.keys()
    assert {row["problem"] for row in listed.values()} == {""}
    assert "quorum/broker-1" not in certs("rotate", "--ca")
    assert quorum.file("broker-1").read_bytes() == before
    # A start leaves one alone that lasts, and renews one that does not.
    assert secure.controller(settings, "broker-1").file("broker-1").read_bytes() == before
    life = secure.QUORUM_LIFE
    quorum.issue("broker-1", ["localhost"], datetime.now(UTC) - life * 0.7, life)
    assert certs("check").keys() == {"quorum/broker-1"}
    secure.controller(settings, "broker-1")
    assert run(["certs", "check", "--json"]) == 0


class Listener(threading.Thread):
    """Answers whoever shows a certificate that it trusts, as a broker does; so many times asked."""

    def __init__(self, certs: Folder, times: int) -> None:
        super().__init__()
        self._server, _ = contexts(certs, "broker-1")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._times = times
        self.place: tuple[str, int] = self._socket.getsockname()

    def run(self) -> None:
        with self._socket:
            for _ in range(self._times):
                plain, _ = self._socket.accept()
                with (
                    contextlib.suppress(OSError),
                    plain,
                    self._server.wrap_socket(plain, server_side=True) as tls,
                ):
                    assert len(tls.recv(64)) == 14
                    tls.sendall(b"an answer")

    def trust(self, certs: Folder) -> None:
        """Read the CAs again."""
        self._server.load_verify_locations(certs.bundle)


def test_who_trusts_a_new_ca_is_seen_before_it_signs(certs: Folder, now: datetime) -> None:
    certs.issue("broker-1", ["localhost"], now, HOUR)
    broker = Listener(certs, 3)
    broker.start()
    with certs.trial(now) as file:
        assert reload.accepts(*broker.place, file)
    certs.trust(now + timedelta(seconds=1), MONTH)
    with certs.trial(now) as file:
        assert not reload.accepts(*broker.place, file)
        broker.trust(certs)
        reload.wait_accepted({1: broker.place}, file)
    broker.join()
    assert not reload.accepts(*broker.place, certs.file("broker-1"))
    assert not file.exists()
    assert [issued.name for issued in certs.issued(now)] == ["broker-1"]
