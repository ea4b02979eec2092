"""Topics as code: what deploy/kafka/topics.yaml wants, what a cluster has, and the steps between.

Pure: `kafka.admin` asks and changes, `commands.topics` shows. Rules of `plan`:
- what can be done without harm becomes a step: a topic is made, a setting is set, partitions are
  added where the file allows it;
- what would lose messages, move chains or needs more than one command is refused, with why, and
  stays drift: fewer partitions, another replication factor, a shorter retention, another cleanup
  policy, settings that the file does not name;
- nothing is ever deleted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from sealtrail.errors import MISSHAPEN, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.settings import WorkerSettings

ALLOWED = "allowed"
_PLACE = re.compile(r"\$\{([a-z_]+)\}")
_FIELDS = frozenset({"name", "partitions", "replication", "grows", "config"})


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, as wanted or as found.

    Attributes:
        name: its name.
        partitions: how many.
        replication: copies of each partition.
        config: settings by name. As found: those that were set for this topic.
        grows: "allowed", else why partitions must not be added (as wanted only).
    """

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)
    grows: str = ALLOWED


class Act(StrEnum):
    """What a step does."""

    CREATE = "create"
    SET = "set"
    GROW = "grow"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """One difference, and what becomes of it.

    Attributes:
        act: REFUSE leaves it as it is.
        topic: where.
        what: the setting, or "partitions", "replication", "topic".
        now: as found, empty when there is nothing.
        wanted: as the file has it.
        why: of a refusal.
    """

    act: Act
    topic: str
    what: str
    now: str
    wanted: str
    why: str = ""


def read(text: str, settings: WorkerSettings) -> list[Topic]:
    """The wanted topics.

    Args:
        text: of topics.yaml.
        settings: values of its ${...}.

    Raises:
        ConfigurationError: it says something that is not understood.
    """
    try:
        found = yaml.safe_load(filled(text, settings))
        defaults = dict(found["defaults"])
        return [_topic({**defaults, **one}, defaults["config"]) for one in found["topics"]]
    except (yaml.YAMLError, *MISSHAPEN) as error:
        raise ConfigurationError(
            f"the file of topics is not understood: {error}",
            hint="compare it with deploy/kafka/topics.yaml",
        ) from None


def filled(text: str, settings: WorkerSettings) -> str:
    """Text with settings in place of ${...}.

    Raises:
        ConfigurationError: there is no such setting.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in type(settings).model_fields:
            raise ConfigurationError(f"${{{name}}} names no setting")
        return str(getattr(settings, name))

    return _PLACE.sub(value, text)


def _topic(one: Mapping[str, Any], defaults: Mapping[str, Any]) -> Topic:
    unknown = one.keys() - _FIELDS
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    config = {str(k): str(v) for k, v in {**defaults, **one.get("config", {})}.items()}
    return Topic(
        str(one["name"]), int(one["partitions"]), int(one["replication"]), config, one["grows"]
    )


def plan(wanted: Sequence[Topic], found: Mapping[str, Topic]) -> list[Step]:
    """The steps from what is there to what is wanted; none when they are alike.

    Args:
        wanted: of `read`.
        found: topics of the cluster by name, with what they were given as settings.
    """
    steps: list[Step] = []
    for topic in wanted:
        there = found.get(topic.name)
        if there is None:
            size = f"partitions {topic.partitions}, replication {topic.replication}"
            steps.append(Step(Act.CREATE, topic.name, "topic", "", size))
        else:
            steps += _counts(topic, there)
            steps += _settings(topic, there)
    return steps


def _counts(wanted: Topic, found: Topic) -> list[Step]:
    steps = []
    if wanted.partitions != found.partitions:
        why = "" if wanted.grows == ALLOWED else wanted.grows
        if wanted.partitions < found.partitions:
            why = "Kafka cannot take partitions away, and what lies in them would be lost"
        act = Act.REFUSE if why else Act.GROW
        now, then = str(found.partitions), str(wanted.partitions)
        steps.append(Step(act, wanted.name, "partitions", now, then, why))
    if wanted.replication != found.replication:
        why = "moving replicas takes hours and a plan of its own: kafka-reassign-partitions"
        now, then = str(found.replication), str(wanted.replication)
        steps.append(Step(Act.REFUSE, wanted.name, "replication", now, then, why))
    return steps


def _settings(wanted: Topic, found: Topic) -> list[Step]:
    steps = []
    for name, value in sorted(wanted.config.items()):
        now = found.config.get(name)
        if now != value:
            why = _harm(name, now, value)
            act = Act.REFUSE if why else Act.SET
            steps.append(Step(act, wanted.name, name, now or "", value, why))
    for name in sorted(found.config.keys() - wanted.config.keys()):
        why = "the file does not name it: add it there, or remove it by hand"
        steps.append(Step(Act.REFUSE, wanted.name, name, found.config[name], "", why))
    return steps


def _harm(name: str, now: str | None, wanted: str) -> str:
    """Why a setting must not be changed by `apply`, empty when it may be."""
    if now is None:
        return ""
    if name == "cleanup.policy":
        return "messages would be deleted or merged by another rule than they were written under"
    if name in ("retention.ms", "retention.bytes") and _bound(wanted) < _bound(now):
        return "messages would be deleted: shorten it by hand"
    return ""


def _bound(value: str) -> float:
    number = int(value)
    return float("inf") if number < 0 else number
