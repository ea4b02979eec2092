"""Every hop between the containers is under TLS."""

import re
from pathlib import Path
from typing import Any

import yaml
from tests.local.compose.reading import ENDING, ROOT, mounted, mounts

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
