"""Steps 10 and 12 in flushes: what one offset's fate does to the next, and the way back."""

import copy
from dataclasses import replace

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import PLACE, RULES, SECOND, Scene, raw

from sealtrail.chain import Chains
from sealtrail.statement import Continues
from sealtrail.validate import Refused
from sealtrail_processor.judging.judge import Arrival, Trial, examine, judge, needed
from sealtrail_processor.judging.model import LOG_APPEND, Flush


def arrival(at: int) -> Arrival:
    return Arrival(at, LOG_APPEND, at)


def flush_of(values: list[bytes | None], chains: Chains, bad: tuple[int, ...] = ()) -> Flush:
    at = arrival(world.NOW + SECOND)
    directory = world.directory()
    examined = [examine(raw(i, v), at, PLACE, directory) for i, v in enumerate(values)]
    return judge(
        Scene().log, 0, examined, trial=Trial(chains), rules=RULES, stored={}, bad_offsets=bad
    )


def codes(flush: Flush) -> list[list[str]]:
    return [[f.code.value for f in j.findings] for j in flush.judged]


def test_batches_of_a_chain_are_accepted_in_one_flush() -> None:
    producer = world.Producer()
    chains = Chains()
    flush = flush_of([producer.send(), producer.send(), producer.send(close=True)], chains)
    assert [j.disposition.value for j in flush.judged] == ["accepted"] * 3
    assert codes(flush) == [[], [], []]
    assert chains.by_id[producer.chain_id].closed


def test_a_duplicate_within_a_flush_is_seen() -> None:
    producer = world.Producer()
    first = producer.send()
    flush = flush_of([first, first, producer.send()], Chains())
    assert [j.disposition.value for j in flush.judged] == ["accepted", "duplicate", "accepted"]


def test_a_fork_within_a_flush_takes_the_next_branch() -> None:
    producer = world.Producer()
    values = [producer.send()]
    twin = copy.copy(producer)
    values += [producer.send(2), twin.send(3)]
    flush = flush_of(values, Chains())
    assert [(j.disposition.value, j.branch) for j in flush.judged] == [
        ("accepted", 0),
        ("accepted", 0),
        ("accepted", 1),
    ]
    assert codes(flush)[2] == ["FORK"]
    assert flush.judged[2].findings[0].suspect == producer.chain_id


def test_a_gap_is_no_finding_at_ingest_and_filling_it_is() -> None:
    producer = world.Producer()
    first, missing, third = producer.send(), producer.send(), producer.send()
    flush = flush_of([first, third, missing], Chains())
    assert codes(flush) == [[], [], ["GAP_FILLED"]]


def test_a_batch_that_comes_after_its_gap_settled_is_late() -> None:
    producer = world.Producer()
    scene = Scene()
    first, missing, third = producer.send(), producer.send(), producer.send()
    scene.append(first, third, at=world.NOW + SECOND)
    scene.append(missing, at=world.NOW + 40 * SECOND)
    scene.run()
    assert scene.codes() == ["GAP_FILLED", "LATE"]


def test_refused_messages_name_no_chain_and_park_when_the_key_may_come() -> None:
    stranger = world.Producer(keys=(world.STRANGER,))
    flush = flush_of([stranger.send(), b"\x00\x01\x02\x03", None], Chains())
    assert [j.disposition.value for j in flush.judged] == ["parked", "quarantined", "quarantined"]
    assert codes(flush) == [["UNKNOWN_KEY"], ["MALFORMED"], ["MALFORMED"]]
    assert all(not any(f.chain_id) for j in flush.judged for f in j.findings)


def test_a_header_that_makes_faust_reply_is_refused() -> None:
    value = world.Producer().send()
    message = raw(0, value, headers=(("Faust-Ag-ReplyTo", b"any-topic"),))
    outcome = examine(message, arrival(world.NOW), PLACE, world.directory()).outcome
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.step) == ("MALFORMED", 1)


def test_events_that_the_engine_reads_differently_are_quarantined() -> None:
    producer = world.Producer()
    flush = flush_of([producer.send(), producer.send()], Chains(), bad=(0,))
    assert [j.disposition.value for j in flush.judged] == ["quarantined", "accepted"]
    assert codes(flush)[0] == ["BAD_EVENT"]


def test_heartbeats_are_held_against_the_chain() -> None:
    producer = world.Producer()
    values = [producer.send(), producer.heartbeat()]
    foreign = world.Producer(keys=(world.BILLING,))
    foreign.batch_seq, foreign.head = 1, producer.head
    forged = copy.copy(producer)
    forged.head = world.digest("another head")
    flush = flush_of([*values, foreign.heartbeat(), forged.heartbeat()], Chains())
    assert [j.disposition.value for j in flush.judged] == [
        "accepted",
        "heartbeat",
        "quarantined",
        "heartbeat",
    ]
    assert codes(flush) == [[], [], ["KEY_NOT_AUTHORISED"], ["FORK"]]


def test_a_trial_takes_everything_back() -> None:
    first = world.Producer()
    chains = Chains()
    flush_of([first.send(), first.send()], chains)
    before = copy.deepcopy(chains.__dict__)
    point = Continues(first.chain_id, first.batch_seq - 1, first.head)
    second = world.Producer(nonce=world.digest("second"), continues=point)
    values = [first.send(), second.send(), second.send()]
    at = arrival(world.NOW + SECOND)
    examined = [examine(raw(i, v), at, PLACE, world.directory()) for i, v in enumerate(values)]
    trial = Trial(chains)
    judge(Scene().log, 0, examined, trial=trial, rules=RULES, stored={})
    assert chains.__dict__ != before
    trial.undo()
    assert chains.__dict__ == before


def test_judging_again_after_undo_gives_the_same_flush() -> None:
    producer = world.Producer()
    chains = Chains()
    values = [producer.send(), producer.send(), producer.heartbeat()]
    at = arrival(world.NOW + SECOND)
    examined = [examine(raw(i, v), at, PLACE, world.directory()) for i, v in enumerate(values)]
    trial = Trial(chains)
    first = judge(Scene().log, 0, examined, trial=trial, rules=RULES, stored={})
    trial.undo()
    again = judge(Scene().log, 0, examined, trial=Trial(chains), rules=RULES, stored={})
    assert first == again


def test_only_hashes_that_memory_lost_are_asked_for() -> None:
    producer = world.Producer()
    values = [producer.send(), producer.send()]
    chains = Chains()
    flush_of(values, chains)
    at = arrival(world.NOW + SECOND)
    examined = [examine(raw(9, values[0]), at, PLACE, world.directory())]
    assert needed(examined, chains) == set()
    chains.by_id[producer.chain_id].shed(1)
    assert needed(examined, chains) == {(producer.chain_id, 0)}


@pytest.mark.parametrize("claimed", ["orders", "billing"])
def test_what_is_refused_is_never_applied(claimed: str) -> None:
    identity = replace(world.IDENTITY, producer=claimed)
    producer = world.Producer(keys=(world.BILLING,), identity=identity)
    chains = Chains()
    flush = flush_of([producer.send()], chains)
    accepted = claimed == "billing"
    assert bool(chains.by_id) == accepted
    assert flush.judged[0].disposition.value == ("accepted" if accepted else "quarantined")
