"""The engine itself reads the configuration files that a ClickHouse server gets."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from tests.local.serving import Answering, serving

from sealtrail import resources
from sealtrail_local.certs.folder import Folder

MAIN = """<clickhouse><users_config>{users}</users_config></clickhouse>"""
# As a server ships it: a user of its own, into which users.d is merged.
USERS = """<clickhouse><profiles><default/></profiles>
<quotas><default/></quotas><users><default><password></password>
<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<access_management>1</access_management></default></users></clickhouse>"""
QUESTIONS = {
    "users": "SELECT name, auth_type FROM system.users WHERE storage = 'users_xml'",
    "limits": "SELECT setting_name, value, min, max, toString(writability) "
    "FROM system.settings_profile_elements WHERE profile_name = 'sealtrail_person' "
    "AND setting_name != '' ORDER BY ALL",
    "policies": "SELECT policy_name, volume_name FROM system.storage_policies ORDER BY ALL",
    "filters": "SELECT select_filter FROM system.row_policies "
    "WHERE table = 'edges_by_child' AND has(apply_to_list, 'analyst')",
}
# tests/processors/store/test_access.py tries what each user may do.
NAMES = ("sealtrail_admin", "sealtrail_writer", "analyst", "auditor", "alerting", "dashboard")
SCRIPT = """
import chdb, json, sys
connection = chdb.connect(sys.argv[1])
questions = json.loads(sys.argv[2])
answers = {
    name: [list(row.values()) for row in json.loads(
        connection.query(sql, "JSON").bytes())["data"]]
    for name, sql in questions.items()
}
print(json.dumps(answers))
connection.close()
"""


def answers(folder: Path) -> dict[str, list[list[str]]]:
    source = resources.path("clickhouse")
    for name in ("config.d", "users.d", "tmp"):
        (folder / name).mkdir()
    (folder / "config.xml").write_text(MAIN.format(users=folder / "users.xml"))
    (folder / "users.xml").write_text(USERS)
    shutil.copy(source / "storage.xml", folder / "config.d")
    shutil.copy(source / "users.xml", folder / "users.d" / "sealtrail.xml")
    environment = os.environ | {
        "TMPDIR": str(folder / "tmp"),
        "SEALTRAIL_HOT_PATH": f"{folder}/hot/",
        "SEALTRAIL_COLD_PATH": f"{folder}/cold/",
        "SEALTRAIL_BACKUP_PATH": f"{folder}/backups/",
    }
    for name in NAMES:
        variable = f"SEALTRAIL_{name.removeprefix('sealtrail_').upper()}_SHA256"
        environment[variable] = sha256(name.encode()).hexdigest()
    target = f"{folder}/db?config-file={folder}/config.xml"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, target, json.dumps(QUESTIONS)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[str]]] = json.loads(done.stdout)
    return found


def test_server_files(tmp_path: Path):
    found = answers(tmp_path)
    users = {name: str(kind) for name, kind in found["users"]}
    assert set(NAMES) <= set(users)
    assert all("sha256_password" in users[name] for name in NAMES)
    limits = {row[0]: row[1:] for row in found["limits"]}
    assert limits["readonly"][0] == "2"
    assert limits["max_execution_time"][:3] == ["30", "1", "30"]
    assert found["filters"] == [["tenant IN ('default')"]]
    assert ["hot_cold", "cold"] in found["policies"]
    assert ["hot_cold", "hot"] in found["policies"]


# -- TLS -------------------------------------------------------------------------------------

ASK = """
import chdb, sys
connection = chdb.connect(sys.argv[1])
print(connection.query(sys.argv[2], "CSV"), end="")
connection.close()
"""


class Seven(Answering):
    """Another server of the cluster, as far as a client sees it."""

    body = b"7\n"


def certificates(root: Path) -> Folder:
    found, now = Folder(root), datetime.now(UTC).replace(microsecond=0)
    found.init(now, timedelta(days=1))
    for name, hosts in (("store", ["127.0.0.1"]), ("elsewhere", ["other"]), ("worker", [])):
        found.issue(name, hosts, now, timedelta(days=1))
    return found


URL = "url('https://127.0.0.1:{}/', CSV, 'x Int8') SETTINGS http_max_tries = 1"
S3 = (
    "s3('https://127.0.0.1:{}/sealtrail/part', 'k', 's', CSV, 'x Int8')"
    " SETTINGS s3_retry_attempts = 1"
)


@pytest.mark.parametrize("source", [URL, S3], ids=["url", "s3"])
@pytest.mark.parametrize(
    ("shown", "believed", "problem"),
    [
        ("store", "ours", ""),
        ("store", "another", "certificate verify failed"),
        ("worker", "ours", "certificate verify failed"),
        ("elsewhere", "ours", "Unacceptable certificate"),
    ],
)
def test_a_store_believes_servers_of_its_ca_by_their_name(
    shown: str, believed: str, problem: str, source: str, tmp_path: Path
) -> None:
    cas = {name: certificates(tmp_path / name) for name in ("ours", "another")}
    text = (resources.path("clickhouse") / "server" / "tls.xml").read_text()
    assert "/certs/server.pem" in text
    text = text.replace("/certs/ca.pem", str(cas[believed].bundle))
    text = text.replace("/certs/server.pem", str(cas["ours"].file("store")))
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "tls.xml").write_text(text)
    (tmp_path / "config.xml").write_text("<clickhouse/>")
    with serving(Seven, cas["ours"].file(shown)) as port:
        sql = f"SELECT * FROM {source.format(port)}"
        target = f"{tmp_path}/db?config-file={tmp_path}/config.xml"
        done = subprocess.run(
            [sys.executable, "-c", ASK, target, sql],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if not problem:
        assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    else:
        assert done.returncode != 0
        assert problem in done.stderr
