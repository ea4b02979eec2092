"""`sealtrail keys exposure`: what a thief may have signed, and what honest services built on it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.auditors import making
from tests.auditors.making import NOW, SECOND, Chain, Partition, Signer
from tests.contract.world import successor

from sealtrail.errors import ConfigurationError
from sealtrail.records import KeyRecord, Revocation, SignedRecord
from sealtrail_audit.exposure import Examiner, Exposure, Limits, window
from sealtrail_audit.graph import StoreSource
from sealtrail_audit.trust import load_trust
from sealtrail_processor.judging.model import Log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.auditors.conftest import Room
    from tests.conftest import Stack

LEAKED, OTHER = Signer(11), Signer(12)
LOG = Log("cluster", making.TOPIC, 0)
# Messages arrive every second from NOW on; the compromise lies before the second one, and is known
# after the fifth.
STOLEN, KNOWN = NOW + SECOND // 2, NOW + 4 * SECOND + SECOND // 2


def ended(reason: str = "COMPROMISED", time: int = STOLEN) -> KeyRecord:
    return successor(making.key_record(LEAKED, "leaky"), revocation=Revocation(time, reason))


def records() -> list[tuple[int, KeyRecord]]:
    """(arrival, record) beside those of the room."""
    early = NOW - SECOND
    return [
        (early, making.key_record(LEAKED, "leaky")),
        (early, making.key_record(OTHER, "leaky")),
        (KNOWN, ended()),
    ]


@pytest.fixture(scope="module")
def told(room: Room) -> Room:
    """One story: before the theft, after it, with a second key, and after it was known."""
    room.empty()
    known = making.directory()
    rows = []
    for number, (arrival, record) in enumerate(records()):
        value = SignedRecord.sign(record, [making.OPERATOR]).encode()
        known.add(value, arrival)
        key = record.fingerprint.hex()
        rows.append(("exposure", "provenance.keys", 0, number, arrival, key, value))
    names = ("log_id", "topic", "partition", "offset", "arrival", "record_key", "record_value")
    room.store.insert("key_records", names, rows, "exposure")

    leaky = Chain(31, producer="leaky", keys=(LEAKED,))
    both = Chain(32, producer="leaky", keys=(LEAKED, OTHER))
    honest = Chain(33)
    partition = Partition(LOG, known)
    before = leaky.batch(2, NOW)
    good = leaky.references[-1]
    stolen = leaky.batch(3, NOW + SECOND)
    bad = leaky.references[-1]
    cosigned = both.batch(4, NOW + 2 * SECOND)
    honest.references = [good]
    child_of_good = honest.batch(1, NOW + 3 * SECOND)
    honest.references = [bad]
    built_on_it = honest.batch(2, NOW + 4 * SECOND)
    refused = leaky.batch(1, NOW + 5 * SECOND)
    for value in (before, stolen, cosigned, child_of_good, built_on_it, refused):
        room.write([partition.flush((b"k", value))])
    return room


def report(room: Room, asked: int | None = None, limits: Limits | None = None) -> Exposure:
    directory = load_trust(room.reader, making.ROOT).directory
    record, window_ = window(directory, LEAKED.public_key.fingerprint, asked)
    source = StoreSource(room.reader)
    return Examiner(room.reader, source, directory, limits or Limits()).report(record, window_)


def test_what_arrived_before_the_theft_is_not_exposed(told: Room) -> None:
    found = report(told)
    counts = {name: (t["batches"], t["events"]) for name, t in found.totals.items()}
    assert counts == {"before": (1, 2), "exposed": (1, 3), "cosigned": (1, 4)}
    assert found.totals["before"]["last_arrival"] == NOW
    assert found.totals["exposed"]["first_arrival"] == NOW + SECOND
    assert (found.window.since, found.window.why, found.window.in_force) == (
        STOLEN,
        "COMPROMISED",
        KNOWN,
    )
    assert found.refused == {
        "messages": 1,
        "first_arrival": NOW + 5 * SECOND,
        "last_arrival": NOW + 5 * SECOND,
    }


def test_everything_downstream_is_named_and_nothing_else(told: Room) -> None:
    found = report(told)
    assert found.downstream == {"orders": 2}
    rows = told.reader.rows("SELECT event_id FROM committed_events WHERE producer = 'orders'")
    first, *later = sorted(bytes(row[0]) for row in rows)
    assert sorted(found.downstream_events) == later
    assert first not in found.downstream_events  # built on what is good
    assert found.downstream_complete
    assert sum(count for *_, count in found.entities) == 10  # two outputs of five events


def test_a_report_is_bounded_and_says_so(told: Room) -> None:
    found = report(told, limits=Limits(chains=1, entities=1, events=1))
    assert (len(found.chains), found.chains_left_out) == (1, 1)
    assert (len(found.downstream_events), found.downstream_complete) == (1, False)
    assert len(found.entities) == 1
    assert found.entities_left_out > 0


def test_one_may_ask_what_a_theft_would_expose(told: Room) -> None:
    always = report(told, asked=0)
    assert always.exposed == 5
    assert always.downstream == {"orders": 3}
    assert report(told, asked=NOW + 10**9).exposed == 0


def test_a_second_key_that_is_stolen_too_protects_nothing(told: Room) -> None:
    directory = load_trust(told.reader, making.ROOT).directory
    known = making.key_record(OTHER, "leaky")
    gone = successor(known, revocation=Revocation(NOW, "COMPROMISED"))
    directory.add(SignedRecord.sign(gone, [making.OPERATOR]).encode(), KNOWN)
    record, window_ = window(directory, LEAKED.public_key.fingerprint, None)
    source = StoreSource(told.reader)
    found = Examiner(told.reader, source, directory, Limits()).report(record, window_)
    assert (found.totals["exposed"]["events"], found.totals["cosigned"]["events"]) == (7, 0)


def test_a_key_that_was_not_declared_stolen_is_looked_at_whole(told: Room) -> None:
    directory = making.directory()
    record, window_ = window(directory, making.PRODUCER.public_key.fingerprint, None)
    assert (record.producer, window_.since, window_.why) == ("orders", 0, "whole life")
    with pytest.raises(ConfigurationError, match="no record of key"):
        window(directory, bytes(32), None)


def test_history_signed_by_the_key_stays_verifiable(told: Room) -> None:
    audit = told.audit()
    assert audit.clean
    assert audit.events == 12


def command(stack: Stack, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = tmp_path / "root.json"
    root.write_text(making.ROOT.to_json())
    start = "from sealtrail.cli import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", start, "keys", "exposure", *arguments],
        env=stack.env | {"SEALTRAIL_TRUST_ROOT": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_ends_with_one_when_anything_is_exposed(
    told: Room, stack: Stack, tmp_path: Path
) -> None:
    name = LEAKED.public_key.fingerprint.hex()
    done = command(stack, tmp_path, name, "--json")
    assert done.returncode == 1, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["producer"], said["end"], said["exposed"]["events"]) == ("leaky", "COMPROMISED", 3)
    assert said["downstream"]["producers"] == {"orders": 2}
    assert len(said["chains"]) == 2
    shown = command(stack, tmp_path, name)
    assert shown.returncode == 1
    assert "3 events of this key may be a thief's" in shown.stdout
    later = command(stack, tmp_path, name, "--since", "2100-01-01T00:00:00Z")
    assert (later.returncode, "nothing that was accepted" in later.stdout) == (0, True)
    for wrong in (("junk",), (name, "--since", "yesterday"), (name, "--since", "2026-11-25")):
        assert command(stack, tmp_path, *wrong).returncode == 2
    assert command(stack, tmp_path, "00" * 32).returncode == 3
