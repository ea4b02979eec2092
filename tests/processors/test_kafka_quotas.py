"""Kafka's quotas as code: what the file bounds, and the steps to it."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail import resources
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_processor.kafka import access, quota_admin, quotas
from sealtrail_processor.kafka.access import Role
from sealtrail_processor.kafka.quotas import Quota, QuotaChange
from sealtrail_processor.settings import WorkerSettings

PRODUCERS = {"billing", "orders"}
TEXT = resources.path("kafka", "access.yaml").read_text(encoding="utf-8")
BYTES, TIME = "producer_byte_rate", "request_percentage"


def roles(**changes: int) -> list[Role]:
    return access.read(TEXT, WorkerSettings().model_copy(update=changes))


def applied(changes: list[QuotaChange], found: set[Quota]) -> set[Quota]:
    """A cluster's quotas after a plan."""
    there = {(one.principal, one.name, one.client): one for one in found}
    for change in changes:
        key = (change.quota.principal, change.quota.name, change.quota.client)
        if change.act == "set":
            there[key] = change.quota
        elif change.act == "remove":
            del there[key]
    return set(there.values())


def test_each_producer_is_bound_and_nobody_else() -> None:
    changes = quotas.plan(roles(), PRODUCERS, ())
    assert applied(changes, set()) == {
        Quota(who, name, value)
        for who in PRODUCERS
        for name, value in ((BYTES, 16 * 2**20), (TIME, 100))
    }
    assert quotas.plan(roles(), PRODUCERS, applied(changes, set())) == []


def test_what_others_set_is_mended_removed_or_said() -> None:
    found = {
        Quota("billing", BYTES, 5.0),
        Quota("billing", TIME, 100.0),
        Quota("orders", BYTES, 16.0 * 2**20),
        Quota("orders", TIME, 100.0),
        Quota("orders", "consumer_byte_rate", 1.0),
        Quota("orders", BYTES, 10.0**12, client="loud"),
        Quota("worker", "consumer_byte_rate", 1.0),
        Quota("somebody", BYTES, 1.0),
    }
    plan = quotas.plan(roles(), PRODUCERS, found)
    assert [(c.act, c.quota.principal, c.quota.name) for c in plan] == [
        ("set", "billing", BYTES),
        ("refuse", "orders", "consumer_byte_rate"),
        ("refuse", "orders", BYTES),
        ("refuse", "worker", "consumer_byte_rate"),
    ]
    assert [c.why for c in plan if c.act == "refuse"] == [
        quotas._UNNAMED,
        quotas._NARROW,
        quotas._UNNAMED,
    ]


def test_zero_takes_a_bound_away() -> None:
    found = applied(quotas.plan(roles(), PRODUCERS, ()), set())
    unbound = roles(producer_bytes_per_s=0, producer_broker_percent=0)
    plan = quotas.plan(unbound, PRODUCERS, found)
    assert {change.act for change in plan} == {"remove"}
    assert applied(plan, found) == set()
    assert quotas.plan(unbound, PRODUCERS, ()) == []


QUOTAS = st.builds(
    Quota,
    st.sampled_from(["billing", "orders", "worker", "somebody"]),
    st.sampled_from(access.QUOTAS),
    st.sampled_from([1.0, 100.0, 16.0 * 2**20]),
    st.sampled_from(["", "loud"]),
)


@given(st.sets(QUOTAS), st.sampled_from([0, 1, 100]))
def test_a_plan_leaves_only_what_it_refuses(found: set[Quota], percent: int) -> None:
    # A cluster has one value for a name.
    found = set({(q.principal, q.name, q.client): q for q in found}.values())
    matrix = roles(producer_broker_percent=percent)
    plan = quotas.plan(matrix, PRODUCERS, found)
    after = applied(plan, found)
    refused = [change for change in plan if change.act == "refuse"]
    assert quotas.plan(matrix, PRODUCERS, after) == refused
    assert {q for q in found if q.principal == "somebody"} <= after


def test_a_quota_that_kafka_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="messages_per_s"):
        access.read(TEXT.replace(BYTES, "messages_per_s"), WorkerSettings())


def test_the_request_is_that_of_the_protocol() -> None:
    """AlterClientQuotas version 0 as KIP-546 has it, field by field."""
    changes = [
        QuotaChange("set", Quota("ab", "producer_byte_rate", 3.0)),
        QuotaChange("remove", Quota("c", "request_percentage", 4.0)),
        QuotaChange("set", Quota("ab", "consumer_byte_rate", 5.0)),
    ]
    request = quota_admin.AlterClientQuotasRequest(changes).prepare({49: (0, 1)})

    def text(word: str) -> bytes:
        return struct.pack(">h", len(word)) + word.encode()

    def entry(who: str, *values: tuple[str, float, int]) -> bytes:
        entity = struct.pack(">i", 1) + text("user") + text(who)
        ops = [text(key) + struct.pack(">dB", value, remove) for key, value, remove in values]
        return entity + struct.pack(">i", len(ops)) + b"".join(ops)

    assert request.encode() == (
        struct.pack(">i", 2)
        + entry("ab", ("producer_byte_rate", 3.0, 0), ("consumer_byte_rate", 5.0, 0))
        + entry("c", ("request_percentage", 4.0, 1))
        + b"\0"
    )


def test_an_error_of_a_broker_says_what_it_takes() -> None:
    with pytest.raises(UnavailableError, match="Cluster authorization failed") as caught:
        quota_admin._check(31, "Cluster authorization failed.")
    assert "role admin" in caught.value.hint
    with pytest.raises(UnavailableError, match="InvalidRequestError"):
        quota_admin._check(42, None)


def test_a_cluster_that_is_away_is_said() -> None:
    settings = WorkerSettings().model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    with pytest.raises(UnavailableError, match="quotas"):
        quota_admin.QuotaAdmin(settings, "admin").found()


def test_a_role_without_quotas_has_none() -> None:
    assert {role.name for role in roles() if role.quotas} == {"producer"}
    bare = [replace(role, quotas={}) for role in roles()]
    assert quotas.plan(bare, PRODUCERS, ()) == []
