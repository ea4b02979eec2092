"""Bytes that are no message, another one than was signed, or the same in another encoding."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import event, seal

from sealtrail import dsse
from sealtrail.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.scene import Scene


@attack("C8")
def statement_not_canonical(scene: Scene) -> None:
    chain = scene.chain("shipping", 3)
    made = chain.draft()
    body = made.envelope.statement
    # A byte too many; and the sampled-out count, 0, in two bytes.
    for changed in (body + b"\0", body[:-1] + b"\x80\0"):
        value = seal(changed, made.events, chain.signers)
        scene.refuse(value, 3, Code.NOT_CANONICAL)
    wrong = chain.draft(batch_seq=0, first_seq=9)
    scene.refuse(wrong.value, 3, Code.NOT_CANONICAL)


@attack("A12")
def events_other_than_signed(scene: Scene) -> None:
    chain = scene.chain("orders", 0)
    made = chain.make(3)
    one, two, three = made.events
    for events in (
        (one, two),
        (one, two, three, three),
        (two, one, three),
        (one, two, event()),
        (),
    ):
        scene.refuse(made.with_envelope(events=events), 0, Code.BAD_ROOT)
    scene.accept(made)


@attack("A11")
def signature_for_another_use(scene: Scene) -> None:
    """A batch's statement under a heartbeat's name, and under none that belongs here."""
    made = scene.chain("orders", 2).draft()
    scene.refuse(made.with_envelope(payload_type=dsse.HEARTBEAT, events=()), 2, Code.BAD_SIGNATURE)
    scene.refuse(made.with_envelope(payload_type=dsse.KEY_RECORD), 2, Code.UNKNOWN_PAYLOAD_TYPE)


@attack("C4", "C6", "C13")
def garbage(scene: Scene) -> None:
    honest = scene.chain("billing", 1).draft()
    for value in (
        None,
        b"",
        b"\0",
        b"hello",
        os.urandom(2_000),
        b"\0" * 100_000,
        b'{"json": true}',
        honest.value[:-40],
        honest.value + b"\0",
        b"\1" + honest.value[1:],
        # A count of 10^8 items of nothing, and a negative length.
        b"\0\0\0\0\1\x80\xc2\xd7\x2f",
        b"\0\0\0\0\1\x01\x01\x01",
        os.urandom(1) + b"\xff" * 3_000_000,
    ):
        scene.refuse(value, 1, Code.MALFORMED)


@attack("A3")
def released_by_hand(scene: Scene) -> Iterator[None]:
    """What an operator sends again is judged again, and is as bad as it was."""
    sent = scene.refuse(b"not a batch, whoever sends it", 2, Code.MALFORMED)
    yield
    (row,) = [r for r in scene.quarantine() if r["id"].endswith(f":2:{sent.offset}")]
    (again,) = scene.ask("quarantine", "replay", row["id"])
    scene.kept["released by hand"] = row["id"]
    scene.found_again(sent, int(again["new_offset"]))


@attack("C13", "G8")
def headers(scene: Scene) -> None:
    """Large and many ones change nothing; Faust's own, which would send a reply, is refused."""
    chain = scene.chain("billing", 3)
    large = [("x", os.urandom(400_000)), ("é", b"\xff\xfe"), ("twice", b"1"), ("twice", b"2")]
    scene.kept["headers"] = (scene.accept(chain.make(), headers=large), large)
    scene.accept(chain.make(), headers=[(f"n{n}", None) for n in range(2_000)], key=b"k" * 100_000)
    lies = [("ce_source", b"billing-of-somebody-else"), ("content-type", b"text/html")]
    scene.kept["lies"] = scene.accept(chain.make(), headers=[*lies, ("note", b"kept")])
    evil = [("Faust-Ag-ReplyTo", b"provenance.keys"), ("Faust-Ag-CorrelationId", b"1")]
    made = chain.make()
    scene.refuse(made.value, 3, Code.MALFORMED, headers=evil)
    scene.accept(made)


@attack("C13")
def header_whose_name_is_no_text(scene: Scene) -> None:
    """It must not end the worker, on the topic of events nor on that of keys."""
    scene.publish_nameless("provenance.keys", 0, b"no record")
    offset = scene.publish_nameless("provenance.events", 1, b"no batch")
    scene.sent_as(1, offset, Code.MALFORMED)
    scene.accept(scene.chain("orders", 1).make())


@attack("C11", "C12")
def batch_that_no_decoder_takes(scene: Scene) -> None:
    """Brokers do not look behind the end of an lz4 frame; decoders do, and fail on every try."""
    scene.sent_as(2, scene.publish_unreadable("provenance.events", 2), Code.MALFORMED)
    scene.accept(scene.chain("orders", 2).make())
