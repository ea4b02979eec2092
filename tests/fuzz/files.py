"""Parsers of files that a user names or a failing disk may have changed; see targets.py."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.contract import world as w

from sealtrail import resources
from sealtrail.errors import UnavailableError
from sealtrail_audit.conservation import progress
from sealtrail_processor.kafka import access as kafka_access
from sealtrail_processor.kafka import topics
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import access as store_access
from sealtrail_producer.importers import events, git
from sealtrail_producer.importers.checkpoint import MAGIC, Checkpoint
from sealtrail_producer.importers.sample import FORMAT, SampleFile
from sealtrail_producer.ports import Message
from sealtrail_producer.registration import Registration, SchemaIds
from sealtrail_producer.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sealtrail_producer.importers.commits import Commit
    from sealtrail_producer.ports import Registry

SPOOL_BYTES = 1 << 20
ACKED_BYTES = 24


def commit_graph(data: bytes) -> None:
    """A commit graph in a file that a user names, and its commits as events."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.jsonl"
        file.write_bytes(data)
        graph = SampleFile(file, 100)
        _told(graph.commits(), graph.repository)


def git_output(data: bytes) -> None:
    """What git says of a repository whose commits anybody may have written."""
    _told(git.parse(git.tokens(io.BytesIO(data))), "owner/name")


def _told(commits: Iterable[Commit], repository: str) -> None:
    for commit in commits:
        for draft in events.drafts(commit, repository, str):
            assert draft.size > 0


def import_checkpoint(data: bytes) -> None:
    """What an import remembers of what it has told."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "refs"
        file.write_bytes(data)
        with Checkpoint(file) as known:
            known.tail(lambda _: False)


def schema_ids(data: bytes) -> None:
    """The registry's ids as a producer remembers them, while no registry answers."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ids.json"
        file.write_bytes(data)
        known = Registration(_nobody, w.TOPIC, file, "a registry")
        if known.ids is not None:
            known._write(known.ids)
        known.ensure()


def _nobody() -> Registry:
    raise UnavailableError("away")


def spool_folder(data: bytes) -> None:
    """The files of a spool: its acknowledged position, then a segment."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "acked").write_bytes(data[:ACKED_BYTES])
        (Path(folder) / f"{0:020d}.seg").write_bytes(data[ACKED_BYTES:])
        spool = _spool(Path(folder))
        index = 0
        while (record := spool.get(index)) is not None:
            index = record.index + 1
        spool.append(Message("topic", 0, b"key", (), b"value"))
        spool.close()


def _spool(folder: Path) -> Spool:
    return Spool(folder, max_bytes=SPOOL_BYTES, fsync=lambda _: None)


def state_file(data: bytes) -> None:
    """The state of `audit conservation`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state"
        file.write_bytes(data)
        progress.read(file)


def operators_file(data: bytes) -> None:
    """Topics and who may do what, as operators write them: which one, then the text."""
    text = data[1:].decode("utf-8", "replace")
    kind = data[0] % 3 if data else 0
    if kind == 0:
        topics.read(text, WorkerSettings())
    elif kind == 1:
        kafka_access.read(text, WorkerSettings())
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "access.yaml"
            file.write_text(text, encoding="utf-8")
            store_access.load(file)


ALL = (
    *(commit_graph, git_output, import_checkpoint, schema_ids, spool_folder),
    *(operators_file, state_file),
)


def seeds() -> dict[str, list[bytes]]:
    """Good inputs."""
    one, other = "1f" * 20, "e9" * 20
    header = {"format": FORMAT, "repository": "o/r", "head": one, "commits": 1}
    commit = {
        "id": one,
        "parents": [other],
        "author": "a" * 16,
        "committer": "b" * 16,
        "author_time": 1,
        "commit_time": 2,
        "changes": [["store.go", [None], other]],
    }
    with tempfile.TemporaryDirectory() as folder:
        spool = _spool(Path(folder))
        for value in (b"one", b"two"):
            spool.append(Message("topic", 1, b"key", (("name", b"text"),), value))
        spool.ack(0)
        spool.close()
        (segment,) = Path(folder).glob("*.seg")
        spooled = (Path(folder) / "acked").read_bytes() + segment.read_bytes()
        ids = Path(folder) / "ids.json"
        known = Registration(_nobody, w.TOPIC, ids, "a registry")
        known._write(SchemaIds(1, 2))
        remembered = ids.read_bytes()
    change = f":100644 100644 {one} {other} M".encode()
    said = (b"\x01" + one.encode(), other.encode(), b"a@b", b"c@d", b"1", b"2\n", change, b"a.go")
    written = (
        resources.path("kafka", "topics.yaml"),
        resources.path("kafka", "access.yaml"),
        resources.path("clickhouse", "access.yaml"),
    )
    return {
        "commit_graph": [json.dumps(header).encode() + b"\n" + json.dumps(commit).encode()],
        "git_output": [b"\0".join(said)],
        "import_checkpoint": [MAGIC],
        "state_file": [b'{"version":1,"partitions":[]}'],
        "schema_ids": [remembered],
        "spool_folder": [spooled],
        "operators_file": [bytes([n]) + file.read_bytes() for n, file in enumerate(written)],
    }
