"""Messages that come again from quarantine: judged by the keys of now, at their first arrival."""

from dataclasses import replace

import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, Scene

from sealtrail.records import Directory, Revocation
from sealtrail_processor.judging import released


class TestReleased:
    """A parked message that comes again when its key is known."""

    def parked(self) -> tuple[Scene, bytes]:
        identity = replace(world.IDENTITY, producer="strange")
        producer = world.Producer(keys=(world.STRANGER,), identity=identity)
        scene = Scene()
        value = producer.send()
        scene.append(value, at=world.NOW + SECOND)
        scene.run()
        assert scene.dispositions() == ["parked"]
        record = world.signed(world.key_record(world.STRANGER, "strange"))
        scene.directory.add(record, world.NOW + 60 * SECOND)
        return scene, value

    def test_it_is_judged_by_the_keys_of_now_with_its_first_arrival(self) -> None:
        scene, value = self.parked()
        headers = released.headers((scene.log.log_id, world.TOPIC, 1, 0))
        scene.append(value, at=world.NOW + 90 * SECOND, headers=headers)
        scene.run()
        [_, judged] = scene.ledger.judged()
        assert judged.disposition.value == "released"
        assert (judged.arrival, judged.time_source) == (world.NOW + SECOND, "ORIGINAL")
        assert judged.released_from == (scene.log.log_id, world.TOPIC, 1, 0)

    def test_headers_alone_make_nobody_early(self) -> None:
        scene, value = self.parked()
        headers = released.headers((scene.log.log_id, world.TOPIC, 1, 77))
        scene.append(value, at=world.NOW + 90 * SECOND, headers=headers)
        other = world.Producer().send()
        claims = released.headers((scene.log.log_id, world.TOPIC, 1, 0))
        scene.append(other, at=world.NOW + 91 * SECOND, headers=claims)
        scene.run()
        assert [(j.disposition.value, j.arrival - world.NOW) for j in scene.ledger.judged()] == [
            ("parked", SECOND),
            ("accepted", 90 * SECOND),
            ("accepted", 91 * SECOND),
        ]

    def test_a_quarantined_message_that_is_replayed_keeps_its_arrival_too(self) -> None:
        """Its key had no right to the topic; the operators mend the record."""
        scene = Scene(directory=Directory(world.ROOT))
        wrong = world.key_record(world.ORDERS, topics=("elsewhere",))
        mended = world.successor(wrong, topics=(world.TOPIC,))
        for record, at in ((wrong, 0), (world.schema_pin(), 0), (mended, world.NOW + 60 * SECOND)):
            scene.directory.add(world.signed(record), at)
        value = world.Producer().send()
        scene.append(value, at=world.NOW + SECOND)
        partition = scene.run()
        headers = released.headers((scene.log.log_id, world.TOPIC, 1, 0))
        for seconds in (50, 90):
            scene.append(value, at=world.NOW + seconds * SECOND, headers=headers)
            scene.run(partition)
        assert [(j.disposition.value, j.arrival - world.NOW) for j in scene.ledger.judged()] == [
            ("quarantined", SECOND),
            ("quarantined", SECOND),
            ("released", SECOND),
        ]

    def test_a_replay_does_not_turn_time_back_for_a_compromised_key(self) -> None:
        scene = Scene()
        compromised = Revocation(world.NOW, "COMPROMISED")
        ended = world.successor(world.key_record(world.ORDERS), revocation=compromised)
        scene.directory.add(world.signed(ended), world.NOW)
        value = world.Producer().send()
        scene.append(value, at=world.NOW + SECOND)
        partition = scene.run()
        headers = released.headers((scene.log.log_id, world.TOPIC, 1, 0))
        scene.append(value, at=world.NOW + 90 * SECOND, headers=headers)
        scene.run(partition)
        assert scene.dispositions() == ["quarantined", "quarantined"]
        assert scene.codes() == ["KEY_REVOKED", "KEY_REVOKED"]

    def test_twice_is_once(self) -> None:
        scene, value = self.parked()
        headers = released.headers((scene.log.log_id, world.TOPIC, 1, 0))
        scene.append(value, value, at=world.NOW + 90 * SECOND, headers=headers)
        scene.run()
        assert scene.dispositions() == ["parked", "released", "duplicate"]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("sealtrail-released-log-id", b"x"),),
        tuple(
            (f"sealtrail-released-{n}", b"\xff") for n in ("log-id", "topic", "partition", "offset")
        ),
        tuple(
            (f"sealtrail-released-{n}", b"x") for n in ("log-id", "topic", "partition", "offset")
        ),
        tuple((f"sealtrail-released-{n}", b"1") for n in ("a", "b", "c", "d")),
    ],
)
def test_unreadable_release_headers_are_none(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert released.origin(headers) is None


def test_release_headers_go_round() -> None:
    where = ("cluster/é", "topic", 3, 2**40)
    own = (("traceparent", b"00"), *released.headers(where))
    assert released.origin(own) == where
    assert released.strip(own) == (("traceparent", b"00"),)
