"""A secured stack, with producers that have keys and one client that has no business there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.conftest import Stack, running_stack

from sealtrail import connections
from sealtrail.settings import CommonSettings, load
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

PRODUCERS = ("billing", "orders")
STRANGER = "mallory"
PATIENCE_S = 60.0
COMMAND = (sys.executable, "-c", "from sealtrail.cli import main; main()")


@dataclass(frozen=True)
class Secured:
    """A secured stack.

    Attributes:
        stack: it.
    """

    stack: Stack

    def run(self, *arguments: str, code: int = 0, **variables: str) -> list[dict[str, str]]:
        """Run a command with --json on it; what it printed."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SEALTRAIL_")}
        done = subprocess.run(
            [*COMMAND, *arguments, "--json"],
            env={**plain, **self.stack.env, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout) if done.stdout else []

    def kafka(self, name: str, how: str = "scram") -> dict[str, str]:
        """Librdkafka's properties of a client, with its password or its certificate."""
        local = load(LocalSettings, self.stack.env)
        if name == secure.BOOTSTRAP:
            return secure.properties(local)
        variables = dict(self.stack.env)
        if how == "mtls":
            variables |= secure.superuser(local)
            variables["SEALTRAIL_KAFKA_CERT_FILE"] = str(secure.certificates(local).file(name))
        return connections.librdkafka(load(CommonSettings, variables), name)

    def settle(self) -> None:
        """Until each broker has taken in what was changed before: users, access lists.

        It all stands in one log, which brokers follow in order. So a broker that leads a topic made
        just now knows everything that is older, and nothing that a test tries is denied too early.
        """
        properties: dict[str, Any] = {**self.kafka(secure.BOOTSTRAP), "log_level": 0}
        topic = f"settled.{time.monotonic_ns()}"
        admin = AdminClient(properties)
        brokers = sorted(admin.list_topics(timeout=PATIENCE_S).brokers)
        wanted = NewTopic(
            topic,
            len(brokers),
            replica_assignment=[[number] for number in brokers],
            config={"min.insync.replicas": "1"},
        )
        [made] = admin.create_topics([wanted]).values()
        made.result(PATIENCE_S)
        errors: list[object] = []
        producer = Producer({**properties, "enable.idempotence": True})
        for partition in range(len(brokers)):
            producer.produce(
                topic, b"x", partition=partition, on_delivery=lambda e, _: errors.append(e)
            )
        assert producer.flush(PATIENCE_S) == 0
        assert errors == [None] * len(brokers)
        [gone] = admin.delete_topics([topic]).values()
        gone.result(PATIENCE_S)


@pytest.fixture(scope="session")
def secured() -> Iterator[Secured]:
    """A secured stack of three brokers, from its first use to the last test.

    Who kills one starts it again.
    """
    with running_stack(real=True, brokers=3, secure=True) as stack:
        found = Secured(stack)
        named = [word for name in PRODUCERS for word in ("--producer", name)]
        found.run("keys", "setup-dev", *named)
        found.run("local", "client", *PRODUCERS, STRANGER, "sealtrail-control")
        found.run("store", "migrate")
        found.settle()
        yield found


def wait(condition: Callable[[], bool], patience_s: float, problem: str) -> None:
    """Until a condition holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.2)
