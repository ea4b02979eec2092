"""What `make forgeries` plays besides: harm that has tests of its own, or too many messages.

These stop the worker, or keep it from its work for a while: among a million honest events that is
part of the question, in a scene that tests share it would only take time.
"""

from __future__ import annotations

import secrets
import sys
import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from tests.attacks.every_bit import flips
from tests.attacks.registry import attack
from tests.crash.harness import HERE
from tests.crash.worker import POISONS
from tests.scenarios.chains import SECOND, TOPIC, bare_event, event
from tests.scenarios.clocks import Clock

from sealtrail.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import KafkaError, Message
    from tests.scenarios.scene import Scene

BITS = 12
# Snappy makes a twentieth of it at best: an embedded broker does not keep so much of a partition.
CODECS = ("gzip", "lz4", "zstd")
# More than a record batch may become (docs/adr/0052).
BOMB_BYTES = (65 << 20, 90 << 20)
# Forward by an hour, and back again. A clock that is behind the kernel's is only in the row's own
# test: under libfaketime librdkafka's threads then wait for moments that are past, and spin.
JUMPS_S = (3_600, 0)
# Until a process has seen that its clock was set.
SEEN_S = 3
PATIENCE_S = 600


@attack("A1")
def some_bits_of_a_message(scene: Scene) -> None:
    """Of `every_bit_of_a_message`, so many as the seed chooses."""
    made = scene.chain("orders", 2).make([bare_event()])
    scene.accept(made)
    # A flipped hint makes a duplicate of it: it must have come before.
    scene.flush()
    scene.wait("the honest message", scene.caught_up)
    for value, allowed in scene.rng.sample([*flips(made)], BITS):
        scene.refuse_somehow(value, 2, allowed)


@attack("C11")
def batch_that_inflates(scene: Scene) -> None:
    """A hundred kilobytes that become more memory than a worker gives to all it has in hand."""
    for codec in CODECS:
        producer = Producer(
            {
                "bootstrap.servers": scene.stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"],
                "compression.type": codec,
                "message.max.bytes": 1_000_000_000,
            }
        )
        offsets: list[int] = []

        def delivered(error: KafkaError | None, message: Message, to: list[int] = offsets) -> None:
            assert error is None, error
            to.append(message.offset() or 0)

        bomb = bytes(scene.rng.randrange(*BOMB_BYTES))
        producer.produce(TOPIC, bomb, partition=2, on_delivery=delivered)
        assert producer.flush(120) == 0
        scene.sent_as(2, offsets[0], Code.MALFORMED)
        scene.accept(scene.chain("orders", 2).make())


@attack("D6")
def clock_of_the_worker_is_set(scene: Scene) -> None:
    """By an hour, and back: a forger's clock is seen as it is all the same, an honest one too."""
    clock = Clock(scene.folder / "worker-clock")
    scene.stop_worker()
    scene.start_worker(env=clock.variables())
    # It is at work before its clock is set.
    scene.accept(scene.chain("orders", 0).make())
    scene.flush()
    scene.wait("the worker", scene.caught_up)
    for jump in JUMPS_S:
        clock.set(jump)
        time.sleep(SEEN_S)
        scene.accept(scene.chain("orders", 1).make())
        # More than any message waits: where the broker sets no time, a late worker sees less.
        scene.accept(scene.chain("billing", 2, skew_us=3600 * SECOND).make(1), Code.AHEAD)
        scene.accept(
            scene.chain("shipping", 3, skew_us=-3600 * SECOND).make(1), Code.BEHIND_OR_DELAYED
        )
        scene.flush()
        scene.wait(f"what came while the clock was off by {jump} s", scene.caught_up)
    assert "clock was set by" in (scene.folder / "worker.log").read_text(errors="replace")
    scene.stop_worker()
    scene.start_worker()


@attack("C12")
def message_that_kills(scene: Scene) -> Iterator[None]:
    """The worker has a fault that one message finds: it dies of it until it lets it lie."""
    yield
    text = f"pill-{secrets.token_hex(8)}"
    command = (sys.executable, str(HERE / "worker.py"), scene.rng.choice(POISONS), text)
    scene.stop_worker()
    company = scene.chain("orders", 1)
    scene.accept(company.make())
    scene.refuse(scene.chain("billing", 1).make([event(activity=text)]).value, 1, Code.CRASH_LOOP)
    scene.accept(company.make())
    scene.flush()
    assert scene.outlive(command, scene.caught_up, PATIENCE_S) > 1
    scene.stop_worker()
    scene.start_worker()
