"""Access lists as code: the matrix, the steps to it, and names that do not fit together."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail.settings import load
from sealtrail_local.certs.folder import Folder
from sealtrail_processor.commands.acls import client_names
from sealtrail_processor.kafka import access as kafka_access
from sealtrail_processor.kafka.access import Entry, Right, Role
from sealtrail_processor.settings import WorkerSettings

EVENTS = "provenance.events"
PRODUCERS = {"billing", "orders"}
ALTERS = Right(kind="cluster", name=kafka_access.CLUSTER, prefixed=False, operation="ALTER")
TRANSACTS = Right(kind="transactional_id", name="t", prefixed=False, operation="WRITE")


def text() -> str:
    return resources.path("kafka", "access.yaml").read_text(encoding="utf-8")


@pytest.fixture
def roles() -> list[Role]:
    return kafka_access.read(text(), WorkerSettings())


@pytest.fixture
def applied(roles: list[Role]) -> set[Entry]:
    return kafka_access.entries(roles, PRODUCERS)


def on_topic(operation: str, name: str = EVENTS, *, prefixed: bool = False) -> Right:
    return Right("topic", name, prefixed, operation)


def test_producers_write_their_topic_and_nothing_else(roles: list[Role]) -> None:
    [producer] = [role for role in roles if role.name == "producer"]
    allowed = {
        (right.kind, right.name, operation)
        for role in roles
        for right in role.rights
        for operation in kafka_access.OPERATIONS[right.kind]
        if producer.may(right.kind, right.name, operation)
    }
    assert allowed == {
        ("topic", EVENTS, "WRITE"),
        ("topic", EVENTS, "DESCRIBE"),
        ("group", "sealtrail", "DESCRIBE"),
    }


def test_only_operators_write_keys_and_nobody_deletes(roles: list[Role]) -> None:
    may_write = [role.name for role in roles if role.may("topic", "provenance.keys", "WRITE")]
    assert may_write == ["bootstrap", "operator"]
    assert not any(right.operation == "DELETE" for role in roles for right in role.rights)


def test_what_is_as_declared_needs_nothing(roles: list[Role], applied: set[Entry]) -> None:
    assert kafka_access.plan(roles, PRODUCERS, applied) == []
    assert {c.act for c in kafka_access.plan(roles, PRODUCERS, [])} == {"grant"}


def test_who_has_no_key_any_more_loses_the_topic(roles: list[Role], applied: set[Entry]) -> None:
    changes = kafka_access.plan(roles, {"billing"}, applied)
    assert {(c.act, c.entry.principal) for c in changes} == {("revoke", "orders")}


@pytest.mark.parametrize(
    ("entry", "act"),
    [
        (Entry("mallory", on_topic("READ")), "revoke"),
        (Entry("billing", on_topic("READ")), "revoke"),
        (Entry("billing", on_topic("WRITE"), host="10.0.0.1"), "revoke"),
        (Entry("worker", ALTERS), "revoke"),
        (Entry("*", on_topic("READ", "*")), "refuse"),
        (Entry("mallory", on_topic("READ", "prov", prefixed=True)), "refuse"),
        (Entry("billing", on_topic("WRITE"), denies=True), "refuse"),
        # What is none of ours is left alone.
        (Entry("mallory", on_topic("READ", "other")), None),
        (Entry("root", ALTERS), None),
        (Entry("app", TRANSACTS), None),
    ],
)
def test_what_the_file_does_not_have(
    roles: list[Role], applied: set[Entry], entry: Entry, act: str | None
) -> None:
    changes = kafka_access.plan(roles, PRODUCERS, applied | {entry})
    assert [(c.act, c.entry) for c in changes] == ([(act, entry)] if act else [])


def test_principals_of_a_role_can_be_named(tmp_path: Path) -> None:
    variables = {"SEALTRAIL_STATE_DIR": str(tmp_path)}
    name = "SEALTRAIL_ACCESS_PRINCIPALS"
    settings = load(WorkerSettings, variables | {name: json.dumps({"worker": ["w1", "w2"]})})
    found = kafka_access.entries(kafka_access.read(text(), settings), PRODUCERS)
    assert {
        e.principal for e in found if e.right.operation == "READ" and e.right.name == EVENTS
    } == {
        "w1",
        "w2",
        "auditor",
        # What was refused, and was too much to be kept.
        "operator",
    }
    typo = load(WorkerSettings, variables | {name: json.dumps({"workers": ["w1"]})})
    with pytest.raises(ConfigurationError, match="names no role: workers"):
        kafka_access.read(text(), typo)


@pytest.mark.parametrize(
    "broken",
    [
        "roles: {a: {is: x, principals: [a], kafka: [{topic: t, may: [PEEK]}]}}",
        "roles: {a: {is: x, principals: [a], kafka: [{queue: t, may: [READ]}]}}",
        "roles: {a: {is: x, principals: [a], kafka: [{topic: t, may: [READ], who: b}]}}",
        "roles: {a: {is: x, principals: [a], kafka: [], rest: 1}}",
        "roles: {a: {is: x, principals: [a], kafka: [], registry: [{subject: s, may: [drop]}]}}",
        "roles: [",
        "[]",
    ],
)
def test_a_file_that_is_not_understood_is_refused(broken: str) -> None:
    with pytest.raises(ConfigurationError, match="not understood"):
        kafka_access.read(broken, WorkerSettings())


def wrong(
    roles: list[Role], found: set[Entry], certificates: tuple[str, ...] = ()
) -> set[tuple[str, int]]:
    found_ = kafka_access.mismatches(roles, PRODUCERS, found, certificates, EVENTS)
    return {(m.name, m.kind) for m in found_}


def test_names_that_fit_are_no_finding(roles: list[Role], applied: set[Entry]) -> None:
    assert wrong(roles, applied, ("billing", "worker", "admin")) == set()


def test_names_that_do_not_fit_are_told(roles: list[Role], applied: set[Entry]) -> None:
    mallory = Entry("mallory", on_topic("WRITE"))
    assert wrong(roles, applied | {mallory}) == {("mallory", 1)}
    without = {e for e in applied if e.principal != "orders"}
    assert wrong(roles, without) == {("orders", 2)}
    assert wrong(roles, applied, ("billing", "mallory")) == {("mallory", 3)}
    # A list that lets everybody write names nobody.
    assert wrong(roles, {*without, Entry("*", on_topic("WRITE"))}) == {("*", 1)}
    assert wrong(roles, {*applied, Entry("mallory", on_topic("ALL", "prov", prefixed=True))}) == {
        ("mallory", 1)
    }


def test_servers_certificates_are_nobodys_name(tmp_path: Path) -> None:
    certs, now = Folder(tmp_path), datetime.now(UTC)
    certs.init(now, timedelta(days=1))
    certs.issue("broker-1", ["localhost"], now, timedelta(hours=1))
    certs.issue("billing", [], now, timedelta(hours=1))
    assert list(client_names(tmp_path / "issued")) == ["billing"]
    (tmp_path / "issued" / "x.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="no certificate in"):
        list(client_names(tmp_path / "issued"))
