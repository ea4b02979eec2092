"""Against the embedded stack: what command line and SDK send is verified by the contract."""

from __future__ import annotations

import json
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest

from sealtrail import avro, control, validate
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


def test_a_running_service_gets_a_new_key_by_command(
    prepared: list[dict[str, str]], settings: ProducerSettings, capsys: pytest.CaptureFixture[str]
):
    own = next(r["fingerprint"] for r in prepared if r["producer"] == control.PRODUCER)
    assert run(["keys", "new", "--producer", "rotating"]) == 0
    assert run(["keys", "register", "--producer", "rotating"]) == 0
    capsys.readouterr()
    with Trail.from_env("rotating", key_refresh_s=0.2) as trail:
        trail.emit("before", event_type=CREATE)
        assert trail.flush(30)
        assert run(["keys", "rotate", "--producer", "rotating", "--overlap", "60", "--json"]) == 0
        begins, ends = json.loads(capsys.readouterr().out)
        end = time.monotonic() + 20
        signers: set[bytes] = set()
        while len(signers) < 2:
            assert time.monotonic() < end
            trail.emit("after", event_type=CREATE)
            assert trail.flush(30)
            batches = verified(settings, "rotating")
            signers = {b.statement.signers[0] for b in batches}
    assert (ends["end"], begins["end"]) == ("RETIRED", "")
    assert {s.hex() for s in signers} == {begins["fingerprint"], ends["fingerprint"]}
    assert len({b.statement.chain_id for b in batches}) == 1
    assert run(["keys", "show", ends["fingerprint"], "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)["versions"]
    assert [(v["version"], v["end"]) for v in versions] == [(1, ""), (2, "RETIRED")]
    # What was done is told in the control chain: signed by its own key, linked to its outcome.
    told = verified(settings, control.PRODUCER)
    assert {b.statement.signers for b in told} == {(bytes.fromhex(own),)}
    events = [
        avro.codec("ProvenanceEvent").decode(event) for b in told for event in b.envelope.events
    ]
    done = [e for e in events if e["activity"] == "keys.rotate.done"][-1]
    assert [e["name"] for e in done["inputs"]] == [begins["fingerprint"], ends["fingerprint"]]
    assert done["actor"]["kind"] == "HUMAN"
    assert len(done["actor"]["id"]) == 32  # a pseudonym
    assert len(done["parents"]) == 1


def test_operators_change_by_commands(
    prepared: list[dict[str, str]], settings: ProducerSettings, capsys: pytest.CaptureFixture[str]
):
    def keys(*arguments: str, code: int = 0) -> Any:
        assert run(["keys", *arguments, "--json"]) == code
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else said.err

    assert {r["here"] for r in keys("root", "show")} == {"yes"}
    assert keys("root", "rotate", "--new", "--threshold", "2")[-1]["threshold"] == "2 of 2"
    assert [r["version"] for r in keys("root", "show")] == [1, 2, 2]
    # One operator's key goes elsewhere: a record waits for it.
    trust = settings.state_dir / "trust"
    away = trust / "elsewhere"
    away.mkdir()
    for file in trust.glob("operator-2.*"):
        file.rename(away / file.name)
    keys("new", "--producer", "two-operators")
    assert "other operators" in keys("register", "--producer", "two-operators", code=3)
    (waiting,) = (trust / "pending").iterdir()
    seen = keys("sign", str(waiting), "--dry-run")
    assert (seen["producer"], len(seen["signers"]), seen["complete"]) == ("two-operators", 1, None)
    assert "signatures" in keys("publish", str(waiting), code=3)
    os.environ["SEALTRAIL_OPERATOR_KEYS"] = str(away / "operator-2.pem")
    try:
        assert keys("sign", str(waiting))["complete"] is True
    finally:
        del os.environ["SEALTRAIL_OPERATOR_KEYS"]
    assert keys("publish", str(waiting))["producer"] == "two-operators"
    assert "two-operators" in {r["producer"] for r in keys("list")}
    key_file = settings.state_dir / "keys" / "sdk-test.pem"
    assert "PUBLIC KEY" in keys("public", str(key_file))["pem"]
    for file in list(away.iterdir()):
        file.rename(trust / file.name)
    # Back to one of two, so that the other tests go on as before.
    assert keys("root", "rotate", "--threshold", "1")[-1]["version"] == 3


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


def test_absent_brokers_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = kafka.config(ProducerSettings(kafka_bootstrap="127.0.0.1:9"), "p") | {
        "message.timeout.ms": 500
    }
    transport = kafka.KafkaTransport({"socket.timeout.ms": 500, **properties})
    monkeypatch.setattr("sealtrail_producer.kafka.transport.METADATA_S", 0.5)
    try:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            transport.partitions("x")
        with pytest.raises(UnavailableError):
            kafka.KafkaRegistry(ProducerSettings(registry_url="http://127.0.0.1:9"), "p").register(
                "s", '"string"', "NONE"
            )
    finally:
        transport.close()


def test_more_properties_come_from_a_private_file(tmp_path: Path):
    file = tmp_path / "kafka.properties"
    file.write_text("# comment\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b\n")
    file.chmod(0o600)
    found = kafka.config(ProducerSettings(kafka_bootstrap="h:1", kafka_config=file), "p")
    assert found["security.protocol"] == "SASL_SSL"
    assert found["sasl.password"] == "a=b"
