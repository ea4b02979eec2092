"""What a producer signs: batch statements, heartbeats, and the identity of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sealtrail import avro
from sealtrail.errors import MalformedError
from sealtrail.event import MAX_MICROS
from sealtrail.ids import MAX_SEQ

ZERO = bytes(32)
MAX_SIGNERS = 4
# Index of the one field before a statement's signers that is a number.
_PARTITION = 3
CHAIN_ID_TAG = b"sealtrail/chain-id/v1\x00"
# Room for a SPIFFE id (2,048 bytes); an index of chains holds these names in memory.
MAX_NAME_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Continues:
    """The head of an earlier chain that a new one continues."""

    chain_id: bytes
    batch_seq: int
    head: bytes


@dataclass(frozen=True, slots=True)
class Genesis:
    """Opens a chain: nonce 32 random bytes, opened_at in microseconds since 1970."""

    nonce: bytes
    opened_at: int
    heartbeat_s: int
    continues: Continues | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs and where it counts: everything of a chain that never changes but its genesis."""

    environment: str
    tenant: str
    topic: str
    partition: int
    producer: str
    instance: str

    def chain_id(self, genesis: Genesis) -> bytes:
        """SHA-256 of the domain tag and canonical Avro of identity and genesis, 32 bytes."""
        value = avro.values(self) | {"genesis": _genesis_value(genesis)}
        return sha256(CHAIN_ID_TAG + avro.codec("ChainIdInput").encode(value)).digest()

    def check(self) -> None:
        """Names are 1 to 2,048 bytes, the partition is not negative.

        Raises:
            MalformedError: they are not.
        """
        for name in ("environment", "tenant", "topic", "producer", "instance"):
            if not 1 <= len(getattr(self, name).encode()) <= MAX_NAME_BYTES:
                raise MalformedError(f"{name} is not 1 to {MAX_NAME_BYTES} bytes long")
        if self.partition < 0:
            raise MalformedError("partition is negative")


@dataclass(frozen=True, slots=True)
class BatchStatement:
    """One signature covers this; docs/wire-format.md names each field."""

    environment: str
    tenant: str
    topic: str
    partition: int
    producer: str
    instance: str
    signers: tuple[bytes, ...]
    kind: str
    genesis: Genesis | None
    chain_id: bytes
    batch_seq: int
    first_seq: int
    count: int
    root: bytes
    previous: bytes
    event_schema: bytes
    signed_at: int
    clock_error_us: int | None
    sampled_out: int

    @property
    def identity(self) -> Identity:
        """Who signed and where it counts."""
        return Identity(
            self.environment, self.tenant, self.topic, self.partition, self.producer, self.instance
        )

    @property
    def closes(self) -> bool:
        """Whether this statement ends its chain."""
        return self.kind == "CLOSE"

    def encode(self) -> bytes:
        """Canonical Avro, the bytes that are signed."""
        value = avro.values(self)
        value["signers"] = list(self.signers)
        value["genesis"] = None if self.genesis is None else _genesis_value(self.genesis)
        return avro.codec("BatchStatement").encode(value)

    @classmethod
    def decode(cls, data: bytes) -> BatchStatement:
        """Read canonical bytes and check what the statement says by itself.

        Raises:
            MalformedError: not a statement, or one that contradicts itself.
            NotCanonicalError: another encoding than the canonical one.
        """
        statement = cls.read(avro.codec("BatchStatement").decode(data))
        statement.check()
        return statement

    @classmethod
    def read(cls, value: dict[str, Any]) -> BatchStatement:
        """A statement from its decoded Avro record, unchecked."""
        genesis = value["genesis"]
        if genesis is not None:
            continues = genesis["continues"]
            genesis = Genesis(
                **genesis | {"continues": None if continues is None else Continues(**continues)}
            )
        return cls(**value | {"signers": tuple(value["signers"]), "genesis": genesis})

    def check(self) -> None:
        """Rules that need nothing but the statement.

        Raises:
            MalformedError: one of them is broken.
        """
        check_signers(self.signers)
        self.identity.check()
        first = self.batch_seq == 0
        rules = (
            (
                self.batch_seq >= 0 and self.first_seq >= 0 and self.count >= 0,
                "a position is negative",
            ),
            (self.first_seq + self.count <= MAX_SEQ + 1, "sequence numbers beyond 2^40"),
            (self.count > 0 or self.closes, "only CLOSE may hold no events"),
            (
                first == (self.genesis is not None),
                "genesis stands in the first statement and nowhere else",
            ),
            (
                first == (self.previous == ZERO),
                "previous is zeros in the first statement and nowhere else",
            ),
            (not first or self.first_seq == 0, "the first statement begins at sequence number 0"),
            (self.sampled_out >= 0, "sampled_out is negative"),
            (self.clock_error_us is None or self.clock_error_us >= 0, "clock_error_us is negative"),
            (0 <= self.signed_at <= MAX_MICROS, "signed_at is not in 1970 to 9999"),
        )
        for holds, complaint in rules:
            if not holds:
                raise MalformedError(f"statement: {complaint}")
        if self.genesis is not None:
            self._check_genesis(self.genesis)

    def _check_genesis(self, genesis: Genesis) -> None:
        if not 1 <= genesis.heartbeat_s <= 86_400:
            raise MalformedError("statement: heartbeat_s is not in 1..86400")
        if not 0 <= genesis.opened_at <= MAX_MICROS:
            raise MalformedError("statement: opened_at is not in 1970 to 9999")
        if genesis.continues is not None and genesis.continues.batch_seq < 0:
            raise MalformedError("statement: continues a negative batch")
        if self.identity.chain_id(genesis) != self.chain_id:
            raise MalformedError("statement: chain_id is not the hash of its genesis")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A producer lives; time in microseconds since 1970 by its clock."""

    signers: tuple[bytes, ...]
    chain_id: bytes
    batch_seq: int
    head: bytes
    time: int

    def encode(self) -> bytes:
        """Canonical Avro, the bytes that are signed."""
        return avro.codec("Heartbeat").encode(avro.values(self) | {"signers": list(self.signers)})

    @classmethod
    def decode(cls, data: bytes) -> Heartbeat:
        """Read canonical bytes.

        Raises:
            MalformedError: not a heartbeat.
            NotCanonicalError: another encoding than the canonical one.
        """
        value = avro.codec("Heartbeat").decode(data)
        heartbeat = cls(**value | {"signers": tuple(value["signers"])})
        check_signers(heartbeat.signers)
        if heartbeat.batch_seq < 0 or not 0 <= heartbeat.time <= MAX_MICROS:
            raise MalformedError("heartbeat: batch_seq is negative or time not in 1970 to 9999")
        return heartbeat


def check_signers(signers: tuple[bytes, ...]) -> None:
    """Signers are 1 to 4 fingerprints, sorted, each once.

    Raises:
        MalformedError: they are not.
    """
    if not 1 <= len(signers) <= MAX_SIGNERS:
        raise MalformedError(f"{len(signers)} signers, not 1 to {MAX_SIGNERS}")
    if list(signers) != sorted(set(signers)):
        raise MalformedError("signers are not sorted, or one stands twice")


def read_signers(statement: bytes, names: int) -> tuple[bytes, ...]:
    """The signers that a statement names, read before anything of it is believed.

    Reads no further than the signers and takes what is not canonical too, since only a good
    signature makes that an act of its signer (step 4) rather than noise.

    Args:
        statement: bytes of a BatchStatement or a Heartbeat.
        names: how many fields come before the signers: 6 in a BatchStatement, 0 in a Heartbeat.

    Returns:
        At most five fingerprints: a fifth shows that there are too many.

    Raises:
        MalformedError: the bytes end before, or hold a length or count that cannot be.
    """
    at = 0
    for field in range(names):
        # environment, tenant, topic: string; partition: int; producer, instance: string.
        length, at = _varint(statement, at)
        if field != _PARTITION:
            at += _size(length, len(statement) - at)
    signers: list[bytes] = []
    while True:
        count, at = _varint(statement, at)
        if count < 0:
            # A negative count is followed by the block's size in bytes (Avro, "Arrays").
            count = -count
            _, at = _varint(statement, at)
        if count == 0:
            return tuple(signers)
        for _ in range(count):
            if len(signers) > MAX_SIGNERS:
                return tuple(signers)
            end = at + _size(len(ZERO), len(statement) - at)
            signers.append(statement[at:end])
            at = end


def _size(length: int, left: int) -> int:
    if not 0 <= length <= left:
        raise MalformedError("statement ends before its signers")
    return length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zig-zag varint of at most ten bytes, minimal or not, and where it ends."""
    number = 0
    for position, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + position + 1
    raise MalformedError("statement ends before its signers, or holds a number of over ten bytes")


def statement_hash(statement: bytes) -> bytes:
    """SHA-256 of a statement's bytes: what the next statement names as previous, 32 bytes."""
    return sha256(statement).digest()


def _genesis_value(genesis: Genesis) -> dict[str, Any]:
    value = avro.values(genesis)
    if genesis.continues is not None:
        value["continues"] = avro.values(genesis.continues)
    return value
