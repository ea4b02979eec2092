"""Out of quarantine: what is shown of hostile bytes, and what is sent again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import RULES, SECOND

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_processor import cli, released
from sealtrail_processor.keys_reader import KeysReader
from sealtrail_processor.memory import MemoryKeys, MemoryPublisher
from sealtrail_processor.model import Log
from sealtrail_processor.quarantine import Held, Releaser, release

LOG = Log("cluster-1", world.TOPIC, 1)


class Shelf:
    """A store with rows of quarantine, as its SQL would page through them."""

    def __init__(self, held: list[Held]) -> None:
        self.held = held
        self.acts: list[dict[str, Any]] = []

    def query(self, sql: str, parameters: Any) -> list[Any]:
        done = {(a["log_id"], a["topic"], a["partition"], a["offset"]) for a in self.acts}
        after = (parameters["after"], parameters["log_id"], parameters["offset"])
        return [
            (
                *h.coordinates,
                h.arrival,
                (h.key or b"").hex(),
                (h.value or b"").hex(),
                [(n.encode().hex(), v.hex()) for n, v in h.headers],
                h.key is None,
                h.value is None,
                h.disposition,
                h.code,
                h.step,
                h.detail,
            )
            for h in self.held
            if (h.arrival, h.log.log_id, h.offset) > after and h.coordinates not in done
        ]

    def insert(self, table: str, columns: Any, rows: Any, token: str) -> None:
        assert table == "quarantine_acts"
        self.acts += [dict(zip(columns, row, strict=True)) for row in rows]


def held(offset: int, value: bytes | None, **changes: Any) -> Held:
    headers = changes.pop("headers", ())
    why = ("parked", "UNKNOWN_KEY", 3, "no record")
    return Held(LOG, offset, world.NOW + offset, b"key", value, headers, *why)


def keys() -> KeysReader:
    topic = MemoryKeys()
    return KeysReader(world.directory(), topic, topic, lambda: "", lambda: world.NOW)


def test_only_what_can_be_judged_now_is_released_and_in_order() -> None:
    known, unknown = world.Producer(), world.Producer(keys=(world.STRANGER,))
    shelf = Shelf([held(1, known.send()), held(2, unknown.send()), held(3, known.send())])
    publisher, reader = MemoryPublisher(), keys()
    releaser = Releaser(shelf, publisher, lambda: world.NOW + SECOND)  # type: ignore[arg-type] # a part
    assert releaser.run([LOG], reader, lambda _: RULES) == 2
    assert [m.value for m in publisher.sent] == [shelf.held[0].value, shelf.held[2].value]
    assert {m.partition for m in publisher.sent} == {1}
    assert [a["offset"] for a in shelf.acts] == [1, 3]
    assert [a["new_offset"] for a in shelf.acts] == [0, 1]
    assert released.origin(publisher.sent[0].headers) == shelf.held[0].coordinates


def test_it_looks_again_only_when_keys_or_partitions_changed() -> None:
    shelf, publisher, reader = Shelf([]), MemoryPublisher(), keys()
    releaser = Releaser(shelf, publisher, lambda: world.NOW)  # type: ignore[arg-type] # a part
    assert releaser.run([LOG], reader, lambda _: RULES) == 0
    shelf.held = [held(1, world.Producer().send())]
    assert releaser.run([LOG], reader, lambda _: RULES) == 0
    reader.generation += 1
    assert releaser.run([LOG], reader, lambda _: RULES) == 1


def test_a_broker_that_is_away_leaves_everything_as_it_was() -> None:
    shelf, publisher, reader = Shelf([held(1, world.Producer().send())]), MemoryPublisher(), keys()
    publisher.away = True
    releaser = Releaser(shelf, publisher, lambda: world.NOW)  # type: ignore[arg-type] # a part
    with pytest.raises(UnavailableError):
        releaser.run([LOG], reader, lambda _: RULES)
    assert shelf.acts == []
    publisher.away = False
    assert releaser.run([LOG], reader, lambda _: RULES) == 1


def test_a_message_released_again_names_where_it_lay_last() -> None:
    old = (("traceparent", b"00"), *released.headers(("elsewhere", "t", 0, 9)))
    shelf, publisher = Shelf([]), MemoryPublisher()
    release(shelf, publisher, [held(5, b"x", headers=old)], world.NOW)  # type: ignore[arg-type] # a part
    [message] = publisher.sent
    assert message.headers == (("traceparent", b"00"), *released.headers((*_place(), 5)))


def _place() -> tuple[str, str, int]:
    return LOG.log_id, LOG.topic, LOG.partition


def test_what_can_be_decoded_is_shown() -> None:
    producer = world.Producer()
    shown = cli.decoded(held(1, producer.send()))
    assert shown["statement"]["producer"] == "orders"
    assert (shown["events"], shown["signatures"]) == (3, 1)
    beat = cli.decoded(held(1, producer.heartbeat()))
    assert beat["statement"]["batch_seq"] == 0


@pytest.mark.parametrize("value", [None, b"", b"junk", b"\x00\x00\x00\x00\x07junk"])
def test_what_cannot_is_said(value: bytes | None) -> None:
    shown = cli.decoded(held(1, value))
    assert "statement" not in shown
    assert ("unreadable" in shown) == (value is not None)


def test_an_envelope_with_an_unreadable_statement() -> None:
    shown = cli.decoded(held(1, world.framed(world.seal(b"junk", ()))))
    assert "statement_unreadable" in shown


@pytest.mark.parametrize("name", ["", "1", "a:b:c:d", "a:b:1:-2", "a:b:1"])
def test_ids_that_are_none(name: str) -> None:
    with pytest.raises(ConfigurationError):
        cli._one(Shelf([]), name)  # type: ignore[arg-type] # never asked
