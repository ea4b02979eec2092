"""Where the scenarios play: a stack, a worker, services that emit, and somebody at the topic.

Everything is driven from outside, by the `sealtrail` command, the SDK and Kafka. What is sent by
hand is written down together with the fate that it must meet; all else must be accepted.
"""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from confluent_kafka import Producer
from tests.conftest import Stack, running_stack
from tests.scenarios import conservation
from tests.scenarios.chains import TOPIC, Chain, Made
from tests.scenarios.fates import Expected, Sent, fate_of
from tests.scenarios.stage import Stage

from sealtrail.event import EntityRef, EventType
from sealtrail.findings import Code, Disposition
from sealtrail.records import SignedRecord
from sealtrail.settings import load
from sealtrail_producer import Trail, keyring
from sealtrail_producer.authority import Authority, topic_key
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import KafkaError, Message

    from sealtrail.dsse import Signer
    from sealtrail.event import ParentRef
    from sealtrail.records import Record

NAMELESS = Path(__file__).with_name("nameless.py")
BEHIND = Path(__file__).with_name("behind.py")
SETTINGS = {
    "SEALTRAIL_GAP_SETTLE_S": "8",
    "SEALTRAIL_ORPHAN_WINDOW_S": "15",
    "SEALTRAIL_STALLED_HEARTBEATS": "2",
    "SEALTRAIL_SESSION_TIMEOUT_S": "6",
    "SEALTRAIL_HEALTH_PORT": "0",
    "SEALTRAIL_PARTITIONS": "4",
}
PRODUCERS = ("orders", "billing", "shipping", "retiree", "leaked")
# Its batches are signed with Ed25519 and ML-DSA-44.
VAULT = "vault"
SERVICES = (("orders", "a"), ("billing", "b"), ("shipping", "c"), ("vault", "d"))


@dataclass(slots=True)
class Scene(Stage):
    """One run."""

    sent: list[Sent] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    emitted: dict[str, int] = field(default_factory=dict)
    links: int = 0
    # What attacks' events truly say of their parents.
    true_links: int = 0
    # Those of them whose parents came after the window: ORPHAN was said, and VERIFIED is.
    late_links: int = 0
    attack: str = ""
    # What an attack keeps for its own test.
    kept: dict[str, Any] = field(default_factory=dict)
    # Of the attacks that choose.
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    _signers: dict[str, list[Signer]] = field(default_factory=dict)
    _trails: list[Trail] = field(default_factory=list)
    _last: dict[str, ParentRef] = field(default_factory=dict)
    _wire: Producer | None = None

    @classmethod
    def begin(cls, *, real: bool = False, stack: Stack | None = None) -> Scene:
        """A stack with migrated store and registered producers.

        Args:
            real: on real servers instead of embedded ones.
            stack: one that runs, instead of one for this scene alone.
        """
        with ExitStack() as opened:
            stack = stack or opened.enter_context(running_stack(real=real))
            scene = cls(Stack(stack.env | SETTINGS, stack.state_dir))
            scene.run("store", "migrate")
            # Two of three must sign, so that one who signs twice is seen to be one.
            scene.run("keys", "init-root", "--operators", "3", "--threshold", "2")
            names = [word for name in PRODUCERS for word in ("--producer", name)]
            scene.run("keys", "setup-dev", *names)
            scene.run("keys", "setup-dev", "--producer", VAULT, "--post-quantum")
            # Whatever fails above leaves nothing behind.
            scene._open = opened.pop_all()
            return scene

    def __exit__(self, *_: object) -> None:
        for trail in self._trails:
            trail.close(5)
        # Not super(): a class with slots is made anew by its decorator.
        Stage.__exit__(self)

    def caught_up(self) -> bool:
        """Whether all that was sent by hand is committed, whatever others send meanwhile."""
        query = f"SELECT partition, committed FROM sealtrail.committed WHERE topic = '{TOPIC}'"
        rows = conservation.query(conservation.variables(self.folder), query)
        last = {int(r["partition"]): int(r["committed"]) for r in rows}
        return all(sent.offset <= last.get(sent.partition, -1) for sent in self.sent)

    # -- honest services -------------------------------------------------------

    def open_services(self) -> None:
        """One trail each."""
        for producer, instance in SERVICES:
            env = self.stack.env | {"SEALTRAIL_INSTANCE": f"honest-{instance}"}
            settings = load(ProducerSettings, env)
            trail = Trail.from_env(producer, settings=settings, batch_ms=30, batch_events=64)
            self._trails.append(trail)

    def emit(self, rounds: int) -> None:
        """Some rounds in which each service emits an event caused by the others' last ones."""
        for number in range(rounds):
            for trail in self._trails:
                parents = [self._last[t.producer] for t in self._trails if t.producer in self._last]
                receipt = trail.emit(
                    "service.step",
                    event_type=EventType.TRANSFORM,
                    inputs=[EntityRef("service", f"{trail.producer}/{number % 5}")],
                    outputs=[EntityRef("service", f"{trail.producer}/{number % 5 + 1}", "2")],
                    parents=parents,
                )
                self._last[trail.producer] = receipt.reference
                self.emitted[trail.producer] = self.emitted.get(trail.producer, 0) + 1
                self.links += len(parents)

    def close_services(self) -> None:
        """They say goodbye."""
        for trail in self._trails:
            assert trail.close(20)
        self._trails.clear()

    def reference(self) -> ParentRef:
        """An event of an honest service."""
        return self._last["orders"]

    # -- somebody at the topic -------------------------------------------------

    def signers(self, producer: str) -> list[Signer]:
        """Whoever can read a producer's key files can sign for it."""
        if producer not in self._signers:
            files = sorted((self.folder / "keys").glob(f"{producer}*.pem"))
            self._signers[producer] = keyring.open_all([str(f) for f in files], ProducerSettings())
        return self._signers[producer]

    def chain(self, producer: str = "orders", partition: int = 0, **changes: Any) -> Chain:
        """A chain of a producer of ours, signed with its keys."""
        return Chain(self.signers(producer), producer, partition, **changes)

    def operators(self) -> list[Signer]:
        """Whoever sits at the operators' machine can sign for them."""
        return Authority(load(ProducerSettings, self.stack.env)).operators()

    def register(self, record: Record, *operators: Signer) -> None:
        """Put a record on the topic of keys, signed by the operators or by whoever is given."""
        signed = SignedRecord.sign(record, operators or self.operators())
        self.publish("provenance.keys", topic_key(record), signed.encode())

    def register_schema(self, subject: str, schema: str) -> int:
        """Put a schema into the registry, which takes it from anybody; its id."""
        url = f"{self.stack.env['SEALTRAIL_REGISTRY_URL']}/subjects/{subject}/versions"
        reply = httpx.post(url, json={"schema": schema}, timeout=30)
        assert reply.status_code == 200, reply.text
        return int(reply.json()["id"])

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int = 0,
        headers: Sequence[tuple[str, bytes | None]] = (),
        sent: Sent | None = None,
    ) -> None:
        """Put a message on a topic."""
        wire = self.producer()

        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            if sent is not None:
                sent.offset = message.offset() or 0

        wire.produce(
            topic,
            value,
            key,
            partition=partition,
            headers=list(headers),
            on_delivery=delivered,
        )
        wire.poll(0)

    def producer(self) -> Producer:
        """Whoever can reach the brokers."""
        if self._wire is None:
            bootstrap = self.stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]
            self._wire = Producer(
                {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0}
                | {"message.max.bytes": 9_000_000, "log_level": 0}
            )
        return self._wire

    def publish_nameless(self, topic: str, partition: int, value: bytes) -> int:
        """Put a message on a topic that has a header whose name is no UTF-8; its offset."""
        return self._publish_odd(NAMELESS, topic, str(partition), value.hex())

    def publish_unreadable(self, topic: str, partition: int) -> int:
        """Put a record batch on a topic that brokers take and no decoder reads; its offset."""
        return self._publish_odd(BEHIND, topic, str(partition))

    def _publish_odd(self, script: Path, *arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            env=self.stack.env | {"AIOKAFKA_NO_EXTENSIONS": "1"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return int(done.stdout)

    def flush(self, timeout_s: float = 20) -> None:
        """Wait until the broker has all that was sent by hand."""
        if self._wire is not None:
            assert self._wire.flush(timeout_s) == 0
        assert all(sent.offset >= 0 for sent in self.sent)

    def send(
        self,
        value: bytes | None,
        partition: int,
        disposition: Disposition,
        code: Code | None = None,
        *,
        events: int = 0,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> Sent:
        """Send a message whose fate is known."""
        sent = Sent(self.attack, partition, disposition, code, events)
        self.sent.append(sent)
        self.publish(TOPIC, key, value, partition, headers, sent)
        return sent

    def refuse(self, value: bytes | None, partition: int, code: Code, **more: Any) -> Sent:
        """Send what must be quarantined or parked, with a finding about the message alone."""
        sent = self.send(value, partition, fate_of(code), code, **more)
        self.expected.append(Expected(self.attack, code, sent, partition))
        return sent

    def refuse_somehow(self, value: bytes, partition: int, allowed: frozenset[Code | None]) -> None:
        """Send what must be refused under one of these names; which, is taken from the store."""
        sent = self.send(value, partition, Disposition.QUARANTINED)
        sent.allowed = allowed

    def settle(self, fates: Mapping[tuple[int, int], Mapping[str, Any]]) -> None:
        """Take the names that refusals bear in the store, where they were among those allowed."""
        for sent in self.sent:
            fate = fates[sent.partition, sent.offset]
            code = Code(fate["code"]) if fate["code"] else None
            if code not in sent.allowed:
                continue
            sent.code = code
            sent.disposition = Disposition.DUPLICATE if code is None else fate_of(code)
            if code is not None:
                self.expected.append(Expected(sent.attack, code, sent, sent.partition))

    def found_again(self, sent: Sent, offset: int) -> None:
        """A refused message came once more, at another offset."""
        assert sent.code is not None
        self.sent_as(sent.partition, offset, sent.code)

    def sent_as(self, partition: int, offset: int, code: Code) -> None:
        """Somebody else sent what must be quarantined."""
        fate = Disposition.QUARANTINED
        again = Sent(self.attack, partition, fate, code, offset=offset)
        self.sent.append(again)
        self.expected.append(Expected(self.attack, code, again, partition))

    def quarantine(self) -> list[dict[str, Any]]:
        """What `sealtrail quarantine list` shows of everything."""
        rows: list[dict[str, Any]] = self.ask("quarantine", "list", "--all", "--limit", "100000")
        return rows

    def accept(
        self,
        made: Made,
        *codes: Code,
        index: int | None = None,
        value: bytes | None = None,
        **more: Any,
    ) -> Sent:
        """Send a batch that must be accepted, with these findings.

        Args:
            made: the batch.
            codes: findings about it.
            index: the event that they are about, if they are about one.
            value: the batch in other bytes than its own.
            more: as `send` takes it.
        """
        partition = made.statement.partition
        fate = Disposition.ACCEPTED
        more = {"key": made.chain_id} | more
        sent = self.send(value or made.value, partition, fate, events=len(made.events), **more)
        for code in codes:
            self.finding(code, made, sent, index)
        return sent

    def finding(
        self, code: Code, made: Made, sent: Sent | None, index: int | None = None, batch: int = -1
    ) -> None:
        """A finding about an accepted batch, or one of its events."""
        number = made.statement.batch_seq if batch < 0 else batch
        event = None if index is None else made.event_id(index)
        at = made.statement.partition
        self.expected.append(Expected(self.attack, code, sent, at, made.chain_id, number, event))
