"""The embedded stack as a whole."""

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from tests.conftest import Stack


def test_broker_listens_on_the_configured_port_and_advertises_it(stack: Stack):
    client = AdminClient({"bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]})
    metadata = client.list_topics(timeout=5)
    assert {name: len(topic.partitions) for name, topic in metadata.topics.items()} == {
        "provenance.events": 4,
        "provenance.keys": 1,
        "provenance.quarantine": 1,
        "provenance.alerts": 1,
        "provenance.heads": 1,
    }
    (broker,) = metadata.brokers.values()
    assert f"{broker.host}:{broker.port}" == stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]
    assert len(metadata.cluster_id) == 22


def test_idempotent_producer_is_acknowledged(stack: Stack):
    errors = []
    producer = Producer(
        {
            "bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"],
            "enable.idempotence": True,
        }
    )
    producer.produce("provenance.heads", b"x", on_delivery=lambda e, _: errors.append(e))
    assert producer.flush(10) == 0
    assert errors == [None]
