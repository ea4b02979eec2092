"""docker-compose.yml and what it mounts: checked as far as that goes without an engine."""

import json
import os
import re
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from prometheus_client import generate_latest

from sealtrail_local import compose
from sealtrail_local.certs.folder import Folder, read
from sealtrail_local.certs.x509 import hosts_of
from sealtrail_processor.reporting.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
# Where no Docker is installed, Debian's docker-compose (requirements/debian.txt) reads the same.
COMMANDS = (("docker", "compose"), ("docker-compose",))
PROFILES = ("single", "cluster")
CLUSTER_ONLY = {"kafka-2", "kafka-3", "clickhouse-2", "clickhouse-3"}
ENDING = {"setup", "schemas"}
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def compose_command() -> tuple[str, ...]:
    for command in COMMANDS:
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    raise AssertionError("neither `docker compose` nor docker-compose is installed")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker compose config` reads, with secrets of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copy(ROOT / "Dockerfile", folder)
    shutil.copytree(
        ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets", "local")
    )
    compose.make(folder / "deploy" / "secrets", NOW)
    return folder


@pytest.fixture(scope="module", params=PROFILES)
def config(request: pytest.FixtureRequest, checkout: Path) -> dict[str, Any]:
    """What Compose makes of it for a profile."""
    env_file = f"deploy/compose/{request.param}.env"
    # Its own variables would win over the file's.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("COMPOSE", "SEALTRAIL"))}
    done = subprocess.run(
        [*compose_command(), "--env-file", env_file, "config"],
        cwd=checkout,
        env=clean | {"SEALTRAIL_UID": "10001", "SEALTRAIL_GID": "10001"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # One that is not set is a warning and an empty string.
    assert "variable is not set" not in done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    found["profile"] = request.param
    return found


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


def test_the_operators_key_is_in_one_container(config: dict[str, Any]):
    holders = {
        name
        for name, service in config["services"].items()
        for volume in service.get("volumes", [])
        if (volume["source"] if isinstance(volume, dict) else volume.split(":")[0]) == "operator"
    }
    assert holders == {"setup"}


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


def test_each_has_the_certificates_of_the_names_that_it_comes_under(config: dict[str, Any]):
    mounted = {
        name: {
            (v["target"] if isinstance(v, dict) else v.split(":")[1])
            for v in service.get("volumes", [])
        }
        for name, service in config["services"].items()
    }
    for name, identities in (
        ("setup", ["bootstrap"]),
        ("schemas", ["operator"]),
        ("worker", ["worker"]),
        ("producer", ["orders", "billing"]),
    ):
        wanted = {f"/certs/{identity}.pem" for identity in (*identities, "ca")}
        assert {m for m in mounted[name] if m.startswith("/certs/")} == wanted


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """What is mounted, by where."""
    pairs = (
        (v["target"], v["source"]) if isinstance(v, dict) else v.split(":")[1::-1]
        for v in service.get("volumes", [])
    )
    return {str(target): str(source) for target, source in pairs}


def mounted(service: dict[str, Any], file: str) -> str:
    """What a service finds there: a file that is mounted, or one of a folder."""
    folder, name = file.rsplit("/", 1)
    return mounts(service).get(file) or f"{mounts(service)[folder]}/{name}"


def stores(config: dict[str, Any]) -> dict[str, tuple[dict[str, Any], list[ET.Element]]]:
    """Each ClickHouse server with its configuration files, in the order in which it reads them."""
    return {
        name: (
            service,
            [
                ET.fromstring(Path(source).read_text())  # noqa: S314 - our own
                for _, source in sorted(mounts(service).items())
                if source.endswith(".xml")
            ],
        )
        for name, service in config["services"].items()
        if name.startswith("clickhouse-")
    }


def test_clickhouse_gets_all_that_its_configuration_asks_for(config: dict[str, Any]):
    for name, (service, files) in stores(config).items():
        assert {root.tag for root in files} == {"clickhouse"}
        asked = {
            e.attrib["from_env"] for root in files for e in root.iter() if "from_env" in e.attrib
        }
        assert asked
        assert asked <= service["environment"].keys(), name


def test_every_client_of_the_store_comes_by_tls_and_believes_our_ca_alone(
    config: dict[str, Any], checkout: Path
):
    services = config["services"]
    ca = str(checkout / "deploy/secrets/certs/ca.pem")
    ours = {n: s["environment"] for n, s in services.items() if s["image"] == "sealtrail:local"}
    assert {"setup", "worker"} <= ours.keys()
    for name, variables in ours.items():
        assert variables["SEALTRAIL_STORE_URL"] == "https://clickhouse-1:8443", name
        assert mounts(services[name])[variables["SEALTRAIL_STORE_CA_FILE"]] == ca, name
    sources = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/sealtrail.yml").read_text()
    )["datasources"]
    [store] = [s for s in sources if s["type"] == "grafana-clickhouse-datasource"]
    wanted = {"port": 8443, "protocol": "http", "secure": True, "tlsAuthWithCACert": True}
    assert wanted.items() <= store["jsonData"].items()
    assert "tlsSkipVerify" not in store["jsonData"]
    found = re.fullmatch(r"\$__file\{(.*)\}", store["secureJsonData"]["tlsCACert"])
    assert found is not None
    believed = str(checkout / "deploy/secrets/servers/{}/ca.pem")
    assert mounted(services["grafana"], found[1]) == believed.format("grafana")
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    [job] = [j for j in jobs if j["job_name"] == "clickhouse"]
    assert job["scheme"] == "https"
    assert job["tls_config"].keys() == {"ca_file"}
    place = mounted(services["prometheus"], job["tls_config"]["ca_file"])
    assert place == believed.format("prometheus")
    # Nobody else names the store, and nothing names it by http.
    for file in ("docker-compose.yml", "deploy/grafana", "deploy/prometheus"):
        files = [ROOT / file] if file.endswith(".yml") else (ROOT / file).rglob("*.yml")
        for text in (f.read_text() for f in files):
            assert not re.search(r"http://clickhouse|\b(8123|9004|9005|9009)\b", text), file


def test_the_store_has_no_plain_port(config: dict[str, Any]):
    # Those that the image's own configuration opens.
    plain = {"http_port", "tcp_port", "interserver_http_port", "mysql_port", "postgresql_port"}
    secure = {"https_port", "tcp_port_secure", "interserver_https_port"}
    for name, (service, files) in stores(config).items():
        top = [e for root in files for e in root if e.tag.endswith(("_port", "_port_secure"))]
        assert {e.tag for e in top if e.get("remove") == "remove"} == plain, name
        opened = {e.tag: e.text for e in top if e.get("remove") is None}
        assert opened.keys() == (secure if config["profile"] == "cluster" else {"https_port"})
        # The only others: metrics below a layer of TLS, and Keeper's.
        for root in files:
            assert root.find("./prometheus/port") is None
            assert root.find("./grpc_port") is None
            for module in root.iterfind("./protocols/*"):
                assert (module.find("port") is not None) == (module.findtext("type") == "tls")
        # Or ClickHouse serves them to anybody on https_port.
        assert [r for r in files if r.find("./prometheus/handlers") is not None], name
        published = service.get("ports", [])
        target = [
            (str(p["target"]) if isinstance(p, dict) else p.split(":")[-1]).removesuffix("/tcp")
            for p in published
        ]
        assert target == ([opened["https_port"]] if name == "clickhouse-1" else [])
        [_, check] = service["healthcheck"]["test"]
        assert f"https://localhost:{opened['https_port']}/ping" in check
        assert "http://" not in check


def test_stores_reach_each_other_by_tls():
    root = ET.fromstring((ROOT / "deploy/clickhouse/server/cluster.xml").read_text())  # noqa: S314 - our own
    native, keeper = root.findtext("tcp_port_secure"), root.find("keeper_server")
    replicas = root.findall(".//replica[host]")
    assert len(replicas) == 3
    assert {(r.findtext("port"), r.findtext("secure")) for r in replicas} == {(native, "1")}
    assert keeper is not None
    assert keeper.find("tcp_port") is None
    assert keeper.findtext("./raft_configuration/secure") == "true"
    nodes = root.findall("./zookeeper/node")
    assert len(nodes) == 3
    port = keeper.findtext("tcp_port_secure")
    assert {(n.findtext("port"), n.findtext("secure")) for n in nodes} == {(port, "1")}
    # Both at once are an error of the server's.
    assert root.find("interserver_https_port") is not None
    assert root.find("interserver_https_host") is not None
    assert root.find("interserver_http_host") is None


def test_a_store_reads_what_is_mounted_for_it(config: dict[str, Any], checkout: Path):
    tls = ET.fromstring((ROOT / "deploy/clickhouse/server/tls.xml").read_text())  # noqa: S314 - our own
    for name, (service, _) in stores(config).items():
        assert service["user"] == "101:101"
        assert [str(found) for found in service["group_add"]] == ["10001"]
        folder = Path(mounts(service)["/certs"])
        assert folder == checkout / "deploy/secrets/servers" / name
        asked = {tls.findtext(f"./openSSL/server/{k}File") for k in ("certificate", "privateKey")}
        assert asked == {"/certs/server.pem"}
        assert tls.findtext("./openSSL/client/caConfig") == "/certs/ca.pem"


# Where each server finds its folder, and under which name it is asked for.
FOLDERS = {
    **{name: ("/certs", name) for name in compose.STORES},
    "apicurio": ("/certs", "apicurio"),
    "objects": ("/certs", "objects"),
    "prometheus": ("/certs", "prometheus"),
    "grafana": ("/certs", "grafana"),
    "worker": ("/health", "health"),
}


def test_each_server_reads_its_own_key_and_nobody_elses(config: dict[str, Any], checkout: Path):
    group = compose.NOBODY if os.getuid() == 0 else os.getgid()
    assert {name for _, name in FOLDERS.values()} == {*compose.FOLDERS}
    ours = checkout / "deploy/secrets/servers"
    for name, service in config["services"].items():
        sources = {Path(source) for source in mounts(service).values() if "/servers" in source}
        if name not in FOLDERS:
            assert not sources, name
            continue
        target, host = FOLDERS[name]
        folder = Path(mounts(service)[target])
        assert {folder} == sources == {ours / host}
        # Whoever is neither root nor who called make gets in by the group.
        if service["user"].split(":")[0] != "10001":
            assert [str(found) for found in service["group_add"]] == ["10001"], name
        keys = {"private.key", "public.crt"} if name == "objects" else {"server.pem"}
        assert {file.name for file in folder.iterdir()} == {"ca.pem", *keys}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750
        for file in (folder, *folder.iterdir()):
            assert file.stat().st_gid == group, file
        bundle = (checkout / "deploy/secrets/certs/ca.pem").read_bytes()
        assert (folder / "ca.pem").read_bytes() == bundle
        text = b"".join((folder / key).read_bytes() for key in sorted(keys))
        pair = read(checkout / f"deploy/secrets/certs/issued/{host}.pem")
        assert text == pair.key_pem + pair.certificate_pem
        assert {host, "localhost", "127.0.0.1"} <= set(hosts_of(pair.certificate))


# -- every hop is under TLS ------------------------------------------------------------------

SCHEME = re.compile(r"http://\S*")
# Why it is no hop: the namespace of a Maven file that is mounted beside the configuration.
NAMES = ("http://maven.apache.org/",)


def test_nothing_is_asked_for_by_http(config: dict[str, Any]):
    assert not SCHEME.findall(yaml.safe_dump(config["services"]))
    looked = 0
    for name, service in config["services"].items():
        for target, source in mounts(service).items():
            if not source.startswith("/") or "/secrets/" in source:
                continue
            place = Path(source)
            for file in [place] if place.is_file() else sorted(place.rglob("*")):
                if file.is_file():
                    looked += 1
                    found = SCHEME.findall(file.read_text(encoding="utf-8"))
                    assert not [u for u in found if not u.startswith(NAMES)], (name, target, file)
    assert looked > 20


def test_every_health_check_that_speaks_http_verifies_the_server(
    config: dict[str, Any], checkout: Path
):
    """Those that do not: a broker's port is open; producers' processes live."""
    checked, ours = set(), checkout / "deploy/secrets/certs/ca.pem"
    for name, service in config["services"].items():
        if name in ENDING:
            continue
        words = " ".join(service["healthcheck"]["test"])
        if "://" not in words:
            assert "nc -z" in words or "/proc" in words, name
            continue
        checked.add(name)
        assert not re.search(r"http://|--insecure|-s?k\b|no-check|CERT_NONE", words), name
        by_file = re.search(r"http\.config\.file=(\S+)", words)
        if by_file:
            said = yaml.safe_load(Path(mounted(service, by_file[1])).read_text())
            assert said.keys() == {"tls_config"}
            assert said["tls_config"].keys() == {"ca_file"}
            ca = said["tls_config"]["ca_file"]
        else:
            found = re.search(r"(?:--cacert |--ca-certificate=|cafile=')([^\s']+)", words)
            assert found is not None, name
            ca = found[1]
        assert Path(mounted(service, ca)).read_bytes() == ours.read_bytes(), name
        host = re.search(r"https://(\w[\w.]*):", words)
        assert host is not None
        assert host[1] in {"localhost", "127.0.0.1"}
    stores = {name for name in config["services"] if name.startswith("clickhouse-")}
    assert (
        checked == {"apicurio", "registry", "objects", "worker", "prometheus", "grafana"} | stores
    )


def properties(file: str) -> dict[str, str]:
    lines = (ROOT / "deploy/registry" / file).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_gate_reaches_a_registry_that_serves_nothing_but_tls(config: dict[str, Any]):
    registry, gate = (config["services"][name] for name in ("apicurio", "registry"))
    given = registry["environment"]
    files = given["QUARKUS_CONFIG_LOCATIONS"].split(",")
    assert [file.rsplit("/", 1)[1] for file in files] == [
        "application.properties",
        "tls.properties",
    ]
    assert all(Path(mounted(registry, file)).exists() for file in files)
    # That file itself is run on the real server: tests/real/test_access.py.
    tls = properties("tls.properties")
    assert tls["quarkus.http.insecure-requests"] == "disabled"
    named = {tls[f"quarkus.{k}.tls-configuration-name"] for k in ("http", "management")}
    store = {tls[f"quarkus.tls.{n}.key-store.pem.0.{k}"] for n in named for k in ("cert", "key")}
    assert store == {"${REGISTRY_CERTIFICATE}"}
    assert given["REGISTRY_CERTIFICATE"] == "/certs/server.pem"
    host, port = gate["environment"]["GATE_UPSTREAM"].split(":")
    assert tls["quarkus.http.ssl-port"] == f"${{REGISTRY_PORT:{port}}}"
    assert "REGISTRY_PORT" not in given
    assert host == gate["environment"]["GATE_UPSTREAM_NAME"] == "apicurio"
    text = (ROOT / "deploy/registry/gate.conf.template").read_text()
    assert re.findall(r"^ *proxy_pass (.*);", text, re.MULTILINE) == ["https://${GATE_UPSTREAM}"]
    for line in (
        "proxy_ssl_verify on",
        "proxy_ssl_trusted_certificate ${GATE_TRUST}",
        "proxy_ssl_name ${GATE_UPSTREAM_NAME}",
    ):
        assert re.search(rf"^ *{re.escape(line)};", text, re.MULTILINE), line


def test_the_volume_cold_is_an_s3_under_tls(config: dict[str, Any]):
    objects = config["services"]["objects"]
    [script] = objects["command"]
    # Links, or it would not take in another certificate before its next start.
    assert "ln -sf /certs/private.key /certs/public.crt /tmp/certs/\n" in script
    assert "exec minio server --certs-dir /tmp/certs " in script
    for name, (service, files) in stores(config).items():
        asked = service["environment"]["COLD_S3_URL"]
        assert asked == f"https://objects:9000/sealtrail/{name}/"
        [disk] = [d for root in files for d in root.iterfind(".//disks/cold") if d.get("replace")]
        assert disk.find("endpoint") is not None
        client = [e for root in files for e in root.iterfind("./openSSL/client")]
        assert [e.findtext("verificationMode") for e in client] == ["strict"]


def test_prometheus_serves_and_scrapes_under_tls(config: dict[str, Any]):
    service = config["services"]["prometheus"]
    folder = Path(mounts(service)["/etc/prometheus"])
    assert "--web.config.file=/etc/prometheus/web.yml" in service["command"]
    web = yaml.safe_load((folder / "web.yml").read_text())
    assert web == {
        "tls_server_config": {
            "cert_file": "/certs/server.pem",
            "key_file": "/certs/server.pem",
            "min_version": "TLS12",
        }
    }
    jobs = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    assert {job["job_name"] for job in jobs} == {"worker", "clickhouse", "registry", "prometheus"}
    issued = {name: {name, "localhost", "127.0.0.1"} for name in compose.SERVERS}
    for job in jobs:
        assert job["scheme"] == "https", job
        assert job["tls_config"].keys() <= {"ca_file", "server_name"}
        assert job["tls_config"]["ca_file"] == "/certs/ca.pem"
        asked = {
            target.rsplit(":", 1)[0]
            for static in job.get("static_configs", [])
            for target in static["targets"]
        }
        if "relabel_configs" in job:
            [found] = job["relabel_configs"]
            assert (found["target_label"], found["replacement"]) == ("__address__", "$1:9363")
            asked |= {name for sd in job["dns_sd_configs"] for name in sd["names"]}
        if "server_name" in job["tls_config"]:
            asked = {job["tls_config"]["server_name"]}
        assert asked, job
        for host in asked:
            assert any(host in hosts for hosts in issued.values()), host


def test_workers_show_a_certificate_to_whoever_looks_after_them(config: dict[str, Any]):
    service = config["services"]["worker"]
    assert service["environment"]["SEALTRAIL_HEALTH_CERT_FILE"] == "/health/server.pem"
    assert "/health" in mounts(service)


def test_grafana_is_asked_and_asks_under_tls(config: dict[str, Any]):
    service = config["services"]["grafana"]
    given = service["environment"]
    assert given["GF_SERVER_PROTOCOL"] == "https"
    assert given["GF_SERVER_CERT_FILE"] == given["GF_SERVER_CERT_KEY"] == "/certs/server.pem"
    assert given["GF_SECURITY_COOKIE_SECURE"] == "true"
    sources = yaml.safe_load(
        Path(mounts(service)["/etc/grafana/provisioning"], "datasources/sealtrail.yml").read_text()
    )["datasources"]
    [found] = [s for s in sources if s["type"] == "prometheus"]
    assert found["url"] == "https://prometheus:9090"
    assert found["jsonData"] == {"tlsAuthWithCACert": True}
    assert found["secureJsonData"] == {"tlsCACert": "$__file{/certs/ca.pem}"}


# -- secrets ---------------------------------------------------------------------------------


def test_secrets_are_private_random_and_stay(tmp_path: Path):
    folder = tmp_path / "secrets"
    assert "worker.env" in compose.make(folder, NOW)
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    for file in before:
        if file.parent.parent.name == "servers":
            assert stat.S_IMODE(file.stat().st_mode) == 0o640, file
        elif file.name != "ca.pem":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    words = [f.read_text() for f in folder.glob("*.password")]
    assert len(set(words)) == len(words) >= 9
    assert min(map(len, words)) >= 32
    assert compose.make(folder, NOW) == []
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    other = tmp_path / "other"
    compose.make(other, NOW)
    assert not set(words) & {f.read_text() for f in other.glob("*.password")}


def test_the_store_knows_passwords_by_their_hash_alone(tmp_path: Path):
    compose.make(tmp_path, NOW)
    text = (tmp_path / "clickhouse.env").read_text()
    for name in compose.STORE_USERS:
        word = (tmp_path / f"store-{name}.password").read_text()
        assert f"SEALTRAIL_{name.upper()}_SHA256={sha256(word.encode()).hexdigest()}\n" in text
        assert word not in text


def test_certificates_are_renewed_when_half_of_their_life_is_over(tmp_path: Path):
    compose.make(tmp_path, NOW)
    names = {issued.name for issued in Folder(tmp_path / "certs").issued(NOW)}
    assert names == {*compose.SERVERS, *compose.CLIENTS}
    assert compose.make(tmp_path, NOW + timedelta(days=14)) == []
    assert set(compose.make(tmp_path, NOW + timedelta(days=16))) == names
    for name in compose.FOLDERS:
        files = ("private.key", "public.crt") if name == "objects" else ("server.pem",)
        copy = b"".join((tmp_path / "servers" / name / file).read_bytes() for file in files)
        assert copy == Folder(tmp_path / "certs").file(name).read_bytes()


# -- what looks on ---------------------------------------------------------------------------


def test_panels_and_alerts_ask_for_metrics_that_a_worker_has():
    metrics = Metrics()
    for counter, labels in (
        (metrics.messages, ["x"]),
        (metrics.findings, ["x"]),
        (metrics.links, ["x"]),
        (metrics.published, ["x", "x"]),
    ):
        counter.labels(*labels)
    text = generate_latest(metrics.registry).decode()
    there = set(re.findall(r"^(sealtrail_\w+)", text, re.MULTILINE))
    board = json.loads((ROOT / "deploy/grafana/dashboards/sealtrail.json").read_text())
    asked = [t["expr"] for p in board["panels"] for t in p["targets"] if "expr" in t]
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    names = {name for text in asked for name in re.findall(r"\b(sealtrail_\w+)", text)}
    assert len(names) > 8
    assert names <= there


def test_panels_ask_views_that_the_dashboards_user_may_read():
    board = json.loads((ROOT / "deploy/grafana/dashboards/sealtrail.json").read_text())
    sources = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/sealtrail.yml").read_text()
    )
    assert {p["datasource"]["uid"] for p in board["panels"]} == {
        source["uid"] for source in sources["datasources"]
    }
    users = ET.fromstring((ROOT / "deploy/clickhouse/users.xml").read_text())  # noqa: S314 - our own
    grants = "\n".join(q.text or "" for q in users.iterfind("./users/dashboard/grants/query"))
    asked = {
        view
        for panel in board["panels"]
        for target in panel["targets"]
        for view in re.findall(r"FROM (provenance\.\w+)", target.get("rawSql", ""))
    }
    assert asked
    for view in asked:
        assert f"GRANT SELECT, SHOW ON {view}\n" in f"{grants}\n"
