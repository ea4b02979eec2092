"""The store of a secured stack: TLS alone, whom clients believe, another certificate."""

import http.client
import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests import tls
from tests.conftest import Stack, real_variables

from sealtrail.errors import SealtrailError, UnavailableError
from sealtrail.settings import load
from sealtrail_audit import reader
from sealtrail_audit.settings import AuditSettings
from sealtrail_local import envfile, health, stack
from sealtrail_local.certs import reload
from sealtrail_local.certs.folder import Folder, now
from sealtrail_local.settings import LocalSettings
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store.opening import open_store
from sealtrail_processor.store.port import StoreUnavailable


@pytest.fixture(scope="module")
def secured() -> Iterator[Stack]:
    """The store of a stack of real servers with --secure, without those."""
    with tempfile.TemporaryDirectory(prefix="sealtrail-stack-") as name:
        folder = Path(name)
        variables = real_variables(folder) | {"SEALTRAIL_LOCAL_SECURE": "true"}
        settings = envfile.with_passwords(load(LocalSettings, variables))
        for place in ("run", "log"):
            (folder / place).mkdir()
        envfile.write(settings)
        try:
            stack.start(settings, "store")
            env = {"SEALTRAIL_STATE_DIR": name, **envfile.variables(settings)}
            yield Stack(env, folder)
        finally:
            stack.down(settings, print)


@pytest.fixture
def place(secured: Stack) -> tuple[str, int]:
    url = urlsplit(secured.env["SEALTRAIL_STORE_URL"])
    assert url.scheme == "https"
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


@pytest.fixture
def bundle(secured: Stack) -> Path:
    return Path(secured.env["SEALTRAIL_STORE_CA_FILE"])


def test_writers_and_readers_come_by_tls(secured: Stack) -> None:
    with closing(open_store(load(WorkerSettings, secured.env))) as store:
        assert store.query("SELECT currentUser() != ''") == [(1,)]
    with closing(reader.connect(load(AuditSettings, secured.env))) as asking:
        assert asking.answer("SELECT 1", {}, 0).rows == ((1,),)
    # `sealtrail local status`, whose settings need not name the CA.
    assert health.store(load(LocalSettings, secured.env)).startswith("ClickHouse ")


def test_what_local_env_says_is_enough(secured: Stack) -> None:
    alone = {"SEALTRAIL_STATE_DIR": str(secured.state_dir)}
    with closing(open_store(load(WorkerSettings, alone))) as store:
        assert store.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize("ca", ["another", "the system's"])
def test_a_store_that_no_trusted_ca_signed_gets_no_password(
    secured: Stack, ca: str, tmp_path: Path
) -> None:
    other = tls.authority(tmp_path / "other")
    theirs = {"SEALTRAIL_STORE_CA_FILE": str(other.bundle) if ca == "another" else ""}
    with (
        closing(open_store(load(WorkerSettings, secured.env | theirs))) as store,
        pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        store.query("SELECT 1")
    with pytest.raises(UnavailableError, match="does not answer"):
        reader.connect(load(AuditSettings, secured.env | theirs))


def test_who_speaks_plain_http_gets_nothing(secured: Stack, place: tuple[str, int]) -> None:
    tls.assert_no_http(place, "/ping")
    http_url = {"SEALTRAIL_STORE_URL": "http://{}:{}".format(*place), "SEALTRAIL_STORE_CA_FILE": ""}
    with (
        closing(open_store(load(WorkerSettings, secured.env | http_url))) as store,
        pytest.raises(StoreUnavailable),
    ):
        store.query("SELECT 1")
    with pytest.raises(SealtrailError):
        reader.connect(load(AuditSettings, secured.env | http_url))


@pytest.mark.parametrize(("version", "taken"), tls.VERSIONS)
def test_old_tls_is_refused(
    bundle: Path, place: tuple[str, int], version: ssl.TLSVersion, *, taken: bool
) -> None:
    context = tls.trusting(bundle, version)
    connection = http.client.HTTPSConnection(*place, context=context, timeout=tls.PATIENCE_S)
    with closing(connection):
        if not taken:
            with pytest.raises(OSError, match=tls.REFUSED):
                connection.connect()
            return
        connection.request("GET", "/ping")
        assert connection.getresponse().read() == b"Ok.\n"


def test_another_certificate_is_shown_and_connections_stay(
    secured: Stack, bundle: Path, place: tuple[str, int]
) -> None:
    certs = Folder(secured.state_dir / "certs")
    context = tls.trusting(bundle)
    connection = http.client.HTTPSConnection(*place, context=context, timeout=tls.PATIENCE_S)
    with closing(connection):
        connection.request("GET", "/ping")
        assert connection.getresponse().read() == b"Ok.\n"
        before = connection.sock
        [held] = [i for i in certs.issued(now()) if i.name == "store"]
        fresh = certs.renew(held, now())
        deadline = time.monotonic() + tls.PATIENCE_S
        while (seen := reload.shown(*place)) != fresh.certificate:
            assert seen == held.certificate
            assert time.monotonic() < deadline
            time.sleep(0.2)
        connection.request("GET", "/ping")
        assert connection.getresponse().read() == b"Ok.\n"
        assert connection.sock is before


def test_sql_does_not_reach_the_key(secured: Stack) -> None:
    file = secured.state_dir / "certs" / "issued" / "store.pem"
    assert os.access(file, os.R_OK)
    with pytest.raises(UnavailableError, match="Permission denied"):
        health.ask_store(load(LocalSettings, secured.env), f"SELECT file('{file}')", tls.PATIENCE_S)
