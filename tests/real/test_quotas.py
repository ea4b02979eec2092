"""Kafka's quotas of producers, on three brokers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from tests.real.conftest import Secured, wait

from sealtrail.errors import UnavailableError
from sealtrail.settings import load
from sealtrail_processor.kafka.quota_admin import QuotaAdmin
from sealtrail_processor.kafka.quotas import Quota, QuotaChange
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES = "producer_byte_rate"


def admin(secured: Secured, name: str = "admin") -> QuotaAdmin:
    return QuotaAdmin(load(WorkerSettings, secured.stack.env), name)


def bound(secured: Secured, who: str) -> dict[str, float]:
    return {q.name: q.value for q in admin(secured).found() if q.principal == who}


def test_producers_are_bound_and_drift_is_mended(secured: Secured) -> None:
    declared = {BYTES: 16.0 * 2**20, "request_percentage": 100.0}
    assert bound(secured, "billing") == bound(secured, "orders") == declared
    assert bound(secured, "worker") == {}
    assert secured.run("acls", "plan") == []

    admin(secured).change([QuotaChange("set", Quota("billing", BYTES, 10.0**12))])
    [row] = secured.run("acls", "plan", code=1)
    assert (row["act"], row["principal"], row["operation"]) == ("set", "billing", BYTES)
    secured.run("acls", "apply")
    assert bound(secured, "billing") == declared

    secured.run("acls", "apply", SEALTRAIL_PRODUCER_BROKER_PERCENT="0")
    assert bound(secured, "billing") == {BYTES: 16.0 * 2**20}
    secured.run("acls", "apply")
    assert secured.run("acls", "plan") == []


@pytest.mark.parametrize("name", ["billing", "worker", "operator", "auditor"])
def test_quotas_are_the_admins(secured: Secured, name: str) -> None:
    other = admin(secured, name)
    with pytest.raises(UnavailableError, match="uthorization") as caught:
        other.found()
    assert "role admin" in caught.value.hint
    with pytest.raises(UnavailableError, match="uthorization"):
        other.change([QuotaChange("remove", Quota(name, BYTES, 0.0))])


def test_who_sends_more_is_slowed_and_nobody_else(
    secured: Secured, happened: Callable[[str], None]
) -> None:
    """A flood of what will be refused: it is paced by the brokers, and nothing of it is lost."""
    size, count, rate = 50_000, 100, 200_000
    admin(secured).change([QuotaChange("set", Quota("billing", BYTES, float(rate)))])
    try:
        wait(lambda: bound(secured, "billing")[BYTES] == rate, 30, "the quota is not there")
        secured.settle()
        slowed, took = flood(secured, "billing", size, count)
        free, others = flood(secured, "orders", size, count)
    finally:
        secured.run("acls", "apply")
    happened(f"5 MB at 200 kB/s: {took:.1f} s, slowed {slowed} times; another: {others:.1f} s")
    assert slowed
    assert not free
    assert others < took


def flood(secured: Secured, name: str, size: int, count: int) -> tuple[int, float]:
    """Send noise to one partition: how often the broker held it back, and seconds until all is in.

    Kafka counts over its last 11 s, so that a burst of a multiple of the rate passes at once.
    """
    throttled: list[float] = []
    errors: list[object] = []
    properties: dict[str, Any] = {
        **secured.kafka(name),
        "enable.idempotence": True,
        "max.in.flight.requests.per.connection": 1,
        "linger.ms": 0,
        "throttle_cb": lambda event: throttled.append(event.throttle_time),
    }
    producer = Producer(properties)
    began = time.monotonic()
    noise = b"\xff" * size
    for _ in range(count):
        producer.produce(
            "provenance.events", noise, partition=0, on_delivery=lambda e, _: errors.append(e)
        )
        producer.poll(0)
        # One request each: a broker holds back what follows the one that was too much.
        producer.flush(60)
    assert errors == [None] * count
    return len(throttled), time.monotonic() - began
