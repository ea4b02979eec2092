"""Passwords, keys and certificates of the containers: how they are made, and who gets which."""

import os
import stat
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.local.compose.reading import NOW, mounts

from sealtrail_local import compose
from sealtrail_local.certs.folder import Folder, read
from sealtrail_local.certs.x509 import hosts_of


def test_the_operators_key_is_in_one_container(config: dict[str, Any]):
    holders = {
        name
        for name, service in config["services"].items()
        if "operator" in mounts(service).values()
    }
    assert holders == {"setup"}


def test_each_has_the_certificates_of_the_names_that_it_comes_under(config: dict[str, Any]):
    mounted = {name: mounts(service).keys() for name, service in config["services"].items()}
    for name, identities in (
        ("setup", ["bootstrap"]),
        ("schemas", ["operator"]),
        ("worker", ["worker"]),
        ("producer", ["orders", "billing"]),
    ):
        wanted = {f"/certs/{identity}.pem" for identity in (*identities, "ca")}
        assert {m for m in mounted[name] if m.startswith("/certs/")} == wanted


# Where each server finds its folder, and under which name it is asked for.
FOLDERS = {
    **{name: ("/certs", name) for name in compose.STORES},
    "apicurio": ("/certs", "apicurio"),
    "objects": ("/certs", "objects"),
    "prometheus": ("/certs", "prometheus"),
    "grafana": ("/certs", "grafana"),
    "worker": ("/health", "health"),
}


def test_each_server_reads_its_own_key_and_nobody_elses(config: dict[str, Any], checkout: Path):
    group = compose.NOBODY if os.getuid() == 0 else os.getgid()
    assert {name for _, name in FOLDERS.values()} == {*compose.FOLDERS}
    ours = checkout / "deploy/secrets/servers"
    for name, service in config["services"].items():
        sources = {Path(source) for source in mounts(service).values() if "/servers" in source}
        if name not in FOLDERS:
            assert not sources, name
            continue
        target, host = FOLDERS[name]
        folder = Path(mounts(service)[target])
        assert {folder} == sources == {ours / host}
        # Whoever is neither root nor who called make gets in by the group.
        if service["user"].split(":")[0] != "10001":
            assert [str(found) for found in service["group_add"]] == ["10001"], name
        keys = {"private.key", "public.crt"} if name == "objects" else {"server.pem"}
        assert {file.name for file in folder.iterdir()} == {"ca.pem", *keys}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750
        for file in (folder, *folder.iterdir()):
            assert file.stat().st_gid == group, file
        bundle = (checkout / "deploy/secrets/certs/ca.pem").read_bytes()
        assert (folder / "ca.pem").read_bytes() == bundle
        text = b"".join((folder / key).read_bytes() for key in sorted(keys))
        pair = read(checkout / f"deploy/secrets/certs/issued/{host}.pem")
        assert text == pair.key_pem + pair.certificate_pem
        assert {host, "localhost", "127.0.0.1"} <= set(hosts_of(pair.certificate))


def test_secrets_are_private_random_and_stay(tmp_path: Path):
    folder = tmp_path / "secrets"
    assert "worker.env" in compose.make(folder, NOW)
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    for file in before:
        if file.parent.parent.name == "servers":
            assert stat.S_IMODE(file.stat().st_mode) == 0o640, file
        elif file.name != "ca.pem":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    words = [f.read_text() for f in folder.glob("*.password")]
    assert len(set(words)) == len(words) >= 9
    assert min(map(len, words)) >= 32
    assert compose.make(folder, NOW) == []
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    other = tmp_path / "other"
    compose.make(other, NOW)
    assert not set(words) & {f.read_text() for f in other.glob("*.password")}


def test_the_store_knows_passwords_by_their_hash_alone(tmp_path: Path):
    compose.make(tmp_path, NOW)
    text = (tmp_path / "clickhouse.env").read_text()
    for name in compose.STORE_USERS:
        word = (tmp_path / f"store-{name}.password").read_text()
        assert f"SEALTRAIL_{name.upper()}_SHA256={sha256(word.encode()).hexdigest()}\n" in text
        assert word not in text


def test_certificates_are_renewed_when_half_of_their_life_is_over(tmp_path: Path):
    compose.make(tmp_path, NOW)
    names = {issued.name for issued in Folder(tmp_path / "certs").issued(NOW)}
    assert names == {*compose.SERVERS, *compose.CLIENTS}
    assert compose.make(tmp_path, NOW + timedelta(days=14)) == []
    assert set(compose.make(tmp_path, NOW + timedelta(days=16))) == names
    for name in compose.FOLDERS:
        files = ("private.key", "public.crt") if name == "objects" else ("server.pem",)
        copy = b"".join((tmp_path / "servers" / name / file).read_bytes() for file in files)
        assert copy == Folder(tmp_path / "certs").file(name).read_bytes()
