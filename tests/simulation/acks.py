"""Faust's own bookkeeping of acknowledgements: by offset alone, whatever they were fetched as."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from faust.transport import consumer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sealtrail_processor.judging.model import RawMessage


@dataclass(eq=False)
class Message:
    """As Faust hands it over; tp: only the partition of it, there is one topic."""

    raw: RawMessage
    partition: int
    generation_id: int
    acked: bool = False
    topic: str = ""

    @property
    def tp(self) -> int:
        """Where it is from."""
        return self.partition

    @property
    def offset(self) -> int:
        """Where it stands."""
        return self.raw.offset


# It counts for one topic here, by the numbers of partitions.
_FAUST: Any = consumer.Consumer


class Acks:
    """What a consumer knows of acknowledgements; the methods below are Faust's."""

    ack = _FAUST.ack
    _add_gap = _FAUST._add_gap
    _new_offset = _FAUST._new_offset
    _should_commit = _FAUST._should_commit
    _filter_committable_offsets = _FAUST._filter_committable_offsets
    _filter_tps_with_pending_acks = _FAUST._filter_tps_with_pending_acks

    def __init__(self) -> None:
        self.app = SimpleNamespace(topics=SimpleNamespace(acks_enabled_for=lambda _: True))
        self._acked: Any = defaultdict(list)
        self._acked_index: Any = defaultdict(set)
        self._gap: Any = defaultdict(vars(consumer)["IntervalTree"])
        self._read_offset: Any = defaultdict(lambda: None)
        self._committed_offset: Any = defaultdict(lambda: None)
        self._unacked_messages: set[Message] = set()
        self._n_acked = 0
        self._waiting_for_ack = None

    def revoked(self, numbers: Iterable[int]) -> None:
        """As Consumer.on_partitions_revoked: what is acknowledged later is counted from anew."""
        for number in numbers:
            for what in (self._gap, self._acked, self._acked_index):
                what.pop(number, None)
            self._read_offset.pop(number, None)
            self._committed_offset.pop(number, None)

    def sought(self, offsets: Mapping[int, int]) -> None:
        """As Consumer.perform_seek, once it was told where to read."""
        self._read_offset.update(offsets)
        self._committed_offset.update({n: offset or None for n, offset in offsets.items()})

    def fetched(self, number: int, offset: int) -> None:
        """As Consumer._drain_messages: offsets that the log has not, need no acknowledgement."""
        before = self._read_offset[number]
        if before and offset - before > 1:
            adding = self._add_gap(number, before + 1, offset)
            for _ in range(2):
                # It waits for nothing: it lets others take their turn, once at most.
                try:
                    adding.send(None)
                except StopIteration:
                    break
        self._read_offset[number] = offset

    def committable(self, owned: Iterable[int]) -> dict[int, int]:
        """As Consumer.force_commit: what would be committed now, of partitions that are ours."""
        tps = list(self._filter_tps_with_pending_acks(None))
        offsets: dict[int, int] = self._filter_committable_offsets(tps)
        ours = {number: offsets[number] for number in owned if number in offsets}
        # Faust takes them for committed whatever becomes of it.
        self._committed_offset.update(ours)
        return ours
