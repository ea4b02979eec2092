"""Real servers on this machine: `sealtrail local up --real`."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from tests.conftest import Stack, real_variables
from tests.local.test_stack import command
from tests.real.conftest import Secured

from sealtrail.errors import ConfigurationError
from sealtrail.settings import load
from sealtrail_local import stack as stack_module
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

TOPICS = {
    "provenance.events": 4,
    "provenance.keys": 1,
    "provenance.quarantine": 1,
    "provenance.alerts": 1,
    "provenance.heads": 1,
}


def clients(stack: Stack) -> dict[str, str]:
    """Properties of clients of a stack that asks nobody who they are."""
    return {"bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]}


def produce(client: Mapping[str, str], topic: str, value: bytes, seconds: float = 30) -> int:
    """The offset that a message got; sent once, whatever happens to a leader meanwhile."""
    offsets: list[int] = []

    def delivered(error: Any, message: Any) -> None:
        assert error is None, error
        offsets.append(message.offset())

    producer = Producer({**client, "acks": "all", "enable.idempotence": True})
    producer.produce(topic, value, key=b"k", partition=0, on_delivery=delivered)
    assert producer.flush(seconds) == 0
    return offsets[0]


def read(client: Mapping[str, str], topic: str, offset: int):
    """The message at an offset."""
    consumer = Consumer({**client, "group.id": "tests-real"})
    consumer.assign([TopicPartition(topic, 0, offset)])
    message = consumer.poll(30)
    consumer.close()
    return message


def test_all_is_there(real_stack: Stack):
    done = command({"SEALTRAIL_STATE_DIR": str(real_stack.state_dir)}, "status", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["service"], row["state"]) for row in rows] == [
        ("broker-1", "running"),
        ("registry", "running"),
        ("store", "running"),
    ]
    assert [row["pid"] for row in rows] == [real_stack.pid(row["service"]) for row in rows]
    client = AdminClient({"bootstrap.servers": real_stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]})
    found = client.list_topics(timeout=10).topics
    assert {n: len(t.partitions) for n, t in found.items() if n in TOPICS} == TOPICS
    resource = ConfigResource(ConfigResource.Type.TOPIC, "provenance.keys")
    (answer,) = client.describe_configs([resource]).values()
    assert answer.result()["cleanup.policy"].value == "compact"


def test_arrival_is_the_brokers(real_stack: Stack):
    offset = produce(clients(real_stack), "provenance.quarantine", b"x")
    kind, milliseconds = read(clients(real_stack), "provenance.quarantine", offset).timestamp()
    assert kind == 2  # LogAppendTime
    assert abs(milliseconds / 1000 - time.time()) < 60


def test_incompatible_schemas_are_refused_by_default(real_stack: Stack):
    url = real_stack.env["SEALTRAIL_REGISTRY_URL"]
    assert httpx.get(f"{url}/config").json() == {"compatibilityLevel": "FULL_TRANSITIVE"}


def test_what_was_written_outlives_kills(real_stack: Stack):
    offset = produce(clients(real_stack), "provenance.alerts", b"kept")
    url = real_stack.env["SEALTRAIL_REGISTRY_URL"]
    schema = json.dumps({"type": "enum", "name": "Kept", "symbols": ["A"]})
    answer = httpx.post(f"{url}/subjects/kept/versions", json={"schema": schema})
    number = answer.json()["id"]
    for name in ("registry", "broker-1"):
        real_stack.kill(name)
        assert command(dict(real_stack.env), "status").returncode == 3
        real_stack.start(name)
    assert read(clients(real_stack), "provenance.alerts", offset).value() == b"kept"
    assert httpx.get(f"{url}/schemas/ids/{number}").json()["schema"] == schema.replace(" ", "")


def test_a_stack_of_another_kind_is_not_mixed_in(real_stack: Stack):
    state = {"SEALTRAIL_STATE_DIR": str(real_stack.state_dir)}
    done = command(state, "up", "--embedded")
    assert done.returncode == 3
    assert "another kind of stack runs" in done.stderr
    done = command(state, "up", "--brokers", "3")
    assert done.returncode == 3
    assert "has 1 brokers, not 3" in done.stderr
    # And what ran last is what `up` means.
    assert command(state, "up").returncode == 0


def test_three_brokers_serve_without_one(secured: Secured):
    stack, superuser = secured.stack, secured.kafka(secure.BOOTSTRAP)
    metadata = AdminClient({**superuser}).list_topics(timeout=10)
    assert sorted(metadata.brokers) == [1, 2, 3]
    assert all(
        len(p.replicas) == 3 for p in metadata.topics["provenance.events"].partitions.values()
    )
    leader = f"broker-{metadata.topics['provenance.alerts'].partitions[0].leader}"
    first = produce(superuser, "provenance.alerts", b"1")
    stack.kill(leader)
    assert produce(superuser, "provenance.alerts", b"2", 60) == first + 1
    stack.start(leader)
    stack.freeze(leader)
    assert produce(superuser, "provenance.alerts", b"3", 60) == first + 2
    stack.thaw(leader)
    assert read(superuser, "provenance.alerts", first).value() == b"1"


def test_two_brokers_are_none(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="SEALTRAIL_LOCAL_BROKERS is 1 or 3"):
        load(LocalSettings, real_variables(tmp_path, 2))


def test_a_port_of_a_controller_is_named_when_it_is_taken(real_stack: Stack, tmp_path: Path):
    port = int(real_stack.env["SEALTRAIL_LOCAL_KAFKA_PORT"]) - 1
    env = real_variables(tmp_path) | {"SEALTRAIL_LOCAL_KAFKA_PORT": str(port)}
    with pytest.raises(ConfigurationError, match=f"port {port + 1}, wanted for the broker-1"):
        stack_module.up(load(LocalSettings, env), print)
