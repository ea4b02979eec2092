"""What was parked beyond its bytes, on a real topic that drops some of it before the key comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.scenarios.chains import TOPIC
from tests.scenarios.scene import Scene

from sealtrail.event import EventType
from sealtrail.settings import load
from sealtrail_producer import Trail
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

LATE = "late"
COUNT, DROPPED = 7, 3


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Servers of its own: their topic loses messages."""
    with Scene.begin(real=True) as made:
        made.start_worker(env={"SEALTRAIL_PARKED_BYTES_PER_HOUR": "1"})
        yield made


def listed(scene: Scene, state: str) -> list[dict[str, Any]]:
    return [q for q in scene.ask("quarantine", "list") if q["state"] == state]


def test_what_the_topic_dropped_is_found_and_all_behind_it_comes(scene: Scene) -> None:
    scene.run("keys", "new", "--producer", LATE)
    settings = load(ProducerSettings, scene.stack.env)
    with Trail.from_env(LATE, settings=settings, batch_events=1) as trail:
        for _ in range(COUNT):
            trail.emit("late.step", event_type=EventType.TRANSFORM)
        assert trail.flush(60)
    scene.wait("they are parked", lambda: len(listed(scene, "parked")) >= COUNT)
    parked = sorted(listed(scene, "parked"), key=lambda q: int(q["id"].rpartition(":")[2]))
    assert all(q["detail"].startswith("not kept: ") for q in parked)
    (number,) = {int(q["id"].split(":")[-2]) for q in parked}
    first = int(parked[DROPPED]["id"].rpartition(":")[2])
    admin = AdminClient({"bootstrap.servers": scene.stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]})
    (dropped,) = admin.delete_records([TopicPartition(TOPIC, number, first)]).values()
    dropped.result(30)

    scene.run("keys", "register", "--producer", LATE)
    scene.wait("the others", lambda: scene.count("disposition = 'released'") >= COUNT - DROPPED)
    gone = parked[:DROPPED]
    scene.wait("nothing is parked", lambda: not listed(scene, "parked"))
    assert {q["id"] for q in listed(scene, "gone")} == {q["id"] for q in gone}
    found = scene.sql(
        "SELECT partition, offset, detail FROM sealtrail.committed_findings "
        "WHERE code = 'DATA_LOSS_WINDOW' ORDER BY offset"
    )
    assert [f"{f['partition']}:{f['offset']}" for f in found] == [
        ":".join(q["id"].split(":")[-2:]) for q in gone
    ]
    assert all("its topic has them no longer" in f["detail"] for f in found)
    refused = scene.call("quarantine", "replay", gone[0]["id"])
    assert refused.returncode
    assert "its topic has them no longer" in refused.stderr.replace("\n", " ")
    scene.run("audit", "conservation")
    names = [q["id"] for q in gone]
    scene.run("quarantine", "dismiss", *names, "--reason", "dropped by the topic")
    assert listed(scene, "gone") == []
