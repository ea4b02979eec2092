"""Back up, destroy, restore, and prove everything anew; what is missing then is named.

A stack of its own: databases are dropped, and backups lie beside it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.auditors.conftest import Room, opened
from tests.auditors.making import TOPIC, Chain, Partition
from tests.conftest import Stack, running_stack

from sealtrail.cli.main import run
from sealtrail_processor.judging.model import Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack of this file's own."""
    with running_stack() as running:
        yield running


@pytest.fixture(scope="module")
def room(stack: Stack) -> Iterator[Room]:
    """Its store."""
    with opened(stack) as room:
        yield room


@pytest.fixture
def world(room: Room, environment: None) -> Partition:
    """Two chains in two partitions, and the environment to ask for them."""
    room.empty()
    part, chain = Partition(Log(f"log-{room.number}", TOPIC, 0)), Chain(room.number)
    flushes = [
        part.flush(*((chain.chain_id, chain.batch(3, part.arrival)) for _ in range(2)))
        for _ in range(3)
    ]
    room.write([*flushes, part.flush((b"x", b"garbage"))])
    return part


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run((*arguments, "--json"))
    out, err = capsys.readouterr()
    return code, json.loads(out) if out.strip() else err


def destroy(room: Room) -> None:
    for database in ("provenance", "sealtrail"):
        room.store.command(f"DROP DATABASE {database} SYNC")
    room.store.command("CREATE DATABASE sealtrail")


def test_back_up_destroy_restore_and_verify_every_proof(
    world: Partition, room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "manifest.json"
    code, said = told(capsys, "audit", "manifest", str(file))
    assert (code, said["chains"]) == (0, 1)
    chain = Chain(room.number + 500)
    # Written between manifest and backup: in the copy, and no difference.
    room.write([world.flush((chain.chain_id, chain.batch(2, world.arrival)))])
    code, parts = told(capsys, "store", "backup", "night")
    assert code == 0, parts
    assert [part["name"].split("/")[-1].strip("')") for part in parts] == ["commits", "rows"]
    again, error = told(capsys, "store", "backup", "night")
    assert (again, "night" in error) == (3, True)
    full, error = told(capsys, "store", "restore", "night")
    assert full in {2, 3}
    assert "rows" in error
    destroy(room)
    assert told(capsys, "store", "restore", "night")[0] == 0
    code, found = told(capsys, "audit", "restore", str(file))
    assert (code, found["differences"]) == (0, [])
    assert found["audit"]["clean"]
    assert (found["audit"]["events"], found["audit"]["chains"]) == (20, 2)
    # It goes on as a worker would: behind the restored commits.
    room.write([world.flush((chain.chain_id, chain.batch(2, world.arrival)))])
    assert told(capsys, "audit", "store")[0] == 0
    assert told(capsys, "audit", "restore", str(file))[0] == 0


def test_a_store_restored_from_yesterday_is_found(
    world: Partition, room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert told(capsys, "store", "backup", "yesterday")[0] == 0
    chain = Chain(room.number + 700)
    room.write([world.flush((chain.chain_id, chain.batch(2, world.arrival)))])
    file = tmp_path / "manifest.json"
    assert told(capsys, "audit", "manifest", str(file))[0] == 0
    destroy(room)
    assert told(capsys, "store", "restore", "yesterday")[0] == 0
    # In itself it is consistent: the audit alone sees nothing.
    assert told(capsys, "audit", "store")[0] == 0
    code, found = told(capsys, "audit", "restore", str(file))
    assert code == 1
    where = [difference["where"] for difference in found["differences"]]
    assert "committed offset" in where[0]
    assert any(chain.chain_id.hex() in place for place in where)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("ALTER TABLE sealtrail.events DELETE WHERE seq = 2", "events, "),
        ("ALTER TABLE sealtrail.events UPDATE activity = 'other' WHERE seq = 2", "checksum"),
        ("ALTER TABLE sealtrail.key_records DELETE WHERE offset = 0", "key records"),
        ("ALTER TABLE sealtrail.batches DELETE WHERE batch_seq = 5", "chain "),
    ],
)
def test_what_a_restored_store_lacks_is_named(
    world: Partition,
    room: Room,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sql: str,
    named: str,
):
    file = tmp_path / "manifest.json"
    assert told(capsys, "audit", "manifest", str(file))[0] == 0
    room.change(sql)
    code, found = told(capsys, "audit", "restore", str(file))
    assert code == 1
    assert any(named in difference["where"] for difference in found["differences"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', "{" * 100_000])
def test_a_file_that_is_no_manifest_is_refused(
    world: Partition, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
):
    file = tmp_path / "manifest.json"
    file.write_text(text)
    code, error = told(capsys, "audit", "restore", str(file))
    assert code in {2, 3}
    assert "manifest" in error


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x'y", "." * 101])
def test_a_strange_name_is_refused(world: Partition, capsys: pytest.CaptureFixture[str], name: str):
    code, error = told(capsys, "store", "backup", name)
    assert code in {2, 3}
    assert "no name for a backup" in error
