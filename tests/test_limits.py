"""docs/limits.md says what the code does: settings and their defaults, metrics, numbers."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from sealtrail import avro_schema, batch, chain_state, event, records, statement
from sealtrail_audit.settings import AuditSettings
from sealtrail_local.settings import LocalSettings
from sealtrail_processor.kafka import inflate, publisher
from sealtrail_processor.linking import cycles, link_store, links, suspects
from sealtrail_processor.pipeline import app
from sealtrail_processor.quarantine import held, originals, releasing
from sealtrail_processor.reporting.metrics import Metrics
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import container
from sealtrail_producer import core, sender, slots
from sealtrail_producer.settings import ProducerSettings

TEXT = (Path(__file__).resolve().parents[1] / "docs/limits.md").read_text()
ROOMS = (ProducerSettings, WorkerSettings, AuditSettings, LocalSettings)
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "day": 86_400}
# `name` (default), as a row gives it; more words may follow the number.
SETTING = re.compile(r"`([a-z_]+)` \(([0-9.,]+) ?(\w*)")


def row(begin: str) -> str:
    """The one row that begins so."""
    (found,) = [line for line in TEXT.splitlines() if line.startswith(f"| {begin}")]
    return found


@pytest.mark.parametrize(("name", "number", "unit"), SETTING.findall(TEXT))
def test_a_setting_has_the_default_that_is_named(name: str, number: str, unit: str) -> None:
    (default,) = {
        field.default
        for room in ROOMS
        if (field := room.model_fields.get(name)) is not None
        and field.default is not PydanticUndefined
    }
    assert float(number.replace(",", "")) * UNITS.get(unit, 1) == default


def test_each_metric_is_there() -> None:
    metrics = list(Metrics().registry.collect())
    there = {metric.name for metric in metrics}
    there |= {sample.name for metric in metrics for sample in metric.samples}
    # A counter with labels has no samples yet.
    there |= {f"{metric.name}_total" for metric in metrics}
    named = set(re.findall(r"`((?:sealtrail|process)_[a-z_]+)", TEXT))
    assert len(named) > 10
    assert named <= there, named - there


def shown(number: int) -> str:
    """As the table writes it."""
    for unit in ("MiB", "KiB"):
        if number >= UNITS[unit] and number % UNITS[unit] == 0:
            return f"{number // UNITS[unit]:,} {unit}"
    return f"{number:,}"


@pytest.mark.parametrize(
    ("begin", "numbers"),
    [
        ("message |", [batch.MAX_MESSAGE_BYTES]),
        ("event |", [event.MAX_EVENT_BYTES, event.MAX_PARENTS, event.MAX_ENTITIES]),
        ("signers of", [statement.MAX_SIGNERS]),
        ("key record", [records.MAX_RECORD_BYTES]),
        ("schema |", [avro_schema.MAX_SCHEMA_BYTES, avro_schema.MAX_SCHEMA_DEPTH]),
        ("a compressed", [inflate.MAX_BYTES]),
        ("events in memory", [core.QUEUE_BYTES]),
        ("under way", [sender.MAX_UNDER_WAY_BYTES]),
        ("processes of", [slots.MAX_SLOTS]),
        ("one insert", [container.MAX_ROWS, container.MAX_BYTES]),
        ("batch hashes", [chain_state.RECENT]),
        ("how long a parent", [links.GIVE_UP_WINDOWS]),
        ("findings that wait", [suspects.PENDING]),
        ("suspects asked", [link_store.IDS]),
        ("search for", [cycles.NODES, cycles.PENDING]),
        ("alerts and copies", [publisher.QUEUE_KBYTES * 1024]),
        ("refused messages that are looked at", [held.PAGE, held.BYTES]),
        ("the same of parked messages", [originals.BYTES, releasing.AGAIN_US // 60_000_000]),
    ],
)
def test_numbers_are_those_of_the_code(begin: str, numbers: list[int]) -> None:
    for number in numbers:
        # Bytes below a MiB may be events, and are written plainly then.
        written = {shown(number), f"{number:,}"}
        assert any(re.search(rf"(?<!\d)(?<!\d,){text}(?!\d|,\d)", row(begin)) for text in written)


def test_numbers_that_have_no_name_in_the_code() -> None:
    (inbox,) = re.findall(r"maxsize=(\d+)", inspect.getsource(links))
    assert f"| {inbox} |" in row("flushes that wait")
    (buffer,) = re.findall(r"stream_buffer_maxsize=(\d+)", inspect.getsource(app))
    assert f"| {buffer} in" in row("messages fetched ahead")
