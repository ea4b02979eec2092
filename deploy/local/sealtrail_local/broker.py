"""The broker's process: librdkafka's own broker, in memory, on a fixed loopback port."""

import logging
import signal
import threading
from typing import Final

from sealtrail_local.mock_cluster import MockCluster
from sealtrail_local.settings import LocalSettings

_HOST: Final = "127.0.0.1"

_log = logging.getLogger(__name__)


def topics(settings: LocalSettings) -> dict[str, int]:
    """Topics of the pipeline with their numbers of partitions.

    They are made at the start: the broker answers no CreateTopics, and would give an unknown topic
    that somebody asks for a number of partitions of its own.
    """
    return {
        **dict.fromkeys((settings.topic, *settings.local_topics), settings.partitions),
        settings.keys_topic: 1,
        settings.quarantine_topic: 1,
        settings.alerts_topic: 1,
        settings.heads_topic: 1,
    }


def run(settings: LocalSettings) -> None:
    """Serve the broker until SIGTERM or SIGINT.

    Args:
        settings: port, topics and partitions.

    Raises:
        ConfigurationError: the port is taken.
        UnavailableError: librdkafka is not as expected.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    cluster = MockCluster(_HOST, settings.local_kafka_port, topics(settings))
    try:
        _log.info("cluster %s on port %d", cluster.cluster_id, settings.local_kafka_port)
        stop.wait()
    finally:
        cluster.close()
