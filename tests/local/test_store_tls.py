"""The store behind TLS: who writes and who asks believes the CA that is named, and no other."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.conftest import Stack

from sealtrail.errors import UnavailableError
from sealtrail.settings import load
from sealtrail_audit import reader
from sealtrail_audit.settings import AuditSettings
from sealtrail_local.certs.folder import Folder
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store.client import StoreUnavailable
from sealtrail_processor.store.opening import open_store

DAY = timedelta(days=1)


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def relay(raw: socket.socket, context: ssl.SSLContext, store: tuple[str, int]) -> None:
    """One connection, its TLS taken off."""
    with (
        raw,
        suppress(OSError),
        context.wrap_socket(raw, server_side=True) as client,
        socket.create_connection(store) as server,
    ):
        back = threading.Thread(target=copy, args=(server, client))
        back.start()
        copy(client, server)
        back.join()


def serve(listener: socket.socket, context: ssl.SSLContext, store: tuple[str, int]) -> None:
    """As a proxy before ClickHouse, until the listener is closed."""
    threads = []
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            break
        threads.append(threading.Thread(target=relay, args=(raw, context, store)))
        threads[-1].start()
    for thread in threads:
        thread.join()


@pytest.fixture
def certs(tmp_path: Path) -> Folder:
    found, now = Folder(tmp_path / "certs"), datetime.now(UTC).replace(microsecond=0)
    found.init(now, DAY)
    found.issue("store", ["127.0.0.1"], now, DAY)
    return found


@pytest.fixture
def secured(stack: Stack, certs: Folder) -> Iterator[dict[str, str]]:
    """Settings of the embedded store behind TLS."""
    url = urlsplit(stack.env["SEALTRAIL_STORE_URL"])
    assert url.hostname is not None
    assert url.port is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certs.file("store"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, context, (url.hostname, url.port)))
        thread.start()
        port = listener.getsockname()[1]
        yield stack.env | {
            "SEALTRAIL_STORE_URL": f"https://127.0.0.1:{port}",
            "SEALTRAIL_STORE_CA_FILE": str(certs.bundle),
        }
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_writers_and_readers_come_by_tls(secured: dict[str, str]) -> None:
    with closing(open_store(load(WorkerSettings, secured))) as store:
        assert store.query("SELECT currentUser() != ''") == [(1,)]
    with closing(reader.connect(load(AuditSettings, secured))) as asking:
        assert asking.answer("SELECT 1", {}, 0).rows == ((1,),)


@pytest.mark.parametrize("ca", ["another", "the system's"])
def test_a_store_that_no_trusted_ca_signed_gets_no_password(
    secured: dict[str, str], ca: str, tmp_path: Path
) -> None:
    other = Folder(tmp_path / "other")
    other.init(datetime.now(UTC).replace(microsecond=0), DAY)
    theirs = {"SEALTRAIL_STORE_CA_FILE": str(other.bundle) if ca == "another" else ""}
    with (
        closing(open_store(load(WorkerSettings, secured | theirs))) as store,
        pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        store.query("SELECT 1")
    with pytest.raises(UnavailableError, match="does not answer"):
        reader.connect(load(AuditSettings, secured | theirs))
