"""Every cell of deploy/kafka/access.yaml, allowed and denied, on Kafka and on the registry."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from tests.real.attempts import Attempts
from tests.real.conftest import STRANGER, Secured

from sealtrail import avro, resources
from sealtrail.settings import load
from sealtrail.validate import event_subject
from sealtrail_local import addresses, health
from sealtrail_local.certs import folder, x509
from sealtrail_local.real import kafka, secure
from sealtrail_local.settings import LocalSettings
from sealtrail_processor.kafka import access as kafka_access
from sealtrail_processor.kafka.access import OPERATIONS, Role
from sealtrail_processor.kafka.admin import KafkaAdmin
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SETTINGS = WorkerSettings()
TEXT = resources.path("kafka", "access.yaml").read_text(encoding="utf-8")
NOBODY = Role("nobody", "enrolled, and nothing else", (STRANGER,), ())
ROLES = [*kafka_access.read(TEXT, SETTINGS), NOBODY]
TOPICS = [getattr(SETTINGS, n) for n in WorkerSettings.model_fields if n.endswith("topic")]
GROUPS = ["sealtrail", "sealtrail-reader", "auditor-1", "siem-1", "consumer-1", "others"]
RESOURCES = [
    *(("topic", name) for name in TOPICS),
    *(("group", name) for name in GROUPS),
    ("cluster", kafka_access.CLUSTER),
]
# The superuser would really do it.
HARMFUL = {("topic", "DELETE"), ("group", "DELETE")}


def client(role: Role) -> str:
    """Somebody who has it."""
    return "billing" if role.principals == (kafka_access.KEYS,) else role.principals[0]


def expected(role: Role, kind: str, name: str, operation: str) -> bool:
    if (kind, operation) == ("topic", "CREATE") and role.may(
        "cluster", kafka_access.CLUSTER, "CREATE"
    ):
        return True
    return role.may(kind, name, operation)


def cells(role: Role) -> dict[tuple[str, str, str], bool]:
    return {
        (kind, name, operation): expected(role, kind, name, operation)
        for kind, name in RESOURCES
        for operation in OPERATIONS[kind]
        if not (role.superuser and (kind, operation) in HARMFUL)
    }


def tried(attempts: Attempts, cells: Iterable[tuple[str, str, str]]) -> dict[Any, bool]:
    """What the brokers let happen at the first try: the lists are in force (`Secured.settle`)."""
    return {cell: attempts.may(*cell) for cell in cells}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_kafka_lets_each_role_do_what_the_matrix_says(
    secured: Secured, role: Role, happened: Callable[[str], None]
) -> None:
    wanted = cells(role)
    attempts = Attempts(secured.kafka(client(role)), "sealtrail-reader")
    assert tried(attempts, wanted) == wanted
    allowed = sum(wanted.values())
    happened(f"{role.name}: {allowed} allowed, {len(wanted) - allowed} denied")


@pytest.mark.parametrize("name", ["billing", "worker", STRANGER])
def test_a_certificate_gives_the_same_rights_as_a_password(secured: Secured, name: str) -> None:
    role = next(role for role in ROLES if client(role) == name)
    wanted = {cell: may for cell, may in cells(role).items() if cell[0] == "topic"}
    assert tried(Attempts(secured.kafka(name, "mtls"), "sealtrail-reader"), wanted) == wanted


def test_a_producer_may_be_idempotent(secured: Secured) -> None:
    errors: list[KafkaError | None] = []
    producer = Producer({**secured.kafka("orders"), "enable.idempotence": True, "log_level": 0})
    producer.produce("provenance.events", b"try", on_delivery=lambda e, _: errors.append(e))
    assert producer.flush(30) == 0
    assert errors == [None]


@pytest.mark.parametrize(
    "changes",
    [
        {"sasl.password": "wrong"},
        {"sasl.username": "unknown"},
        {"security.protocol": "SSL"},
        {"security.protocol": "PLAINTEXT"},
        {"ssl.ca.location": "other"},
    ],
    ids=str,
)
def test_nobody_comes_in_without_a_name_or_trusts_another_ca(
    secured: Secured, changes: dict[str, str], tmp_path: Path
) -> None:
    if changes.get("ssl.ca.location"):
        other = folder.Folder(tmp_path)
        other.init(folder.now(), timedelta(days=1))
        changes = {"ssl.ca.location": str(other.bundle)}
    admin = AdminClient({**secured.kafka("billing"), **changes, "log_level": 0})
    with pytest.raises(KafkaException) as caught:
        admin.list_topics(timeout=5)
    assert caught.value.args[0].code() == KafkaError._TRANSPORT


def presented(secured: Secured, tmp_path: Path, how: str) -> dict[str, str]:
    """Properties of a client that is the superuser in everything but one."""
    properties = secured.kafka("bootstrap")
    ours = folder.Folder(secured.stack.state_dir / "certs")
    if how == "no certificate":
        del properties["ssl.certificate.location"], properties["ssl.key.location"]
        return properties
    if how == "a client's at a controller":
        local = load(LocalSettings, secured.stack.env)
        return properties | {
            "bootstrap.servers": f"127.0.0.1:{kafka.ports(local, 1)[1]}",
            "ssl.ca.location": str(ours.quorum().bundle),
        }
    other = folder.Folder(tmp_path)
    if how == "a controller's":
        file = ours.quorum().file("broker-1")
    elif how == "the superuser's name, signed by another CA":
        other.init(folder.now(), timedelta(days=1))
        file = other.issue("bootstrap", [], folder.now(), timedelta(hours=1)).file
    else:
        assert how == "one that has ended"
        ago = folder.now() - timedelta(hours=2)
        pair = x509.issue(ours.signing(), "bootstrap", [], ago, timedelta(hours=1))
        file = tmp_path / "ended.pem"
        folder.write(file, pair.key_pem + pair.certificate_pem)
    return properties | {"ssl.certificate.location": str(file), "ssl.key.location": str(file)}


@pytest.mark.parametrize(
    "how",
    [
        "no certificate",
        "one that has ended",
        "the superuser's name, signed by another CA",
        "a controller's",
        "a client's at a controller",
    ],
)
def test_no_other_certificate_opens_a_port(secured: Secured, how: str, tmp_path: Path) -> None:
    assert AdminClient({**secured.kafka("bootstrap")}).list_topics(timeout=30).brokers
    admin = AdminClient({**presented(secured, tmp_path, how), "log_level": 0})
    with pytest.raises(KafkaException) as caught:
        admin.list_topics(timeout=5)
    assert caught.value.args[0].code() == KafkaError._TRANSPORT


# -- the registry ---------------------------------------------------------------------------------

BATCH, EVENT = "provenance.events-value", event_subject("provenance.events")
SCHEMAS = {BATCH: "SignedBatch", EVENT: "ProvenanceEvent", "others-value": "Heartbeat"}


def schema(subject: str) -> dict[str, str]:
    return {"schema": json.dumps(avro.load_schema(SCHEMAS[subject]))}


def requests(subject: str) -> list[tuple[str, str, str, dict[str, str] | None]]:
    """(action of the matrix, method, path, body); the empty action is nobody's."""
    compatibility = {"compatibility": "FULL_TRANSITIVE"}
    return [
        ("read", "GET", f"/subjects/{subject}/versions", None),
        ("read", "GET", f"/subjects/{subject}/versions/latest", None),
        ("read", "POST", f"/subjects/{subject}?normalize=False", schema(subject)),
        ("read", "GET", f"/config/{subject}", None),
        ("register", "POST", f"/subjects/{subject}/versions?normalize=False", schema(subject)),
        ("register", "POST", f"/compatibility/subjects/{subject}/versions/latest", schema(subject)),
        ("configure", "PUT", f"/config/{subject}", compatibility),
        ("", "DELETE", f"/subjects/{subject}", None),
        ("", "DELETE", f"/subjects/{subject}/versions/1", None),
        ("", "DELETE", f"/config/{subject}", None),
    ]


ELSEWHERE = [
    ("GET", "/subjects"),
    ("GET", "/config"),
    ("PUT", "/config"),
    ("GET", "/schemas"),
    ("GET", "/mode"),
    # Other ways to write what is allowed.
    ("GET", f"/subjects/{BATCH}/../others-value/versions"),
    ("GET", f"/subjects/{BATCH}%2F..%2Fothers-value/versions"),
    ("GET", f"//subjects/{BATCH}/versions"),
    ("GET", f"/subjects/{BATCH}/versions%3Fx"),
]


def registry_client(secured: Secured, name: str, how: str) -> httpx.Client:
    certs = secured.stack.state_dir / "certs"
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    auth = None
    if how == "mtls":
        context.load_cert_chain(certs / "issued" / f"{name}.pem")
    else:
        auth = httpx.BasicAuth(name, (secured.stack.state_dir / "scram" / name).read_text())
    url = secured.stack.env["SEALTRAIL_REGISTRY_URL"]
    return httpx.Client(base_url=url, verify=context, auth=auth, timeout=30)


@pytest.mark.parametrize("how", ["mtls", "password"])
@pytest.mark.parametrize("role", [r for r in ROLES if not r.superuser], ids=lambda role: role.name)
def test_the_registry_lets_each_role_do_what_the_matrix_says(
    secured: Secured, role: Role, how: str, happened: Callable[[str], None]
) -> None:
    wanted: dict[tuple[str, str], bool] = {}
    found: dict[tuple[str, str], bool] = {}
    with registry_client(secured, client(role), how) as session:
        for subject in SCHEMAS:
            may = role.subjects.get(subject, ())
            for action, method, path, body in requests(subject):
                wanted[method, path] = action in may
                found[method, path] = let(session.request(method, path, json=body))
        any_read = any("read" in actions for actions in role.subjects.values())
        wanted["GET", "/schemas/ids/1"] = any_read
        found["GET", "/schemas/ids/1"] = let(session.get("/schemas/ids/1"))
        for method, path in ELSEWHERE:
            wanted[method, path] = False
            # As it is written: httpx would tidy the path.
            url = httpx.URL(secured.stack.env["SEALTRAIL_REGISTRY_URL"])
            raw = url.copy_with(raw_path=url.raw_path + path.encode())
            found[method, path] = let(session.request(method, raw, json={}))
    assert found == wanted
    happened(
        f"{role.name}: {sum(wanted.values())} allowed, {len(wanted) - sum(wanted.values())} denied"
    )


def let(answer: httpx.Response) -> bool:
    if answer.status_code in (401, 403):
        return False
    # The registry itself answers: what is asked for may be missing, never be an error of its own.
    assert answer.status_code in (200, 404), (answer.request.url, answer.status_code, answer.text)
    return True


def test_strangers_to_the_registry_are_asked_who_they_are(secured: Secured, tmp_path: Path) -> None:
    with registry_client(secured, "billing", "password") as session:
        path = f"/subjects/{BATCH}/versions"
        assert session.get(path).status_code == 200
        assert session.get(path, auth=("billing", "wrong")).status_code == 401
        # Nobody of that name may do it; that the password is wrong as well is not told.
        assert session.get(path, auth=("nobody", "x")).status_code in (401, 403)
        session.auth = None
        assert session.get(path).status_code == 401
    # A name that another CA vouches for is none, and the password beside it helps nobody.
    other = folder.Folder(tmp_path)
    other.init(folder.now(), timedelta(days=1))
    issued = other.issue("operator", [], folder.now(), timedelta(hours=1))
    context = ssl.create_default_context(cafile=secured.stack.state_dir / "certs" / "ca.pem")
    context.load_cert_chain(issued.file)
    url = secured.stack.env["SEALTRAIL_REGISTRY_URL"]
    with httpx.Client(base_url=url, verify=context, timeout=30) as session:
        assert session.get(path).status_code == 400
        password = (secured.stack.state_dir / "scram" / "operator").read_text()
        assert session.get(path, auth=("operator", password)).status_code == 400


def test_the_registry_itself_speaks_tls_alone_and_shows_its_name(secured: Secured) -> None:
    local = load(LocalSettings, secured.stack.env)
    assert addresses.registry_behind(local).startswith("https://")
    assert health.registry(local).endswith(" subjects")
    ports = listening(secured.stack.pid("registry"))
    assert ports == {addresses.registry_port(local), management(secured)}
    bundle = secure.certificates(local).bundle
    for port in ports:
        place = addresses.HOST, port
        # At most TLS's own word for it: an alert.
        said = plainly(place)
        assert said[:1] in {b"", b"\x15"}
        assert b"HTTP" not in said
        for version, taken in (
            (ssl.TLSVersion.TLSv1_1, False),
            (ssl.TLSVersion.TLSv1_2, True),
            (ssl.TLSVersion.TLSv1_3, True),
        ):
            assert shakes_hands(place, bundle, version) == taken, (port, version)


def plainly(place: tuple[str, int]) -> bytes:
    """What comes back to somebody who speaks plain HTTP."""
    with socket.create_connection(place, timeout=30) as plain:
        plain.sendall(b"GET /apis/ccompat/v7/subjects HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            return plain.recv(65_536)
        except ConnectionResetError:
            return b""


def shakes_hands(place: tuple[str, int], bundle: Path, version: ssl.TLSVersion) -> bool:
    """Whether it shows the name by which the gate asks; other servers here do not have it."""
    context = ssl.create_default_context(cafile=bundle)
    # Or this side would not even offer it.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(place, timeout=30) as plain:
        try:
            context.wrap_socket(plain, server_hostname=secure.REGISTRY).close()
        except ssl.SSLCertVerificationError:
            # It would have shaken them.
            raise
        except (ssl.SSLError, ConnectionResetError):
            return False
    return True


def management(secured: Secured) -> int:
    """The port that the registry has taken for its health and metrics, as its log says."""
    log = (secured.stack.state_dir / "log" / "registry.log").read_text()
    found = re.findall(r"Management interface listening on (\w+)://[\d.]+:(\d+)", log)
    assert {scheme for scheme, _ in found} == {"https"}
    return int(found[-1][1])


def listening(pid: int) -> set[int]:
    """The ports on which a process listens."""
    connections = psutil.Process(pid).net_connections("tcp")
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


# -- names that do not fit ------------------------------------------------------------------------


def test_a_name_without_a_key_is_a_finding(secured: Secured) -> None:
    [row] = secured.run("acls", "check", "--dry-run", code=1)
    assert row["detail"] == f"a certificate was issued to {STRANGER}, for whom no key speaks"
    assert secured.run("acls", "plan") == []
    right = kafka_access.Right("topic", "provenance.events", prefixed=False, operation="WRITE")
    granted = kafka_access.Entry(STRANGER, right)
    admin = KafkaAdmin(secured.kafka("bootstrap"))
    admin.change([kafka_access.Change("grant", granted)])
    secured.settle()
    assert granted in admin.entries()
    rows = secured.run("acls", "check", code=1)
    assert {row["name"] for row in rows} == {STRANGER}
    stored = secured.run(
        "sql", "SELECT severity, origin, detail FROM findings WHERE code = 'IDENTITY_MISMATCH'"
    )
    assert {(row["severity"], row["origin"]) for row in stored} == {("HIGH", "audit")}
    assert any("no valid key speaks for it" in row["detail"] for row in stored)
    consumer = Consumer(
        {**secured.kafka("siem"), "group.id": "siem-1", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["provenance.alerts"])
    codes: set[str] = set()
    deadline = time.monotonic() + 60
    while "IDENTITY_MISMATCH" not in codes and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None and message.value() != b"try":
            codes |= set(json.loads(message.value())["finding_info"]["types"])
    consumer.close()
    assert codes == {"IDENTITY_MISMATCH"}
    [change] = secured.run("acls", "plan", code=1)
    assert (change["act"], change["principal"]) == ("revoke", STRANGER)
    secured.run("acls", "apply", code=0)
    secured.settle()
    assert granted not in admin.entries()


def test_who_comes_under_another_name_is_refused_at_the_start(secured: Secured) -> None:
    secured.run("emit", "test.step", "--producer", "billing")
    secured.run(
        "emit", "test.step", "--producer", "billing", code=3, SEALTRAIL_KAFKA_IDENTITY="orders"
    )


def test_the_settings_of_the_matrix_are_those_of_the_stack(secured: Secured) -> None:
    assert load(WorkerSettings, secured.stack.env).group == SETTINGS.group
