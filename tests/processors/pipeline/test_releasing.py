"""Parked messages that the store was not given: released from their topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import RULES, SECOND
from tests.processors.pipeline.shelf import LOG, Shelf, held, keys, releaser

from sealtrail.errors import UnavailableError
from sealtrail.findings import Code
from sealtrail.records import Directory
from sealtrail.validate import Refused, validate
from sealtrail_processor.judging import released
from sealtrail_processor.judging.model import Log, RawMessage
from sealtrail_processor.memory import MemoryPublisher
from sealtrail_processor.quarantine import originals
from sealtrail_processor.quarantine.releasing import AGAIN_US, AWAITED
from sealtrail_processor.reporting.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

KNOWN = f"no record of key {world.ORDERS.public_key.fingerprint.hex()}"
STRANGE = f"no record of key {world.STRANGER.public_key.fingerprint.hex()}"


class Scene:
    """A shelf, a releaser, and what it tells."""

    def __init__(self) -> None:
        self.shelf, self.publisher, self.metrics = Shelf([]), MemoryPublisher(), Metrics()
        self.now = world.NOW + SECOND
        self.keys = keys()
        # Offsets that were asked for, question by question.
        self.asked: list[list[int]] = []
        whole = self.shelf.broker.messages

        def messages(
            topic: str, partition: int, offsets: Sequence[int], most: int
        ) -> list[RawMessage | None]:
            self.asked.append(list(offsets))
            return whole(topic, partition, offsets, most)

        self.shelf.broker.messages = messages  # type: ignore[method-assign] # listens
        self.again()

    def again(self) -> None:
        """Another worker takes its place."""
        self.it = releaser(self.shelf, self.publisher, lambda: self.now, self.metrics)

    def run(self) -> int:
        return self.it.run([LOG], self.keys, lambda _: RULES)

    def counts(self) -> dict[str, int]:
        """Releases, by where the bytes were."""
        sample = self.metrics.registry.get_sample_value
        names = ("kept", "topic", "gone", "unread")
        found = {n: sample("sealtrail_releases_total", {"bytes": n}) for n in names}
        return {n: int(count) for n, count in found.items() if count}

    def acts(self) -> list[tuple[int, str]]:
        return [(a["offset"], a["act"]) for a in self.shelf.acts]

    def sent(self) -> list[bytes | None]:
        return [m.value for m in self.publisher.sent]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_the_store_has_not_is_read_from_the_topic_and_all_go_in_order(scene: Scene) -> None:
    good = world.Producer()
    values = [good.send() for _ in range(5)]
    for offset, value in enumerate(values, 1):
        if offset in (2, 3, 5):
            scene.shelf.beyond(offset, value, KNOWN)
        else:
            scene.shelf.held.append(held(offset, value))
    assert scene.run() == 5
    assert scene.sent() == values
    assert {m.partition for m in scene.publisher.sent} == {1}
    places = [h.coordinates for h in scene.shelf.held]
    assert [released.origin(m.headers) for m in scene.publisher.sent] == places
    assert {m.key for m in scene.publisher.sent} == {b"key"}
    assert scene.acts() == [(n, "released") for n in range(1, 6)]
    assert scene.asked == [[2, 3, 5]]
    assert scene.counts() == {"kept": 2, "topic": 3}
    # Its client lives no longer than the look.
    assert scene.shelf.broker.closed == 1
    assert scene.run() == 0


def test_what_still_waits_is_not_read_at_all(scene: Scene) -> None:
    good, strange = world.Producer(), world.Producer(keys=(world.STRANGER,))
    for offset in range(1, 5):
        one, detail = (good, KNOWN) if offset == 3 else (strange, STRANGE)
        scene.shelf.beyond(offset, one.send(), detail)
    assert scene.run() == 1
    assert scene.asked == [[3]]
    assert scene.acts() == [(3, "released")]


def test_what_waits_for_more_than_it_said_stays_parked(scene: Scene) -> None:
    both = world.Producer(keys=(world.ORDERS, world.STRANGER))
    scene.shelf.beyond(1, both.send(), KNOWN)
    assert scene.run() == 0
    assert scene.asked == [[1]]
    assert (scene.acts(), scene.shelf.findings) == ([], [])


@pytest.mark.parametrize(
    ("known", "value"),
    [
        (Directory(world.ROOT), world.Producer().send()),
        (Directory(world.ROOT), world.Producer().heartbeat()),
        (
            world.directory(),
            world.Producer(keys=(world.ORDERS, world.STRANGER)).send(),
        ),
    ],
)
def test_what_a_message_waits_for_is_read_from_what_is_on_record(
    known: Directory, value: bytes
) -> None:
    outcome = validate(value, RULES.place, world.NOW, known)
    assert isinstance(outcome, Refused)
    assert AWAITED.search(outcome.detail) is not None


def test_and_so_is_a_schema(scene: Scene) -> None:
    unpinned = Directory(world.ROOT)
    unpinned.add(world.signed(world.key_record(world.ORDERS)), world.NOW - world.DAY)
    value = world.Producer().send()
    outcome = validate(value, RULES.place, world.NOW, unpinned)
    assert isinstance(outcome, Refused)
    assert outcome.code is Code.UNKNOWN_SCHEMA
    scene.shelf.beyond(1, value, outcome.detail)
    scene.keys.directory = unpinned
    assert scene.run() == 0
    assert scene.asked == []
    scene.keys.directory, scene.keys.generation = world.directory(), 1
    assert scene.run() == 1
    assert scene.sent() == [value]


def gone(scene: Scene, offset: int, how: str) -> None:
    log = scene.shelf.broker.logs[1]
    at = next(n for n, m in enumerate(log) if m.offset == offset)
    if how == "no longer":
        del log[at]
    else:
        log[at] = RawMessage(offset, b"key", b"other", (), 0, append_time=False)


@pytest.mark.parametrize("how", ["no longer", "another digest"])
def test_what_is_gone_is_found_and_holds_up_nobody(scene: Scene, how: str) -> None:
    good = world.Producer()
    values = [good.send() for _ in range(3)]
    for offset, value in enumerate(values, 1):
        scene.shelf.beyond(offset, value, KNOWN)
    gone(scene, 2, how)
    assert scene.run() == 2
    assert scene.sent() == [values[0], values[2]]
    assert sorted(scene.acts()) == [(1, "released"), (2, "gone"), (3, "released")]
    (found,) = scene.shelf.findings
    assert (found["code"], found["offset"]) == ("DATA_LOSS_WINDOW", 2)
    assert scene.shelf.held[1].name in found["detail"]
    assert how in found["detail"]
    assert scene.counts() == {"topic": 2, "gone": 1}
    # Once, also by whoever comes after.
    scene.again()
    assert scene.run() == 0
    assert len(scene.shelf.findings) == 1


def test_of_another_life_of_the_topic_all_is_gone(scene: Scene) -> None:
    before = Log("cluster-0", LOG.topic, LOG.partition)
    good = world.Producer()
    scene.shelf.beyond(1, good.send(), KNOWN, before)
    scene.shelf.beyond(2, good.send(), KNOWN, before)
    scene.shelf.beyond(3, good.send(), KNOWN)
    assert scene.run() == 1
    assert [f["log_id"] for f in scene.shelf.findings] == ["cluster-0"] * 2
    assert all("another log" in f["detail"] for f in scene.shelf.findings)
    assert sorted(scene.acts()) == [(1, "gone"), (2, "gone"), (3, "released")]
    # Nobody reads in a log what lay in another.
    assert scene.asked == [[3]]


def test_what_cannot_be_read_waits_alone_and_is_asked_for_again(scene: Scene) -> None:
    good = world.Producer()
    values = [good.send() for _ in range(3)]
    for offset, value in enumerate(values, 1):
        scene.shelf.beyond(offset, value, KNOWN)
    scene.shelf.broker.unreadable = {2}
    assert scene.run() == 2
    assert scene.sent() == [values[0], values[2]]
    assert scene.counts() == {"topic": 2, "unread": 1}
    assert scene.run() == 0
    scene.now += AGAIN_US
    scene.shelf.broker.unreadable = set()
    assert scene.run() == 1
    assert scene.sent()[-1] == values[1]
    assert scene.shelf.findings == []
    scene.now += AGAIN_US
    asked = len(scene.asked)
    assert scene.run() == 0
    assert len(scene.asked) == asked


def test_nor_is_anything_gone_of_which_the_store_does_not_speak(scene: Scene) -> None:
    good = world.Producer()
    for offset in (1, 2):
        scene.shelf.beyond(offset, good.send(), KNOWN)
    del scene.shelf.digests[scene.shelf.held[0].coordinates]
    assert scene.run() == 1
    assert scene.acts() == [(2, "released")]
    assert scene.counts() == {"topic": 1, "unread": 1}


def test_a_broker_that_is_away_leaves_everything_as_it_was(scene: Scene) -> None:
    value = world.Producer().send()
    scene.shelf.beyond(1, value, KNOWN)
    scene.shelf.broker.away = True
    with pytest.raises(UnavailableError):
        scene.run()
    assert (scene.acts(), scene.shelf.findings) == ([], [])
    scene.shelf.broker.away = False
    assert scene.run() == 1
    assert scene.sent() == [value]


def test_so_many_bytes_are_read_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    good = world.Producer()
    values = [good.send() for _ in range(7)]
    for offset, value in enumerate(values, 1):
        scene.shelf.beyond(offset, value, KNOWN)
    monkeypatch.setattr(originals, "BYTES", 2 * min(map(len, values)))
    assert scene.run() == 7
    assert scene.sent() == values
    assert [len(asked) for asked in scene.asked] == [7, 5, 3, 1]


@pytest.mark.parametrize("room", [0, 1])
def test_a_worker_that_dies_between_two_steps_is_followed_by_one_that_does_both(
    scene: Scene, room: int
) -> None:
    """Told or sent, and not written down: once more, with the same words."""
    good = world.Producer()
    values = [good.send() for _ in range(2)]
    for offset, value in enumerate(values, 1):
        scene.shelf.beyond(offset, value, KNOWN)
    gone(scene, 1, "no longer")
    # The finding, what is gone, what was released: three inserts.
    scene.shelf.room = room
    with pytest.raises(UnavailableError):
        scene.run()
    scene.shelf.room = 1_000_000
    scene.again()
    assert scene.run() == 1
    assert scene.acts() == [(1, "gone"), (2, "released")]
    assert len({f["finding_id"] for f in scene.shelf.findings}) == 1


def test_and_what_was_sent_is_sent_again(scene: Scene) -> None:
    value = world.Producer().send()
    scene.shelf.beyond(1, value, KNOWN)
    scene.shelf.room = 0
    with pytest.raises(UnavailableError):
        scene.run()
    assert scene.acts() == []
    scene.shelf.room = 1
    scene.again()
    assert scene.run() == 1
    first, second = scene.publisher.sent
    assert first == second
    assert scene.acts() == [(1, "released")]


def test_a_look_at_many_takes_several_turns_and_goes_on_within_a_page(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = world.Producer()
    values = [good.send() for _ in range(4)]
    for offset, value in enumerate(values, 1):
        scene.shelf.beyond(offset, value, KNOWN)
    monkeypatch.setattr(originals, "BYTES", 1)
    times = iter(range(world.NOW, world.NOW + 100 * SECOND, SECOND))
    scene.it = releaser(scene.shelf, scene.publisher, lambda: next(times), scene.metrics)
    turns = [scene.run() for _ in range(6)]
    assert sum(turns) == 4
    assert max(turns) == 1
    assert scene.sent() == values
