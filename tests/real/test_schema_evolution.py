"""The event's schema grows: on the real registry, through the worker, to the store and the proofs.

What the registry says is for people and tools; what the worker believes is the record that an
operator signed. So both ways are gone here: a schema that fits, one that does not, and messages
that are quicker than the record of their schema.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.conftest import Stack
from tests.scenarios.chains import TOPIC, Chain, Made, event, now_us
from tests.scenarios.scene import Scene

from sealtrail import avro, ids
from sealtrail.errors import ConfigurationError
from sealtrail.records import SchemaPin
from sealtrail.settings import load
from sealtrail.validate import event_subject
from sealtrail_producer.kafka import KafkaRegistry
from sealtrail_producer.settings import ProducerSettings

SUBJECT = event_subject(TOPIC)
PARTITION = 2
# Three servers, a worker and a store share the machine with whatever else it does.
PATIENCE_S = 300.0
_FATES = """
    SELECT partition, offset, disposition, code, events, batch_seq, from_partition, from_offset,
        toUnixTimestamp64Micro(arrival) AS at, time_source
    FROM sealtrail.committed_dispositions
    WHERE partition = {partition} AND {column} IN ({offsets}) ORDER BY offset
"""


@pytest.fixture(scope="module")
def scene(real_stack: Stack) -> Iterator[Scene]:
    """A worker on real servers; the SDK has registered this version's schemas."""
    with Scene.begin(stack=real_stack) as made:
        made.start_worker()
        made.open_services()
        made.emit(2)
        made.wait(
            "the first events", lambda: made.count("disposition = 'accepted'") >= 4, PATIENCE_S
        )
        yield made


def grown(name: str, **field: Any) -> str:
    """The event's schema with one field more."""
    schema = avro.load_schema("ProvenanceEvent")
    return json.dumps({**schema, "fields": [*schema["fields"], {"name": name, **field}]})


def grown_event(text: str) -> bytes:
    """An event under such a schema: Avro writes the last field last, length and text."""
    assert len(text) < 64
    return event() + bytes([2 * len(text)]) + text.encode()


def pin(schema: str) -> SchemaPin:
    return SchemaPin(
        SUBJECT, avro.fingerprint(avro.parse_json(schema)), now_us() - 60_000_000, schema
    )


def register(scene: Scene, schema: str) -> int:
    """As the SDK does it."""
    registry = KafkaRegistry(load(ProducerSettings, scene.stack.env), "orders")
    try:
        return registry.register(SUBJECT, schema, "FULL_TRANSITIVE")
    finally:
        registry.close()


def fates(scene: Scene, *offsets: int, column: str = "offset") -> list[dict[str, Any]]:
    """What became of messages; by `from_offset`: of those that were sent again."""
    listed = ", ".join(map(str, offsets))
    return scene.sql(_FATES.format(partition=PARTITION, column=column, offsets=listed))


def released(scene: Scene, *offsets: int) -> list[dict[str, Any]]:
    """Messages that were sent again and are good; another record may have them tried in vain."""
    found = fates(scene, *offsets, column="from_offset")
    return [fate for fate in found if fate["disposition"] == "released"]


def send(scene: Scene, made: Made) -> int:
    """Its offset."""
    offsets: list[int] = []
    producer = scene.producer()
    producer.produce(
        TOPIC,
        made.value,
        made.chain_id,
        partition=PARTITION,
        on_delivery=lambda _, message: offsets.append(message.offset()),
    )
    assert producer.flush(30) == 0
    return offsets[0]


def test_a_schema_that_fits_is_accepted_and_carried(scene: Scene):
    url = scene.stack.env["SEALTRAIL_REGISTRY_URL"]
    schema = grown("note", type="string", default="")
    before = httpx.get(f"{url}/subjects/{SUBJECT}/versions").json()
    number = register(scene, schema)
    assert httpx.get(f"{url}/subjects/{SUBJECT}/versions").json() == [*before, len(before) + 1]
    stored = httpx.get(f"{url}/schemas/ids/{number}").json()["schema"]
    # It writes the JSON anew; the schema is the same.
    assert avro.fingerprint(avro.parse_json(stored)) == pin(schema).fingerprint

    scene.register(pin(schema))
    scene.flush()
    chain = scene.chain("orders", PARTITION)
    events = [grown_event("first of its kind"), grown_event("and another")]
    made = chain.make(events, event_schema=pin(schema).fingerprint)
    at = send(scene, made)
    scene.wait("the new events", lambda: fates(scene, at), PATIENCE_S)
    (fate,) = fates(scene, at)
    assert (fate["disposition"], int(fate["events"])) == ("accepted", 2)
    # A row that SQL finds, a proof over the very bytes, and in them what only the new schema names.
    (shown,) = scene.ask("event", "show", ids.text(made.event_id(0)))
    assert shown["event"]["activity"] == "scenario.step"
    assert shown["event"]["note"] == "first of its kind"
    assert shown["proof"]["verified"] is True
    # Producers of the version before go on beside it.
    at = send(scene, scene.chain("billing", PARTITION).make())
    scene.wait("the old events", lambda: fates(scene, at), PATIENCE_S)
    assert fates(scene, at)[0]["disposition"] == "accepted"


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(grown("must", type="string"), id="field without a default"),
        pytest.param(
            json.dumps(
                {
                    **avro.load_schema("ProvenanceEvent"),
                    "fields": [
                        field | ({"type": "string"} if field["name"] == "occurred_at" else {})
                        for field in avro.load_schema("ProvenanceEvent")["fields"]
                    ],
                }
            ),
            id="field of another type",
        ),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(scene: Scene, schema: str):
    url = f"{scene.stack.env['SEALTRAIL_REGISTRY_URL']}/subjects/{SUBJECT}/versions"
    before = httpx.get(url).json()
    assert httpx.post(url, json={"schema": schema}).status_code == 409
    with pytest.raises(ConfigurationError, match=f"schema registry refuses {SUBJECT}"):
        register(scene, schema)
    assert httpx.get(url).json() == before


def test_messages_that_are_quicker_than_their_schema_wait_and_come_back_in_order(scene: Scene):
    schema = grown("reason", type="string", default="")
    chain = scene.chain("shipping", PARTITION)
    name = pin(schema).fingerprint
    sent = [
        send(scene, chain.make([grown_event(f"because {number}")], event_schema=name))
        for number in range(5)
    ]
    scene.wait("all parked", lambda: len(fates(scene, *sent)) == 5, PATIENCE_S)
    parked = fates(scene, *sent)
    assert {(fate["disposition"], fate["code"]) for fate in parked} == {
        ("parked", "UNKNOWN_SCHEMA")
    }
    assert len(scene.sql(f"SELECT 1 FROM provenance.events WHERE {_of(chain)}")) == 0

    # Long enough that an arrival of the release would be told apart from the first one.
    time.sleep(2)
    scene.register(pin(schema))
    scene.flush()
    scene.wait("all released", lambda: len(released(scene, *sent)) >= 5, PATIENCE_S)
    again = released(scene, *sent)
    # To the same partition (the question asks no other), in the order in which they were sent.
    assert {int(fate["from_partition"]) for fate in again} == {PARTITION}
    assert [int(fate["from_offset"]) for fate in again] == sent
    assert [int(fate["batch_seq"]) for fate in again] == list(range(5))
    assert [fate["at"] for fate in again] == [fate["at"] for fate in parked]
    rows = scene.sql(
        "SELECT seq, toUnixTimestamp64Micro(arrival) AS at FROM provenance.events "
        f"WHERE {_of(chain)} ORDER BY seq"
    )
    assert [(int(row["seq"]), row["at"]) for row in rows] == [
        (number, fate["at"]) for number, fate in enumerate(parked)
    ]
    # And the chain is whole: what comes now goes on from it.
    at = send(scene, chain.make([grown_event("and on")], event_schema=name))
    scene.wait("the next one", lambda: fates(scene, at), PATIENCE_S)
    assert fates(scene, at)[0]["disposition"] == "accepted"
    left = scene.sql(f"SELECT code FROM provenance.open_findings WHERE {_of(chain)}")
    assert {row["code"] for row in left} <= {"UNKNOWN_SCHEMA"}


def _of(chain: Chain) -> str:
    return f"chain_id = '{chain.chain_id.hex()}'"
