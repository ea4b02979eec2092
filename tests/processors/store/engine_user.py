"""Run statements on the engine as one user of a server's users.xml; a process of its own.

Usage: engine_user.py FOLDER USER   (statements as JSON on standard input; answers as JSON)

The engine in a library knows one user, `default`: whoever is to be tried is given that name, with
all that users.xml says of him but the password.
"""

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

MAIN = """<clickhouse><users_config>{folder}/users.xml</users_config>
<tmp_path>{folder}/tmp/</tmp_path>
<users_without_row_policies_can_read_rows>0</users_without_row_policies_can_read_rows></clickhouse>"""


def as_default(users: str, name: str) -> str:
    """users.xml in which one user is called default, and no other is left."""
    root = ET.fromstring(users)  # noqa: S314 - ours
    listed = root.find("users")
    for user in list(listed):
        listed.remove(user)
        if user.tag == name:
            chosen = user
    chosen.tag = "default"
    for password in chosen.findall("password_sha256_hex"):
        chosen.remove(password)
    ET.SubElement(chosen, "password")
    listed.append(chosen)
    ET.SubElement(root.find("profiles"), "default")
    ET.SubElement(root.find("quotas"), "default")
    return ET.tostring(root, encoding="unicode")


def main(folder: Path, user: str) -> None:
    import chdb

    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "users.xml").write_text(as_default((folder / "server.xml").read_text(), user))
    (folder / "config.xml").write_text(MAIN.format(folder=folder))
    os.environ["TMPDIR"] = str(folder / "tmp")
    connection = chdb.connect(f"{folder}/db?config-file={folder}/config.xml")
    answers = []
    for statement in json.load(sys.stdin):
        try:
            data = connection.query(statement, "JSONCompactEachRow").bytes().decode()
            rows = [json.loads(line) for line in data.splitlines()]
            answers.append({"rows": rows, "error": ""})
        except RuntimeError as error:
            answers.append({"rows": [], "error": str(error)[:300]})
    connection.close()
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
