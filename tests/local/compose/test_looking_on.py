"""What looks on: Prometheus, Grafana, a worker's probes; what they ask for, and how."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml
from prometheus_client import generate_latest
from tests.local.compose.reading import ROOT, mounts

from sealtrail_local import compose
from sealtrail_processor.reporting.metrics import Metrics


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
