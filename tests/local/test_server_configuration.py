"""The engine itself reads the configuration files that a ClickHouse server gets."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from sealtrail import resources

MAIN = """<clickhouse><users_config>{users}</users_config></clickhouse>"""
# As a server ships it: a user of its own, into which users.d is merged.
USERS = """<clickhouse><quotas><default/></quotas><users><default><password></password>
<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<access_management>1</access_management></default></users></clickhouse>"""
QUESTIONS = {
    "users": "SELECT name, auth_type FROM system.users WHERE storage = 'users_xml'",
    "roles": "SELECT name FROM system.roles ORDER BY name",
    "granted": "SELECT user_name, granted_role_name FROM system.role_grants ORDER BY ALL",
    "analyst": "SELECT access_type, database FROM system.grants "
    "WHERE role_name = 'sealtrail_reader' ORDER BY ALL",
    "limits": "SELECT setting_name, value, min, max, toString(writability) "
    "FROM system.settings_profile_elements WHERE profile_name = 'sealtrail_analyst' "
    "AND setting_name != '' ORDER BY ALL",
    "policies": "SELECT policy_name, volume_name FROM system.storage_policies ORDER BY ALL",
    "async": "SELECT value FROM system.settings WHERE name = 'async_insert'",
}
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
    shutil.copy(source / "roles.xml", folder / "users.d")
    shutil.copy(source / "users.xml", folder / "users.d" / "sealtrail.xml")
    environment = os.environ | {
        "TMPDIR": str(folder / "tmp"),
        "SEALTRAIL_HOT_PATH": f"{folder}/hot/",
        "SEALTRAIL_COLD_PATH": f"{folder}/cold/",
        "SEALTRAIL_WRITER_SHA256": sha256(b"writer").hexdigest(),
        "SEALTRAIL_ANALYST_SHA256": sha256(b"analyst").hexdigest(),
    }
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
    assert {"sealtrail_writer", "analyst"} <= set(users)
    assert "sha256_password" in users["analyst"]
    assert found["roles"] == [["sealtrail_reader"], ["sealtrail_writer"]]
    assert found["granted"] == [
        ["analyst", "sealtrail_reader"],
        ["sealtrail_writer", "sealtrail_reader"],
        ["sealtrail_writer", "sealtrail_writer"],
    ]
    assert {kind for kind, _ in found["analyst"]} <= {
        "SELECT", "SHOW", "SHOW DATABASES", "SHOW TABLES", "SHOW COLUMNS", "SHOW DICTIONARIES",
    }  # fmt: skip
    limits = {row[0]: row[1:] for row in found["limits"]}
    assert limits["readonly"][0] == "2"
    assert limits["max_execution_time"][:3] == ["30", "1", "30"]
    assert ["hot_cold", "cold"] in found["policies"]
    assert ["hot_cold", "hot"] in found["policies"]
    assert found["async"] == [["0"]]
