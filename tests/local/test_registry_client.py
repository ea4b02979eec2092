"""confluent-kafka's registry client and serializers against the running registry."""

import json
import uuid

import httpx
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from tests.conftest import Stack, running_stack
from tests.local.conftest import kill

from sealtrail.settings import load
from sealtrail_local import stack as stack_module
from sealtrail_local.settings import LocalSettings

TEXT = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "namespace": "shop",
        "doc": "an order",
        "fields": [
            {
                "name": "at",
                "type": {"type": "long", "logicalType": "timestamp-micros"},
                "default": 0,
            },
            {"name": "note", "type": ["null", "string"], "default": None},
        ],
    }
)


def client_of(stack: Stack) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": stack.env["SEALTRAIL_REGISTRY_URL"]})


def test_serializer_round_trip(stack: Stack):
    topic = f"orders-{uuid.uuid4().hex}"
    context = SerializationContext(topic, MessageField.VALUE)
    with client_of(stack) as client:
        data = AvroSerializer(client, TEXT)({"at": 5, "note": "x"}, context)
    schema_id = int.from_bytes(data[1:5], "big")
    with client_of(stack) as client:  # another one: nothing cached
        assert client.get_schema(schema_id).schema_type == "AVRO"
        assert AvroDeserializer(client)(data, context)["note"] == "x"
        assert client.get_latest_version(f"{topic}-value").schema_id == schema_id


def test_client_calls(stack: Stack):
    with client_of(stack) as client:
        use(client, f"s-{uuid.uuid4().hex}")


def use(client: SchemaRegistryClient, subject: str) -> None:
    client.set_compatibility(subject, "FULL_TRANSITIVE")
    assert client.get_compatibility(subject) == "FULL_TRANSITIVE"
    schema_id = client.register_schema(subject, Schema(TEXT, "AVRO"))
    assert client.register_schema(subject, Schema(TEXT, "AVRO")) == schema_id
    assert client.lookup_schema(subject, Schema(TEXT, "AVRO")).version == 1
    assert json.loads(client.get_schema(schema_id).schema_str) == json.loads(TEXT)
    assert client.get_versions(subject) == [1]
    assert client.get_version(subject, 1).schema_id == schema_id
    assert subject in client.get_subjects()
    bad = Schema('{"type":"record","name":"Order","fields":[{"name":"x","type":"int"}]}', "AVRO")
    assert not client.test_compatibility(subject, bad)
    with pytest.raises(SchemaRegistryError) as caught:
        client.register_schema(subject, bad)
    assert (caught.value.http_status_code, caught.value.error_code) == (409, 409)
    with pytest.raises(SchemaRegistryError) as caught:
        client.get_latest_version("nosuch")
    assert caught.value.error_code == 40401
    assert client.get_global_mode() == "READWRITE"
    assert client.delete_version(subject, 1) == 1
    assert subject not in client.get_subjects()


def test_our_own_schemas_register(stack: Stack):
    from sealtrail import resources

    folder = resources.path("schemas")
    with client_of(stack) as client:
        for file in ("ProvenanceEvent.avsc", "BatchStatement.avsc"):
            subject = f"own-{uuid.uuid4().hex}"
            client.set_compatibility(subject, "FULL_TRANSITIVE")
            text = (folder / file).read_text(encoding="utf-8")
            schema_id = client.register_schema(subject, Schema(text, "AVRO"))
            assert json.loads(client.get_schema(schema_id).schema_str) == json.loads(text)


def test_web_pages_are_kept_away(stack: Stack):
    url = stack.env["SEALTRAIL_REGISTRY_URL"]
    assert httpx.get(f"{url}/subjects", headers={"Host": "evil.example"}).status_code == 403
    page = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    answer = httpx.put(f"{url}/config", content='{"compatibility":"NONE"}', headers=page)
    assert answer.status_code == 403


def test_ids_survive_sigkill():
    with running_stack() as stack:
        settings = load(LocalSettings, stack.env)
        known: dict[str, int] = {}
        for turn in range(3):
            with client_of(stack) as client:
                for i in range(10):
                    subject = f"s{turn}-{i}"
                    text = f'{{"type":"fixed","name":"F{turn}{i}","size":{i + 1}}}'
                    known[subject] = client.register_schema(subject, Schema(text, "AVRO"))
            kill(stack, "registry")
            stack_module.up(settings, print)
            with client_of(stack) as client:
                assert {s: client.get_latest_version(s).schema_id for s in known} == known
        assert len(set(known.values())) == 30
