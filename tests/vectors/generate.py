"""Writes tests/vectors/golden: whole messages of the wire format, byte for byte.

Run from the top of the repository: python -m tests.vectors.generate
Ed25519 is deterministic, so everything is made anew each time but the ML-DSA signature, which is
randomised: it is kept from the file as long as it still holds.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.contract import world as w

from sealtrail import batch, dsse, ids, merkle, records
from sealtrail.causal import causal_prefix
from sealtrail.errors import SignatureError
from sealtrail.statement import BatchStatement, Continues

GOLDEN = Path(__file__).with_name("golden")
POST_QUANTUM = "batch-ed25519-ml-dsa-44"


def messages() -> dict[str, tuple[str, bytes]]:
    """Name -> (what it shows, bytes); all but the post-quantum one."""
    one = w.Producer()
    first = w.event().encode()
    made: dict[str, tuple[str, bytes]] = {}

    def sent(name: str, what: str, events: list[bytes], *, close: bool = False) -> None:
        statement = one.statement(events, close=close)
        made[name] = (what, w.framed(one.envelope(statement, events)))
        one.advance(statement)

    sent("batch-first", "the first batch of a chain: a genesis and one event", [first])
    parent = w.parent_ref(one.chain_id, 0, first, causal_prefix(first)[0])
    second = [w.full_event(parent).encode(), w.event(2, [parent, parent]).encode()]
    sent("batch-second", "an event with every field, and one with two parents", second)
    made["heartbeat"] = ("a heartbeat after the second batch", one.heartbeat())
    sent("batch-close", "the end of the chain, without events", [], close=True)
    point = Continues(one.chain_id, one.batch_seq - 1, one.head)
    next_ = w.Producer(nonce=w.digest("nonce 2"), continues=point)
    made["batch-continues"] = ("a chain that continues the one before", next_.send(3))
    retired = w.successor(
        w.key_record(w.ORDERS),
        valid_until=w.NOW + w.DAY,
        revocation=records.Revocation(w.NOW + w.HOUR, "RETIRED"),
    )
    second_root = w.ROOT.successor(2, [w.OPERATOR.public_key, w.OPERATOR_2.public_key])
    for name, what, record, operators in (
        ("record-key", "an Ed25519 key", w.key_record(w.ORDERS), (w.OPERATOR,)),
        ("record-key-ml-dsa-44", "an ML-DSA-44 key", w.key_record(w.ORDERS_PQ), (w.OPERATOR,)),
        ("record-key-retired", "its second version: retired", retired, (w.OPERATOR,)),
        ("record-key-two-operators", "two signatures", retired, (w.OPERATOR, w.OPERATOR_2)),
        ("record-schema", "today's event schema, pinned", w.schema_pin(), (w.OPERATOR,)),
        (
            "record-root",
            "the second trust root: two of two",
            second_root,
            (w.OPERATOR, w.OPERATOR_2),
        ),
    ):
        made[name] = (what, w.signed(record, *operators))
    return made


def post_quantum() -> bytes:
    """The batch that an Ed25519 and an ML-DSA-44 key sign; the latter's signature from the file."""
    both = w.Producer(keys=(w.ORDERS, w.ORDERS_PQ), nonce=w.digest("nonce pq"))
    events = [w.event(n).encode() for n in range(2)]
    body = both.statement(events).encode()
    path = GOLDEN / f"{POST_QUANTUM}.bin"
    signatures = []
    for at, key in enumerate(both.keys):
        signature = key.sign(dsse.pae(dsse.BATCH, body))
        if key is w.ORDERS_PQ and path.exists():
            signature = _kept(path, at, body) or signature
        signatures.append(signature)
    return w.framed(batch.SignedBatch(dsse.BATCH, body, tuple(signatures), 7, tuple(events)))


def _kept(path: Path, at: int, body: bytes) -> bytes | None:
    envelope = batch.SignedBatch.decode(batch.unframe(path.read_bytes())[1])
    signature = envelope.signatures[at]
    try:
        w.ORDERS_PQ.public_key.verify(signature, dsse.pae(dsse.BATCH, body))
    except SignatureError:
        return None
    return signature


def described(name: str, what: str, data: bytes) -> dict[str, Any]:
    """What golden.json says of one file."""
    about: dict[str, Any] = {
        "file": f"{name}.bin",
        "what": what,
        "sha256": sha256(data).hexdigest(),
    }
    if name.startswith("batch"):
        envelope = batch.SignedBatch.decode(batch.unframe(data)[1])
        statement = BatchStatement.decode(envelope.statement)
        about["statement_hash"] = sha256(envelope.statement).hexdigest()
        about["statement"] = _readable(asdict(statement))
        about["event_ids"] = [
            ids.text(ids.event_id(statement.chain_id, statement.first_seq + i))
            for i in range(statement.count)
        ]
        about["leaf_hashes"] = [merkle.leaf_hash(e).hex() for e in envelope.events]
    return about


def _readable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: _readable(v) for k, v in value.items()}
    return [_readable(v) for v in value] if isinstance(value, (list, tuple)) else value


def generate() -> dict[str, bytes]:
    """File name -> content of the whole folder."""
    made = messages()
    made[POST_QUANTUM] = ("a batch by two keys, one of them post-quantum", post_quantum())
    files = {f"{name}.bin": data for name, (_, data) in made.items()}
    table = {
        "trust_root": json.loads(w.ROOT.to_json()),
        "place": {"environment": "local", "tenants": ["default"], "topic": w.TOPIC, "partition": 1},
        "arrival": w.NOW + w.HOUR - 1,
        "records_arrive": w.NOW - w.DAY,
        "files": [described(name, what, data) for name, (what, data) in made.items()],
    }
    text = json.dumps(table, indent=1, ensure_ascii=False) + "\n"
    return files | {"golden.json": text.encode()}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file, content in generate().items():
        (GOLDEN / file).write_bytes(content)
