"""Each operation of Kafka, tried once by one client: True when the brokers let it.

What would do harm is tried in a way that ends before it does: by a validation alone, or on what is
not there. The brokers look at rights first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WAIT_S = 20.0
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
# What the brokers answer to somebody who may do it, when there is nothing to do.
NOTHING_TO_DO = {
    KafkaError.TOPIC_ALREADY_EXISTS,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.GROUP_ID_NOT_FOUND,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NON_EMPTY_GROUP,
}


class Attempts:
    """One client.

    Args:
        properties: librdkafka's.
        group: a group that it may ask for; reading needs a name of one.
    """

    def __init__(self, properties: Mapping[str, str], group: str) -> None:
        self._properties: dict[str, Any] = {**properties, "log_level": 0}
        self._group = group
        self._admin = AdminClient(self._properties)
        self._producer = Producer({**self._properties, "message.timeout.ms": int(WAIT_S * 1000)})

    def may(self, kind: str, name: str, operation: str) -> bool:
        """Try it."""
        attempt: Callable[[str], bool] = getattr(self, f"_{kind}_{operation.lower()}")
        return attempt(name)

    # -- topics -----------------------------------------------------------------------------------

    def _topic_read(self, name: str) -> bool:
        if not self._topic_describe(name):
            # Who may read may also ask where: that the brokers do not tell is their denial.
            return False
        reading = {
            "group.id": self._group,
            "enable.partition.eof": True,
            # At its end a client waits for the group to take what it has read, which a role that
            # may not use the group is never told.
            "enable.auto.commit": False,
        }
        consumer = Consumer({**self._properties, **reading})
        try:
            consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
            while True:
                message = consumer.poll(WAIT_S)
                assert message is not None, f"nothing heard of {name}"
                error = message.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    return True
                if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    return False
                # A group that is denied is told too; what counts is the topic.
                assert error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED, error
        finally:
            consumer.close()

    def _topic_write(self, name: str) -> bool:
        errors: list[Any] = []
        try:
            self._producer.produce(
                name,
                value=b"try",
                key=b"try",
                partition=0,
                on_delivery=lambda e, _: errors.append(e),
            )
        except KafkaException as error:
            # What it was told of the topic before.
            return self._judged(error.args[0])
        assert self._producer.flush(WAIT_S) == 0, f"nothing heard of {name}"
        return self._judged(errors[0])

    def _topic_describe(self, name: str) -> bool:
        return self._judged(self._admin.list_topics(name, timeout=WAIT_S).topics[name].error)

    def _topic_create(self, name: str) -> bool:
        return self._asked(
            lambda: self._admin.create_topics([NewTopic(name, 1, 1)], validate_only=True)
        )

    def _topic_delete(self, name: str) -> bool:
        return self._asked(lambda: self._admin.delete_topics([name]))

    def _topic_alter(self, name: str) -> bool:
        less = [NewPartitions(name, 1)]
        return self._asked(lambda: self._admin.create_partitions(less, validate_only=True))

    def _topic_alter_configs(self, name: str) -> bool:
        return self._altered(ResourceType.TOPIC, name, "segment.bytes")

    def _topic_describe_configs(self, name: str) -> bool:
        return self._asked(
            lambda: self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)])
        )

    # -- groups -----------------------------------------------------------------------------------

    def _group_read(self, name: str) -> bool:
        moved = ConsumerGroupTopicPartitions(name, [TopicPartition("provenance.alerts", 0, 0)])
        return self._asked(lambda: self._admin.alter_consumer_group_offsets([moved]))

    def _group_describe(self, name: str) -> bool:
        return self._asked(lambda: self._admin.describe_consumer_groups([name]))

    def _group_delete(self, name: str) -> bool:
        return self._asked(lambda: self._admin.delete_consumer_groups([name]))

    # -- the cluster ------------------------------------------------------------------------------

    def _cluster_create(self, _name: str) -> bool:
        return self._topic_create("nobodys.topic")

    def _cluster_alter(self, _name: str) -> bool:
        return self._asked(lambda: self._admin.delete_acls([_nobodys()]))

    def _cluster_describe(self, _name: str) -> bool:
        # Not by describe_acls: librdkafka makes an empty list of a denial. The brokers are asked
        # what they let this client do.
        found = self._answer(
            lambda: {"": self._admin.describe_cluster(include_authorized_operations=True)}
        )
        return AclOperation.DESCRIBE in (found.authorized_operations or ())

    def _cluster_alter_configs(self, _name: str) -> bool:
        return self._altered(ResourceType.BROKER, "1", "log.cleaner.backoff.ms")

    def _cluster_describe_configs(self, _name: str) -> bool:
        return self._asked(
            lambda: self._admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")])
        )

    # -- answers ----------------------------------------------------------------------------------

    def _altered(self, kind: ResourceType, name: str, setting: str) -> bool:
        entry = ConfigEntry(setting, "20000000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(kind, name, incremental_configs=[entry])
        return self._asked(
            lambda: self._admin.incremental_alter_configs([resource], validate_only=True)
        )

    def _asked(self, question: Callable[[], Mapping[Any, Any]]) -> bool:
        try:
            answer = self._answer(question)
        except KafkaException as error:
            return self._judged(error.args[0])
        return self._judged(_partitions_error(answer))

    @staticmethod
    def _answer(question: Callable[[], Mapping[Any, Any]]) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            (future,) = question().values()
            try:
                return future.result(WAIT_S)
            except KafkaException as error:
                # Its own troubles (negative: a connection ended) are no answer of the brokers.
                if error.args[0].code() >= 0 or time.monotonic() > deadline:
                    raise

    @staticmethod
    def _judged(error: KafkaError | None) -> bool:
        if error is None or error.code() in NOTHING_TO_DO:
            return True
        assert error.code() in DENIED, error
        return False


def _partitions_error(answer: Any) -> KafkaError | None:
    """Of a commit of offsets: it is told for each partition whether the group was denied."""
    for partition in getattr(answer, "topic_partitions", ()):
        error: KafkaError | None = partition.error
        if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return error
    return None


def _nobodys() -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.TOPIC,
        "nobodys.topic",
        ResourcePatternType.LITERAL,
        "User:nobody",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
