"""Topics as code: every difference is a step, and what would do harm is refused."""

from dataclasses import replace
from typing import Any

import pytest

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail_processor.kafka import topics
from sealtrail_processor.kafka.topics import Act, Topic
from sealtrail_processor.settings import WorkerSettings


@pytest.fixture
def wanted() -> list[Topic]:
    text = resources.path("kafka", "topics.yaml").read_text(encoding="utf-8")
    return topics.read(text, WorkerSettings(topic="t.events", partitions=12))


@pytest.fixture
def found(wanted: list[Topic]) -> dict[str, Topic]:
    return {topic.name: topic for topic in wanted}


def test_the_file_declares_all_topics_of_the_settings(found: dict[str, Topic]) -> None:
    settings = WorkerSettings(topic="t.events")
    names = (n for n in WorkerSettings.model_fields if n == "topic" or n.endswith("_topic"))
    assert found.keys() == {getattr(settings, name) for name in names}
    events, keys = found["t.events"], found["provenance.keys"]
    assert (events.partitions, events.replication) == (12, 3)
    assert events.config["message.timestamp.type"] == "LogAppendTime"
    assert events.config["min.insync.replicas"] == "2"
    assert keys.config["cleanup.policy"] == "compact"
    assert "retention.ms" not in keys.config


def test_what_is_as_declared_needs_nothing(wanted: list[Topic], found: dict[str, Topic]) -> None:
    assert topics.plan(wanted, found) == []


def test_what_is_missing_is_made(wanted: list[Topic]) -> None:
    steps = topics.plan(wanted, {})
    assert [(s.act, s.topic) for s in steps] == [(Act.CREATE, t.name) for t in wanted]


def changed(found: dict[str, Topic], name: str, **changes: Any) -> dict[str, Topic]:
    return found | {name: replace(found[name], **changes)}


def test_a_setting_that_does_no_harm_is_set(wanted: list[Topic], found: dict[str, Topic]) -> None:
    old = dict(found["t.events"].config)
    longer = {**old, "retention.ms": "1000", "compression.type": "producer"}
    del longer["min.insync.replicas"]
    steps = topics.plan(wanted, changed(found, "t.events", config=longer))
    assert {(s.act, s.what, s.now, s.wanted) for s in steps} == {
        (Act.SET, "retention.ms", "1000", old["retention.ms"]),
        (Act.SET, "compression.type", "producer", "zstd"),
        (Act.SET, "min.insync.replicas", "", "2"),
    }


@pytest.mark.parametrize(
    ("topic", "changes", "what", "why"),
    [
        ("t.events", {"partitions": 4}, "partitions", "chains would move"),
        ("t.events", {"partitions": 20}, "partitions", "cannot take partitions away"),
        ("provenance.keys", {"replication": 1}, "replication", "reassign"),
        ("t.events", {"config": {"retention.ms": "-1"}}, "retention.ms", "deleted"),
        ("provenance.keys", {"config": {"cleanup.policy": "delete"}}, "cleanup.policy", "rule"),
        ("provenance.heads", {"config": {"flush.ms": "1"}}, "flush.ms", "does not name it"),
    ],
)
def test_what_would_do_harm_is_refused_with_why(
    wanted: list[Topic],
    found: dict[str, Topic],
    topic: str,
    changes: dict[str, Any],
    what: str,
    why: str,
) -> None:
    if "config" in changes:
        changes = {"config": {**found[topic].config, **changes["config"]}}
    [step] = topics.plan(wanted, changed(found, topic, **changes))
    assert (step.act, step.topic, step.what) == (Act.REFUSE, topic, what)
    assert why in step.why


def test_partitions_are_added_where_nothing_depends_on_them(
    wanted: list[Topic], found: dict[str, Topic]
) -> None:
    name = "provenance.alerts"
    more = [replace(t, partitions=3) if t.name == name else t for t in wanted]
    [step] = topics.plan(more, found)
    assert (step.act, step.topic, step.now, step.wanted) == (Act.GROW, name, "1", "3")


@pytest.mark.parametrize(
    "text",
    [
        "defaults: {replication: 1, config: {}}\ntopics: [{name: t, partitions: ${state}}]",
        "defaults: {replication: 1, config: {}}\ntopics: [{name: t, partitions: 1, grow: no}]",
        "defaults: {replication: 1, config: {}}\ntopics: [{name: t, partitions: some}]",
        "topics: {",
        "[]",
    ],
)
def test_a_file_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        topics.read(text, WorkerSettings())
