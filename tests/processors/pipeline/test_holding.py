"""Chains that are left to the store: whatever comes, nobody can tell from what is found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract import world
from tests.processors.pipeline.scenes import RULES, SECOND, Scene

from sealtrail import avro
from sealtrail.batch import SignedBatch
from sealtrail.causal import Parents
from sealtrail.chain import BOUNDS, Bounds
from sealtrail.dsse import BATCH
from sealtrail.errors import UnavailableError
from sealtrail.findings import Code
from sealtrail.statement import ZERO, BatchStatement, Continues, Genesis, Heartbeat, Identity
from sealtrail.validate import VerifiedBatch, VerifiedHeartbeat
from sealtrail_processor.judging.judge import Examined
from sealtrail_processor.pipeline.holding import Holding, weight
from sealtrail_processor.pipeline.timers import Timers
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    import pytest

    from sealtrail.validate import Outcome

BILLING = replace(world.IDENTITY, producer="billing")
KEYS = {
    "orders": world.key_record(world.ORDERS),
    "billing": world.key_record(world.BILLING, "billing"),
}
CODEC = avro.codec("ProvenanceEvent")


def chain_id(name: str) -> bytes:
    """Of a name; those of A and AA share the bits that event ids are made of."""
    return world.digest("A")[:11] + bytes(21) if name == "AA" else world.digest(name)


def batch(
    name: str,
    number: int,
    *,
    genesis: Genesis | None,
    identity: Identity = world.IDENTITY,
    bend: str = "",
    first_seq: int | None = None,
    closes: bool = False,
) -> VerifiedBatch:
    """A batch of two events as if it had been verified; bent, it contradicts the honest one."""
    statement = BatchStatement(
        environment=identity.environment,
        tenant=identity.tenant,
        topic=identity.topic,
        partition=identity.partition,
        producer=identity.producer,
        instance=identity.instance,
        signers=(),
        kind="CLOSE" if closes else "EVENTS",
        genesis=genesis if number == 0 else None,
        chain_id=chain_id(name),
        batch_seq=number,
        first_seq=2 * number if first_seq is None else first_seq,
        count=0 if closes else 2,
        root=ZERO,
        previous=world.digest(f"{name}{number - 1}") if number else ZERO,
        event_schema=CODEC.fingerprint,
        signed_at=world.NOW + number,
        clock_error_us=None,
        sampled_out=0,
    )
    envelope = SignedBatch(BATCH, b"", (), 1, ())
    digest = world.digest(f"{name}{number}{bend}")
    return VerifiedBatch(envelope, statement, digest, (), (), Parents(0, (), (), (), {}), CODEC)


def genesis(continues: Continues | None = None) -> Genesis:
    return Genesis(world.digest("nonce"), world.NOW, 60, continues)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    """A batch or a heartbeat of a few chains, some of which continue others."""
    name = draw(st.sampled_from(["A", "A", "AA", "B", "C", "D", "E"]))
    number = draw(st.integers(0, 4))
    bend = draw(st.sampled_from(["", "", "", "bent", "other"]))
    who = BILLING if draw(st.integers(0, 7)) == 7 else world.IDENTITY
    if draw(st.integers(0, 5)) == 5:
        head = world.digest(f"{name}{number}{bend}")
        beat = Heartbeat((), chain_id(name), number, head, world.NOW)
        return VerifiedHeartbeat(beat, (KEYS[who.producer],))
    # D and E continue A, C continues B; A chain id is bound to what its genesis says.
    point = {
        "D": Continues(chain_id("A"), 2, world.digest("A2")),
        "E": Continues(chain_id("A"), 3, world.digest("A3other")),
        "C": Continues(chain_id("B"), 1, world.digest("B1")),
    }.get(name)
    shift = draw(st.sampled_from([0, 0, 0, 1])) if bend else 0
    return batch(
        name,
        number,
        genesis=genesis(point),
        identity=who,
        bend=bend,
        first_seq=2 * number + shift,
        closes=number == 4 or (bool(bend) and draw(st.booleans())),
    )


@dataclass
class Stream:
    """A partition over messages whose steps 1 to 9 are done, and the timers beside it."""

    outcomes: list[Outcome]
    most: int = 10_000
    hashes: int = 200_000
    step: int = 25 * SECOND
    bounds: Bounds = BOUNDS
    scene: Scene = field(init=False)
    recorded: set[tuple[Code, bytes, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.scene = Scene(
            examine=self.examine,
            holding=Holding(self.most, self.hashes),
            rules=replace(RULES, bounds=self.bounds),
        )
        for number in range(len(self.outcomes)):
            self.scene.append(b"%d" % number, at=world.NOW + number * self.step)
        self.timers = Timers(WorkerSettings())
        self.partition = self.scene.partition()
        self.seen = 0

    def examine(self, message: Any, arrival: Any, place: Any, directory: Any) -> Examined:
        return Examined(message, arrival, self.outcomes[message.offset])

    def take(self, last: int) -> None:
        """Process up to an offset, however often it takes."""
        messages = self.scene.broker.logs[1][self.partition.next_offset : last]
        for _ in range(50):
            try:
                self.partition.process(messages)
                break
            except UnavailableError:
                continue
        for flush in self.scene.told[self.seen :]:
            self.timers.committed(flush)
        self.seen = len(self.scene.told)

    def look(self) -> None:
        """As upkeep does: what time finds is told unless it is on record, then chains are left."""
        now = world.NOW + self.partition.next_offset * self.step
        found = self.timers.check([self.partition], now, lagging=False)
        for entries in found.values():
            self.recorded |= {(f.code, f.chain_id, f.batch_seq) for _, f, _ in entries}
        self.timers.written(found)
        evicted = self.partition.evict(partial(self.timers.pending, 1))
        self.timers.evicted(1, evicted)

    def fates(self) -> list[Any]:
        return [
            (j.disposition, j.branch, j.findings, j.refused) for j in self.scene.ledger.judged()
        ]


many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(st.lists(outcomes(), min_size=1, max_size=40), st.integers(1, 3), st.data())
def test_messages_become_the_same_however_few_chains_are_held(
    stream: list[Outcome], most: int, data: st.DataObject
) -> None:
    bounds = data.draw(st.sampled_from([BOUNDS, Bounds(1, 1), Bounds(1, 2), Bounds(2, 1)]))
    every = Stream(stream, bounds=bounds)
    few = Stream(stream, most, data.draw(st.integers(0, 6)), bounds=bounds)
    broken = data.draw(st.sets(st.integers(0, len(stream) - 1), max_size=4))
    every.scene.ledger.broken = few.scene.ledger.broken = broken
    every.take(len(stream))
    recent = data.draw(st.sampled_from([1, 2, 3, 4096]))
    while few.partition.next_offset < len(stream):
        few.scene.ledger.failures = data.draw(st.integers(0, 1))
        few.scene.ledger.silent = data.draw(st.sampled_from([0, 0, 1, 2]))
        with patch("sealtrail.chain_state.RECENT", recent):
            few.take(few.partition.next_offset + data.draw(st.integers(1, 8)))
        few.scene.ledger.silent = 0
        if data.draw(st.integers(0, 9)) == 9:
            few.partition = few.scene.partition()
        with patch("sealtrail_processor.pipeline.holding.KEPT", 1):
            few.partition.evict(pending=lambda _: False)
        assert weight(few.partition.chains) <= most
    assert few.fates() == every.fates()


def test_hashes_are_left_to_the_store_and_asked_of_it() -> None:
    sent = chain("A", 40) + chain("B", 2)
    bent = batch("A", 3, genesis=None, bend="bent")
    other = VerifiedHeartbeat(
        Heartbeat((), chain_id("A"), 5, world.digest("A5other"), world.NOW), (KEYS["orders"],)
    )
    stream = Stream([*sent, bent, sent[3], other, *sent], hashes=30, step=SECOND)
    stream.take(42)
    stream.partition.evict(pending=lambda _: False)
    held = stream.partition.chains.by_id
    assert [len(s.recent) for s in held.values()] == [16, 2]
    stream.take(43)
    # The fork is in memory now, what it contradicts is not: that is no fork when it comes again.
    stream.take(45)
    assert stream.scene.dispositions()[42:] == ["accepted", "duplicate", "heartbeat"]
    assert stream.scene.codes() == ["FORK", "FORK"]
    stream.take(len(stream.outcomes))
    assert set(stream.scene.dispositions()[45:]) == {"duplicate"}


@many
@given(st.lists(outcomes(), min_size=1, max_size=40), st.integers(1, 3), st.data())
def test_time_finds_the_same_however_few_chains_are_held(
    stream: list[Outcome], most: int, data: st.DataObject
) -> None:
    every, few = Stream(stream), Stream(stream, most)
    while few.partition.next_offset < len(stream):
        last = few.partition.next_offset + data.draw(st.integers(1, 4))
        for one in (every, few):
            one.take(last)
            one.look()
        if few.scene.holding.watched:
            return  # more wait for time than twice what is held: counted, and told in limits.md
        assert few.recorded == every.recorded
    assert few.fates() == every.fates()


def chain(name: str, count: int, point: Continues | None = None) -> list[Outcome]:
    return [batch(name, n, genesis=genesis(point)) for n in range(count)]


def evict_all(stream: Stream) -> None:
    """As if many other chains had come."""
    stream.partition.chains.evict(list(stream.partition.chains.by_id))


def test_nothing_is_asked_while_all_chains_are_held() -> None:
    stream = Stream(chain("A", 3) + chain("B", 2), most=2)
    asked = stream.scene.ledger.asked
    stream.take(5)
    assert stream.partition.evict(pending=lambda _: False) == []
    assert stream.scene.ledger.asked == asked


def test_one_question_of_each_kind_brings_back_all_that_a_flush_names() -> None:
    stream = Stream([*chain("A", 2), *chain("B", 1), *chain("A", 2), *chain("B", 1)])
    stream.take(3)
    evict_all(stream)
    asked = stream.scene.ledger.asked
    stream.take(6)
    assert stream.scene.ledger.asked - asked == 2
    assert stream.scene.dispositions()[3:] == ["duplicate"] * 3
    assert stream.scene.holding.recalled == 2


def test_who_was_replaced_does_not_see_what_its_heir_has_committed() -> None:
    stream = Stream(chain("A", 3))
    stream.take(1)
    evict_all(stream)
    heir = stream.scene.partition()
    stream.scene.run(heir)
    stream.take(3)
    # The same rows once more: no batch is taken for a duplicate of itself.
    assert stream.scene.dispositions() == ["accepted"] * 5


def test_a_heartbeat_brings_its_chain_back_and_shows_the_missing_tail() -> None:
    beat = VerifiedHeartbeat(
        Heartbeat((), chain_id("A"), 4, world.digest("A4"), world.NOW), (KEYS["orders"],)
    )
    stream = Stream([*chain("A", 2), beat, *chain("B", 2)])
    stream.take(2)
    evict_all(stream)
    stream.take(5)
    stream.look()
    assert (Code.GAP, chain_id("A"), 2) in stream.recorded


def test_what_waits_for_time_stays_until_there_are_twice_as_many() -> None:
    names = ["A", "B", "C", "D", "E"]
    stream = Stream([batch(name, 0, genesis=genesis()) for name in names], most=2)
    stream.take(4)
    assert stream.partition.evict(pending=lambda _: True) == []
    stream.take(5)
    assert stream.partition.evict(pending=lambda _: True) == [chain_id("A")]
    assert (stream.scene.holding.evicted, stream.scene.holding.watched) == (1, 1)
    assert stream.partition.evict(lambda s: s.chain_id == chain_id("B")) == [
        chain_id("C"),
        chain_id("D"),
    ]
    assert stream.scene.holding.watched == 1


def test_heartbeats_of_strangers_are_forgotten_but_for_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sealtrail_processor.pipeline.timers.STRANGERS", 4)
    beats: list[Outcome] = [
        VerifiedHeartbeat(Heartbeat((), world.digest(str(n)), 0, ZERO, world.NOW), ())
        for n in range(9)
    ]
    stream = Stream([*beats, *chain("A", 1)])
    stream.take(10)
    stream.timers.trim([stream.partition])
    assert [at[1] for at in stream.timers._heard] == [world.digest(str(n)) for n in (7, 8)]


def test_continuations_in_any_order_are_found_when_nothing_is_held_between_messages() -> None:
    point = Continues(chain_id("A"), 2, world.digest("A2"))
    messages = [*chain("A", 4), *chain("D", 1, point), *chain("E", 1, point)]
    found = set()
    for order in list(permutations(messages))[::7]:
        every, none = Stream(list(order)), Stream(list(order))
        every.take(len(order))
        for last in range(1, len(order) + 1):
            none.take(last)
            evict_all(none)
        assert none.fates() == every.fates()
        found.update(every.scene.codes())
    assert found == {"FORK", "GAP_FILLED", "LATE"}


def test_a_chain_comes_back_as_continued_though_what_continues_it_does_not() -> None:
    point = Continues(chain_id("A"), 1, world.digest("A1"))
    stream = Stream([*chain("A", 2), *chain("D", 1, point), *chain("A", 1)])
    stream.take(3)
    evict_all(stream)
    stream.take(4)
    assert [s.continued for s in stream.partition.chains.by_id.values()] == [point]
