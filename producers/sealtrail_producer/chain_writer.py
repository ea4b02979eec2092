"""Builds the statements of one chain.

Pure: hashes of events in, signed statements out; no I/O, no clock.

Invariant: after `seal` the chain has moved on, so the envelope that it returned must reach the log,
and before any later one. The caller keeps it until the spool has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import dsse, ids, merkle
from sealtrail.statement import (
    ZERO,
    BatchStatement,
    Continues,
    Genesis,
    Heartbeat,
    Identity,
    check_signers,
    statement_hash,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Sealed:
    """A signed statement, its bytes, its signatures in the order of its signers, and its hash."""

    statement: BatchStatement
    body: bytes
    signatures: tuple[bytes, ...]
    head: bytes


def partition_of(producer: str, instance: str, partitions: int) -> int:
    """The partition of an instance's chains: SHA-256(producer, 0, instance) mod partitions.

    A zero byte parts the two names, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = sha256(producer.encode() + b"\x00" + instance.encode()).digest()
    return int.from_bytes(digest, "big") % partitions


@dataclass(frozen=True, slots=True)
class _Signing:
    """Keys sorted by fingerprint, and their fingerprints."""

    signers: tuple[dsse.Signer, ...]
    fingerprints: tuple[bytes, ...]

    @classmethod
    def of(cls, signers: Sequence[dsse.Signer]) -> _Signing:
        ordered = tuple(sorted(signers, key=lambda s: s.public_key.fingerprint))
        made = cls(ordered, tuple(s.public_key.fingerprint for s in ordered))
        check_signers(made.fingerprints)
        return made


class ChainWriter:
    """One chain from its genesis to its CLOSE.

    Args:
        identity: who signs and where it counts.
        genesis: opens the chain.
        signers: 1 to 4, of different keys; sorted here by fingerprint.
        event_schema: fingerprint of the writer schema, 32 bytes.
    """

    def __init__(
        self,
        identity: Identity,
        genesis: Genesis,
        signers: Sequence[dsse.Signer],
        event_schema: bytes,
    ) -> None:
        self.identity = identity
        self.genesis = genesis
        self.signing = _Signing.of(signers)
        self.event_schema = event_schema
        self.chain_id = identity.chain_id(genesis)
        self.id_template = ids.template(self.chain_id)
        self.batch_seq = 0
        self.first_seq = 0
        self.head = ZERO
        self.closed = False

    def sign_with(self, signers: Sequence[dsse.Signer]) -> None:
        """Sign with other keys from the next statement on; the chain is the same.

        Raises:
            ContractError: none, too many, or a key twice.
        """
        # One assignment: a heartbeat may be signed by another thread meanwhile.
        self.signing = _Signing.of(signers)

    @property
    def begun(self) -> bool:
        """Whether any statement was signed."""
        return self.batch_seq > 0

    def continues(self) -> Continues | None:
        """How another chain names the head of this one."""
        return Continues(self.chain_id, self.batch_seq - 1, self.head) if self.begun else None

    def seal(
        self,
        leaves: Sequence[bytes],
        *,
        signed_at: int,
        clock_error_us: int | None,
        sampled_out: int,
        close: bool = False,
    ) -> Sealed:
        """Sign the next statement.

        Args:
            leaves: leaf hashes of its events in order; none only with close.
            signed_at: microseconds since 1970.
            clock_error_us: bound of the clock's error.
            sampled_out: AUXILIARY events left out since the chain began.
            close: whether this ends the chain.
        """
        signing = self.signing
        statement = BatchStatement(
            environment=self.identity.environment,
            tenant=self.identity.tenant,
            topic=self.identity.topic,
            partition=self.identity.partition,
            producer=self.identity.producer,
            instance=self.identity.instance,
            signers=signing.fingerprints,
            kind="CLOSE" if close else "EVENTS",
            genesis=None if self.begun else self.genesis,
            chain_id=self.chain_id,
            batch_seq=self.batch_seq,
            first_seq=self.first_seq,
            count=len(leaves),
            root=merkle.root(leaves),
            previous=self.head,
            event_schema=self.event_schema,
            signed_at=signed_at,
            clock_error_us=clock_error_us,
            sampled_out=sampled_out,
        )
        body = statement.encode()
        signatures = tuple(dsse.sign(dsse.BATCH, body, signing.signers))
        self.head = statement_hash(body)
        self.batch_seq += 1
        self.first_seq += len(leaves)
        self.closed = close
        return Sealed(statement, body, signatures, self.head)

    def heartbeat(
        self, batch_seq: int, head: bytes, time_us: int
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """(bytes, signatures) of a heartbeat that names a batch of this chain."""
        signing = self.signing
        body = Heartbeat(signing.fingerprints, self.chain_id, batch_seq, head, time_us).encode()
        return body, tuple(dsse.sign(dsse.HEARTBEAT, body, signing.signers))
