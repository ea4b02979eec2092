"""Key records: counted from their arrival, kept before they count, given back to a broker."""

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND

from sealtrail.errors import UnavailableError
from sealtrail.records import Directory, Revocation
from sealtrail_processor.judging.keys_reader import KeysReader
from sealtrail_processor.judging.model import RawMessage
from sealtrail_processor.memory import MemoryKeys, MemoryPublisher

ORDERS = world.ORDERS.public_key.fingerprint


def message(offset: int, value: bytes | None, at: int | None = None) -> tuple[int, RawMessage]:
    stamped = at is not None
    return 0, RawMessage(offset, ORDERS.hex().encode(), value, (), at or 5, append_time=stamped)


def reader(keys: MemoryKeys, now: int = world.NOW) -> KeysReader:
    made = KeysReader(Directory(world.ROOT), keys, keys, lambda: "cluster-1", lambda: now)
    made.load()
    return made


def test_a_record_counts_from_its_arrival_on() -> None:
    keys = MemoryKeys(unread=[message(0, world.signed(world.key_record(world.ORDERS)), world.NOW)])
    made = reader(keys)
    made.refresh()
    assert (made.generation, made.latest) == (1, world.NOW)
    assert made.directory.key(ORDERS, world.NOW) is not None
    assert made.directory.key(ORDERS, world.NOW - 1) is None


def test_without_log_append_time_from_when_a_worker_saw_it_first() -> None:
    record = world.signed(world.key_record(world.ORDERS))
    keys = MemoryKeys(unread=[message(0, record)])
    reader(keys, world.NOW).refresh()
    keys.unread = [message(0, record)]
    later = reader(keys, world.NOW + 60 * SECOND)
    later.refresh()
    assert later.directory.key(ORDERS, world.NOW) is not None
    assert [r.arrival for r in keys.records] == [world.NOW]


def test_nothing_counts_before_it_is_kept() -> None:
    keys = MemoryKeys(unread=[message(0, world.signed(world.key_record(world.ORDERS)))], away=True)
    made = reader(keys)
    with pytest.raises(UnavailableError):
        made.refresh()
    assert made.directory.key(ORDERS, 2**62) is None
    keys.away = False
    made.refresh()
    assert made.directory.key(ORDERS, 2**62) is not None


def test_what_operators_did_not_sign_is_not_kept() -> None:
    forged = world.signed(world.key_record(world.STRANGER), world.STRANGER)
    keys = MemoryKeys(unread=[message(0, forged), message(1, b"junk"), message(2, None)])
    made = reader(keys)
    made.refresh()
    assert keys.records == []
    assert made.rejected == 2


def test_a_broker_that_lost_its_records_gets_them_again() -> None:
    keys = MemoryKeys(unread=[message(0, world.signed(world.key_record(world.ORDERS)))])
    reader(keys).refresh()
    publisher = MemoryPublisher()
    anew = reader(keys)
    anew.refresh()
    assert anew.restore(publisher) == 1
    assert [m.value for m in publisher.sent] == [keys.records[0].value]
    assert anew.restore(publisher) == 0


def test_a_broker_that_has_them_gets_none() -> None:
    record = world.signed(world.key_record(world.ORDERS))
    keys = MemoryKeys(unread=[message(0, record)])
    reader(keys).refresh()
    keys.unread = [message(7, record)]  # compacted: an older version is gone, the key is there
    made = reader(keys)
    made.refresh()
    assert made.restore(MemoryPublisher()) == 0


def test_operators_change_and_what_they_signed_before_stays() -> None:
    key = world.signed(world.key_record(world.ORDERS))
    root = world.signed(
        world.ROOT.successor(1, [world.OPERATOR_2.public_key]), world.OPERATOR, world.OPERATOR_2
    )
    late = world.key_record(world.BILLING, "billing")
    keys = MemoryKeys(
        unread=[
            message(0, key, world.NOW),
            message(1, root, world.NOW + SECOND),
            message(2, world.signed(late), world.NOW + 2 * SECOND),
            message(3, world.signed(late, world.OPERATOR_2), world.NOW + 3 * SECOND),
        ]
    )
    made = reader(keys)
    made.refresh()
    assert [r.offset for r in keys.records] == [0, 1, 3]
    assert made.rejected == 1
    assert made.directory.key(ORDERS, world.NOW) is not None
    billing = world.BILLING.public_key.fingerprint
    assert made.directory.key(billing, world.NOW + 2 * SECOND) is None
    assert made.directory.key(billing, world.NOW + 3 * SECOND) is not None
    # A worker that starts anew comes to the same answers from the store alone.
    again = reader(MemoryKeys(records=keys.records))
    assert again.directory.roots.newest == made.directory.roots.newest
    assert again.directory.key(billing, world.NOW + 3 * SECOND) == late
    # Copies of what counted are no offence, whoever the operators are now.
    keys.unread = [message(9, key, world.NOW + 9 * SECOND), message(10, root, world.NOW)]
    made.refresh()
    assert (made.rejected, made.generation) == (1, 3)


def test_an_older_record_that_is_replayed_changes_nothing() -> None:
    first = world.key_record(world.ORDERS)
    ended = world.successor(first, revocation=Revocation(world.NOW, "COMPROMISED"))
    keys = MemoryKeys(
        unread=[
            message(0, world.signed(first), world.NOW),
            message(1, world.signed(ended), world.NOW + SECOND),
            message(2, world.signed(first), world.NOW + 2 * SECOND),
            message(3, None, world.NOW + 3 * SECOND),
        ]
    )
    made = reader(keys)
    made.refresh()
    assert made.directory.key(ORDERS, world.NOW + 9 * SECOND) == ended
    assert reader(MemoryKeys(records=keys.records)).directory.key(ORDERS, 2**62) == ended
