"""The demo's forgeries are wrong in exactly one thing."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail import dsse, merkle
from sealtrail.batch import SignedBatch, frame, unframe
from sealtrail.errors import SignatureError
from sealtrail.event import Actor, EventType, ProvenanceEvent
from sealtrail.keys import PublicKey
from sealtrail.statement import BatchStatement, Genesis, Identity, statement_hash
from sealtrail_local.demo import forgery
from sealtrail_local.demo.attacks import Stranger
from sealtrail_producer.chain_writer import ChainWriter


@pytest.fixture
def owner() -> Stranger:
    return Stranger()


@pytest.fixture
def honest(owner: Stranger) -> bytes:
    identity = Identity("local", "default", "provenance.events", 1, "billing", "host")
    chain = ChainWriter(identity, Genesis(bytes(32), 1, 60), [owner], bytes(32))
    events = [
        ProvenanceEvent(n, bytes(16), EventType.CREATE, "a", Actor("billing")).encode()
        for n in range(3)
    ]
    leaves = [merkle.leaf_hash(event) for event in events]
    sealed = chain.seal(leaves, signed_at=5, clock_error_us=None, sampled_out=0)
    body = SignedBatch(dsse.BATCH, sealed.body, sealed.signatures, 7, tuple(events)).encode()
    return frame(9, body)


def test_an_altered_batch_keeps_its_signature_and_loses_its_root(honest: bytes, owner: Stranger):
    before = SignedBatch.decode(unframe(honest)[1])
    after = SignedBatch.decode(unframe(forgery.altered(honest))[1])
    assert (after.statement, after.signatures) == (before.statement, before.signatures)
    dsse.verify(dsse.BATCH, after.statement, after.signatures, [owner.public_key])
    assert after.events[:-1] == before.events[:-1]
    (changed, was) = (after.events[-1], before.events[-1])
    assert sum((a ^ b).bit_count() for a, b in zip(changed, was, strict=True)) == 1
    statement = BatchStatement.decode(after.statement)
    assert merkle.root([merkle.leaf_hash(e) for e in after.events]) != statement.root


def test_an_impostor_has_everything_right_but_the_key(honest: bytes, owner: Stranger):
    thief = Stranger()
    forged = forgery.impostor(honest, thief, salt=bytes(16), signed_at=6)
    envelope = SignedBatch.decode(unframe(forged)[1])
    first = SignedBatch.decode(unframe(honest)[1])
    statement = BatchStatement.decode(envelope.statement)
    assert statement.signers == (owner.public_key.fingerprint,)
    assert (statement.batch_seq, statement.first_seq, statement.count) == (1, 3, 1)
    assert statement.previous == statement_hash(first.statement)
    assert statement.root == merkle.root([merkle.leaf_hash(e) for e in envelope.events])
    dsse.verify(dsse.BATCH, envelope.statement, envelope.signatures, [thief.public_key])
    with pytest.raises(SignatureError):
        dsse.verify(dsse.BATCH, envelope.statement, envelope.signatures, [owner.public_key])


def test_a_stranger_has_a_key_of_its_own():
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert Stranger().public_key != PublicKey.from_raw(key)
