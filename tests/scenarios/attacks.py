"""What is hidden in the honest traffic, one function an attack.

A function sends with `scene.refuse` or `scene.accept`, which write down what must be found. What
stands after a `yield` happens later, when gaps have settled and windows have passed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.scenarios.chains import SECOND, Chain, Made, event, now_us, seal

from sealtrail import dsse
from sealtrail.findings import Code, Disposition
from sealtrail.statement import Continues
from sealtrail_producer.signing import KeySigner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scenarios.scene import Scene

    Attack = Callable[[Scene], Iterator[None] | None]

ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Enter an attack under its name."""
    ATTACKS[function.__name__] = function
    return function


def flip(data: bytes, at: int) -> bytes:
    """The bytes with one bit changed."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# -- bits, signatures, keys ------------------------------------------------------


@attack
def bit_flipped_in_event(scene: Scene) -> None:
    chain = scene.chain("orders", 0)
    made = chain.make(5)
    events = [*made.events]
    for index, at in ((0, 0), (2, 40), (4, -1)):
        changed = [*events]
        changed[index] = flip(changed[index], at)
        scene.refuse(made.with_envelope(events=tuple(changed)), 0, Code.BAD_ROOT)
    # What it was made from is as good as ever.
    scene.accept(made)
    scene.accept(chain.make())


@attack
def bit_flipped_in_statement(scene: Scene) -> None:
    made = scene.chain("billing", 1).make()
    for at in (-1, -20, 3):
        value = made.with_envelope(statement=flip(made.envelope.statement, at))
        scene.refuse(value, 1, Code.BAD_SIGNATURE)
    scene.accept(made)


@attack
def bit_flipped_in_signature(scene: Scene) -> None:
    made = scene.chain("shipping", 2).make()
    (signature,) = made.envelope.signatures
    for at in (0, 31, 32, 63):
        value = made.with_envelope(signatures=(flip(signature, at),))
        scene.refuse(value, 2, Code.BAD_SIGNATURE)
    scene.accept(made)


@attack
def bit_flipped_in_the_name_of_the_signer(scene: Scene) -> None:
    made = scene.chain("orders", 3).make()
    statement = made.envelope.statement
    at = statement.index(made.statement.signers[0])
    value = made.with_envelope(statement=flip(statement, at + 7))
    # Nobody knows such a key; it might still be registered.
    scene.refuse(value, 3, Code.UNKNOWN_KEY)


@attack
def signer_stripped(scene: Scene) -> None:
    chain = scene.chain("vault", 2)
    made = chain.make()
    assert len(made.envelope.signatures) == 2
    one, other = made.envelope.signatures
    for left in ((one,), (other,), (other, one), (one, one), ()):
        scene.refuse(made.with_envelope(signatures=left), 2, Code.BAD_SIGNATURE)
    # The names of the signers are signed: they cannot be cut to those who are left either.
    for signer, signature in zip(made.statement.signers, (one, other), strict=True):
        cut = replace(made.statement, signers=(signer,)).encode()
        value = made.with_envelope(statement=cut, signatures=(signature,))
        scene.refuse(value, 2, Code.BAD_SIGNATURE)
    scene.accept(made)


@attack
def wrong_key(scene: Scene) -> None:
    """A key that we know, of somebody else."""
    victim = scene.chain("orders", 0)
    scene.accept(victim.make())
    victim.signers = scene.signers("billing")
    scene.refuse(victim.draft().value, 0, Code.KEY_NOT_AUTHORISED)
    thief = Chain(scene.signers("shipping"), "orders", 1)
    scene.refuse(thief.make().value, 1, Code.KEY_NOT_AUTHORISED)


@attack
def unknown_key(scene: Scene) -> Iterator[None]:
    """Parked, and released in order once the key is registered: as if it had come in time."""
    scene.run("keys", "new", "--producer", "newcomer")
    chain = scene.chain("newcomer", 1)
    batches = [chain.make(n) for n in (3, 1, 4)]
    parked = [scene.refuse(made.value, 1, Code.UNKNOWN_KEY, key=b"k") for made in batches]
    scene.kept["parked"] = list(zip(batches, parked, strict=True))
    yield
    scene.run("keys", "register", "--producer", "newcomer")
    # What comes before they do would stand behind a gap that they fill.
    scene.wait("releases", lambda: scene.count("disposition = 'released'") == len(parked))
    scene.accept(chain.make(2))


@attack
def key_of_nobody(scene: Scene) -> None:
    """A stranger's key, and a record of it that a stranger signed."""
    from sealtrail.records import SignedRecord

    stranger = KeySigner(Ed25519PrivateKey.generate())
    record = replace(
        _record(scene, "orders"),
        fingerprint=stranger.public_key.fingerprint,
        public_key=stranger.public_key.der,
        version=1,
        previous=bytes(32),
    )
    forged = SignedRecord.sign(record, [stranger])
    key = stranger.public_key.fingerprint.hex().encode()
    scene.publish("provenance.keys", key, forged.encode())
    scene.flush()
    scene.refuse(Chain([stranger], "orders", 3).make().value, 3, Code.UNKNOWN_KEY)


def _record(scene: Scene, producer: str) -> _KeyRecord:
    from sealtrail.records import KeyRecord, SignedRecord

    (signer,) = scene.signers(producer)
    name = f"{signer.public_key.fingerprint.hex()}.record"
    data = (scene.folder / "trust" / "records" / name).read_bytes()
    return KeyRecord.decode(SignedRecord.decode(data).body)


@attack
def key_retired(scene: Scene) -> Iterator[None]:
    """What was signed before its end still counts; an old record does not bring it back."""
    chain = scene.chain("retiree", 0)
    scene.accept(chain.make())
    (signer,) = scene.signers("retiree")
    name = signer.public_key.fingerprint.hex()
    old = (scene.folder / "trust" / "records" / f"{name}.record").read_bytes()
    before = chain.make()
    yield
    scene.run("keys", "revoke", name, "--reason", "RETIRED")
    scene.publish("provenance.keys", name.encode(), old)
    scene.publish("provenance.keys", name.encode(), None)
    scene.flush()
    scene.accept(before)
    scene.refuse(chain.draft().value, 0, Code.KEY_REVOKED)
    scene.refuse(scene.chain("retiree", 1).make().value, 1, Code.KEY_REVOKED)


@attack
def key_compromised(scene: Scene) -> Iterator[None]:
    """Whoever has it can sign any time: what arrives later is refused whatever it says."""
    chain = scene.chain("leaked", 2)
    scene.accept(chain.make())
    before = chain.draft()
    yield
    (signer,) = scene.signers("leaked")
    scene.run("keys", "revoke", signer.public_key.fingerprint.hex(), "--reason", "COMPROMISED")
    scene.refuse(before.value, 2, Code.KEY_REVOKED)
    backdated = chain.draft(signed_at=now_us() - 3600 * SECOND)
    scene.refuse(backdated.value, 2, Code.KEY_REVOKED)


# -- replays -----------------------------------------------------------------------


@attack
def replay_into_another_place(scene: Scene) -> None:
    for changes, code in (
        ({"environment": "staging"}, Code.WRONG_ENVIRONMENT),
        ({"tenant": "other"}, Code.WRONG_TENANT),
        ({"topic": "provenance.events-old"}, Code.WRONG_TOPIC),
    ):
        scene.refuse(scene.chain("orders", 0, **changes).make().value, 0, code)
    chain = scene.chain("orders", 1)
    made = chain.make()
    scene.accept(made)
    for partition in (0, 2, 3):
        scene.refuse(made.value, partition, Code.WRONG_PARTITION, key=made.chain_id)


@attack
def replayed_batch(scene: Scene) -> Iterator[None]:
    """The same bytes again: at once, after others, long after, and with another framing."""
    chain = scene.chain("billing", 3)
    batches = [chain.make() for _ in range(4)]
    for made in (batches[0], batches[1]):
        scene.accept(made)
        scene.send(made.value, 3, Disposition.DUPLICATE)
    for made in batches[2:]:
        scene.accept(made)
    first = batches[0]
    # Nobody signed the ids of a registry, nor the framing.
    scene.send(first.with_envelope(event_schema_id=77), 3, Disposition.DUPLICATE)
    scene.send(first.value[:1] + b"\0\0\1\7" + first.value[5:], 3, Disposition.DUPLICATE)
    yield
    for made in batches:
        scene.send(made.value, 3, Disposition.DUPLICATE, key=b"another key")
    scene.accept(chain.make())


@attack
def release_that_never_was(scene: Scene) -> None:
    """Headers of a release, invented: they buy nothing."""
    made = scene.chain("shipping", 0).make()
    headers = [
        ("sealtrail-released-log-id", b"nowhere"),
        ("sealtrail-released-topic", b"provenance.events"),
        ("sealtrail-released-partition", b"0"),
        ("sealtrail-released-offset", b"0"),
    ]
    scene.accept(made, headers=headers)


# -- order -------------------------------------------------------------------------


@attack
def fork(scene: Scene) -> None:
    """Two batches at one position: both are kept, and both heads are named."""
    chain = scene.chain("orders", 2)
    scene.accept(chain.make())
    one, other = chain.draft(2), chain.draft(3)
    scene.accept(one)
    scene.accept(other, Code.FORK)
    scene.kept["fork"] = (one, other)
    # Each side goes on; that is no second fork.
    chain.take(other)
    scene.accept(chain.make())
    chain.take(one)
    scene.accept(chain.make())


@attack
def continued_twice(scene: Scene) -> None:
    ended = scene.chain("shipping", 1)
    scene.accept(ended.make())
    scene.accept(ended.close())
    point = Continues(ended.chain_id, ended.batch_seq - 1, ended.head)
    scene.accept(scene.chain("shipping", 1, continues=point).make())
    scene.accept(scene.chain("shipping", 1, continues=point).make(), Code.FORK)


@attack
def out_of_order(scene: Scene) -> None:
    """Within the settling time that is told, and nothing to worry about."""
    chain = scene.chain("billing", 0)
    first, second, third = chain.make(), chain.make(), chain.make()
    scene.accept(first)
    scene.accept(third)
    scene.accept(second, Code.GAP_FILLED)


@attack
def missing_batch(scene: Scene) -> Iterator[None]:
    """A gap that is found once it has settled, and cleared by the batch that was missing."""
    chain = scene.chain("orders", 3)
    first, missing, last = chain.make(), chain.make(), chain.make()
    scene.accept(first)
    scene.accept(last)
    scene.finding(Code.GAP, missing, None)
    scene.kept["gap"] = chain.chain_id
    yield
    scene.accept(missing, Code.GAP_FILLED, Code.LATE)


@attack
def missing_batches_of_which_one_comes(scene: Scene) -> Iterator[None]:
    chain = scene.chain("billing", 2)
    first, missing, filled, last = (chain.make() for _ in range(4))
    scene.accept(first)
    scene.accept(last)
    scene.finding(Code.GAP, missing, None)
    scene.kept["still missing"] = chain.chain_id
    yield
    scene.accept(filled, Code.GAP_FILLED, Code.LATE)


@attack
def claim_to_a_chain(scene: Scene) -> None:
    """A producer that goes on with another's chain, with its own good key."""
    victim = scene.chain("orders", 1)
    scene.accept(victim.make())
    thief = scene.chain("billing", 1)
    thief.chain_id, thief.batch_seq, thief.next_seq = victim.chain_id, 1, victim.next_seq
    thief.head = victim.head
    scene.refuse(thief.make().value, 1, Code.ID_COLLISION)
    scene.accept(victim.make())


# -- encodings ---------------------------------------------------------------------


@attack
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


@attack
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


@attack
def signature_for_another_use(scene: Scene) -> None:
    """A batch's statement under a heartbeat's name, and under none that belongs here."""
    made = scene.chain("orders", 2).draft()
    scene.refuse(made.with_envelope(payload_type=dsse.HEARTBEAT, events=()), 2, Code.BAD_SIGNATURE)
    scene.refuse(made.with_envelope(payload_type=dsse.KEY_RECORD), 2, Code.UNKNOWN_PAYLOAD_TYPE)


@attack
def schema_of_nobody(scene: Scene) -> None:
    unknown = sha256(b"a schema that nobody pinned").digest()
    made = scene.chain("orders", 0).make(event_schema=unknown)
    scene.refuse(made.value, 0, Code.UNKNOWN_SCHEMA)


@attack
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


@attack
def released_by_hand(scene: Scene) -> Iterator[None]:
    """What an operator sends again is judged again, and is as bad as it was."""
    sent = scene.refuse(b"not a batch, whoever sends it", 2, Code.MALFORMED)
    yield
    (row,) = [r for r in scene.quarantine() if r["id"].endswith(f":2:{sent.offset}")]
    (again,) = scene.ask("quarantine", "release", row["id"])
    scene.kept["released by hand"] = row["id"]
    scene.found_again(sent, int(again["new_offset"]))


@attack
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


@attack
def header_whose_name_is_no_text(scene: Scene) -> None:
    """It must not end the worker, on the topic of events nor on that of keys."""
    scene.publish_nameless("provenance.keys", 0, b"no record")
    offset = scene.publish_nameless("provenance.events", 1, b"no batch")
    scene.sent_as(1, offset, Code.MALFORMED)
    scene.accept(scene.chain("orders", 1).make())


# -- records within records ----------------------------------------------------------


@attack
def event_that_holds_two(scene: Scene) -> None:
    """Good signature, good root, and one event that is two records."""
    chain, neighbour = scene.chain("orders", 0), scene.chain("billing", 0)
    for _ in range(3):
        scene.accept(neighbour.make(4))
        bad = chain.draft([event(), event() + event(), event()])
        scene.refuse(bad.value, 0, Code.BAD_EVENT)
        scene.accept(neighbour.make(4))
    # The producer may still do it right.
    scene.accept(chain.make())


@attack
def event_that_swallows_its_neighbour(scene: Scene) -> None:
    """An event whose last value is said to be longer than it is."""
    chain, neighbour = scene.chain("shipping", 0), scene.chain("billing", 0)
    for missing in (300, 60, 20, 1):
        scene.accept(neighbour.make(3))
        bad = chain.draft([event(), _swallowing(missing)])
        scene.refuse(bad.value, 0, Code.BAD_EVENT)
        scene.accept(neighbour.make(3))
    # One record in two events, the second of which looks like one by itself.
    inner = event()
    whole = event(protected=(_protected(inner),))
    cut = whole.index(inner)
    bad = chain.draft([event(), whole[:cut], whole[cut:], event()])
    scene.refuse(bad.value, 0, Code.BAD_EVENT)
    scene.accept(neighbour.make(3))
    for broken in (event()[:-1], event() + b"\0", event()[:60], event()[:10] + b"\xff" * 50):
        code = Code.BAD_EVENT
        scene.refuse(chain.draft([event(), broken]).value, 0, code)
    scene.accept(chain.make())


def _protected(ciphertext: bytes) -> _Protected:
    from sealtrail.event import Protected

    return Protected(os.urandom(16), os.urandom(16), ciphertext)


def _swallowing(missing: int) -> bytes:
    """An event whose ciphertext lacks its last bytes: a decoder takes what comes next for it."""
    whole = event(protected=(_protected(os.urandom(400)),))
    # After the ciphertext: the end of `protected` and the empty `commitments`.
    return whole[: -2 - missing]


# -- clocks ------------------------------------------------------------------------


@attack
def clock_ahead(scene: Scene) -> None:
    """90 s ahead; an honest consumer of its output stands before its cause, and is no suspect."""
    ahead = scene.chain("orders", 1, skew_us=90 * SECOND)
    made = ahead.make(2)
    scene.accept(made, Code.AHEAD)
    scene.accept(ahead.make(2), Code.AHEAD)
    # In another partition: judged without looking there, the suspect is added afterwards.
    child = scene.chain("billing", 2).make([event(), event([made.reference(1)])])
    scene.accept(child, Code.CAUSALITY, index=1)
    scene.kept["ahead"] = (made, child)


@attack
def clock_goes_back(scene: Scene) -> None:
    chain = scene.chain("shipping", 3)
    scene.accept(chain.make())
    chain.skew_us = -30 * SECOND
    scene.accept(chain.make(), Code.REGRESSION)
    scene.accept(chain.make())


@attack
def clock_behind(scene: Scene) -> None:
    """An hour: a spool or a clock; a live child before its cause makes its own chain suspect."""
    behind = scene.chain("shipping", 2, skew_us=-3600 * SECOND)
    cause = scene.chain("orders", 2).make()
    scene.accept(cause)
    made = behind.make([event([cause.reference()], at=behind.clock())])
    sent = scene.accept(made, Code.BEHIND_OR_DELAYED)
    scene.finding(Code.CAUSALITY, made, sent, 0)
    scene.kept["behind"] = made


@attack
def time_of_another_age(scene: Scene) -> None:
    """Any time of the calendar is stored; what is none is refused."""
    far = [event(at=0), event(at=-62_135_596_800_000_000), event(at=253_402_300_799_999_999)]
    scene.accept(scene.chain("orders", 3).make(far))
    bad = event()
    later = _varint(253_402_300_800_000_000)
    changed = later + bad[_first_field(bad) :]
    scene.refuse(scene.chain("orders", 3).make([event(), changed]).value, 3, Code.BAD_EVENT)


def _varint(number: int) -> bytes:
    """Zig-zag and base 128, as Avro writes a long that is not negative."""
    rest, out = number << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def _first_field(data: bytes) -> int:
    """Where the first varint of an event ends."""
    return next(i for i, byte in enumerate(data) if byte < 0x80) + 1


# -- causes ------------------------------------------------------------------------


@attack
def orphan(scene: Scene) -> None:
    """Parents that nobody has: of a chain unknown, and beyond the end of one that closed."""
    never = scene.chain("orders", 0).draft()
    closed = scene.chain("orders", 1)
    scene.accept(closed.make())
    beyond = closed.draft()
    scene.accept(closed.close())
    made = scene.chain("billing", 1).make(
        [event([never.reference()]), event(), event([beyond.reference(2)])]
    )
    sent = scene.accept(made)
    scene.kept["orphans"] = [made.event_id(0), made.event_id(2)]
    for index in (0, 2):
        scene.finding(Code.ORPHAN, made, sent, index, batch=0)


@attack
def lost_with_its_producer(scene: Scene) -> None:
    """A chain that falls silent is found; what should have come from it is lost with it."""
    silent = scene.chain("shipping", 0, heartbeat_s=1)
    scene.accept(silent.make())
    lost = silent.draft()
    scene.finding(Code.STALLED_CHAIN, lost, None)
    made = scene.chain("billing", 3).make([event([lost.reference()])])
    sent = scene.accept(made)
    scene.finding(Code.LOST_WITH_PRODUCER, made, sent, 0, batch=0)


@attack
def wrong_leaf_hash(scene: Scene) -> None:
    """A child that swears to another parent than the one that is stored."""
    parent = scene.chain("orders", 2).make()
    scene.accept(parent)
    true = parent.reference(1)
    other_leaf = replace(true, leaf_hash=sha256(true.leaf_hash).digest())
    other_time = replace(true, occurred_at=true.occurred_at - SECOND)
    made = scene.chain("billing", 0).make(
        [event([true]), event([other_leaf]), event([true, other_time])]
    )
    sent = scene.accept(made)
    for index in (1, 2):
        scene.finding(Code.LINK_MISMATCH, made, sent, index, batch=0)
    scene.kept["mismatch"] = made


@attack
def circle(scene: Scene) -> None:
    """Two events that name one another: one of them must lie about a hash."""
    chain, other = scene.chain("orders", 3), scene.chain("billing", 3)
    draft = other.draft([event()])
    first = chain.make([event([replace(draft.reference(), leaf_hash=os.urandom(32))])])
    second = other.make([event([first.reference()])])
    sent = scene.accept(first)
    scene.accept(second)
    for code in (Code.LINK_MISMATCH, Code.CYCLE):
        scene.finding(code, first, sent, 0, batch=0)


# -- heartbeats ---------------------------------------------------------------------


@attack
def forged_heartbeat(scene: Scene) -> None:
    chain = scene.chain("orders", 0)
    made: Made = chain.make()
    scene.accept(made)
    scene.send(chain.heartbeat(), 0, Disposition.HEARTBEAT)
    scene.refuse(chain.heartbeat(scene.signers("billing")), 0, Code.KEY_NOT_AUTHORISED)
    scene.refuse(flip(chain.heartbeat(), -40), 0, Code.BAD_SIGNATURE)
    # Its own key swears to another head: it has signed two.
    other = chain.heartbeat(head=os.urandom(32))
    sent = scene.send(other, 0, Disposition.HEARTBEAT)
    scene.finding(Code.FORK, made, sent)
    scene.send(chain.heartbeat(), 0, Disposition.HEARTBEAT)


if TYPE_CHECKING:
    from sealtrail.event import Protected as _Protected
    from sealtrail.records import KeyRecord as _KeyRecord
