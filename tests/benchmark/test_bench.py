"""The benchmark's own parts: what it makes is honest, what it says follows from its figures."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.contract import world

from sealtrail import ids
from sealtrail.batch import SignedBatch, unframe
from sealtrail.event import EventType
from sealtrail.validate import Place, VerifiedBatch, event_subject, validate
from sealtrail_bench import floors, report, tape
from sealtrail_bench.generator import Generator, Made, Where, checksum
from sealtrail_bench.rates import Turn
from sealtrail_bench.workers import unlinked
from sealtrail_processor.judging import judge
from sealtrail_processor.judging.judge import Arrival
from sealtrail_processor.judging.model import RawMessage

WHERE = Where("local", "default", world.TOPIC, 2, "orders")


def made(seed: int = 1, count: int = 8, events: int = 40) -> list[Made]:
    generator = Generator(
        WHERE, world.ORDERS, seed=seed, chains=4, instance="i", start_us=world.NOW
    )
    return list(generator.batches(count, events))


def verified(item: Made) -> VerifiedBatch:
    message = item.message
    place = Place("local", frozenset({"default"}), world.TOPIC, message.partition)
    assert event_subject(world.TOPIC) == place.subject
    outcome = validate(message.value, place, world.NOW + 10**6, world.directory())
    assert isinstance(outcome, VerifiedBatch), outcome
    return outcome


def test_every_batch_is_accepted_as_it_is() -> None:
    batches = [verified(item) for item in made()]
    assert {b.statement.partition for b in batches} == {0, 1}
    assert len({b.statement.chain_id for b in batches}) == 4
    for batch in batches:
        for event in batch.envelope.events:
            value = batch.schema.decode(event)
            assert value["event_type"] in set(EventType)


def test_parents_are_events_that_were_made_before_and_not_younger() -> None:
    known: dict[bytes, tuple[int, bytes]] = {}
    links = events = 0
    for batch in map(verified, made(count=32, events=20)):
        statement = batch.statement
        for index, (at, parents) in enumerate(zip(batch.occurred_at, batch.parents, strict=True)):
            for parent in parents:
                assert known[parent.event_id] == (parent.occurred_at, parent.leaf_hash)
                assert parent.occurred_at <= at
            name = ids.event_id(statement.chain_id, statement.first_seq + index)
            known[name] = (at, batch.leaf_hashes[index])
            links += len(parents)
            events += 1
    assert 0.85 < links / events < 1.05


def test_the_seed_decides_and_salts_are_each_events_own() -> None:
    one, again, other = (made(seed=s, count=2) for s in (1, 1, 2))
    assert [m.message.value for m in one] == [m.message.value for m in again]
    assert one[0].message.value != other[0].message.value
    salts = {e["salt"] for m in one for e in decoded(m)}
    assert len(salts) == 2 * 40


def decoded(item: Made) -> list[dict[str, bytes]]:
    envelope = SignedBatch.decode(unframe(item.message.value)[1])
    schema = verified(item).schema
    return [schema.decode(event) for event in envelope.events]


def test_the_checksum_is_that_of_the_salts() -> None:
    (item,) = made(count=1)
    salts = [event["salt"] for event in decoded(item)]
    assert item.checksum == sum(int.from_bytes(s[:8], "little") for s in salts) % 2**64
    assert checksum(salts[0] + salts[1]) != checksum(salts[0] + salts[0])


def test_a_tape_gives_back_what_was_written(tmp_path: Path) -> None:
    items = made()
    total = tape.write(tmp_path / "t", items)
    read = list(tape.read(tmp_path / "t", world.TOPIC))
    assert [m.message.value for m in read] == [m.message.value for m in items]
    assert (total.messages, total.events) == (8, 320)
    assert total.checksum == sum(m.checksum for m in read) % 2**64


def test_without_links_all_else_is_verified() -> None:
    (item,) = made(count=1, events=200)
    place = Place("local", frozenset({"default"}), world.TOPIC, item.message.partition)
    arrival = Arrival(world.NOW + 10**6, "LOG_APPEND", world.NOW)
    forged = bytearray(item.message.value)
    forged[-1] ^= 1
    for value in (item.message.value, bytes(forged)):
        message = RawMessage(0, b"", value, (), world.NOW, append_time=True)
        shipped = judge.examine(message, arrival, place, world.directory())
        found = unlinked.examine(message, arrival, place, world.directory())
        if isinstance(shipped.outcome, VerifiedBatch):
            assert any(shipped.outcome.parents)
            parents = replace(shipped.outcome.parents, following=(), others={})
            bare = replace(shipped.outcome, parents=parents)
            assert list(bare.parents) == [()] * 200
            assert found == replace(shipped, outcome=bare)
        else:
            assert found == shipped
            assert value != item.message.value


@dataclass
class Taken:
    turns: dict[str, list[Turn]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return sorted(t.rate for t in self.turns[name])[len(self.turns[name]) // 2]


def test_ratios_are_those_of_the_medians() -> None:
    taken = Taken(
        {
            "full": [Turn(r, 1, {"worker": 2.0}, {"worker": r}) for r in (90.0, 100.0, 500.0)],
            "obvious": [Turn(2.0, 1)],
            "plain": [Turn(200.0, 1)],
            "unlinked": [Turn(1.0, 1, {"worker": 1.5})],
        }
    )
    figures = report.rates(taken)  # type: ignore[arg-type] # the part of it that counts
    assert figures["ratios"] == {"full_vs_obvious": 50.0, "faust_vs_plain": 0.5}
    assert figures["worker_rss_mb"] == 500
    assert figures["linking_share"] == 0.25
    assert figures["variants"]["full"]["least_events_per_s"] == 90


def test_goals_are_met_or_missed_in_their_direction() -> None:
    figures = {"ratios": {"full_vs_obvious": 81, "faust_vs_plain": 0.79}, "worker_rss_mb": 401}
    met = {name: state for name, _, _, state in report.goals(figures)}
    assert met == {
        "ratios.full_vs_obvious": "met",
        "ratios.faust_vs_plain": "missed",
        "worker_rss_mb": "missed",
    }


def test_a_floor_is_broken_by_less_and_by_silence() -> None:
    good = dict(floors.FLOORS)
    assert {row[3] for row in floors.judge(good)} == {"kept"}
    worse = good | {"full_vs_obvious": good["full_vs_obvious"] - 0.01}
    assert [row[3] for row in floors.judge(worse)].count("broken") == 1
    del good["faust_vs_plain"]
    assert [row[3] for row in floors.judge(good)].count("broken") == 1


def test_plots_are_drawn_from_what_there_is(tmp_path: Path) -> None:
    figures = {
        "variants": {"full": {"events_per_s": 10, "cpu_us": {"worker": 1.0}}},
        "lineage": {"1000": {"3": {"p95_s": 0.1}}},
    }
    files = report.plots(json.loads(json.dumps(figures)), tmp_path)
    assert sorted(f.name for f in files) == ["cpu.svg", "lineage.svg", "rates.svg"]
    assert b"<svg" in (tmp_path / "rates.svg").read_bytes()
