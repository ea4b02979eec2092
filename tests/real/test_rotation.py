"""Certificates are rotated under load: of brokers, clients and the CA; no event is lost."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from tests.conftest import free_ports
from tests.real.conftest import COMMAND, Secured, wait

from sealtrail.settings import load
from sealtrail_local import addresses, health
from sealtrail_local.certs import folder, reload
from sealtrail_local.certs.folder import Folder
from sealtrail_local.real import kafka, secure
from sealtrail_local.settings import LocalSettings
from sealtrail_producer import CREATE, Trail
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

BROKERS = (1, 2, 3)
CONTROLLER = 1  # Which of a broker's ports is for the quorum.
PAUSE_S = 0.004
PATIENCE_S = 120.0
# Of one client, before another is tried.
ANSWER_S = 10.0
TAKEN_IN = "new certificates are in use"


@pytest.fixture
def mutual(secured: Secured) -> dict[str, str]:
    """Variables of clients that show certificates."""
    local = load(LocalSettings, secured.stack.env)
    certs = str(secure.certificates(local).root / "issued" / "{identity}.pem")
    return secured.stack.env | secure.superuser(local) | {"SEALTRAIL_KAFKA_CERT_FILE": certs}


@pytest.fixture
def health_port() -> int:
    """Where the worker's probes are."""
    return free_ports(1)[0]


@pytest.fixture
def worker(mutual: dict[str, str], health_port: int, tmp_path: Path) -> Iterator[Path]:
    """A worker that shows a certificate; its log."""
    local = load(LocalSettings, mutual)
    log = tmp_path / "worker.log"
    plain = {k: v for k, v in os.environ.items() if not k.startswith("SEALTRAIL_")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "worker"],
            env={**plain, **mutual, "SEALTRAIL_HEALTH_PORT": str(health_port)},
            stdout=out,
            stderr=out,
        )
    try:
        ready = partial(health.worker, local, health_port)
        wait(ready, PATIENCE_S, "the worker is not ready")
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


class Load(threading.Thread):
    """Emits until it is told to stop."""

    def __init__(self, trail: Trail) -> None:
        super().__init__()
        self.trail = trail
        self.emitted = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(PAUSE_S):
            self.trail.emit("test.step", event_type=CREATE)
            self.emitted += 1


def serials(certs: Folder) -> dict[str, int]:
    return {i.name: i.certificate.serial_number for i in certs.issued(folder.now())}


def shown(secured: Secured) -> dict[int, set[int | None]]:
    """Serial numbers that each broker shows, on all ports but the controller's."""
    local = load(LocalSettings, secured.stack.env)
    return {
        number: {_serial(p) for i, p in enumerate(kafka.ports(local, number)) if i != CONTROLLER}
        for number in BROKERS
    }


def _serial(port: int) -> int | None:
    certificate = reload.shown("127.0.0.1", port)
    return None if certificate is None else certificate.serial_number


def quorum_leader(secured: Secured, asked: int) -> int:
    """The broker that leads the controllers, as another one knows it; -1: none."""
    log = secured.stack.state_dir / "kafka" / str(asked) / "log" / "__cluster_metadata-0"
    return int(json.loads((log / "quorum-state").read_text())["leaderId"])


def rotate(secured: Secured, *how: str) -> None:
    """Rotate all; brokers show the new certificates on all ports."""
    certs = Folder(secured.stack.state_dir / "certs")
    before, quorum = serials(certs), serials(certs.quorum())
    secured.run("certs", "rotate", *how, "--servers")
    after = serials(certs)
    assert after.keys() == before.keys()
    assert all(after[name] != serial for name, serial in before.items())
    wanted = {number: {after[f"broker-{number}"]} for number in BROKERS}
    wait(lambda: shown(secured) == wanted, PATIENCE_S, f"{shown(secured)}, not {wanted}")
    assert serials(certs.quorum()) == quorum


def test_everything_is_rotated_under_load_and_nothing_is_lost(
    secured: Secured,
    mutual: dict[str, str],
    worker: Path,
    health_port: int,
    caplog: pytest.LogCaptureFixture,
    happened: Callable[[str], None],
) -> None:
    caplog.set_level(logging.INFO, "sealtrail_producer.kafka")

    def taken() -> tuple[int, int]:
        """How often producer and worker have taken new certificates in."""
        return caplog.text.count(TAKEN_IN), worker.read_text().count(TAKEN_IN)

    def both_since(before: tuple[int, int]) -> bool:
        return all(now > then for now, then in zip(taken(), before, strict=True))

    settings = load(ProducerSettings, mutual)
    with Trail.from_env("orders", settings=settings, batch_ms=50) as trail:
        chain = trail.chain_id.hex()
        load_ = Load(trail)
        load_.start()
        try:
            for how in ("--all", "--ca", "--all"):
                before = taken()
                rotate(secured, how)
                wait(partial(both_since, before), PATIENCE_S, "not taken in")
            see_the_rest(secured, health_port)
            lose_the_quorums_leader(secured)
        finally:
            load_.ended.set()
            load_.join()
        assert trail.flush(PATIENCE_S)
    where = f"WHERE chain_id = '{chain}'"
    count = f"SELECT count() AS n FROM provenance.events {where}"
    wait(
        lambda: int(secured.run("sql", count)[0]["n"]) >= load_.emitted,
        PATIENCE_S,
        f"not all of {load_.emitted} events are stored",
    )
    [counts] = secured.run(
        "sql",
        f"SELECT count() AS events, uniqExact(seq) AS seqs, max(seq) + 1 AS next"
        f" FROM provenance.events {where}",
    )
    assert {int(value) for value in counts.values()} == {load_.emitted}
    found = secured.run("sql", f"SELECT code FROM provenance.open_findings {where}")
    # Late they may be: a broker was killed.
    assert {row["code"] for row in found} <= {"BEHIND_OR_DELAYED", "STALLED_CHAIN"}
    happened(f"{load_.emitted} events over three rotations, one of the CA: all stored once")


def see_the_rest(secured: Secured, health_port: int) -> None:
    """Whoever looks at a file now and then shows the newest certificate, too, and is believed."""
    local = load(LocalSettings, secured.stack.env)
    wanted = serials(secure.certificates(local))
    places = {
        secure.HEALTH: health_port,
        secure.REGISTRY: addresses.registry_port(local),
        "registry": local.local_registry_port,
        "store": local.local_store_port,
    }

    def shown() -> bool:
        return all(_serial(port) == wanted[name] for name, port in places.items())

    wait(shown, PATIENCE_S, "an old certificate is shown")
    assert health.worker(local, health_port)
    assert health.registry(local)
    assert health.gate(local)
    # Through the gate, which believes the registry's new certificate.
    secured.run("schemas", "register")


def lose_the_quorums_leader(secured: Secured) -> None:
    """Controllers find another one: they open connections to each other after the rotations."""
    leader = quorum_leader(secured, 1)
    others = [number for number in BROKERS if number != leader]
    secured.stack.kill(f"broker-{leader}")

    def another() -> bool:
        return {quorum_leader(secured, number) for number in others} <= {*others}

    def leads() -> bool:
        """It gets a majority for what is new. A client learns once who that is: each asks anew."""
        admin = AdminClient({**secured.kafka(secure.BOOTSTRAP), "log_level": 0})
        topic = NewTopic("after.rotation", 1, 2)
        made = admin.create_topics([topic], request_timeout=ANSWER_S)
        if not _done(made, KafkaError.TOPIC_ALREADY_EXISTS):
            return False
        gone = admin.delete_topics([topic.topic], request_timeout=ANSWER_S)
        return _done(gone, KafkaError.UNKNOWN_TOPIC_OR_PART)

    try:
        wait(another, PATIENCE_S, "the controllers find no leader")
        wait(leads, PATIENCE_S, "the controllers' leader makes no topic")
    finally:
        secured.stack.start(f"broker-{leader}")


def _done(asked: Mapping[str, Future[None]], before: int) -> bool:
    """Whether something is done now, or was (the error that says so)."""
    [answer] = asked.values()
    try:
        answer.result()
    except KafkaException as error:
        return bool(error.args[0].code() == before)
    return True


def test_an_ended_certificate_opens_nothing(secured: Secured) -> None:
    certs = Folder(secured.stack.state_dir / "certs")
    certs.issue("orders", [], folder.now() - timedelta(hours=2), timedelta(hours=1))
    admin = AdminClient({**secured.kafka("orders", "mtls"), "log_level": 0})
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=5)
    assert secured.run("certs", "check", code=1)[0]["problem"] == "it has ended"
    secured.run("certs", "rotate", "orders")
    fresh = AdminClient({**secured.kafka("orders", "mtls"), "log_level": 0})
    assert fresh.list_topics(timeout=30).brokers
