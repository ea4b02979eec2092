"""Steps 1 to 9 from docs/wire-format.md alone; answers None for a good message or (code, step)."""

import json
from contextlib import suppress
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

TYPE = "application/vnd.sealtrail.{}.v1+avro"
ZERO, P = bytes(32), 2**255 - 19
FIRST, LAST = -62135596800000000, 253402300799999999
WEEK = 7 * 86_400 * 1_000_000
# "?" begins null or ..., "*" an array of ..., "/" separates the symbols of an enum.
LAYOUTS = {
    "SignedBatch": "type:string statement:bytes signatures:*bytes schema_id:int events:*bytes"
    " disclosures:*bytes",
    "BatchStatement": "environment:string tenant:string topic:string partition:int producer:string"
    " instance:string signers:*hash kind:EVENTS/CLOSE genesis:?Genesis chain_id:hash batch_seq:long"
    " first_seq:long count:int root:hash previous:hash event_schema:hash signed_at:long"
    " clock_error_us:?long sampled_out:long",
    "Genesis": "nonce:hash opened_at:long heartbeat_s:int continues:?Continues",
    "Continues": "chain_id:hash batch_seq:long head:hash",
    "Heartbeat": "signers:*hash chain_id:hash batch_seq:long head:hash signed_at:long",
    "SignedRecord": "type:string body:bytes signatures:*Signature",
    "Signature": "signer:hash signature:bytes",
    "KeyRecord": "fingerprint:hash version:int previous:hash algorithm:ED25519/ML_DSA_44"
    " public_key:bytes producer:string tenant:string environment:string topics:*string"
    " valid_from:long valid_until:?long revocation:?Revocation",
    "Revocation": "time:long reason:RETIRED/COMPROMISED",
    "SchemaPin": "subject:string fingerprint:hash valid_from:long schema:string",
    "TrustRoot": "version:int previous:hash threshold:int keys:*bytes",
    "CausalPrefix": "occurred_at:long parents:*ParentRef",
    "ParentRef": "event_id:id occurred_at:long leaf_hash:hash",
}


class RefusedError(Exception):
    pass


def need(holds: Any, code: str = "RECORD", step: int = 0) -> None:
    if not holds:
        raise RefusedError(code, step)


class Reader:
    def __init__(self, data: bytes, *why: Any) -> None:
        self.data, self.at, self.why = data, 0, why

    def take(self, n: int) -> bytes:
        need(0 <= n <= len(self.data) - self.at, *self.why)
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self, bits: int = 64, *, lenient: bool = False) -> int:
        number = shift = 0
        byte = 0x80
        while byte >= 0x80:
            need(shift < 70, *self.why)
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
        need(lenient or (number < 1 << bits and (byte or shift == 7)), *self.why)
        return (number >> 1) ^ -(number & 1)

    def read(self, kind: str) -> Any:
        if kind[0] == "?":
            return self.read(kind[1:]) if self.read("null/value") == "value" else None
        if kind[0] == "*" or "/" in kind:
            number, symbols = self.varint(), kind.split("/")
            need(0 <= number < (len(symbols) if "/" in kind else 1 << 63), *self.why)
            if "/" in kind:
                return symbols[number]
            items = [self.read(kind[1:]) for _ in range(number)]
            need(not items or self.varint() == 0, *self.why)
            return items
        if kind in LAYOUTS:
            return self.record(kind)
        if kind in {"int", "long"}:
            return self.varint(32 if kind == "int" else 64)
        raw = self.take({"hash": 32, "id": 16}[kind] if kind in {"hash", "id"} else self.varint())
        with suppress(UnicodeDecodeError):
            return raw.decode() if kind == "string" else raw
        raise RefusedError(*self.why)

    def record(self, kind: str) -> dict[str, Any]:
        start, record = self.at, dict[str, Any]()
        for field in LAYOUTS[kind].split():
            name, _, inner = field.partition(":")
            record[name], record[f"{name} ends"] = self.read(inner), self.at
        return record | {"raw": self.data[start : self.at]}


def parse(kind: str, data: bytes, *why: Any) -> Any:
    reader = Reader(data, *why)
    value = reader.read(kind)
    need(reader.at == len(data), *why)
    return value


def consistent(s: dict[str, Any]) -> Any:
    first, genesis = s["batch_seq"] == 0, s["genesis"]
    names = [s[n] for n in ("environment", "tenant", "topic", "producer", "instance")]
    numbers = [s[n] for n in ("partition", "first_seq", "count", "sampled_out", "clock_error_us")]
    good = (
        all(1 <= len(name.encode()) <= 2048 for name in names)
        and all((number or 0) >= 0 for number in numbers)
        and s["first_seq"] + s["count"] <= 2**40
        and (s["count"] > 0 or s["kind"] == "CLOSE")
        and first == (genesis is not None) == (s["previous"] == ZERO)
        and not (first and s["first_seq"])
    )
    if not good or not genesis:
        return good
    identity = s["raw"][: s["instance ends"]]
    chain_id = sha256(b"sealtrail/chain-id/v1\x00" + identity + genesis["raw"]).digest()
    good = 0 <= genesis["opened_at"] <= LAST and 1 <= genesis["heartbeat_s"] <= 86_400
    good = good and (not genesis["continues"] or genesis["continues"]["batch_seq"] >= 0)
    return good and chain_id == s["chain_id"]


def read_signers(data: bytes, before: int) -> list[bytes]:
    """The lenient reading of step 2."""
    reader, signers = Reader(data, "MALFORMED", 2), list[bytes]()
    for field in range(before):
        number = reader.varint(lenient=True)
        if field != 3:
            reader.take(number)
    while count := reader.varint(lenient=True):
        if count < 0:
            reader.varint(lenient=True)
        for _ in range(abs(count)):
            if len(signers) == 5:
                return signers
            signers.append(reader.take(32))
    return signers


def public_key(der: bytes) -> tuple[str, Any]:
    key: Any = None
    with suppress(ValueError, UnsupportedAlgorithm):
        key = load_der_public_key(der)
    if isinstance(key, MLDSA44PublicKey) and len(der) == 1334:
        return "ML_DSA_44", key
    need(isinstance(key, Ed25519PublicKey) and len(der) == 44)
    y, d = int.from_bytes(der[-32:], "little") % 2**255, -121665 * pow(121666, -1, P)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    need(y < P and pow(x2, (P - 1) // 2, P) in {0, 1})
    for _ in range(3):  # doubling, by y alone: the neutral point has y = 1
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, P)
        y = (y * y + x2) * pow(1 - d * x2 * y * y, -1, P) % P
    need(y != 1)
    return "ED25519", key


def holds(der: bytes, signature: bytes, kind: str, body: bytes) -> bool:
    message = b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(body), body)
    try:
        public_key(der)[1].verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Records:
    def __init__(self, operators: list[bytes], threshold: int, values: list[Any]) -> None:
        self.root: dict[str, Any] = {"version": 1, "threshold": threshold}
        self.root["keys"] = sorted(operators, key=hashed)
        first = b"\x02" + ZERO + zigzag(threshold) + zigzag(len(operators))
        ders = [zigzag(len(der)) + der for der in self.root["keys"]]
        self.root["hash"] = hashed(first + b"".join(ders) + b"\x00")
        self.keys, self.pins, self.bodies = list[Any](), list[Any](), set[bytes]()
        for arrival, value in values:
            with suppress(RefusedError):
                self.add(arrival, parse("SignedRecord", value))

    def add(self, arrival: int, value: dict[str, Any]) -> None:
        kind, body = value["type"], value["body"]
        if body not in self.bodies:  # what counted once counts, whoever the operators are now
            signed(value, self.root)
        if kind == TYPE.format("root"):
            self.root = following(self.root, value)
        elif kind == TYPE.format("keyrecord"):
            record = parse("KeyRecord", body)
            need(hashed(record["public_key"]) == record["fingerprint"])
            need(public_key(record["public_key"])[0] == record["algorithm"])
            self.keys.append((arrival, record))
        elif kind == TYPE.format("schemapin"):
            pin = parse("SchemaPin", body)
            need(fingerprint(json.loads(pin["schema"])) == pin["fingerprint"])
            self.pins.append((arrival, pin))
        self.bodies.add(body)

    def key(self, fingerprint: bytes, known_at: int) -> Any:
        best: Any = None
        for arrival, record in self.keys:
            if record["fingerprint"] == fingerprint and arrival <= known_at:
                best = record if best is None or supersedes(record, best) else best
        return best


def hashed(data: bytes) -> bytes:
    return sha256(data).digest()


def zigzag(n: int) -> bytes:
    return bytes([n * 2]) if n < 64 else bytes([n * 2 % 128 + 128, n * 2 // 128])


def signed(value: dict[str, Any], root: dict[str, Any]) -> None:
    operators = {hashed(der): der for der in root["keys"]}
    signers = [s["signer"] for s in value["signatures"]]
    ours = [s for s in value["signatures"] if s["signer"] in operators]
    need(signers == sorted(set(signers)) and len(ours) >= root["threshold"])
    for s in ours:
        need(holds(operators[s["signer"]], s["signature"], value["type"], value["body"]))


def following(root: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    new = parse("TrustRoot", value["body"])
    distinct = len(set(new["keys"])) == len(new["keys"]) <= 32
    need(distinct and 1 <= new["threshold"] <= len(new["keys"]))
    need([public_key(der) and der for der in new["keys"]] == sorted(new["keys"], key=hashed))
    need((new["version"], new["previous"]) == (root["version"] + 1, root["hash"]))
    signed(value, new)
    new["hash"] = hashed(value["body"])
    return dict(new)


def supersedes(record: dict[str, Any], held: dict[str, Any]) -> Any:
    new, old = record["revocation"], held["revocation"]
    if not new or not old:
        return not old and (new or record["version"] > held["version"])
    worse = old["reason"] == "RETIRED" or new["time"] < old["time"]
    return new["reason"] == "COMPROMISED" and worse


def fingerprint(schema: Any) -> bytes:
    """RFC 8785 without doc; the names in schemas are ASCII, where all orders agree."""

    def bare(value: Any, *, data: bool = False) -> Any:
        if data or not isinstance(value, dict):
            return [bare(v) for v in value] if isinstance(value, list) and not data else value
        inner = {"default", "symbols", "aliases"}
        return {k: bare(v, data=k in inner) for k, v in value.items() if k != "doc"}

    text = json.dumps(bare(schema), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).digest()


def authorised(record: Any, who: Any, place: Any, arrival: int, signed_at: int) -> None:
    def over(end: int) -> bool:
        return arrival >= end and (signed_at >= end or arrival > end + WEEK)

    said = (record["producer"], record["environment"], record["tenant"])
    ours = said == (who[0], place["environment"], who[1]) and place["topic"] in record["topics"]
    need(ours, "KEY_NOT_AUTHORISED", 6)
    need(arrival >= record["valid_from"], "KEY_EXPIRED", 6)
    revoked, until = record["revocation"], record["valid_until"]
    if revoked and revoked["reason"] == "COMPROMISED":
        need(arrival < revoked["time"], "KEY_REVOKED", 6)
    elif revoked:
        need(not over(revoked["time"]), "KEY_REVOKED", 6)
    need(until is None or not over(until), "KEY_EXPIRED", 6)


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def causal_prefix(event: bytes) -> None:
    value = Reader(event, "BAD_EVENT", 9).read("CausalPrefix")
    parents, ids = value["parents"], [p["event_id"] for p in value["parents"]]
    times = [value["occurred_at"], *(p["occurred_at"] for p in parents)]
    good = len(parents) <= 64 and all(FIRST <= t <= LAST for t in times)
    need(good and all(i[6] >> 4 == 8 and i[8] >> 6 == 2 for i in ids), "BAD_EVENT", 9)


def steps(value: bytes | None, place: Any, arrival: int, records: Records, known_at: int) -> Any:
    need(value is not None and 6 <= len(value) <= 8_388_608 and value[0] == 0, "MALFORMED", 1)
    e = parse("SignedBatch", (value or b"")[5:], "MALFORMED", 2)
    batch = e["type"] == TYPE.format("batch")
    need(batch or e["type"] == TYPE.format("heartbeat"), "UNKNOWN_PAYLOAD_TYPE", 2)
    most = 65_536 if batch else 0
    need(len(e["events"]) <= most and (batch or not e["disclosures"]), "MALFORMED", 2)
    signers = read_signers(e["statement"], 6 if batch else 0)
    need(1 <= len(signers) <= 4 and signers == sorted(set(signers)), "BAD_SIGNATURE", 3)
    keys = [records.key(s, known_at) for s in signers]
    need(None not in keys, "UNKNOWN_KEY", 3)
    need(len(keys) == len(e["signatures"]), "BAD_SIGNATURE", 3)
    for k, signed in zip(keys, e["signatures"], strict=True):
        need(holds(k["public_key"], signed, e["type"], e["statement"]), "BAD_SIGNATURE", 3)
    s = parse("BatchStatement" if batch else "Heartbeat", e["statement"], "NOT_CANONICAL", 4)
    need(s["batch_seq"] >= 0 and 0 <= s["signed_at"] <= LAST, "NOT_CANONICAL", 4)
    need(not batch or consistent(s), "NOT_CANONICAL", 4)
    speaker = s if batch else keys[0]
    who = (speaker["producer"], speaker["tenant"])
    need(not batch or s["environment"] == place["environment"], "WRONG_ENVIRONMENT", 5)
    tenants = {s["tenant"]} if batch else {k["tenant"] for k in keys}
    need(tenants <= set(place["tenants"]), "WRONG_TENANT", 5)
    need(not batch or s["topic"] == place["topic"], "WRONG_TOPIC", 5)
    need(not batch or s["partition"] == place["partition"], "WRONG_PARTITION", 5)
    for key in keys:
        authorised(key, who, place, arrival, s["signed_at"])
    if batch:
        contents(s, e["events"], place, arrival, [p for at, p in records.pins if at <= known_at])


def contents(s: Any, events: list[bytes], place: Any, arrival: int, known: list[Any]) -> None:
    pins = [p for p in known if p["fingerprint"] == s["event_schema"]]
    need(pins, "UNKNOWN_SCHEMA", 7)
    subject = place["topic"].removesuffix("s") + "-record-value"
    allowed = any(p["subject"] == subject and p["valid_from"] <= arrival for p in pins)
    need(allowed, "SCHEMA_NOT_ALLOWED", 7)
    leaves = [sha256(b"\x00" + event).digest() for event in events]
    need(s["count"] == len(leaves) and tree(leaves) == s["root"], "BAD_ROOT", 8)
    for event in events:
        need(len(event) <= 524_288, "BAD_EVENT", 9)
        causal_prefix(event)


def verify(value: bytes | None, place: Any, arrival: int, records: Records, known_at: int) -> Any:
    try:
        return steps(value, place, arrival, records, known_at)
    except RefusedError as refused:
        return refused.args
