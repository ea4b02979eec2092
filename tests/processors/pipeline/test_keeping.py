"""Refused messages beyond an hour's bytes: on record like all others, without their bytes."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract import world
from tests.processors.pipeline.scenes import RULES, SECOND, Scene, raw

from sealtrail.errors import UnavailableError
from sealtrail.findings import NOT_KEPT
from sealtrail_processor.commands import quarantine as quarantine_cli
from sealtrail_processor.judging.keeping import HOUR_US, size
from sealtrail_processor.judging.model import Log
from sealtrail_processor.memory import MemoryBroker, MemoryPublisher
from sealtrail_processor.quarantine.held import Held
from sealtrail_processor.quarantine.originals import OriginalGone, Originals
from sealtrail_processor.reporting.metrics import Metrics
from sealtrail_processor.reporting.reports import Reports
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.judging.model import Judged, RawMessage
    from sealtrail_processor.judging.ports import Coordinates

PARKED = world.Producer(keys=(world.STRANGER,)).send()
GOOD = world.Producer()
SENT = [GOOD.send() for _ in range(30)]


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[bytes | None, int, tuple[tuple[str, bytes], ...]]]:
    """Junk of some sizes, parked and honest ones, within some hours; some headers are large."""
    at = world.NOW
    found: list[tuple[bytes | None, int, tuple[tuple[str, bytes], ...]]] = []
    honest = iter(SENT)
    for kind in draw(st.lists(st.sampled_from("jjjjhpn"), max_size=30)):
        at += draw(st.sampled_from([0, SECOND, HOUR_US // 3, HOUR_US]))
        headers = (("h", bytes(draw(st.sampled_from([0, 0, 40])))),)
        junk = b"x" * draw(st.integers(1, 60))
        value = {"j": junk, "h": next(honest), "p": PARKED, "n": None}[kind]
        found.append((value, at, headers))
    return found


def scene(stream: list[tuple[bytes | None, int, tuple[tuple[str, bytes], ...]]]) -> Scene:
    made = Scene(rules=replace(RULES, kept_bytes=100, parked_bytes=2 * len(PARKED)))
    for value, at, headers in stream:
        made.append(value, at=at, headers=headers)
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages(), st.data())
def test_what_is_kept_is_bounded_and_the_same_after_any_restart(
    stream: list[tuple[bytes | None, int, tuple[tuple[str, bytes], ...]]], data: st.DataObject
) -> None:
    one, many = scene(stream), scene(stream)
    one.run()
    partition = many.partition()
    log = many.broker.logs.get(1, [])
    while partition.next_offset < len(log):
        last = partition.next_offset + data.draw(st.integers(1, 9))
        many.ledger.failures = data.draw(st.sampled_from([0, 0, 1]))
        for _ in range(2):
            try:
                partition.process(log[partition.next_offset : last])
                break
            except UnavailableError:
                continue
        if data.draw(st.booleans()):
            partition = many.partition()
    judged = one.ledger.judged()
    assert many.ledger.judged() == judged
    # Each offset has its fate; what is parked and what is refused have an allowance each.
    assert [j.message.offset for j in judged] == list(range(len(stream)))
    most = {"quarantined": 100, "parked": 2 * len(PARKED)}
    kept: dict[tuple[str, int], int] = {}
    for item in judged:
        if item.disposition not in most:
            assert item.kept
            continue
        of, needed = (item.disposition, item.arrival // HOUR_US), size(item.message)
        assert item.kept == (kept.get(of, 0) + needed <= most[item.disposition])
        kept[of] = kept.get(of, 0) + needed * item.kept
        assert not item.findings[0].detail.startswith(NOT_KEPT)


def unkept() -> tuple[Scene, Judged]:
    made = scene([(b"x" * 90, world.NOW, ()), (b"y" * 20, world.NOW, (("h", b"v"),))])
    made.run()
    return made, made.ledger.judged()[1]


def test_what_is_not_kept_is_on_record_with_size_and_digest() -> None:
    made, item = unkept()
    row = dict(zip(rows.DISPOSITIONS, rows.disposition(made.log, item), strict=True))
    assert row["digest"] == sha256(b"y" * 20).digest()
    assert (row["disposition"], row["code"], row["step"]) == ("quarantined", "MALFORMED", 1)
    assert row["detail"].startswith(f"{NOT_KEPT}20 bytes; ")
    (flush,) = made.ledger.flushes
    (table,) = [
        t for t in rows.tables([flush], [rows.dispositions(flush)]) if t.name == "quarantine"
    ]
    kept, other = (dict(zip(table.columns, r, strict=True)) for r in table.rows)
    assert kept["value"] == b"x" * 90
    assert (other["key"], other["value"], other["headers"]) == (None, None, [])
    assert other["detail"] == row["detail"]
    # What was found says why, as of any other.
    assert not item.findings[0].detail.startswith(NOT_KEPT)


def test_it_is_counted_and_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    made, _ = unkept()
    (flush,) = made.ledger.flushes
    metrics, now = Metrics(), [world.NOW]
    metrics.count(flush)
    sample = metrics.registry.get_sample_value
    assert sample("sealtrail_quarantine_bytes_total") == 90
    assert sample("sealtrail_quarantine_unkept_bytes_total") == 20
    reports = Reports(
        None,  # nothing is written
        MemoryPublisher(),
        metrics,
        alerts_topic="alerts",
        quarantine_topic="quarantine",
        now=lambda: now[0],
    )
    for seconds in (0, 10, 20, 61):
        now[0] = world.NOW + seconds * SECOND
        reports.committed(flush)
    said = [r.getMessage() for r in caplog.records if "without their bytes" in r.getMessage()]
    assert [text.split()[1] for text in said] == ["1", "3"]


def log_of(*messages: RawMessage, cluster: str = "cluster-1") -> MemoryBroker:
    """A topic's log, as its messages lie in it now."""
    return MemoryBroker(cluster, {1: list(messages)})


class Digests:
    def refused(self, coordinates: Sequence[Coordinates]) -> dict[Coordinates, tuple[int, bytes]]:
        return {at: (world.NOW, sha256(b"bytes").digest()) for at in coordinates}


def held(detail: str, value: bytes | None = None) -> Held:
    log = Log("cluster-1", world.TOPIC, 1)
    about = (world.NOW, 5, "quarantined", "MALFORMED", 1, detail)
    return Held(log, 7, *about, key=None, value=value, headers=())


def test_what_was_not_kept_is_read_from_its_topic() -> None:
    broker = log_of(raw(7, b"bytes"))
    originals = Originals(lambda: broker, Digests())
    (found,) = originals.first([held(f"{NOT_KEPT}5 bytes; why")])
    assert isinstance(found, Held)
    assert (found.key, found.value) == (b"key", b"bytes")
    here = held("why", b"kept")
    assert originals.first([here, here]) == [here, here]
    assert originals.first([]) == []
    originals.close()
    originals.close()
    assert broker.closed == 1


def test_a_replay_asks_the_broker_for_what_is_not_here_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = []

    class Side(MemoryBroker):
        def __init__(self, config: object, group: str) -> None:
            opened.append((config, group))
            super().__init__(logs={1: [raw(7, b"bytes")]})

        def close(self) -> None:
            opened.append(None)

    class Store:
        def query(self, sql: str, parameters: object) -> list[tuple[int, int, bytes]]:
            assert "dispositions" in sql
            return [(7, world.NOW, sha256(b"bytes").digest())]

    monkeypatch.setattr("sealtrail_processor.kafka.beside.KafkaSide", Side)
    monkeypatch.setattr("sealtrail_processor.pipeline.wiring.kafka_config", lambda *_: "config")
    work, store = WorkerSettings(), cast("Any", Store())
    here = held("why", b"kept")
    assert quarantine_cli._originals(work, store, [here]) == [here]
    assert opened == []
    found = quarantine_cli._originals(work, store, [here, held(f"{NOT_KEPT}5 bytes; why")])
    assert [h.value for h in found] == [b"kept", b"bytes"]
    assert opened == [("config", work.group), None]


@pytest.mark.parametrize(
    ("broker", "why"),
    [
        (log_of(cluster="another"), "another log"),
        (log_of(), "no longer"),
        (log_of(raw(7, b"other")), "another digest"),
        (log_of(raw(7, None)), "another digest"),
    ],
)
def test_what_is_gone_is_said(
    broker: MemoryBroker, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = held(f"{NOT_KEPT}5 bytes; why")
    for disposition, setting in (("quarantined", "QUARANTINE"), ("parked", "PARKED")):
        row = replace(missing, disposition=disposition)
        (error,) = Originals(lambda: broker, Digests()).first([row])
        assert isinstance(error, OriginalGone)
        assert why in error.message
        assert f"SEALTRAIL_{setting}_BYTES_PER_HOUR" in error.hint
    monkeypatch.setattr("sealtrail_processor.kafka.beside.KafkaSide", lambda *_: broker)
    monkeypatch.setattr("sealtrail_processor.pipeline.wiring.kafka_config", lambda *_: "config")
    store = cast("Any", SimpleNamespace(query=lambda *_: [(7, 0, sha256(b"bytes").digest())]))
    with pytest.raises(OriginalGone, match=why):
        quarantine_cli._originals(WorkerSettings(), store, [missing])
