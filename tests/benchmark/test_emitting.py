"""What is said of `emit()`: variants make the same events in turns, and ratios are of both ways."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sealtrail import avro
from sealtrail.event import EventType
from sealtrail_bench import cli, emitting
from sealtrail_producer.fakes import FakeBroker, FakeClock, FakeRegistry
from sealtrail_producer.ports import Ports
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signing import KeySigner
from sealtrail_producer.trail import Trail

SIGNATURE_BYTES = 64


def test_variants_take_turns_on_the_same_events_and_settle_after_each() -> None:
    seen: list[object] = []
    found = emitting.in_turns(
        {"ours": lambda n: seen.append(("ours", n)), "other": lambda n: seen.append(("other", n))},
        turns=2,
        length=2,
        settle=lambda: seen.append("settled"),
        pause_s=0.0,
    )
    expected: list[object] = []
    for numbers in ((0, 1), (2, 3)):
        for name in ("ours", "other"):
            expected += [*((name, n) for n in numbers), "settled"]
    assert seen == expected
    assert {name: len(times) for name, times in found.items()} == {"ours": 4, "other": 4}


@dataclass
class Ticks:
    """Stands for the module `time`; moves when told."""

    ns: int = 0

    def perf_counter_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def test_a_time_is_that_of_the_call_without_pause_and_settling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = Ticks()
    monkeypatch.setattr(emitting, "time", ticks)
    costs_us = [90, 5, 7, 6]
    found = emitting.in_turns(
        {"ours": lambda n: ticks.sleep(costs_us[n] / 1e6)},
        turns=2,
        length=2,
        settle=lambda: ticks.sleep(1.0),
        pause_s=0.5,
    )
    assert found == {"ours": [5.0, 6.0, 7.0, 90.0]}
    assert ticks.ns == 4_000_000_000 + sum(costs_us) * 1000


def test_figures_are_the_median_and_99_percent_of_each() -> None:
    times = {"ours": [float(n) for n in range(200)], "signing_each": [7.125, 8.0, 9.0]}
    assert emitting.figures(times, "alone_") == {
        "alone_p50_us": 100.0,
        "alone_p99_us": 198.0,
        "alone_signing_each_p50_us": 8.0,
        "alone_signing_each_p99_us": 9.0,
    }


def test_the_goal_is_of_calls_in_a_row_and_the_other_ratio_is_told() -> None:
    both: dict[str, Any] = {
        "p50_us": 5.0,
        "signing_each_p50_us": 60.0,
        "alone_p50_us": 20.0,
        "alone_signing_each_p50_us": 90.0,
    }
    figures = {"emit": both}
    cli._summary(figures)
    assert figures["ratios"] == {"emit_p50_vs_signing": 12.0, "emit_alone_p50_vs_signing": 4.5}


def test_both_variants_make_the_same_event_but_for_time_and_salt(tmp_path: Path) -> None:
    broker, signer = FakeBroker(), KeySigner.generate()
    ports = Ports(
        transport=broker.connect,
        registry=FakeRegistry,
        group=lambda: broker,
        clock=FakeClock(),
    )
    settings = ProducerSettings(state_dir=tmp_path, instance="host")
    trail = Trail("bench", settings, [signer], ports, threads=False)
    try:
        calls = emitting.variants(trail, signer)
        receipt: Any = calls["ours"](3)
        signed: Any = calls["signing_each"](3)
        ours = avro.codec("ProvenanceEvent").decode(receipt.encode())
    finally:
        trail.close()
    data = signed[SIGNATURE_BYTES:]
    signer.public_key.verify(signed[:SIGNATURE_BYTES], data)
    theirs = avro.codec("ProvenanceEvent").decode(data)
    assert ours["event_type"] == EventType.TRANSFORM
    assert len(ours["inputs"]) == len(ours["outputs"]) == 1
    for own in ("occurred_at", "salt"):
        assert ours.pop(own) != theirs.pop(own)
    assert ours == theirs
