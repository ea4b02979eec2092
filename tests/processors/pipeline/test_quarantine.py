"""Out of quarantine: what is shown of hostile bytes, and what is sent again."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from tests.contract import world
from tests.processors.pipeline.scenes import RULES, SECOND, raw
from tests.processors.pipeline.shelf import LOG, Shelf, held, keys, releaser

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.findings import Code, Disposition
from sealtrail_processor.commands import quarantine as quarantine_cli
from sealtrail_processor.judging import released
from sealtrail_processor.judging.model import RECEIPT, Flush, Judged
from sealtrail_processor.memory import MemoryPublisher
from sealtrail_processor.quarantine import advice, dissect
from sealtrail_processor.quarantine import held as quarantine
from sealtrail_processor.quarantine.held import dismiss, release


def test_only_what_can_be_judged_now_is_released_and_in_order() -> None:
    known, unknown = world.Producer(), world.Producer(keys=(world.STRANGER,))
    shelf = Shelf([held(1, known.send()), held(2, unknown.send()), held(3, known.send())])
    publisher, reader = MemoryPublisher(), keys()
    worker = releaser(shelf, publisher, lambda: world.NOW + SECOND)
    assert worker.run([LOG], reader, lambda _: RULES) == 2
    assert [m.value for m in publisher.sent] == [shelf.held[0].value, shelf.held[2].value]
    assert {m.partition for m in publisher.sent} == {1}
    assert [a["offset"] for a in shelf.acts] == [1, 3]
    assert [a["new_offset"] for a in shelf.acts] == [0, 1]
    assert released.origin(publisher.sent[0].headers) == shelf.held[0].coordinates


def test_large_ones_are_read_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = world.Producer(keys=(world.STRANGER,))
    large = [held(n, strangers.send()) for n in range(9)]
    monkeypatch.setattr(quarantine, "BYTES", 3 * large[-1].size)
    shelf = Shelf([*large, held(9, world.Producer().send()), held(10, bytes(quarantine.BYTES + 1))])
    worker = releaser(shelf, MemoryPublisher(), lambda: world.NOW)
    # What is no longer unknown, and what is nothing at all.
    assert worker.run([LOG], keys(), lambda _: RULES) == 2
    assert sum(shelf.read) == sum(h.size for h in shelf.held)
    # One that is larger than that is read alone.
    assert shelf.read[-1] == quarantine.BYTES + 1
    assert all(size <= quarantine.BYTES for size in shelf.read[:-1])


def test_a_look_at_many_takes_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "PAGE", 2)
    known, strangers = world.Producer(), world.Producer(keys=(world.STRANGER,))
    shelf = Shelf([held(n, (known if n % 2 else strangers).send()) for n in range(7)])
    reader, now = keys(), itertools.count(world.NOW, SECOND)
    worker = releaser(shelf, MemoryPublisher(), lambda: next(now))
    turns = [worker.run([LOG], reader, lambda _: RULES) for _ in range(12)]
    assert sum(turns) == 3
    assert max(turns) == 1
    assert turns[-1] == 0


def test_a_look_judges_all_by_the_same_records_whatever_our_clock_says() -> None:
    producer = world.Producer()
    shelf = Shelf([held(1, producer.send()), held(2, producer.send())])
    reader = keys()
    worker = releaser(shelf, MemoryPublisher(), lambda: 0)
    reader.latest = 0  # the record that follows is for the next look
    assert worker.run([LOG], reader, lambda _: RULES) == 0
    reader.latest, reader.generation = world.NOW, 1
    assert worker.run([LOG], reader, lambda _: RULES) == 2


def test_it_looks_again_only_when_keys_or_partitions_changed() -> None:
    shelf, publisher, reader = Shelf([]), MemoryPublisher(), keys()
    worker = releaser(shelf, publisher, lambda: world.NOW)
    assert worker.run([LOG], reader, lambda _: RULES) == 0
    shelf.held = [held(1, world.Producer().send())]
    assert worker.run([LOG], reader, lambda _: RULES) == 0
    reader.generation += 1
    assert worker.run([LOG], reader, lambda _: RULES) == 1
    # What another worker has parked in a partition that it has given back.
    shelf.held = [held(2, world.Producer().send())]
    assert worker.run([LOG], reader, lambda _: RULES) == 0
    worker.loaded()
    assert worker.run([LOG], reader, lambda _: RULES) == 1


@pytest.mark.parametrize(
    ("producer", "changes", "looks"),
    [
        (world.Producer(), {}, True),
        (world.Producer(keys=(world.STRANGER,)), {}, False),
        # Else it would go round and round.
        (world.Producer(), {"released_from": ("cluster-1", world.TOPIC, 1, 0)}, False),
        (world.Producer(), {"disposition": Disposition.QUARANTINED}, False),
    ],
)
def test_it_looks_again_when_keys_came_before_the_commit(
    producer: world.Producer, changes: dict[str, Any], *, looks: bool
) -> None:
    shelf, reader = Shelf([]), keys()
    worker = releaser(shelf, MemoryPublisher(), lambda: world.NOW)
    assert worker.run([LOG], reader, lambda _: RULES) == 0
    message = raw(1, producer.send())
    shelf.held = [held(1, message.value)]
    judged = Judged(message, world.NOW, RECEIPT, Disposition.PARKED)
    worker.committed(Flush(LOG, 1, (replace(judged, **changes),)), reader, lambda _: RULES)
    read = len(shelf.read)
    assert worker.run([LOG], reader, lambda _: RULES) == int(looks)
    assert (len(shelf.read) > read) == looks


def test_a_broker_that_is_away_leaves_everything_as_it_was() -> None:
    shelf, publisher, reader = Shelf([held(1, world.Producer().send())]), MemoryPublisher(), keys()
    publisher.away = True
    worker = releaser(shelf, publisher, lambda: world.NOW)
    with pytest.raises(UnavailableError):
        worker.run([LOG], reader, lambda _: RULES)
    assert shelf.acts == []
    publisher.away = False
    assert worker.run([LOG], reader, lambda _: RULES) == 1


def test_a_message_released_again_names_where_it_lay_last() -> None:
    old = (("traceparent", b"00"), *released.headers(("elsewhere", "t", 0, 9)))
    shelf, publisher = Shelf([]), MemoryPublisher()
    release(shelf, publisher, [held(5, b"x", headers=old)], world.NOW)  # type: ignore[arg-type] # a part
    [message] = publisher.sent
    assert message.headers == (("traceparent", b"00"), *released.headers((*_place(), 5)))


def _place() -> tuple[str, str, int]:
    return LOG.log_id, LOG.topic, LOG.partition


def shown(value: bytes | None, **changes: Any) -> dict[str, Any]:
    return dissect.dissect(held(1, value, **changes), world.directory(), RULES.place, world.NOW)


def test_what_can_be_decoded_is_shown() -> None:
    producer = world.Producer()
    found = shown(producer.send())
    assert found["statement"]["producer"] == "orders"
    assert (found["envelope"]["events"], found["envelope"]["signature_bytes"]) == (3, [64])
    assert [e["event_type"] for e in found["events"]] == ["CREATE"] * 3
    assert found["signers"][0]["producer"] == "orders"
    beat = shown(producer.heartbeat())
    assert beat["statement"]["batch_seq"] == 0


def test_what_would_pass_today_is_worth_a_replay() -> None:
    found = shown(world.Producer().send())
    assert found["judged_today"] == "steps 1 to 9 hold"
    assert found["next"].endswith("sealtrail quarantine replay cluster-1:provenance.events:1:1")
    stranger = shown(world.Producer(keys=(world.STRANGER,)).send())
    assert stranger["judged_today"].startswith("UNKNOWN_KEY at step 3")
    assert stranger["next"] == advice.NEXT[Code.UNKNOWN_KEY]
    assert stranger["signers"][0]["producer"] is None
    assert stranger["failed_step"] == "3: signatures"


@pytest.mark.parametrize(
    ("value", "where"),
    [(None, "framing"), (b"", "framing"), (b"junk", "framing"), (b"\0\0\0\0\7junk", "envelope")],
)
def test_what_cannot_is_said(value: bytes | None, where: str) -> None:
    found = shown(value)
    assert "statement" not in found
    assert found["unreadable"].startswith(where)
    assert found.get("value") == value


def test_an_envelope_with_an_unreadable_statement() -> None:
    found = shown(world.framed(world.seal(b"junk", ())))
    assert found["unreadable"].startswith("statement")
    assert found["envelope"]["statement_bytes"] == 4


def test_headers_are_text_where_they_can_be() -> None:
    found = shown(b"", headers=(("a", b"text"), ("b", b"\xff")))
    assert found["headers"] == [["a", "text"], ["b", b"\xff"]]


def test_each_code_that_refuses_has_its_advice() -> None:
    refused = {c for c in Code if list(Code).index(c) <= list(Code).index(Code.UNKNOWN_SCHEMA)}
    # These are accepted as long as the chain has room.
    assert set(advice.NEXT) == refused | {Code.GAP, Code.FORK}
    assert "another version" in advice.next_step("OF_TOMORROW", passes_now=False, name="x")


def test_a_dismissed_message_is_written_down_and_nothing_is_sent() -> None:
    shelf = Shelf([held(1, b"x"), held(2, b"y")])
    dismiss(shelf, shelf.held[:1], world.NOW)  # type: ignore[arg-type] # a part
    assert [(a["offset"], a["act"], a["new_offset"]) for a in shelf.acts] == [(1, "dismissed", 0)]
    dismiss(shelf, [], world.NOW)  # type: ignore[arg-type] # a part
    assert len(shelf.acts) == 1


@pytest.mark.parametrize("name", ["", "1", "a:b:c:d", "a:b:1:-2", "a:b:1", f"a:b:1:{'9' * 5_000}"])
def test_ids_that_are_none(name: str) -> None:
    with pytest.raises(ConfigurationError):
        quarantine_cli._one(Shelf([]), name)  # type: ignore[arg-type] # never asked


@pytest.mark.parametrize("command", [("list",), ("replay",), ("dismiss", "--reason", "junk")])
def test_a_finding_that_there_is_not_is_no_empty_list(command: tuple[str, ...]) -> None:
    said = CliRunner().invoke(quarantine_cli.quarantine_command, [*command, "--code", "BAD_ROTO"])
    assert said.exit_code == 2
    assert "no finding is called 'BAD_ROTO'" in said.output
    assert quarantine_cli.finding("bad_root") == "BAD_ROOT"


def test_an_act_that_leaves_some_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(store: Any, condition: str, parameters: Any, *, limit: int) -> list[Any]:
        del store, condition, parameters
        return [held(n, b"x") for n in range(3)][:limit]

    monkeypatch.setattr(quarantine, "entries", entries)
    remarks: list[str] = []
    output = SimpleNamespace(remark=remarks.append)
    for most, told in ((3, 0), (2, 1)):
        monkeypatch.setattr(quarantine_cli, "ACT_MESSAGES", most)
        chosen = quarantine_cli._chosen(output, Shelf([]), (), "MALFORMED")  # type: ignore[arg-type] # what it uses of them
        assert [entry.offset for entry in chosen] == [*range(most)]
        assert len(remarks) == told
    assert remarks[0].startswith("the first 2 of them")
