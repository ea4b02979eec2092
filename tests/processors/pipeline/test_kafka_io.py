"""Kafka beside the stream, on librdkafka's own broker."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaException

from sealtrail.errors import UnavailableError
from sealtrail_processor.judging.ports import Outgoing, Unreadable
from sealtrail_processor.kafka import keys_topic
from sealtrail_processor.kafka.beside import KafkaSide
from sealtrail_processor.kafka.heads import KafkaHeads
from sealtrail_processor.kafka.keys_topic import KeysTopic
from sealtrail_processor.kafka.publisher import KafkaPublisher

if TYPE_CHECKING:
    from tests.conftest import Stack


@pytest.fixture
def config(stack: Stack) -> dict[str, str]:
    return {"bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]}


@pytest.fixture
def topic() -> str:
    return f"test.{uuid.uuid4().hex}"


def test_what_is_published_is_read_to_the_end(config: dict[str, str], topic: str) -> None:
    publisher = KafkaPublisher(config)
    first = [Outgoing(topic, b"k", b"%d" % n, (("h", b"v"),), 0) for n in range(700)]
    assert publisher.publish(first, 10) == list(range(700))
    with closing(KeysTopic(config, topic)) as reader:
        found = reader.read_to_end()
        assert [m.value for _, m in found] == [m.value for m in first]
        # Nobody needs those of key records, and one whose name is no text would stop the reader.
        assert found[0][1].headers == ()
        assert reader.read_to_end() == []
        publisher.offer(Outgoing(topic, None, None, (), 0))
        assert publisher.close(10) == 0
        [(number, message)] = reader.read_to_end()
        assert (number, message.offset, message.key, message.value) == (0, 700, None, None)


def test_what_an_error_interrupts_is_read_once_more(
    config: dict[str, str], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [Outgoing(topic, b"k", b"%d" % n, (), n % 2) for n in range(20)]
    KafkaPublisher(config).publish(sent, 10)
    whole, read = keys_topic._read_one, 0

    def broken(message: Any) -> Any:
        nonlocal read
        read += 1
        if read == 7:
            raise KafkaException("a broker went away")
        return whole(message)

    with closing(KeysTopic(config, topic)) as reader:
        monkeypatch.setattr(keys_topic, "_read_one", broken)
        with pytest.raises(UnavailableError, match="went away"):
            reader.read_to_end()
        found = reader.read_to_end()
        assert sorted(m.value or b"" for _, m in found) == sorted(m.value or b"" for m in sent)
        assert reader.read_to_end() == []


def test_a_topic_that_was_cut_off_is_read_from_its_start(
    config: dict[str, str], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    KafkaPublisher(config).publish([Outgoing(topic, b"k", b"%d" % n, (), 0) for n in range(3)], 10)
    with closing(KeysTopic(config, topic)) as reader:
        assert len(reader.read_to_end()) == 3
        # As it is for a reader of the topic before, which was longer.
        monkeypatch.setitem(reader._next, 0, 7)
        assert [m.value for _, m in reader.read_to_end()] == [b"0", b"1", b"2"]
        assert reader.read_to_end() == []


def test_watermarks_and_single_reads(config: dict[str, str], topic: str) -> None:
    KafkaPublisher(config).publish([Outgoing(topic, b"k", b"v", (), 2)] * 3, 10)
    with closing(KafkaSide(config, "group")) as side:
        assert side.partitions(topic) == 4
        assert side.watermarks(topic, 2) == (0, 3)
        assert side.first_at(topic, 2, 1) == 1
        found, beyond = side.messages(topic, 2, [1, 3], 1 << 20)
        assert found is not None
        assert (found.offset, found.key, found.value) == (1, b"k", b"v")
        assert beyond is None
        assert side.committed(topic, [0, 1, 2, 3]) == {}
        assert side.log_id(topic) == side.log_id("provenance.events")


def test_reads_of_many(config: dict[str, str], topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [Outgoing(topic, b"k", b"%03d" % n, (), 1) for n in range(100)]
    KafkaPublisher(config).publish(sent, 10)
    with closing(KafkaSide(config, "group")) as side:
        # In any order, near and far, twice, and some that are not there.
        asked = [5, 6, 9, 90, 7, 7, 100, 99, 0]
        found = side.messages(topic, 1, asked, 1 << 20)
        assert [m and (m.offset, m.value) for m in found] == [
            None if n == 100 else (n, b"%03d" % n) for n in asked
        ]
        # Four bytes each: until so many, one in any case.
        assert [len(side.messages(topic, 1, range(9), most)) for most in (0, 4, 5, 12)] == [
            *(1, 1, 2, 3)
        ]
        assert side.first_at(topic, 1, 42) == 42
        # A read that fails: what came before it is there, the first one is said to be unreadable.
        whole = KafkaSide._next

        def broken(side: KafkaSide, topic: str, partition: int, offset: int) -> Any:
            found = whole(side, topic, partition, offset)
            if found.offset() == 4:
                raise UnavailableError("no decoder takes it")
            return found

        monkeypatch.setattr(KafkaSide, "_next", broken)
        assert len(side.messages(topic, 1, [2, 3, 4, 5], 1 << 20)) == 2
        with pytest.raises(Unreadable, match="no decoder"):
            side.messages(topic, 1, [4, 5], 1 << 20)
        (after,) = side.messages(topic, 1, [5], 1 << 20)
        assert after is not None
        # Or it was dropped while it was asked for.
        watermarks = iter([(0, 100), (5, 100)])
        monkeypatch.setattr(side, "watermarks", lambda *_: next(watermarks))
        assert side.messages(topic, 1, [4, 5], 1 << 20) == [None]


class Admin:
    """Asks the controller that it knows of, and learns of another one from metadata alone."""

    there = 1

    def __init__(self, *_: Any, **__: Any) -> None:
        self.controller = Admin.there

    def list_topics(self, *_: Any, **__: Any) -> Any:
        self.controller = Admin.there
        return SimpleNamespace(cluster_id="c", controller_id=self.controller, brokers={1, 2, 3})

    def describe_topics(self, *_: Any, **__: Any) -> Any:
        answer: Future[Any] = Future()
        if self.controller == Admin.there:
            answer.set_result(SimpleNamespace(topic_id="t"))
        else:
            answer.set_exception(KafkaException("Failed while waiting for controller"))
        return {"events": answer}


def test_another_controller_is_found_when_the_one_before_is_away(
    config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealtrail_processor.kafka.beside.AdminClient", Admin)
    with closing(KafkaSide(config, "group")) as side:
        assert side.log_id("events") == "c/t"
        monkeypatch.setattr(Admin, "there", 2)
        assert side.log_id("events") == "c/t"


def test_a_broker_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("beside", "keys_topic"):
        monkeypatch.setattr(f"sealtrail_processor.kafka.{module}.TIMEOUT_S", 0.2)
    config = {"bootstrap.servers": "127.0.0.1:1"}
    with closing(KafkaSide(config, "group")) as side, pytest.raises(UnavailableError):
        side.log_id("topic")
    with closing(KeysTopic(config, "topic")) as reader, pytest.raises(UnavailableError):
        reader.read_to_end()
    publisher = KafkaPublisher(config, queue=1)
    with pytest.raises(UnavailableError):
        publisher.publish([Outgoing("topic", b"k", b"v")], 0.2)
    assert not publisher.offer(Outgoing("topic", b"k", b"v"))


def test_what_is_given_up_is_noted_when_asked() -> None:
    publisher = KafkaPublisher({"bootstrap.servers": "127.0.0.1:1"}, timeout_s=0.1)
    assert publisher.offer(Outgoing("topic", b"k", b"v"))
    end = time.monotonic() + 20
    while publisher.failed == 0:
        assert time.monotonic() < end
        time.sleep(0.05)
        publisher.poll()
    assert publisher.failed == 1


def test_heads_are_read_from_the_end_by_all_and_no_group(
    config: dict[str, str], topic: str
) -> None:
    publisher = KafkaPublisher(config)
    publisher.publish([Outgoing(topic, None, b"before", (), 1)], 10)
    with closing(KafkaHeads(config, topic)) as one, closing(KafkaHeads(config, topic)) as two:
        assert not one.present()
        for reader in (one, two):
            assert until(reader, count=0) == []
            assert reader.present()
        # A reader that has just been assigned a partition may still look for its end.
        sent = [b"head %d" % n for n in range(300)]
        found: dict[KafkaHeads, list[bytes]] = {one: [], two: []}
        for number, value in enumerate(sent):
            publisher.publish([Outgoing(topic, None, value, (), number % 4)], 10)
        for reader in (one, two):
            found[reader] = until(reader, count=1, settle_s=1.0)
            assert b"before" not in found[reader]
            assert set(found[reader]) <= set(sent)
            assert sent[-1] in found[reader]


def test_a_heads_topic_that_is_missing_or_unreachable_reads_as_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sealtrail_processor.kafka.heads.ANSWER_S", 0.2)
    with closing(KafkaHeads({"bootstrap.servers": "127.0.0.1:1"}, "topic")) as reader:
        assert reader.read() == []
        assert reader.read() == []
        assert not reader.present()


def until(reader: KafkaHeads, count: int, settle_s: float = 0.0) -> list[bytes]:
    """What is read until there are so many, and for a while after."""
    found: list[bytes] = []
    end = time.monotonic() + 20
    while len(found) < count or not reader.present():
        found += reader.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    settled = time.monotonic() + settle_s
    while time.monotonic() < settled:
        found += reader.read()
        time.sleep(0.02)
    return found
