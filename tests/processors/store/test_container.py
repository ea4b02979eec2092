"""The joined container by itself, read by another Avro implementation."""

import io
import random
from typing import Any

import fastavro
from tests.processors.store.making import NOW, Maker, event

from sealtrail import ids
from sealtrail_processor.judging.model import Log
from sealtrail_processor.store import container
from sealtrail_processor.store.container import Accepted


def accepted(*sizes: int, **changes: object) -> list[Accepted]:
    m = Maker(Log("l", "t", 0), **changes)  # type: ignore[arg-type] # a test's
    return [Accepted(j, j.batch) for j in m.accept(*sizes) if j.batch is not None]


def test_another_reader_finds_each_event_with_our_fields() -> None:
    chunk = accepted(3, 1, 2)
    body = b"".join(container.join(chunk, 2**63 - 7))
    found: list[Any] = list(fastavro.reader(io.BytesIO(body)))
    assert len(found) == 6
    flat = [(n, item, k) for n, item in enumerate(chunk) for k in range(item.rows)]
    for row, (record, (number, item, place)) in enumerate(zip(found, flat, strict=True)):
        statement = item.batch.statement
        assert record["_batch"] == number
        assert record["_event_id"] == ids.event_id(statement.chain_id, statement.first_seq + place)
        assert record["_leaf_hash"] == item.batch.leaf_hashes[place]
        assert int.from_bytes(record["_canary"], "big") == 2**63 - 7 + row


def test_months_and_schemas_get_containers_of_their_own() -> None:
    october = 1_790_812_800_000_000
    chunk = accepted(1, 2, 3, arrival=october - 1000)
    assert [[i.rows for i in c] for c in container.plan(chunk)] == [[1], [2, 3]]
    assert container.month(october) == 202610
    assert container.month(october - 1) == 202609


def test_containers_are_bounded() -> None:
    chunk = accepted(4, 4, 4, 1)
    assert [[i.rows for i in c] for c in container.plan(chunk, max_rows=8)] == [[4, 4], [4, 1]]
    size = chunk[0].size
    plans = container.plan(chunk, max_bytes=size + 1)
    assert [len(c) for c in plans] == [1, 1, 1, 1]


def test_a_batch_without_events_needs_no_container() -> None:
    m = Maker(Log("l", "t", 0))
    j = m.judged(m.batch([], kind="CLOSE"))
    assert j.batch is not None
    assert container.plan([Accepted(j, j.batch)]) == []


def test_varints() -> None:
    rng = random.Random(1)
    for number in (0, 1, 63, 64, 200_000, *(rng.randrange(2**40) for _ in range(50))):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, "long", number)
        assert container._long(number) == out.getvalue()


def test_a_container_is_about_as_large_as_it_says() -> None:
    chunk = accepted(10)
    assert abs(sum(map(len, container.join(chunk, 1))) - chunk[0].size) < 6_000
    assert NOW > 0
    assert event(random.Random(1)).encode()
