"""The only package that imports confluent_kafka: brokers, schema registry, group offsets."""

from sealtrail_producer.kafka.clients import check_identity, config
from sealtrail_producer.kafka.group import KafkaGroup
from sealtrail_producer.kafka.registry import KafkaRegistry
from sealtrail_producer.kafka.topics import publish, read_all
from sealtrail_producer.kafka.transport import KafkaTransport

__all__ = [
    "KafkaGroup",
    "KafkaRegistry",
    "KafkaTransport",
    "check_identity",
    "config",
    "publish",
    "read_all",
]
