"""How far chains have come, told among workers (docs/worker.md, "Heads").

After each commit a worker publishes what moved, packed; all workers read all of it. It is a hint
about other workers' partitions, no evidence: nothing on the topic is signed, and what is on it, or
missing from it, changes no row but one. It decides when the store is asked again, and whether an
open link is shown as POSITION or PENDING.

    message  = version (1 byte, 1), partition (2), last committed offset (8), entry ...
    entry    = chain prefix (11: 82 bits, right-aligned), contiguous next sequence (6), tenant tag
               (8: first bytes of SHA-256 of the domain tag and the tenant), flags (1)

All numbers big-endian and unsigned. Flags: 1 the chain is closed, 2 batches lie beyond a gap, 4 it
has forked. The tag keeps positions of one tenant's chains from children of another.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from sealtrail import ids
from sealtrail.findings import Disposition
from sealtrail_processor.judging.ports import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail.chain import Chains, ChainState
    from sealtrail_processor.judging.model import Flush
    from sealtrail_processor.judging.ports import Publisher

VERSION = 1
CLOSED, GAP, FORKED = 1, 2, 4
_HEADER = 1 + 2 + 8
_PREFIX, _SEQ, _TAG = 11, 6, 8
ENTRY = _PREFIX + _SEQ + _TAG + 1
# 26 bytes each: a message stays far below what any topic takes.
MAX_ENTRIES = 10_000
_DOMAIN = b"sealtrail/heads-tenant/v1\0"
_TAKEN = (Disposition.ACCEPTED, Disposition.RELEASED)


@dataclass(frozen=True, slots=True)
class Head:
    """Position of a chain.

    Args:
        prefix: the first 82 bits of its id.
        next_seq: all events below it are committed.
        tag: whose it is (`tenant_tag`).
    """

    prefix: int
    next_seq: int
    tag: bytes
    flags: int = 0


class HeadsTopic(Protocol):
    """The topic as its readers see it."""

    def present(self) -> bool:
        """Whether the topic was there when it was last looked for."""

    def read(self) -> list[bytes]:
        """What came since the last call; returns at once, with nothing when it cannot be read."""


def tenant_tag(tenant: str) -> bytes:
    """What stands for a tenant in an entry, 8 bytes."""
    return sha256(_DOMAIN + tenant.encode()).digest()[:_TAG]


def of_flush(flush: Flush, chains: Chains) -> list[Head]:
    """The chains that a committed flush moved, as they are now."""
    moved = {
        j.batch.statement.chain_id
        for j in flush.judged
        if j.disposition in _TAKEN and j.batch is not None
    }
    return [_head(chains.by_id[chain_id]) for chain_id in sorted(moved) if chain_id in chains.by_id]


def _head(state: ChainState) -> Head:
    flags = CLOSED * bool(state.closed) | GAP * bool(state.beyond) | FORKED * bool(state.branches)
    prefix = ids.chain_prefix(state.chain_id)
    return Head(prefix, state.next_seq, tenant_tag(state.identity.tenant), flags)


def pack(partition: int, offset: int, heads: Sequence[Head]) -> bytes:
    """One message."""
    parts = [bytes([VERSION]), partition.to_bytes(2, "big"), offset.to_bytes(8, "big")]
    for head in heads:
        parts += (
            head.prefix.to_bytes(_PREFIX, "big"),
            head.next_seq.to_bytes(_SEQ, "big"),
            head.tag,
            bytes([head.flags]),
        )
    return b"".join(parts)


def unpack(value: bytes | None) -> list[Head]:
    """Entries of a message; none when it is not one. Never raises on any bytes."""
    if value is None or value[:1] != bytes([VERSION]) or len(value) < _HEADER:
        return []
    if (len(value) - _HEADER) % ENTRY or len(value) > _HEADER + ENTRY * MAX_ENTRIES:
        return []
    found = []
    for at in range(_HEADER, len(value), ENTRY):
        tag_at = at + _PREFIX + _SEQ
        found.append(
            Head(
                int.from_bytes(value[at : at + _PREFIX], "big"),
                int.from_bytes(value[at + _PREFIX : tag_at], "big"),
                value[tag_at : tag_at + _TAG],
                value[tag_at + _TAG],
            )
        )
    return found


class Heads:
    """What is known of chains on other workers.

    `committed` is called by the flush thread, the rest by the linker's.

    Args:
        topic: where others' heads are read.
        publisher: where ours go.
        name: of the topic.
        most: chains to keep; those that moved longest ago are forgotten first.
    """

    def __init__(self, topic: HeadsTopic, publisher: Publisher, name: str, most: int) -> None:
        self._topic = topic
        self._publisher = publisher
        self._name = name
        self._most = most
        self._known: OrderedDict[int, Head] = OrderedDict()

    def committed(self, flush: Flush, chains: Chains) -> None:
        """Tell the others what a flush moved; never waits, never raises."""
        if not self._topic.present():
            return
        for message in self._messages(flush, chains):
            if not self._publisher.offer(message):
                return  # a later flush tells more

    def _messages(self, flush: Flush, chains: Chains) -> Iterator[Outgoing]:
        moved = of_flush(flush, chains)
        for first in range(0, len(moved), MAX_ENTRIES):
            part = moved[first : first + MAX_ENTRIES]
            value = pack(flush.log.partition, flush.last_offset, part)
            yield Outgoing(self._name, None, value)

    def read(self) -> list[Head]:
        """Take in what the others told; the heads that moved."""
        moved = []
        for value in self._topic.read():
            for head in unpack(value):
                before = self._known.get(head.prefix)
                # Late and repeated messages never take a chain back.
                if before is None or head.next_seq > before.next_seq:
                    self._known[head.prefix] = head
                    self._known.move_to_end(head.prefix)
                    moved.append(head)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return moved

    def passed(self, prefix: int, seq: int, tenant: str) -> bool:
        """Whether a chain of this tenant has come past a sequence number."""
        head = self._known.get(prefix)
        return head is not None and seq < head.next_seq and head.tag == tenant_tag(tenant)
