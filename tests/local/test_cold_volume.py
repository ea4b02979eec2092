"""The volume `cold` in an S3 under TLS, with a ClickHouse server's files and its engine.

The S3 is one of this file's: MinIO does not run where this is tested (docs/compose.md).
"""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from tests.local.serving import HOST, Answering, serving

from sealtrail import resources
from sealtrail_local.certs.folder import Folder

DAY = timedelta(days=1)
BUCKET = "/sealtrail/clickhouse-1/"
STATEMENTS = (
    "CREATE DATABASE d",
    "CREATE TABLE d.t (x Int64) ENGINE = MergeTree ORDER BY x SETTINGS storage_policy = 'hot_cold'",
    "INSERT INTO d.t SELECT number FROM numbers(100000)",
    "ALTER TABLE d.t MOVE PARTITION tuple() TO VOLUME 'cold'",
    "SELECT sum(x), (SELECT disk_name FROM system.parts WHERE table = 't' AND active) FROM d.t",
    "DROP TABLE d.t SYNC",
)
SCRIPT = """
import chdb, json, sys
connection = chdb.connect(sys.argv[1])
print(json.dumps([str(connection.query(sql, "CSV")) for sql in json.loads(sys.argv[2])]))
connection.close()
"""


class S3(Answering):
    """Objects, in memory: what a disk asks for (PutObject, GetObject, DeleteObjects)."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, bytes]] = {}
    written: ClassVar[set[str]] = set()

    @property
    def name(self) -> str:
        """Of the object."""
        return unquote(urlsplit(self.path).path)

    @property
    def sent(self) -> bytes:
        """What came with the request."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_PUT(self) -> None:  # noqa: N802 - as the base class calls it
        self.objects[self.name] = self.sent
        self.written.add(self.name)
        self.answer(200, b"", ETag='"1"')

    def do_GET(self) -> None:  # noqa: N802 - likewise
        data = self.objects.get(self.name)
        if data is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.answer(200, data, ETag='"1"')
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        said = f"bytes {first}-{last}/{len(data)}"
        self.answer(206, data[first : last + 1], ETag='"1"', Content_Range=said)

    do_HEAD = do_GET  # noqa: N815 - likewise

    def do_DELETE(self) -> None:  # noqa: N802 - likewise
        self.objects.pop(self.name, None)
        self.answer(204, b"")

    def do_POST(self) -> None:  # noqa: N802 - likewise
        for key in re.findall(r"<Key>(.*?)</Key>", self.sent.decode()):
            self.objects.pop(f"/sealtrail/{key}", None)
        self.answer(200, b"<DeleteResult/>")


def test_parts_move_to_an_s3_that_our_ca_signed(tmp_path: Path) -> None:
    certs, now = Folder(tmp_path / "certs"), datetime.now(UTC).replace(microsecond=0)
    certs.init(now, DAY)
    certificate = certs.issue("objects", [HOST], now, DAY).file
    source, ours = resources.path("clickhouse"), tmp_path / "config.d"
    ours.mkdir()
    (tmp_path / "config.xml").write_text("<clickhouse/>")
    # In the order of docker-compose.yml.
    for number, name in enumerate(("storage.xml", "server/cold-s3.xml", "server/tls.xml")):
        text = (source / name).read_text().replace("/var/lib/clickhouse/", f"{tmp_path}/")
        text = text.replace("/certs/ca.pem", str(certs.bundle))
        text = text.replace("/certs/server.pem", str(certificate))
        (ours / f"{number}.xml").write_text(text)
    with serving(S3, certificate) as port:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                SCRIPT,
                f"{tmp_path}/db?config-file={tmp_path}/config.xml",
                json.dumps(STATEMENTS),
            ],
            env=os.environ
            | {
                "SEALTRAIL_HOT_PATH": f"{tmp_path}/hot/",
                "SEALTRAIL_COLD_PATH": f"{tmp_path}/cold/",
                "SEALTRAIL_BACKUP_PATH": f"{tmp_path}/backups/",
                "COLD_S3_URL": f"https://{HOST}:{port}{BUCKET}",
                "COLD_S3_KEY": "sealtrail",
                "COLD_S3_SECRET": "secret",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[4] == '4999950000,"cold"\n'
    assert len(S3.written) > 5
    assert all(name.startswith(BUCKET) for name in S3.written)
    # Dropped with the table.
    assert S3.objects == {}
