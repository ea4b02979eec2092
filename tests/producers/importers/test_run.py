"""Whole imports through a real Trail with a broker in memory: order, links, crashes."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail import avro, ids, merkle
from sealtrail.batch import SignedBatch, unframe
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.keys import PublicKey
from sealtrail.statement import BatchStatement
from sealtrail_producer.fakes import FakeBroker, FakeRegistry
from sealtrail_producer.importers.checkpoint import Checkpoint
from sealtrail_producer.importers.commits import Change, Commit
from sealtrail_producer.importers.resume import mark, resume
from sealtrail_producer.importers.run import GROUP_BYTES, GROUP_EVENTS, Importer, Told
from sealtrail_producer.services import billing, messages, orders
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.trail import Ports, Trail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sealtrail.event import ParentRef


class Signer:
    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = PublicKey.from_raw(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class Graph:
    """A line of commits with a merge every tenth; told in pieces if it fails at a commit."""

    repository = "o/r"
    head = "f" * 40

    def __init__(self, total: int, fail_at: int | None = None) -> None:
        self.total = total
        self.fail_at = fail_at

    def commits(self) -> Iterator[Commit]:
        for n in range(self.total):
            if n == self.fail_at:
                raise KeyboardInterrupt
            before = (n - 1, n - 5) if n % 10 == 9 else (n - 1,)
            yield Commit(
                id=f"{n:040x}",
                parents=tuple(f"{p:040x}" for p in before if p >= 0),
                author="a",
                committer="a",
                author_time=n,
                commit_time=1000 + n,
                changes=(Change("f", (f"{n:040x}",), f"{n + 1:040x}"),),
            )


class World:
    """A machine: its state folder, and the broker that it sends to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = FakeBroker()
        self.signer = Signer()

    def trail(self, producer: str = "git-import") -> Trail:
        settings = ProducerSettings(
            state_dir=self.folder,
            instance=Graph.repository,
            batch_events=GROUP_EVENTS + 1,
            batch_bytes=GROUP_BYTES + 1,
            batch_ms=60_000,
        )
        ports = Ports(transport=self.broker.connect, registry=FakeRegistry)
        return Trail(producer, settings, [self.signer], ports)

    def tell(self, graph: Graph, *, crash: bool = False) -> Told:
        """One process that imports; crash: it ends without closing anything."""
        with Checkpoint(self.folder / "refs") as checkpoint:
            found = mark(self.folder / "spool", "git-import", graph.repository, 2**28)
            resume(checkpoint, found, GROUP_EVENTS)
            trail = self.trail()
            importer = Importer(trail, checkpoint, str)
            try:
                return importer.run(graph, lambda _: None)
            finally:
                if crash:
                    self._stand_still(trail)
                else:
                    trail.close()

    def _stand_still(self, trail: Trail) -> None:
        """Go on from what disk and broker hold now; what the process still does is not seen."""
        there = self.folder.with_name(self.folder.name + "x")
        shutil.copytree(self.folder, there)
        logs = {place: list(log) for place, log in self.broker.logs.items()}
        trail.close()
        self.folder = there
        self.broker.logs = logs

    def events(self) -> list[tuple[bytes, dict[str, Any], bytes]]:
        """(event id, event, leaf hash) of all that reached the broker, chain by chain."""
        found = []
        for message in self.broker.messages():
            envelope = SignedBatch.decode(unframe(message.value)[1])
            statement = BatchStatement.decode(envelope.statement)
            for n, event in enumerate(envelope.events):
                event_id = ids.event_id(statement.chain_id, statement.first_seq + n)
                value = avro.codec("ProvenanceEvent").decode(event)
                found.append((event_id, value, merkle.leaf_hash(event)))
        return found

    def assert_whole(self, commits: int) -> None:
        events = self.events()
        told = Counter(value["attributes"]["git.commit"] for _, value, _ in events)
        assert told == Counter(f"{n:040x}" for n in range(commits)), "each commit once"
        by_id = {event_id: (value, leaf) for event_id, value, leaf in events}
        for _, value, _ in events:
            number = int(value["attributes"]["git.commit"], 16)
            expected = (
                []
                if number == 0
                else [number - 1, number - 5]
                if number % 10 == 9
                else [number - 1]
            )
            for parent, wanted in zip(value["parents"], expected, strict=True):
                other, leaf = by_id[parent["event_id"]]
                assert int(other["attributes"]["git.commit"], 16) == wanted
                assert (parent["leaf_hash"], parent["occurred_at"]) == (leaf, other["occurred_at"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_commit_becomes_one_event_with_its_parents(world: World):
    told = world.tell(Graph(1234))
    assert (told.commits, told.parts, told.known_before) == (1234, 0, 0)
    assert told.links == 1233 + 123
    world.assert_whole(1234)
    _, first, _ = world.events()[0]
    assert (first["backfill"], first["actor"]["kind"]) == (True, "HUMAN")


def test_a_second_run_tells_only_what_is_new(world: World):
    world.tell(Graph(700))
    assert world.tell(Graph(700)).commits == 0
    told = world.tell(Graph(900))
    assert (told.commits, told.known_before) == (200, 700)
    world.assert_whole(900)


@pytest.mark.parametrize("fail_at", [1, 499, 500, 501, 777])
def test_an_interrupted_run_goes_on(world: World, fail_at: int):
    with suppress(KeyboardInterrupt):
        world.tell(Graph(1100, fail_at=fail_at))
    world.tell(Graph(1100))
    world.assert_whole(1100)


@pytest.mark.parametrize("fail_at", [1, 500, 501, 777])
def test_a_crash_loses_and_doubles_nothing(world: World, fail_at: int):
    with suppress(KeyboardInterrupt):
        world.tell(Graph(1100, fail_at=fail_at), crash=True)
    world.tell(Graph(1100))
    world.assert_whole(1100)


def test_a_crash_between_checkpoint_and_spool(world: World, monkeypatch: pytest.MonkeyPatch):
    remember = Checkpoint.append
    left = iter([False, True])

    def append(checkpoint: Checkpoint, told: Iterable[tuple[str, ParentRef]]) -> None:
        remember(checkpoint, told)
        if next(left):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "append", append)
    with suppress(KeyboardInterrupt, StopIteration, RuntimeError):
        world.tell(Graph(1100), crash=True)
    monkeypatch.undo()
    told = world.tell(Graph(1100))
    assert told.known_before == 500, "the second group was remembered, but never left"
    world.assert_whole(1100)


def test_a_lost_spool_is_said_not_guessed(world: World):
    world.tell(Graph(1100))
    for segment in (world.folder / "spool").rglob("*.seg"):
        segment.unlink()
    with pytest.raises(ConfigurationError, match="spool of this import is gone"):
        world.tell(Graph(1100))


def test_two_imports_at_once_are_refused(world: World):
    with Checkpoint(world.folder / "refs"), pytest.raises(UnavailableError, match="another import"):
        Checkpoint(world.folder / "refs")


def test_a_torn_checkpoint_is_cut(world: World):
    world.tell(Graph(20))
    file = world.folder / "refs"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with Checkpoint(file) as checkpoint:
        assert len(checkpoint) == 19
    file.write_bytes(whole[:-1] + b"\0\0")
    with Checkpoint(file) as checkpoint:
        assert len(checkpoint) == 19
    file.write_bytes(b"another kind of file")
    with pytest.raises(ConfigurationError, match="no record of an import"):
        Checkpoint(file)


def test_what_is_too_large_for_one_event_is_counted_and_linked(world: World):
    class Huge(Graph):
        def commits(self) -> Iterator[Commit]:
            changes = tuple(Change(f"p/{n}", (f"{n:040}",), f"{n + 1:040}") for n in range(3000))
            yield Commit("0" * 40, (), "a", "a", 1, 1, changes)
            yield Commit("1" * 40, ("0" * 40,), "a", "a", 2, 2, ())

    told = world.tell(Huge(2))
    assert (told.commits, told.events) == (2, 2 + told.parts)
    assert told.parts >= 2
    first, *parts, last = sorted(world.events(), key=lambda found: found[0])
    assert first[1]["attributes"]["git.parts"] == str(told.parts)
    for _, part, _ in parts:
        assert part["activity"] == "git.commit.part"
        assert [p["event_id"] for p in part["parents"]] == [first[0]]
    assert [p["event_id"] for p in last[1]["parents"]] == [first[0]]


def test_billing_names_the_orders_events_as_causes(world: World):
    handed: list[messages.Message] = []
    with world.trail("orders") as trail:
        assert orders.serve(trail, orders.incoming(3), handed.append) == 3
    with world.trail("billing") as trail:
        assert billing.serve(trail, handed) == 3
    events = world.events()
    placed = {event_id: leaf for event_id, v, leaf in events if v["activity"] == "orders.place"}
    invoices = [value for _, value, _ in events if value["activity"] == "billing.invoice"]
    assert len(placed) == len(invoices) == 3
    for invoice in invoices:
        (parent,) = invoice["parents"]
        assert placed[parent["event_id"]] == parent["leaf_hash"]
