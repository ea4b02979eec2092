"""The embedded stack as a whole: `sealtrail local` and what it leaves behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import Error
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from tests.conftest import Stack, running_stack, stack_variables
from tests.local.conftest import connector, kill

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.settings import load
from sealtrail_local import stack as stack_module
from sealtrail_local.processes import (
    ProcessId,
    port_holder,
    read_pid_file,
    start_ticks,
    write_pid_file,
)
from sealtrail_local.settings import LocalSettings


def command(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: v for name, v in os.environ.items() if not name.startswith("SEALTRAIL_")}
    return subprocess.run(
        [sys.executable, "-m", "sealtrail_local", *arguments],
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def settings_of(env: dict[str, str]) -> LocalSettings:
    return load(LocalSettings, env)


def test_broker_listens_on_the_configured_port_and_advertises_it(stack: Stack):
    client = AdminClient({"bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]})
    metadata = client.list_topics(timeout=5)
    assert {
        name: len(topic.partitions)
        for name, topic in metadata.topics.items()
        if name.startswith("provenance.")
    } == {
        "provenance.events": 4,
        "provenance.keys": 1,
        "provenance.quarantine": 1,
        "provenance.alerts": 1,
        "provenance.heads": 1,
    }
    (broker,) = metadata.brokers.values()
    assert f"{broker.host}:{broker.port}" == stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]
    assert len(metadata.cluster_id) == 22


def test_idempotent_producer_is_acknowledged(stack: Stack):
    errors: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"],
            "enable.idempotence": True,
        }
    )
    producer.produce("local.test", b"x", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(10) == 0
    assert errors == [None]


def test_env_file_is_private_and_loads(stack: Stack):
    file = stack.state_dir / "local.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = load(LocalSettings, {"SEALTRAIL_STATE_DIR": str(stack.state_dir)})
    assert found.store_url == stack.env["SEALTRAIL_STORE_URL"]
    assert found.store_password.get_secret_value() == stack.env["SEALTRAIL_STORE_PASSWORD"]
    assert len(found.analyst_password.get_secret_value()) >= 32
    assert found.store_password != found.analyst_password


def test_status(stack: Stack):
    done = command({"SEALTRAIL_STATE_DIR": str(stack.state_dir)}, "status", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["service"], row["state"]) for row in rows] == [
        ("broker", "running"),
        ("registry", "running"),
        ("store", "running"),
    ]


def test_env(stack: Stack):
    env = {"SEALTRAIL_STATE_DIR": str(stack.state_dir)}
    assert json.loads(command(env, "env", "--json").stdout) == stack.env
    script = 'eval "$0"; printf %s "$SEALTRAIL_STORE_PASSWORD"'
    printed = command(env, "env").stdout
    shell = subprocess.run(
        ["bash", "-c", script, printed], capture_output=True, text=True, check=True
    )
    assert shell.stdout == stack.env["SEALTRAIL_STORE_PASSWORD"]


def test_up_again_changes_nothing(stack: Stack):
    before = stack_module.status(settings_of(stack.env))
    done = command({"SEALTRAIL_STATE_DIR": str(stack.state_dir)}, "up", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["pid"] for row in json.loads(done.stdout)] == [s.pid for s in before]


def test_a_second_store_on_the_same_folder_says_who_has_it(stack: Stack):
    env = {**stack.env, "SEALTRAIL_LOCAL_STORE_PORT": "1"}
    done = command(env, "store")
    store = read_pid_file(stack.state_dir / "run" / "store.json")
    assert store is not None
    assert done.returncode == 3
    assert f"in use by process {store.pid}" in done.stderr


def test_the_store_wants_passwords(tmp_path: Path):
    done = command({"SEALTRAIL_STATE_DIR": str(tmp_path)}, "store")
    assert done.returncode == 3
    assert "no password" in done.stderr


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack that a test may break."""
    with running_stack() as running:
        yield running


def test_a_killed_process_is_seen_and_started_again(own: Stack):
    env = {"SEALTRAIL_STATE_DIR": str(own.state_dir)}
    old = kill(own, "broker")
    done = command(env, "status", "--json")
    assert done.returncode == 3
    row = json.loads(done.stdout)[0]
    assert (row["service"], row["state"], row["detail"]) == (
        "broker",
        "stopped",
        "stale pid file",
    )
    done = command(env, "up")
    assert done.returncode == 0, done.stderr
    assert "stale pid file" in done.stderr
    new = read_pid_file(own.state_dir / "run" / "broker.json")
    assert new is not None
    assert new != old


def test_each_broker_is_another_cluster(own: Stack):
    seen: set[str] = set()
    for _ in range(2):
        kill(own, "broker")
        settings = settings_of(own.env)
        stack_module.up(settings, print)
        client = AdminClient({"bootstrap.servers": own.env["SEALTRAIL_KAFKA_BOOTSTRAP"]})
        seen.add(client.list_topics(timeout=5).cluster_id)
    assert len(seen) == 2


def test_a_frozen_process_is_failing_and_is_killed_in_the_end(own: Stack):
    process = read_pid_file(own.state_dir / "run" / "registry.json")
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    states = {s.name: s.state for s in stack_module.status(settings_of(own.env))}
    assert states == {"broker": "running", "registry": "failing", "store": "running"}
    said: list[str] = []
    settings = settings_of({**own.env, "SEALTRAIL_LOCAL_STOP_SECONDS": "1"})
    assert stack_module.down(settings, said.append) == ["store", "registry", "broker"]
    # On a busy machine others may need more than that second, too.
    assert "registry did not stop in time and was killed" in said
    assert stack_module.down(settings, said.append) == []
    assert command(own.env, "status").returncode == 3
    stack_module.up(settings, print)


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path):
    env = stack_variables(tmp_path)
    with socket.socket() as blocker:
        blocker.bind(("127.0.0.1", int(env["SEALTRAIL_LOCAL_REGISTRY_PORT"])))
        blocker.listen()
        with pytest.raises(ConfigurationError) as caught:
            stack_module.up(settings_of(env), print)
    assert f"taken by process {os.getpid()}" in caught.value.message
    assert "SEALTRAIL_LOCAL_REGISTRY_PORT" in caught.value.hint
    # Nothing was started for it, and nothing has to be stopped.
    assert stack_module.down(settings_of(env), print) == []


def test_a_process_that_does_not_start_says_why(tmp_path: Path):
    env = stack_variables(tmp_path)
    (tmp_path / "registry").write_text("a file where a folder should be")
    try:
        with pytest.raises(UnavailableError, match="the registry has ended"):
            stack_module.up(settings_of(env), print)
    finally:
        assert "broker" in stack_module.down(settings_of(env), print)


def test_settings_that_a_running_stack_cannot_follow(own: Stack):
    for variable, value, message in (
        ("SEALTRAIL_PARTITIONS", "7", "other topics"),
        ("SEALTRAIL_STORE_PASSWORD", "other", "another password"),
        ("SEALTRAIL_LOCAL_KAFKA_PORT", "1", "runs on port"),
    ):
        started = time.monotonic()
        with pytest.raises(ConfigurationError, match=message):
            stack_module.up(settings_of({**own.env, variable: value}), print)
        assert time.monotonic() - started < 30
    # And nothing of it stays.
    stack_module.up(settings_of({"SEALTRAIL_STATE_DIR": str(own.state_dir)}), print)


def test_stops_in_time_with_a_query_running(own: Stack):
    client = connector(own)()
    endless = "SELECT sum(cityHash64(number)) FROM numbers(1000000000000)"

    def ask() -> None:
        with pytest.raises(Error):
            client.query(endless)

    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(0.7)
    said: list[str] = []
    started = time.monotonic()
    patient = settings_of({**own.env, "SEALTRAIL_LOCAL_STOP_SECONDS": "30"})
    assert len(stack_module.down(patient, said.append)) == 3
    assert said == []
    assert time.monotonic() - started < 25
    asker.join()
    client.close()
    stack_module.up(settings_of(own.env), print)


def test_two_commands_at_a_time(own: Stack):
    with (
        stack_module._alone(settings_of(own.env)),
        pytest.raises(UnavailableError, match="another"),
    ):
        stack_module.up(settings_of(own.env), print)


def test_a_foreign_process_is_never_signalled(tmp_path: Path):
    with subprocess.Popen(["sleep", "60"]) as other:
        real = start_ticks(other.pid)
        assert real is not None
        reused = ProcessId(other.pid, real - 1)
        assert not reused.alive()
        assert reused.stop(0.1)
        assert other.poll() is None
        (tmp_path / "run").mkdir()
        write_pid_file(tmp_path / "run" / "store.json", reused)
        env = {"SEALTRAIL_STATE_DIR": str(tmp_path)}
        assert stack_module.down(settings_of(env), print) == []
        assert other.poll() is None
        assert ProcessId(other.pid, real).alive()
        assert ProcessId(other.pid, real).stop(5)
        assert not ProcessId(other.pid, real).alive()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "started": 1, "port": 2}'])
def test_damaged_pid_files_count_as_none(tmp_path: Path, text: str):
    file = tmp_path / "x.json"
    file.write_text(text)
    assert read_pid_file(file) is None


def test_nobody_listens_on_a_free_port():
    assert not port_holder(1)


def test_analysts_may_not_take_all_memory():
    with pytest.raises(ConfigurationError, match="analysts could take 6000 MiB"):
        load(LocalSettings, {"SEALTRAIL_LOCAL_ANALYST_MEMORY_MB": "1500"})
