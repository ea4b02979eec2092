"""What operators ask of Kafka and change there: topics, their settings, access lists.

What is to be done is decided in `topics` and `access`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from sealtrail.errors import UnavailableError
from sealtrail_processor.kafka.access import Change, Entry, Right
from sealtrail_processor.kafka.client import ADMIN_ROLE, LOOK_AT_SETTINGS, rdkafka
from sealtrail_processor.kafka.topics import Act, Step, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TIMEOUT_S = 15.0
_USER = "User:"
_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}


class KafkaAdmin:
    """An operator's connection.

    Args:
        config: librdkafka's.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        # Kept for as long as answers are awaited: a collected client fails them.
        self._client = _ask(lambda: AdminClient(dict(config), logger=rdkafka))
        # It first talks to the addresses of the settings, and fails what it asked there once it
        # knows the brokers by number: so they are asked for first.
        _ask(lambda: self._client.list_topics(timeout=TIMEOUT_S))

    def topics(self, names: Sequence[str]) -> dict[str, Topic]:
        """Those of the named topics that exist, with the settings that they were given.

        Raises:
            UnavailableError: the cluster does not say.
        """
        listed = _ask(lambda: self._client.list_topics(timeout=TIMEOUT_S)).topics
        there = [name for name in names if name in listed and listed[name].partitions]
        configs = self._given({name: ConfigResource(ResourceType.TOPIC, name) for name in there})
        found = {}
        for name in there:
            partitions = listed[name].partitions.values()
            # Where a reassignment is under way they differ: the least is what can be relied on.
            replication = min(len(p.replicas) for p in partitions)
            found[name] = Topic(name, len(partitions), replication, configs[name])
        return found

    def _given(self, resources: Mapping[str, ConfigResource]) -> dict[str, dict[str, str]]:
        if not resources:
            return {}
        answers = _ask(
            lambda: self._client.describe_configs(
                list(resources.values()), request_timeout=TIMEOUT_S
            )
        )
        return {
            name: {
                entry.name: str(entry.value)
                for entry in _ask(answers[resource].result).values()
                if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
            }
            for name, resource in resources.items()
        }

    def members(self, group: str) -> int:
        """How many consumers are in a group now.

        Raises:
            UnavailableError: the cluster does not say.
        """
        answers = _ask(
            lambda: self._client.describe_consumer_groups([group], request_timeout=TIMEOUT_S)
        )
        return len(_ask(answers[group].result).members)

    def apply(self, steps: Sequence[Step], wanted: Sequence[Topic]) -> None:
        """Do what a plan of topics says, except for what it refuses.

        Raises:
            UnavailableError: the cluster does not do it.
        """
        by_name = {topic.name: topic for topic in wanted}
        new = [by_name[step.topic] for step in steps if step.act is Act.CREATE]
        if new:
            self._all(
                self._client.create_topics(
                    [
                        NewTopic(t.name, t.partitions, t.replication, config=dict(t.config))
                        for t in new
                    ],
                    request_timeout=TIMEOUT_S,
                )
            )
        for step in steps:
            if step.act is Act.GROW:
                grown = NewPartitions(step.topic, int(step.wanted))
                self._all(self._client.create_partitions([grown], request_timeout=TIMEOUT_S))
        changed = {step.topic for step in steps if step.act is Act.SET}
        for topic in sorted(changed):
            entries = [
                ConfigEntry(step.what, step.wanted, incremental_operation=AlterConfigOpType.SET)
                for step in steps
                if step.act is Act.SET and step.topic == topic
            ]
            resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
            self._all(self._client.incremental_alter_configs([resource], request_timeout=TIMEOUT_S))

    def entries(self) -> list[Entry]:
        """All lines of all access lists.

        Raises:
            UnavailableError: the cluster does not say, or not to us.
        """
        self._refuse_the_blind()
        # Its types say that it takes no None; nothing else stands for "any".
        any_: Any = None
        anything = AclBindingFilter(
            ResourceType.ANY,
            any_,
            ResourcePatternType.ANY,
            any_,
            any_,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        future = self._client.describe_acls(anything, request_timeout=TIMEOUT_S)
        return [_entry(binding) for binding in _ask(future.result)]

    def _refuse_the_blind(self) -> None:
        # librdkafka takes the denial of a list for an empty one: all would look ungranted.
        described = self._client.describe_cluster(
            include_authorized_operations=True, request_timeout=TIMEOUT_S
        )
        if AclOperation.DESCRIBE not in (_ask(described.result).authorized_operations or ()):
            raise UnavailableError(
                "Kafka: access lists are not shown to this client", hint=ADMIN_ROLE
            )

    def change(self, changes: Sequence[Change]) -> None:
        """Grant and take back as a plan of access says, except for what it refuses.

        Raises:
            UnavailableError: the cluster does not do it.
        """
        granted = [_binding(c.entry) for c in changes if c.act == "grant"]
        revoked = [_filter(c.entry) for c in changes if c.act == "revoke"]
        if granted:
            self._all(self._client.create_acls(granted, request_timeout=TIMEOUT_S))
        if revoked:
            self._all(self._client.delete_acls(revoked, request_timeout=TIMEOUT_S))

    @staticmethod
    def _all(futures: Mapping[Any, Any]) -> None:
        for future in futures.values():
            _ask(future.result)


def _entry(binding: Any) -> Entry:
    kind = _KIND_OF.get(binding.restype, binding.restype.name.lower())
    prefixed = binding.resource_pattern_type is ResourcePatternType.PREFIXED
    return Entry(
        binding.principal.removeprefix(_USER),
        Right(kind, binding.name, prefixed, binding.operation.name),
        binding.host,
        binding.permission_type is AclPermissionType.DENY,
    )


def _binding(entry: Entry) -> AclBinding:
    return AclBinding(*_fields(entry))


def _filter(entry: Entry) -> AclBindingFilter:
    return AclBindingFilter(*_fields(entry))


def _fields(entry: Entry) -> tuple[Any, ...]:
    right = entry.right
    return (
        _KINDS[right.kind],
        right.name,
        ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
        _USER + entry.principal,
        entry.host,
        AclOperation[right.operation],
        AclPermissionType.DENY if entry.denies else AclPermissionType.ALLOW,
    )


_DENIED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


def _ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except KafkaException as error:
        first = error.args[0]
        denied = first.code() in _DENIED
        raise UnavailableError(
            f"Kafka: {first.str()}",
            hint=ADMIN_ROLE if denied else LOOK_AT_SETTINGS,
        ) from None
