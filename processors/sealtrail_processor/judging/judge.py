"""Steps 10 and 12 for the messages of one flush. Pure: state in, dispositions and findings out.

- What comes out is a function of the partition's log up to these offsets, of recorded arrivals and
  of key and schema records by arrival; nothing else comes in.
- Messages are placed one after the other, so that a duplicate or fork within a flush is seen.
- Chain state changes as it goes, and `Trial.undo` takes all of it back: when the store refuses a
  batch (its events are not what they seem) the flush is judged again from the state before.
- A GAP is no finding here: it may fill within the settling time, and only a timer can say that it
  did not (`timers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import validate as contract
from sealtrail.chain import BOUNDS, Bounds, Chains, ChainState, Known, Link
from sealtrail.findings import PARKED_CODES, Code, Disposition
from sealtrail.validate import Outcome, Place, Refused, VerifiedBatch, VerifiedHeartbeat
from sealtrail_processor.judging import clock
from sealtrail_processor.judging.model import Finding, Flush, Judged, Log, RawMessage
from sealtrail_processor.judging.suspicion import ALONE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sealtrail.chain import ChainFinding
    from sealtrail.records import Directory

    Stored = Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]]

REPLY_HEADER = "faust-ag-replyto"
BROKEN = "the engine reads other events from it than were hashed"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a partition's messages are judged by: where we are, tolerances, settling time (us).

    bounds: gaps and branches of a chain; kept_bytes, parked_bytes: of quarantined and of parked
    messages, that go into the store in an hour (0: all).
    """

    place: Place
    tolerances: clock.Tolerances
    settle_us: int
    bounds: Bounds = BOUNDS
    kept_bytes: int = 0
    parked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a message counts as arrived, who says so, and what was known of keys when (us)."""

    at: int
    source: str
    known_at: int
    released_from: tuple[str, str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A message after steps 1 to 9."""

    message: RawMessage
    arrival: Arrival
    outcome: Outcome

    @property
    def events(self) -> int:
        """How many events would be stored for it."""
        batch = self.outcome
        return len(batch.occurred_at) if isinstance(batch, VerifiedBatch) else 0


def examine(message: RawMessage, arrival: Arrival, place: Place, directory: Directory) -> Examined:
    """Steps 1 to 9 of one message. Never raises on any bytes."""
    if any(name.lower() == REPLY_HEADER for name, _ in message.headers):
        # Faust lets such a header send an agent's answer to any topic.
        refused = Refused(Code.MALFORMED, 1, "header Faust-Ag-ReplyTo is refused")
        return Examined(message, arrival, refused)
    outcome = contract.validate(
        message.value, place, arrival.at, directory, known_at=arrival.known_at
    )
    return Examined(message, arrival, outcome)


def condemned(message: RawMessage, arrival: Arrival) -> Examined:
    """A message that is not looked at any more: workers died of it (`suspicion`)."""
    detail = f"workers died {ALONE} times while they had this message alone in hand"
    return Examined(message, arrival, Refused(Code.CRASH_LOOP, 0, detail))


def left_out(examined: Iterable[Examined], chains: Chains) -> set[bytes]:
    """Chains that messages speak of and that the store alone may know: to be recalled first."""
    if not chains.partial:
        return set()
    named = set()
    for item in examined:
        if isinstance(item.outcome, VerifiedBatch):
            statement = item.outcome.statement
            named.add(statement.chain_id)
            if statement.genesis is not None and statement.genesis.continues is not None:
                named.add(statement.genesis.continues.chain_id)
        elif isinstance(item.outcome, VerifiedHeartbeat):
            named.add(item.outcome.heartbeat.chain_id)
    return {chain_id for chain_id in named if chain_id not in chains.by_id}


def needed(examined: Iterable[Examined], chains: Chains) -> set[tuple[bytes, int]]:
    """(chain_id, batch_seq) whose hashes are no longer in memory and must be asked of the store."""
    keys = set()
    for item in examined:
        if isinstance(item.outcome, VerifiedBatch):
            key = (item.outcome.statement.chain_id, item.outcome.statement.batch_seq)
        elif isinstance(item.outcome, VerifiedHeartbeat):
            key = (item.outcome.heartbeat.chain_id, item.outcome.heartbeat.batch_seq)
        else:
            continue
        state = chains.by_id.get(key[0])
        if state is not None and state.needs_lookup(key[1]):
            keys.add(key)
    return keys


class Trial:
    """Chains with a way back: applies links and can undo all that it applied."""

    def __init__(self, chains: Chains) -> None:
        self.chains = chains
        self._before: dict[bytes, Known] = {}

    def apply(self, link: Link) -> None:
        """Take an accepted batch into the chains."""
        self._keep(link.chain_id)
        if link.continues is not None:
            self._keep(link.continues.chain_id)
        self.chains.apply(link)

    def _keep(self, chain_id: bytes) -> None:
        if chain_id not in self._before:
            self._before[chain_id] = self.chains.known(chain_id)

    def settle(self) -> None:
        """All is committed: hashes of batches may be left to the store."""
        for chain_id in self._before:
            if chain_id in self.chains.by_id:
                self.chains.by_id[chain_id].trim()

    def undo(self) -> None:
        """Bring the chains back to where they were."""
        for chain_id, known in self._before.items():
            self.chains.restore(chain_id, known)
        self._before.clear()


def judge(  # noqa: PLR0913 - all that the outcome is a function of
    log: Log,
    first_offset: int,
    examined: Sequence[Examined],
    *,
    trial: Trial,
    rules: Rules,
    stored: Stored,
    bad_offsets: Collection[int] = (),
) -> Flush:
    """Judge the messages of one flush in the order of the log.

    Args:
        log: where they were read.
        first_offset: end of the commit before, plus one.
        examined: the messages after steps 1 to 9.
        trial: the partition's chains; accepted batches are applied to them.
        rules: what they are judged by.
        stored: hashes of batches that memory no longer holds, see `needed`.
        bad_offsets: messages whose events the engine did not read as they were hashed.
    """
    judged = []
    for item in examined:
        outcome = item.outcome
        if isinstance(outcome, VerifiedBatch):
            bad = item.message.offset in bad_offsets
            judged.append(_batch(item, outcome, trial, rules, stored, bad=bad))
        elif isinstance(outcome, VerifiedHeartbeat):
            judged.append(_heartbeat(item, outcome, trial.chains, stored))
        else:
            judged.append(_refused(item, outcome))
    return Flush(log, first_offset, tuple(judged))


def _refused(item: Examined, refused: Refused, batch: VerifiedBatch | None = None) -> Judged:
    parked = refused.code in PARKED_CODES
    # Nothing that a refused message says of itself is believed, so no chain is named.
    return Judged(
        item.message,
        item.arrival.at,
        item.arrival.source,
        Disposition.PARKED if parked else Disposition.QUARANTINED,
        refused=refused,
        batch=batch,
        findings=(Finding(refused.code, refused.detail),),
        released_from=item.arrival.released_from,
    )


def _batch(  # noqa: PLR0913 - what one batch's fate is a function of
    item: Examined,
    batch: VerifiedBatch,
    trial: Trial,
    rules: Rules,
    stored: Stored,
    *,
    bad: bool,
) -> Judged:
    arrival = item.arrival
    link = Link.of(batch.statement, batch.statement_hash, arrival.at)
    placement = trial.chains.place(link, stored, rules.bounds)
    if placement.refused is not None:
        return _refused(item, Refused(placement.refused.code, 10, placement.refused.detail))
    if placement.duplicate or placement.branch is None:
        return Judged(
            item.message,
            arrival.at,
            arrival.source,
            Disposition.DUPLICATE,
            batch=batch,
            released_from=arrival.released_from,
        )
    if bad:
        # Known of those alone that the store was asked to take: in another flush, where it has no
        # place, this one would not have come so far.
        return _refused(item, Refused(Code.BAD_EVENT, 9, BROKEN))
    state = trial.chains.by_id.get(link.chain_id)
    findings = [_placed(link, f) for f in placement.findings if f.code is not Code.GAP]
    on_main = state is not None and placement.branch == state.main
    if state is not None and on_main:
        findings += _late(state, link, rules.settle_us)
    previous = _previous_signed_at(state, link) if on_main else None
    findings += clock.check(batch, arrival.at, previous, rules.tolerances)
    placed = Link.of(batch.statement, batch.statement_hash, arrival.at, placement.branch)
    trial.apply(placed)
    released = arrival.released_from
    return Judged(
        item.message,
        arrival.at,
        arrival.source,
        Disposition.ACCEPTED if released is None else Disposition.RELEASED,
        batch=batch,
        branch=placement.branch,
        findings=tuple(findings),
        released_from=released,
    )


def _placed(link: Link, found: ChainFinding) -> Finding:
    suspect = link.chain_id if found.code is Code.FORK else None
    return Finding(found.code, found.detail, link.chain_id, link.batch_seq, None, suspect)


def _late(state: ChainState, link: Link, settle_us: int) -> list[Finding]:
    """A batch that fills a gap after the gap had settled: its successor waited so long."""
    after = state.above(link.batch_seq)
    if after is None:
        return []
    late = link.arrival - after.arrival
    if late <= settle_us:
        return []
    detail = f"arrived {late / 1e6:.3f} s after batch {after.first_batch}"
    return [Finding(Code.LATE, detail, link.chain_id, link.batch_seq, None, None, late, settle_us)]


def _previous_signed_at(state: ChainState | None, link: Link) -> int | None:
    """When the batch right before was signed, where it is there."""
    if state is None:
        return None
    if link.batch_seq == state.next_batch and state.next_batch > 0:
        return state.last_signed_at
    before = state.below(link.batch_seq)
    if before is not None and before.last_batch == link.batch_seq - 1:
        return before.signed_at
    return None


def _heartbeat(
    item: Examined, verified: VerifiedHeartbeat, chains: Chains, stored: Stored
) -> Judged:
    beat = verified.heartbeat
    state = chains.by_id.get(beat.chain_id)
    findings: tuple[Finding, ...] = ()
    if state is not None:
        if not state.speaks(verified.keys):
            detail = f"heartbeat by a key of {verified.keys[0].producer[:100]!r}"
            return _refused(item, Refused(Code.KEY_NOT_AUTHORISED, 10, detail))
        known = (
            *state.recent.get(beat.batch_seq, ()),
            *stored.get((beat.chain_id, beat.batch_seq), ()),
        )
        findings = _other_head(state, beat.batch_seq, beat.head, {digest for digest, _ in known})
    return Judged(
        item.message,
        item.arrival.at,
        item.arrival.source,
        Disposition.HEARTBEAT,
        heartbeat=beat,
        findings=findings,
        released_from=item.arrival.released_from,
    )


def _other_head(
    state: ChainState, batch_seq: int, head: bytes, known: Collection[bytes]
) -> tuple[Finding, ...]:
    """A producer that swears to another head than the batch we hold has signed both: a fork."""
    if not known or head in known:
        return ()
    heads = " and ".join([*sorted(digest.hex() for digest in known), head.hex()])
    detail = f"a heartbeat names another head than batch {batch_seq} that was accepted; {heads}"
    return (Finding(Code.FORK, detail, state.chain_id, batch_seq, None, state.chain_id),)
