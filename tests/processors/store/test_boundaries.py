"""One event may not hold two records, swallow its neighbour or end too early: nothing is stored."""

import dataclasses
import secrets
from collections.abc import Callable

import pytest
from tests.processors.store.making import Make, Maker, event

from sealtrail.event import Actor, EntityRef
from sealtrail.findings import Disposition
from sealtrail_processor.judging.model import BoundaryBroken
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink

TABLES = (
    "events",
    "edges_by_parent",
    "edges_by_child",
    "entity_events",
    "batches",
    "payloads",
    "dispositions",
    "findings",
    "commits",
)


def stored(store: ClickHouseStore, log_id: str) -> dict[str, int]:
    return {
        table: store.query(
            f"SELECT count() FROM {table} WHERE log_id = {{log:String}}", {"log": log_id}
        )[0][0]
        for table in TABLES
    }


def two_records(m: Maker) -> bytes:
    return event(m.rng).encode() + event(m.rng).encode()


def swallows_its_neighbour(m: Maker) -> bytes:
    # One commitment that begins with the last bytes and ends in what follows: our fields.
    whole = event(m.rng, commitments=(m.rng.randbytes(32),)).encode()
    return whole[:-10]


def swallows_a_whole_record(m: Maker) -> bytes:
    # A last field whose length covers our fields, the next event and ours behind it.
    return event(m.rng).encode()[:-1] + b"\x14" + m.rng.randbytes(32) * 2


def malformed_tail(m: Maker) -> bytes:
    return event(m.rng).encode()[:-3]


def one_byte_more(m: Maker) -> bytes:
    return event(m.rng).encode() + b"\x00"


def a_terabyte_of_text(m: Maker) -> bytes:
    made = event(m.rng, activity="MARK").encode()
    at = made.index(b"\x08MARK")
    return made[:at] + b"\xfe\xff\xff\xff\xff\x3f" + made[at + 1 :]


def text_that_is_none(m: Maker) -> bytes:
    return event(m.rng, activity="abcdef").encode().replace(b"abcdef", b"abc\xff\xfe\xfd")


def text_that_is_none_in_an_entity(m: Maker) -> bytes:
    made = event(m.rng, inputs=(EntityRef("n", "abcdef", "v"),)).encode()
    return made.replace(b"abcdef", b"abc\xff\xfe\xfd")


def an_attribute_twice(m: Maker) -> bytes:
    made = event(m.rng, attributes={"aa": "1", "ab": "2"}).encode()
    return made.replace(b"\x04ab", b"\x04aa")


def unknown_enum_symbol(m: Maker) -> bytes:
    # event_type follows the salt.
    made = event(m.rng, salt=b"S" * 16, actor=Actor("a"))
    data = made.encode()
    at = data.index(b"S" * 16) + 16
    return data[:at] + b"\x7e" + data[at + 1 :]


@pytest.mark.parametrize(
    "hostile",
    [
        two_records,
        swallows_its_neighbour,
        swallows_a_whole_record,
        malformed_tail,
        one_byte_more,
        a_terabyte_of_text,
        text_that_is_none,
        text_that_is_none_in_an_entity,
        an_attribute_twice,
        unknown_enum_symbol,
    ],
)
def test_a_hostile_event_is_named_and_nothing_is_stored(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, hostile: Callable[[Maker], bytes]
):
    m = maker()
    honest = m.accept(5, 3)
    bad = m.judged(m.batch([event(m.rng).encode(), hostile(m), event(m.rng).encode()]))
    after = m.accept(4)
    with pytest.raises(BoundaryBroken) as raised:
        sink.write(m.flush([*honest, bad, *after]))
    assert raised.value.offsets == (bad.message.offset,)
    assert stored(store, m.log.log_id) == dict.fromkeys(TABLES, 0)
    # What the caller does then: the offender is judged again, the rest is written.
    refused = dataclasses.replace(bad, batch=None, disposition=Disposition.QUARANTINED)
    sink.write(m.flush([*honest, refused, *after]))
    assert stored(store, m.log.log_id)["events"] == 12


def test_two_offenders_in_several_inserts_are_both_named(store: ClickHouseStore, maker: Make):
    small = ClickHouseSink(store, secrets.randbits, max_rows=6)
    m = maker()
    judged = [
        *m.accept(4, 4),
        m.judged(m.batch([two_records(m)])),
        *m.accept(4),
        m.judged(m.batch([malformed_tail(m)])),
        *m.accept(5),
    ]
    with pytest.raises(BoundaryBroken) as raised:
        small.write(m.flush(judged))
    assert raised.value.offsets == (2, 4)
    assert stored(store, m.log.log_id) == dict.fromkeys(TABLES, 0)


def test_the_last_event_of_all_may_hold_nothing_more(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    with pytest.raises(BoundaryBroken):
        sink.write(m.flush([m.judged(m.batch([event(m.rng).encode(), two_records(m)]))]))


def test_events_that_copy_the_fields_of_ours_do_not_pass(store: ClickHouseStore, maker: Make):
    """Whoever knew the secret could forge a boundary: it is new for each insert."""
    seen = []

    def bits(count: int) -> int:
        seen.append(secrets.randbits(count))
        return seen[-1]

    sink = ClickHouseSink(store, bits)
    m = maker()
    for judged in m.accept(1, 1, 1):
        sink.write(m.flush([judged]))
    assert len(set(seen)) == 3
