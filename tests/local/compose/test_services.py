"""docker-compose.yml: checked as far as that goes without an engine."""

import re
from pathlib import Path
from typing import Any

import yaml
from tests.local.compose.reading import ENDING, PROFILES, ROOT

CLUSTER_ONLY = {"kafka-2", "kafka-3", "clickhouse-2", "clickhouse-3"}


def test_every_profile_is_whole(config: dict[str, Any]):
    there = set(config["services"])
    wanted = {"kafka-1", "apicurio", "registry", "clickhouse-1", "objects", "worker", "producer"}
    assert wanted | ENDING | {"prometheus", "grafana"} <= there
    if config["profile"] == "cluster":
        assert there >= CLUSTER_ONLY


def test_the_profile_alone_starts_more_than_one_of_each():
    # Older Composes show every service for every profile: what is asked for stands in the file.
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {name for name, service in services.items() if "profiles" in service} == CLUSTER_ONLY
    assert all(services[name]["profiles"] == ["cluster"] for name in CLUSTER_ONLY)
    chosen = {
        profile: re.search(
            r"^COMPOSE_PROFILES=(.*)$",
            (ROOT / f"deploy/compose/{profile}.env").read_text(),
            re.MULTILINE,
        )
        for profile in PROFILES
    }
    assert {profile: found and found[1] for profile, found in chosen.items()} == {
        "single": "",
        "cluster": "cluster",
    }


def test_nobody_is_root_and_no_root_file_system_is_written(config: dict[str, Any]):
    for name, service in config["services"].items():
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name


def test_every_service_has_limits_and_is_looked_after(config: dict[str, Any]):
    for name, service in config["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"], name
        assert limits["memory"], name
        if name not in ENDING:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_images_have_versions(config: dict[str, Any]):
    for name, service in config["services"].items():
        image = service["image"]
        if "build" not in service:
            assert re.search(r":[^:/]*\d+\.\d+\.\d+[^:/]*$", image), (name, image)
        elif "args" in service["build"]:
            assert re.search(r":.*\d", service["build"]["args"]["BASE"]), (name, image)
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(set(bases)) == 1
    assert re.search(r":\d+\.\d+\.\d+-", bases[0]), bases


def test_the_servers_are_those_of_the_local_stack(config: dict[str, Any]):
    for service, room, artifact in (
        ("kafka-1", "kafka", "kafka_2.13"),
        ("apicurio", "registry", "apicurio-registry-app"),
    ):
        pom = (ROOT / "deploy" / room / "pom.xml").read_text()
        version = re.search(rf"<artifactId>{artifact}</artifactId>\s*<version>(.*?)<", pom)
        assert version is not None
        base = config["services"][service]["build"]["args"]["BASE"]
        assert base.endswith(f":{version[1]}")


def test_only_the_loopback_is_published(config: dict[str, Any]):
    for name, service in config["services"].items():
        for port in service.get("ports", []):
            host = port["host_ip"] if isinstance(port, dict) else port.split(":")[0]
            assert host == "127.0.0.1", name
    assert config["networks"]["backend"]["internal"] is True


def test_everything_that_is_mounted_is_there(config: dict[str, Any], checkout: Path):
    for name, service in config["services"].items():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("/"):
                assert Path(source).exists(), (name, source)
                mode = volume["read_only"] if isinstance(volume, dict) else volume.endswith(":ro")
                assert mode, (name, source)
            else:
                assert source in config["volumes"], (name, source)


def test_brokers_get_all_that_their_configuration_asks_for(config: dict[str, Any]):
    asked = set()
    for file in ("server.properties", "secure.properties"):
        asked |= set(re.findall(r"\$\{env:(\w+)\}", (ROOT / "deploy/kafka" / file).read_text()))
    asked |= set(re.findall(r"\$\{?(BROKER_\w+)\}?", (ROOT / "deploy/kafka/run.sh").read_text()))
    brokers = [n for n in config["services"] if n.startswith("kafka-")]
    for name in brokers:
        given = config["services"][name]["environment"]
        missing = asked - given.keys() - {"BROKER_FORMAT"}
        assert not missing, (name, missing)
        if config["profile"] == "cluster" or name == "kafka-1":
            assert f"{given['BROKER_ID']}@{name}:9093" in given["BROKER_VOTERS"]


def test_the_gate_gets_all_that_its_configuration_asks_for(config: dict[str, Any]):
    asked = re.findall(r"\$\{(\w+)\}", (ROOT / "deploy/registry/gate.conf.template").read_text())
    assert asked
    assert set(asked) <= config["services"]["registry"]["environment"].keys()
    # Whoever could reach it otherwise would need no name.
    networks = {
        name for name, service in config["services"].items() if "registry" in service["networks"]
    }
    assert networks == {"apicurio", "registry", "prometheus"}
