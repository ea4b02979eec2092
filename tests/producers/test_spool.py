"""The spool against a model, with a crash at any byte; and the single rules."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sealtrail_producer import spool_record
from sealtrail_producer.errors import SpoolDiskError, SpoolFullError
from sealtrail_producer.ports import Message
from sealtrail_producer.spool import Spool

BOUND = 6000
SEGMENT = 700


def message(number: int, size: int = 40) -> Message:
    headers = (("content-type", b"x"), ("ä", b""))
    return Message("topic", number % 4, b"k" * 32, headers, number.to_bytes(4, "big") * (size // 4))


def no_fsync(descriptor: int) -> None:
    """Hypothesis makes thousands of syncs; what is synced is modelled instead."""


class SpoolMachine(RuleBasedStateMachine):
    """Appends, acknowledges, reopens, crashes: nothing that was synced is lost or reordered."""

    @initialize(policy=st.sampled_from(["always", "interval", "never"]))
    def begin(self, policy: Any):
        self.folder = Path(tempfile.mkdtemp(prefix="producers-spool-"))
        self.policy = policy
        self.model: dict[int, Message] = {}
        self.synced = -1
        self.acked = -1
        self.spool = self.open()

    def open(self) -> Spool:
        return Spool(
            self.folder,
            max_bytes=BOUND,
            policy=self.policy,
            segment_bytes=SEGMENT,
            fsync=no_fsync,
        )

    @rule(size=st.integers(0, 900), sync=st.booleans())
    def append(self, size: int, sync: bool):
        item = message(self.spool.next_index, size)
        before = self.spool.pending_bytes
        try:
            record = self.spool.append(item, sync=sync)
        except SpoolFullError:
            assert before > 0
            assert before + size + 100 > BOUND - 200
            return
        assert record.durable == (sync or self.policy == "always")
        self.model[record.index] = item
        if record.durable:
            self.synced = record.index

    @rule()
    def sync(self):
        self.spool.sync()
        self.synced = self.spool.next_index - 1

    @precondition(lambda self: self.acked + 1 < self.spool.next_index)
    @rule(data=st.data())
    def ack(self, data: st.DataObject):
        self.acked = data.draw(st.integers(self.acked + 1, self.spool.next_index - 1))
        self.spool.ack(self.acked)

    @rule()
    def reopen(self):
        self.spool.close()
        self.synced = max(self.model, default=-1)
        self.spool = self.open()

    @rule(data=st.data(), garbage=st.binary(max_size=40))
    def crash(self, data: st.DataObject, garbage: bytes):
        """Power fails: of what was not synced any number of bytes is left, and then anything."""
        files = sorted(self.folder.glob("*.seg"))
        self.spool.abandon()
        if files:
            last = files[-1]
            first = int(last.stem)
            keep = self.bytes_up_to(last, first)
            length = last.stat().st_size
            cut = data.draw(st.integers(min(keep, length), length))
            os.truncate(last, cut)
            with last.open("ab") as stream:
                stream.write(garbage)
        if data.draw(st.booleans()):
            (self.folder / "acked").write_bytes(garbage[:24])
            self.acked = -1
        self.spool = self.open()
        left = self.contents()
        assert set(left) <= set(self.model)
        survivors = max(left, default=-1)
        assert survivors >= min(self.synced, max(self.model, default=-1))
        # The lost ones get new numbers only if they were not acknowledged.
        self.model = {i: m for i, m in self.model.items() if i <= survivors}
        self.synced = survivors
        self.acked = max(self.acked, min(left, default=0) - 1)

    def bytes_up_to(self, path: Path, first: int) -> int:
        """Bytes of a segment that were synced or acknowledged (the brokers have those)."""
        safe = max(self.synced, self.acked)
        return sum(
            len(spool_record.encode(i, self.model[i], framed=True, durable=False))
            for i in range(first, safe + 1)
            if i in self.model
        )

    def contents(self) -> dict[int, Message]:
        found = {}
        index = 0
        while (record := self.spool.get(index)) is not None:
            found[record.index] = record.message
            index = record.index + 1
        return found

    @invariant()
    def holds_what_is_not_acknowledged_in_order(self):
        if not hasattr(self, "spool"):
            return
        found = self.contents()
        assert list(found) == sorted(found)
        for index, item in found.items():
            assert item == self.model[index]
        for index in self.model:
            assert index in found or index <= self.acked
        last = self.spool.last()
        assert (last.index if last else -1) == max(self.model, default=-1)
        assert self.spool.pending_bytes >= 0
        assert self.spool.empty == (self.spool.pending_bytes == 0)

    @invariant()
    def keeps_to_its_bound(self):
        if hasattr(self, "spool"):
            size = sum(f.stat().st_size for f in self.folder.glob("*.seg"))
            # The bound, one segment that is partly acknowledged, and one kept for its last record.
            assert size <= BOUND + 3 * (SEGMENT + 1100)

    def teardown(self):
        if hasattr(self, "spool"):
            self.spool.close()
            shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=30, deadline=None
)


@pytest.fixture
def folder(tmp_path: Path):
    return tmp_path / "spool"


def opened(folder: Path, **options: Any):
    return Spool(folder, **{"max_bytes": 100_000, **options})


def filled(folder: Path, count: int, **options: Any):
    spool = opened(folder, **options)
    for number in range(count):
        spool.append(message(number, 200))
    return spool


def test_a_tail_is_cut_at_every_byte(folder: Path, tmp_path: Path):
    filled(folder, 3).close()
    (segment,) = folder.glob("*.seg")
    data = segment.read_bytes()
    size = len(data) // 3
    for cut in range(len(data) + 1):
        segment.write_bytes(data[:cut])
        spool = opened(folder)
        assert spool.next_index == cut // size
        spool.abandon()
        segment.unlink(missing_ok=True)


@pytest.mark.parametrize("position", [0, 4, 30, 100])
def test_a_flipped_bit_is_seen(folder: Path, position: int):
    filled(folder, 1).close()
    (segment,) = folder.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[position] ^= 1
    segment.write_bytes(data)
    assert opened(folder).last() is None


def test_a_record_at_another_position_is_no_record(folder: Path):
    filled(folder, 1).close()
    (segment,) = folder.glob("*.seg")
    segment.rename(segment.with_name(f"{7:020d}.seg"))
    assert opened(folder).last() is None


def test_damage_in_the_middle_loses_no_later_segment(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    filled(folder, 12, segment_bytes=600).close()
    segments = sorted(folder.glob("*.seg"))
    assert len(segments) >= 4
    data = bytearray(segments[1].read_bytes())
    data[-1] ^= 1
    segments[1].write_bytes(data)
    spool = opened(folder, segment_bytes=600)
    indexes = []
    at = 0
    while (record := spool.get(at)) is not None:
        indexes.append(record.index)
        at = record.index + 1
    assert len(indexes) == 11
    assert indexes[-1] == 11
    assert "unreadable" in caplog.text
    spool.close()


def test_damage_that_appears_later_is_a_typed_error(folder: Path):
    spool = filled(folder, 1)
    (segment,) = folder.glob("*.seg")
    segment.write_bytes(b"\0" * segment.stat().st_size)
    with pytest.raises(SpoolDiskError, match="cannot be read"):
        spool.get(0)
    spool.close()


def test_a_single_record_over_the_bound_is_taken_when_alone(folder: Path):
    spool = opened(folder, max_bytes=1000)
    record = spool.append(message(0, 5000))
    with pytest.raises(SpoolFullError):
        spool.append(message(1, 4))
    spool.ack(record.index)
    spool.append(message(1, 5000))
    spool.close()


def test_numbers_go_on_behind_what_was_acknowledged_and_then_lost(folder: Path):
    spool = filled(folder, 3, policy="never")
    spool.ack(2)
    spool.abandon()
    for segment in folder.glob("*.seg"):
        segment.unlink()
    again = opened(folder)
    assert again.next_index == 3
    assert again.append(message(3)).index == 3
    assert again.get(0).index == 3
    again.close()


class Disk:
    """fsync that fails once in a while."""

    def __init__(self, fails: list[bool]) -> None:
        self.fails = list(fails)

    def __call__(self, descriptor: int) -> None:
        if self.fails and self.fails.pop(0):
            raise OSError(5, "Input/output error")


def test_after_a_failed_sync_the_record_goes_to_a_fresh_segment_once(folder: Path):
    spool = opened(folder, fsync=Disk([False, True]))
    spool.append(message(0))
    with pytest.raises(SpoolDiskError, match="Input/output"):
        spool.append(message(1))
    spool.append(message(1))
    spool.close()
    assert len(list(folder.glob("*.seg"))) == 2
    again = opened(folder)
    assert [again.get(i).message for i in (0, 1)] == [message(0), message(1)]
    assert again.get(2) is None
    again.close()


def test_a_failed_sync_in_between_is_typed(folder: Path):
    spool = opened(folder, policy="interval", fsync=Disk([True]))
    spool.append(message(0))
    with pytest.raises(SpoolDiskError):
        spool.sync()
    spool.sync()
    spool.close()


def test_a_folder_that_cannot_be_made_is_typed(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolDiskError):
        opened(tmp_path / "file" / "spool")


def test_files_are_private(folder: Path):
    filled(folder, 1).close()
    assert {f.stat().st_mode & 0o077 for f in (folder, *folder.iterdir())} == {0}
