"""Topics as code on real brokers: drift is shown, mended where that does no harm, else left."""

from __future__ import annotations

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from tests.real.conftest import PATIENCE_S, Secured

from sealtrail.settings import load
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

ALERTS = "provenance.alerts"
OTHER = "provenance.verified.other"
Row = tuple[str, ...]


def change(secured: Secured, name: str, value: str | None) -> None:
    """What somebody does by hand; None: take the setting away."""
    how = AlterConfigOpType.SET if value else AlterConfigOpType.DELETE
    entry = ConfigEntry(name, value, incremental_operation=how)
    resource = ConfigResource(ResourceType.TOPIC, ALERTS, incremental_configs=[entry])
    admin = AdminClient({**secured.kafka(secure.BOOTSTRAP)})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(PATIENCE_S)
    secured.settle()


def topics(secured: Secured, act: str, code: int, **variables: str) -> list[Row]:
    rows = secured.run("topics", act, code=code, **variables)
    secured.settle()
    return [(row["act"], row["topic"], row["what"], row["now"]) for row in rows]


def test_drift_is_shown_and_mended(secured: Secured) -> None:
    assert topics(secured, "plan", 0) == []
    change(secured, "retention.ms", "60000")
    drift = [("set", ALERTS, "retention.ms", "60000")]
    assert topics(secured, "plan", 1) == drift
    assert topics(secured, "plan", 1) == drift, "a plan changes nothing"
    assert topics(secured, "apply", 0) == drift
    assert topics(secured, "plan", 0) == []


def test_what_nobody_planned_is_left_and_said(secured: Secured) -> None:
    change(secured, "segment.bytes", "20000000")
    drift = [("refuse", ALERTS, "segment.bytes", "20000000")]
    assert topics(secured, "apply", 1) == drift
    assert topics(secured, "plan", 1) == drift
    change(secured, "segment.bytes", None)
    assert topics(secured, "plan", 0) == []


def test_a_topic_that_is_missing_is_made_as_declared(secured: Secured) -> None:
    local = load(LocalSettings, secured.stack.env)
    variables = secure.superuser(local) | {
        "SEALTRAIL_KAFKA_IDENTITY": secure.BOOTSTRAP,
        "SEALTRAIL_VERIFIED_TOPIC": OTHER,
    }
    assert topics(secured, "plan", 1, **variables) == [("create", OTHER, "topic", "")]
    assert topics(secured, "apply", 0, **variables) == [("create", OTHER, "topic", "")]
    assert topics(secured, "plan", 0, **variables) == []
    admin = AdminClient({**secured.kafka(secure.BOOTSTRAP)})
    made = admin.list_topics(OTHER, timeout=PATIENCE_S).topics[OTHER].partitions
    assert {len(partition.replicas) for partition in made.values()} == {3}
    [gone] = admin.delete_topics([OTHER]).values()
    gone.result(PATIENCE_S)
