"""`make secrets`: passwords and certificates for docker-compose.yml, in deploy/secrets.

- What is there stays: passwords for ever, certificates until half of their life is over. Run again,
  it adds what is missing and renews what is due.
- Each file can be read by its owner alone. Containers get passwords as variables, which Compose
  reads from here; keys of certificates are mounted, which is why ours run as the same user.
- Servers that read their files again have a folder of their own (servers/NAME) with a copy of their
  key. ClickHouse, Prometheus and Grafana are users of their own: a group may read it, to which
  nobody but that server's process is added.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sealtrail_local.certs.folder import Folder, read
from sealtrail_local.real import kafka, secure

STORE_USERS: Final = ("admin", "writer", "analyst", "auditor", "alerting", "dashboard")
BROKERS: Final = ("kafka-1", "kafka-2", "kafka-3")
STORES: Final = ("clickhouse-1", "clickhouse-2", "clickhouse-3")
# `registry` is the gate; `health` stands for every worker's probes.
FOLDERS: Final = (*STORES, "apicurio", "objects", "prometheus", "grafana", "health")
SERVERS: Final = (*BROKERS, "registry", *FOLDERS)
CLIENTS: Final = ("bootstrap", "operator", "worker", "orders", "billing")
CA_LIFE: Final = timedelta(days=365)
LIFE: Final = timedelta(days=30)
# For those who call make as root: containers are somebody else all the same.
NOBODY: Final = 10_001


def make(folder: Path, now: datetime) -> list[str]:
    """Make what is missing; the names of what was made.

    Args:
        folder: deploy/secrets.
        now: from when on certificates hold.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    passwords = {name: _password(folder, f"store-{name}") for name in STORE_USERS}
    objects, cluster, interserver, grafana = (
        _password(folder, name) for name in ("objects", "store-cluster", "store-servers", "grafana")
    )
    identity = _kept(folder / "kafka-cluster-id", kafka.new_cluster_id)
    files: dict[str, Mapping[str, str]] = {
        "clickhouse.env": {
            **{
                f"SEALTRAIL_{name.upper()}_SHA256": hashlib.sha256(word.encode()).hexdigest()
                for name, word in passwords.items()
            },
            "CLICKHOUSE_CLUSTER_SECRET": cluster,
            "CLICKHOUSE_INTERSERVER_PASSWORD": interserver,
            "COLD_S3_KEY": "sealtrail",
            "COLD_S3_SECRET": objects,
        },
        "objects.env": {"MINIO_ROOT_USER": "sealtrail", "MINIO_ROOT_PASSWORD": objects},
        "setup.env": {"SEALTRAIL_STORE_PASSWORD": passwords["admin"]},
        "worker.env": {"SEALTRAIL_STORE_PASSWORD": passwords["writer"]},
        "grafana.env": {
            "GF_SECURITY_ADMIN_PASSWORD": grafana,
            "STORE_DASHBOARD_PASSWORD": passwords["dashboard"],
        },
        "kafka.env": {"BROKER_CLUSTER": identity},
    }
    made = [name for name, values in files.items() if _env(folder / name, values)]
    certs = Folder(folder / "certs")
    made += _certificates(certs, (*SERVERS, *CLIENTS), now, CA_LIFE, LIFE)
    lives = secure.QUORUM_CA_LIFE, secure.QUORUM_LIFE
    made += [f"quorum/{name}" for name in _certificates(certs.quorum(), BROKERS, now, *lives)]
    for name in FOLDERS:
        _shared(folder / "servers" / name, certs, name)
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, _group(folder, path))
    return made


def _shared(place: Path, certs: Folder, name: str) -> None:
    """What a server reads, as a folder: a mounted file would stay the old one for it."""
    for path in (place.parent, place):
        path.mkdir(exist_ok=True)
        path.chmod(0o750)
    pair = read(certs.file(name))
    files = {"ca.pem": certs.bundle.read_bytes(), "server.pem": pair.key_pem + pair.certificate_pem}
    if name == "objects":
        # MinIO refuses a file that holds both.
        del files["server.pem"]
        files |= {"private.key": pair.key_pem, "public.crt": pair.certificate_pem}
    for file, data in ((place / name, data.decode("ascii")) for name, data in files.items()):
        if not file.exists() or file.read_text(encoding="ascii") != data:
            _write(file, data, 0o640)


def _group(folder: Path, path: Path) -> int:
    """The group of a file when root makes it: NOBODY's, to which docker-compose.yml adds users."""
    return NOBODY if folder / "servers" in (path, *path.parents) else 0


def _password(folder: Path, name: str) -> str:
    return _kept(folder / f"{name}.password", lambda: secrets.token_urlsafe(24))


def _certificates(
    certs: Folder, names: Sequence[str], now: datetime, ca_life: timedelta, life: timedelta
) -> list[str]:
    if not certs.bundle.exists():
        certs.init(now, ca_life)
    there = {issued.name: issued for issued in certs.issued(now)}
    made = []
    for name in names:
        found = there.get(name)
        if found is not None and not found.problem:
            left = found.certificate.not_valid_after_utc - now
            if left > life / 2:
                continue
        hosts = [name, "localhost", "127.0.0.1"] if name in SERVERS else []
        certs.issue(name, hosts, now, life)
        made.append(name)
    return made


def _kept(file: Path, make_it: Callable[[], str]) -> str:
    if not file.exists():
        _write(file, make_it())
    return file.read_text(encoding="ascii")


def _env(file: Path, values: Mapping[str, str]) -> bool:
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    if file.exists() and file.read_text(encoding="ascii") == text:
        return False
    _write(file, text)
    return True


def _write(file: Path, text: str, mode: int = 0o600) -> None:
    fresh = file.with_name(f"{file.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as content:
        content.write(text)
    # Before it has its name: a server may read it at once.
    if os.getuid() == 0:
        os.chown(fresh, NOBODY, NOBODY if mode & 0o070 else 0)
    fresh.chmod(mode)
    fresh.replace(file)


def main(arguments: Sequence[str]) -> None:
    """Make them in the folder that is named, and say which."""
    (folder,) = arguments
    made = make(Path(folder), datetime.now(UTC).replace(microsecond=0))
    sys.stdout.write(f"made in {folder}: {', '.join(made)}\n" if made else "all is there\n")


if __name__ == "__main__":
    main(sys.argv[1:])
