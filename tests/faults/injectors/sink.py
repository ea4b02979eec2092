"""The store seen through a bad network: refusing, erring, slow, hanging, cut off half-way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault
from tests.faults.proxy import Manners

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field

# ClickHouse's codes for what passes: too many parts, out of memory, no room on the disk, read-only.
PASSING = {252: "TOO_MANY_PARTS", 241: "MEMORY_LIMIT_EXCEEDED", 243: "NOT_ENOUGH_SPACE"}


def during(field: Field, manners: Manners, seconds: float) -> None:
    """The store's network behaves so for a while."""
    field.store_proxy.behave(manners)
    try:
        time.sleep(seconds)
    finally:
        field.store_proxy.behave(Manners())


def refusal(code: int) -> bytes:
    """What ClickHouse says over HTTP when it will not."""
    text = f"Code: {code}. DB::Exception: not now. ({PASSING[code]})\n".encode()
    head = (
        f"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + text


@fault("sink-refuses")
def sink_refuses(field: Field, rng: random.Random) -> str:
    """Nobody listens."""
    seconds = rng.uniform(3, 12)
    during(field, Manners(refuse=True), seconds)
    return f"connection refused for {seconds:.1f} s"


@fault("sink-errs")
def sink_errs(field: Field, rng: random.Random) -> str:
    """It answers, and the answer is no."""
    seconds, code = rng.uniform(3, 12), rng.choice(sorted(PASSING))
    during(field, Manners(reply=refusal(code)), seconds)
    return f"{PASSING[code]} for {seconds:.1f} s"


@fault("sink-slow")
def sink_slow(field: Field, rng: random.Random) -> str:
    """Each answer late, and little of anything at a time."""
    seconds, delay = rng.uniform(6, 12), rng.uniform(0.2, 2)
    during(field, Manners(delay_s=delay, bytes_per_s=rng.uniform(50e3, 500e3)), seconds)
    return f"{delay:.1f} s later for {seconds:.1f} s"


@fault("sink-hangs")
def sink_hangs(field: Field, rng: random.Random) -> str:
    """Connections are taken, requests read, and that is all."""
    seconds = rng.uniform(3, 12)
    during(field, Manners(hang=True), seconds)
    if field.kafka_proxy is None:
        # Who waits on a dead connection does so for 120 s, by a timeout of its own; the embedded
        # broker keeps 5 MB of a partition, and would drop what was not read meanwhile.
        field.store_proxy.behave(Manners(reset=True))
        field.store_proxy.behave(Manners())
    return f"for {seconds:.1f} s"


@fault("sink-half-way")
def sink_half_way(field: Field, rng: random.Random) -> str:
    """Requests are cut, or done and their answers lost: who asked cannot know which."""
    parts = []
    for _ in range(rng.randint(2, 4)):
        seconds = rng.uniform(1, 3)
        if rng.random() < 0.5:
            during(field, Manners(drop_reply=True), seconds)
            parts.append("answers lost")
        else:
            after = rng.choice((0, 100, 2_000, 20_000))
            during(field, Manners(cut_after=after), seconds)
            parts.append(f"cut after {after} bytes")
        time.sleep(0.5)
    return ", ".join(parts)
