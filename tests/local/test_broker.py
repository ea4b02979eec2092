"""The broker is whole from the first connection on."""

import socket
import threading
import time

import pytest
from confluent_kafka.admin import AdminClient
from tests.conftest import free_ports

from sealtrail.errors import ConfigurationError
from sealtrail_local.mock_cluster import MockCluster

TOPICS = {f"topic-{i}": 1 + i % 5 for i in range(10)}


def test_nobody_sees_half_a_broker():
    (port,) = free_ports(1)
    seen: list[tuple[str, dict[str, int]]] = []

    def ask() -> None:
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
        answer = client.list_topics(timeout=20)
        topics = {name: len(topic.partitions) for name, topic in answer.topics.items()}
        seen.append((answer.cluster_id, topics))

    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(0.2)
    cluster = MockCluster("127.0.0.1", port, TOPICS)
    asker.join()
    cluster.close()
    assert seen == [(cluster.cluster_id, TOPICS)]


def test_a_taken_port():
    with socket.socket() as blocker:
        blocker.bind(("127.0.0.1", 0))
        blocker.listen()
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            MockCluster("127.0.0.1", blocker.getsockname()[1], {})
