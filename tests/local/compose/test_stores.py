"""The ClickHouse servers of docker-compose.yml: their configuration, ports and clients."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml
from tests.local.compose.reading import ROOT, mounted, mounts, stores


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
