"""Against the embedded stack: what command line and SDK send is verified by the contract."""

from __future__ import annotations

import json
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest

from sealtrail import validate
from sealtrail.cli.main import run
from sealtrail.errors import UnavailableError
from sealtrail.records import Directory, TrustRoot
from sealtrail.settings import load
from sealtrail_producer import CREATE, EntityRef, Trail, kafka, reference
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from pathlib import Path

PRODUCERS = ("sdk-test", "spiffe://test/a")


@pytest.fixture
def settings(stack: Any, monkeypatch: pytest.MonkeyPatch):
    for name in [n for n in os.environ if n.startswith("SEALTRAIL_")]:
        monkeypatch.delenv(name)
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    return load(ProducerSettings)


@pytest.fixture
def prepared(settings: ProducerSettings, capsys: pytest.CaptureFixture[str]):
    arguments = [word for name in PRODUCERS for word in ("--producer", name)]
    assert run(["keys", "setup-dev", "--post-quantum", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def verified(settings: ProducerSettings, producer: str):
    """All batches of a producer that the broker holds, judged as a worker would."""
    properties = kafka.config(settings, "p")
    directory = Directory(TrustRoot.from_json(settings.trust_root.read_text()))
    for _, value, arrival in kafka.read_all(properties, settings.keys_topic):
        directory.add(value, arrival)
    batches = []
    now = time.time_ns() // 1000
    for _, value, _ in kafka.read_all(properties, settings.topic):
        for partition in range(settings.partitions):
            place = validate.Place(
                settings.environment, {settings.tenant}, settings.topic, partition
            )
            outcome = validate.validate(value, place, now, directory)
            if isinstance(outcome, validate.VerifiedBatch):
                batches.append(outcome)
    return [b for b in batches if b.statement.producer == producer]


@pytest.mark.parametrize("producer", PRODUCERS)
def test_what_the_sdk_sends_is_read_back_and_holds(
    prepared: list[dict[str, str]], settings: ProducerSettings, producer: str
):
    with Trail.from_env(producer=producer, batch_events=300) as trail:
        before = None
        for number in range(1000):
            before = trail.emit(
                "test.step",
                event_type=CREATE,
                outputs=[EntityRef("test", str(number))],
                parents=[before] if before else [],
            )
        assert trail.flush(30)
        chain = trail.chain_id
    batches = [b for b in verified(settings, producer) if b.statement.chain_id == chain]
    assert sum(len(b.leaf_hashes) for b in batches) == 1000
    assert batches[-1].statement.closes
    assert len(batches[0].statement.signers) == 2
    assert before.reference.leaf_hash == [h for b in batches for h in b.leaf_hashes][-1]


def test_one_event_from_the_shell_and_its_child(
    prepared: list[dict[str, str]], settings: ProducerSettings, capsys: pytest.CaptureFixture[str]
):
    def emit(*arguments: str) -> Any:
        assert run(["emit", "--producer", "sdk-test", "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    first = emit("a", "--output", "s3://b:x@1", "--attribute", "k=v")
    second = emit("b", "--type", "TRANSFORM", "--parent", first["reference"])
    assert first["sent"]
    assert second["sent"]
    parents = [p for b in verified(settings, "sdk-test") for ps in b.parents for p in ps]
    assert reference.parse(first["reference"]) in parents


def test_setup_again_changes_nothing_and_keys_are_listed(
    prepared: list[dict[str, str]], settings: ProducerSettings, capsys: pytest.CaptureFixture[str]
):
    again = [word for name in PRODUCERS for word in ("--producer", name)]
    assert run(["keys", "setup-dev", "--json", *again]) == 0
    assert json.loads(capsys.readouterr().out) == prepared
    assert run(["keys", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {r["fingerprint"] for r in prepared} <= {r["fingerprint"] for r in listed}


def test_a_key_by_hand_registered_and_revoked(
    prepared: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
):
    def keys(*arguments: str) -> Any:
        assert run(["keys", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    made = keys("new", "--producer", "by-hand")
    (record,) = keys("register", "--producer", "by-hand")
    assert record["fingerprint"] == made["fingerprint"]
    (ended,) = keys("revoke", made["fingerprint"], "--reason", "RETIRED")
    assert (ended["version"], ended["end"]) == (2, "RETIRED")
    assert "schema:" in keys("pin-schema")["pinned"]


def test_a_root_is_not_made_twice(
    prepared: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
):
    assert run(["keys", "init-root"]) == 3
    assert "exists already" in capsys.readouterr().err


def test_emit_does_not_wait_for_the_network(
    prepared: list[dict[str, str]], settings: ProducerSettings
):
    with Trail.from_env(producer="sdk-test") as trail:
        times = []
        for _ in range(2000):
            began = time.perf_counter()
            trail.emit("test.fast", event_type=CREATE)
            times.append(time.perf_counter() - began)
    # Measured 15 to 30 us on two busy cores; the bound only tells it from a round trip.
    assert statistics.median(times) < 0.001


def test_pacing_reads_the_group_through_kafka(
    prepared: list[dict[str, str]], settings: ProducerSettings
):
    group = kafka.KafkaGroup(kafka.config(settings, "p"), "nobody")
    try:
        assert group.cluster()
        assert group.consumed(settings.topic, 0) == 0
        assert group.end(settings.topic, 0) >= 0
    finally:
        group.close()


def test_absent_brokers_are_a_clear_error(tmp_path: Path):
    properties = kafka.config(ProducerSettings(kafka_bootstrap="127.0.0.1:9"), "p") | {
        "message.timeout.ms": 500
    }
    transport = kafka.KafkaTransport({"socket.timeout.ms": 500, **properties})
    kafka_metadata, kafka.METADATA_S = kafka.METADATA_S, 0.5
    try:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            transport.partitions("x")
        with pytest.raises(UnavailableError):
            kafka.KafkaRegistry(ProducerSettings(registry_url="http://127.0.0.1:9"), "p").register(
                "s", '"string"', "NONE"
            )
    finally:
        kafka.METADATA_S = kafka_metadata
        transport.close()


def test_more_properties_come_from_a_private_file(tmp_path: Path):
    file = tmp_path / "kafka.properties"
    file.write_text("# comment\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b\n")
    file.chmod(0o600)
    found = kafka.config(ProducerSettings(kafka_bootstrap="h:1", kafka_config=file), "p")
    assert found["security.protocol"] == "SASL_SSL"
    assert found["sasl.password"] == "a=b"
