"""The pipeline's topics on real brokers: made before anything asks for them."""

from typing import TYPE_CHECKING, Final

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_local import addresses, health
from sealtrail_local.broker import topics

if TYPE_CHECKING:
    from sealtrail_local.settings import LocalSettings

_TIMEOUT_S: Final = 30.0


def create_missing(settings: "LocalSettings") -> None:
    """Make the topics that are not there, and see that the others are as the settings say.

    Raises:
        UnavailableError: the brokers do not answer.
        ConfigurationError: there are topics with other partitions.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.cimpl import NewTopic

    replicas = addresses.brokers(settings)
    wanted = [
        NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=replicas,
            # The last record of each key is all that counts of it.
            config={"cleanup.policy": "compact"} if name == settings.keys_topic else {},
        )
        for name, partitions in topics(settings).items()
    ]
    client = health.admin(addresses.bootstrap(settings))
    try:
        for made in client.create_topics(wanted, operation_timeout=_TIMEOUT_S).values():
            try:
                made.result(_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
    except (KafkaException, TimeoutError) as error:
        raise UnavailableError(f"topics cannot be made: {error}") from error
    missing = health.other_topics(settings)
    if missing:
        raise ConfigurationError(
            f"the brokers have topics with other partitions: {', '.join(missing)}",
            hint="SEALTRAIL_PARTITIONS must be as at the first start of this state directory",
        )
