"""The SDK's front: `Trail.emit` gives an event its id at once; everything slow happens behind it.

emit -> intake (memory) -> flusher (batch, hash, sign) -> spool (disk) -> sender -> Kafka. The first
arrow is all that a caller waits for, unless it asks for durable=True; no arrow drops an ESSENTIAL
event.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
from typing import TYPE_CHECKING, Any

from sealtrail.errors import ConfigurationError, SealtrailError
from sealtrail.event import MAX_ATTRIBUTES, Actor, EventType, Importance, ProvenanceEvent
from sealtrail.settings import load
from sealtrail_producer import build
from sealtrail_producer.core import Core
from sealtrail_producer.errors import TrailClosedError
from sealtrail_producer.keyring import Keyring
from sealtrail_producer.pending import Receipt, SampledOut
from sealtrail_producer.ports import Ports, SystemClock
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from sealtrail.dsse import Signer
    from sealtrail.event import Code, EntityRef, ParentRef, Protected
    from sealtrail_producer.core import Backlog
    from sealtrail_producer.ports import Clock

log = logging.getLogger(__name__)

SALT_POOL = 4096


class Trail:
    """Emits provenance events of one producer.

    Any thread may use it; a forked child gets a chain of its own.

    Args:
        producer: service identity, a name or SPIFFE id; its key must be registered for it.
        settings: see `ProducerSettings`.
        signers: 1 to 4 keys; all sign each batch.
        ports: the outside.
        threads: whether flusher and sender run by themselves; tests that step them say no.
        rotated: asked every SEALTRAIL_KEY_REFRESH_S for other keys to sign with from now on; None
            when there are none.

    Raises:
        SpoolError: the spool cannot be opened.
    """

    def __init__(  # noqa: PLR0913 - its parts, the last two by keyword
        self,
        producer: str,
        settings: ProducerSettings,
        signers: Sequence[Signer],
        ports: Ports,
        *,
        threads: bool = True,
        rotated: Callable[[], Sequence[Signer] | None] | None = None,
    ) -> None:
        self.producer = producer
        self.settings = settings
        self._signers = tuple(signers)
        self._ports = ports
        self._threads = threads
        self._rotated = rotated
        self._closed = False
        self._lock = threading.Lock()
        self._random = random.Random(ports.entropy(16))  # noqa: S311 - for sampling
        self._salts: list[bytes] = []
        self._actor = Actor(producer)
        self._now_us = ports.clock.now_us
        self._core: Core | None = self._open()
        _trails.add(self)

    @classmethod
    def from_env(
        cls,
        producer: str,
        *,
        settings: ProducerSettings | None = None,
        clock: Clock | None = None,
        **overrides: Any,
    ) -> Trail:
        """A trail as the environment says (`SEALTRAIL_*`).

        Args:
            producer: service identity; its key is STATE_DIR/keys/PRODUCER.pem unless
                SEALTRAIL_KEY_FILE says otherwise.
            settings: instead of those of the environment.
            clock: instead of the machine's.
            overrides: single settings by field name, such as pace_bytes=2_000_000.

        Raises:
            ConfigurationError: a setting or a key file is wrong.
            SpoolError: the spool cannot be opened.
        """
        settings = settings or load(ProducerSettings)
        if overrides:
            settings = _changed(settings, overrides)
        keyring = Keyring(settings, producer)
        # Here and not above: importing the SDK must not need the Kafka client.
        from sealtrail_producer import kafka

        kafka.check_identity(settings, producer)
        properties = kafka.config(settings, producer)
        ports = Ports(
            transport=lambda: kafka.KafkaTransport(properties),
            registry=lambda: kafka.KafkaRegistry(settings, producer),
            group=lambda: kafka.KafkaGroup(properties, settings.pace_group),
            clock=clock or SystemClock(),
        )
        return cls(producer, settings, keyring.signers, ports, rotated=keyring.poll)

    def _open(self) -> Core:
        core = Core(self.producer, self.settings, self._signers, self._ports, self._look)
        if self._threads:
            core.start()
        return core

    def rotate(self, signers: Sequence[Signer]) -> None:
        """Sign with other keys from the next batch on; the chain goes on.

        Their records should be registered before: what they sign earlier is parked until then.

        Args:
            signers: 1 to 4 different keys; all sign each batch.

        Raises:
            ContractError: none, too many, or a key twice.
        """
        self._opened().rotate(signers)
        self._signers = tuple(signers)

    def _look(self) -> Sequence[Signer] | None:
        """Keys that took the place of the ones in use; a forked child begins with them, too."""
        found = None if self._rotated is None else self._rotated()
        if found is not None:
            self._signers = tuple(found)
        return found

    def _opened(self) -> Core:
        core = self._core
        if core is None:
            # After a fork: the child's first event opens a spool and a chain of its own.
            with self._lock:
                if self._closed:
                    raise TrailClosedError("the trail is closed", hint="emit before close()")
                if self._core is None:
                    self._core = self._open()
                core = self._core
        return core

    @property
    def chain_id(self) -> bytes:
        """The chain that the next event goes to, 32 bytes."""
        return self._opened().intake.chain.chain_id

    @property
    def instance(self) -> str:
        """Name of this process among its producer's."""
        return self._opened().slot.instance

    def backlog(self) -> Backlog:
        """What waits between `emit` and the brokers, for the service's own metrics; takes no I/O.

        Raises:
            TrailClosedError: the trail was closed.
        """
        return self._opened().backlog()

    def emit(  # noqa: PLR0913 - the record's own fields, by keyword
        self,
        activity: str,
        *,
        event_type: EventType | str,
        inputs: Iterable[EntityRef] = (),
        outputs: Iterable[EntityRef] = (),
        parents: Iterable[Receipt | ParentRef] = (),
        attributes: Mapping[str, str] | None = None,
        importance: Importance | str = Importance.ESSENTIAL,
        actor: Actor | str | None = None,
        run_id: UUID | bytes | None = None,
        occurred_at: datetime | int | None = None,
        code: Code | None = None,
        trace_id: bytes | None = None,
        span_id: bytes | None = None,
        policy: str | None = None,
        backfill: bool = False,
        protected: Iterable[Protected] = (),
        commitments: Iterable[bytes] = (),
        durable: bool = False,
    ) -> Receipt:
        """Record that something happened. Never waits for the network.

        Args:
            activity: what was done, such as "orders.enrich".
            event_type: kind of event.
            inputs: entities that were used.
            outputs: entities that were made.
            parents: receipts or references of the direct causes, in this or any other chain.
            attributes: anything else that is not personal.
            importance: AUXILIARY may be sampled out.
            actor: who did it; the producer itself by default, a string for another service.
            run_id: run of a job.
            occurred_at: time with zone, or microseconds since 1970; now by default.
            code: what transformed it.
            trace_id: W3C trace, 16 bytes.
            span_id: W3C span, 8 bytes.
            policy: id of the policy version that applied.
            backfill: whether this is history told afterwards.
            protected: personal values under keys per subject.
            commitments: SHA-256 of salted values.
            durable: wait until the event is signed and on disk.

        Returns:
            A receipt with the event's id.

        Raises:
            EventError: a value cannot become an event.
            SpoolError: nothing can be taken, and SEALTRAIL_SPOOL_FULL is "raise"; a SigningError
                likewise.
            TrailClosedError: after close().
        """
        core = self._opened()
        # What most events have none of is not asked for, and what has its type takes no call: an
        # emit() costs a few microseconds.
        if type(importance) is not Importance:
            importance = build.choice(Importance, importance, "importance")
        causes = build.parent_refs(parents) if parents != () else ()
        if importance is Importance.AUXILIARY and self._sampled_out(core):
            return SampledOut(causes)
        if type(event_type) is not EventType:
            event_type = build.choice(EventType, event_type, "event_type")
        used, used_bytes = build.entities(inputs, "inputs") if inputs != () else ((), 0)
        made, made_bytes = build.entities(outputs, "outputs") if outputs != () else ((), 0)
        details, details_bytes = build.attribute_map(attributes) if attributes else ({}, 0)
        who = self._actor if actor is None else build.who(actor)
        if type(activity) is not str:
            activity = build.text(activity, "activity")
        now_us = self._now_us()
        try:
            # No lock: taking one out of a list is atomic.
            salt = self._salts.pop()
        except IndexError:
            salt = self._salt()
        # By position, as in the record: names would cost a microsecond.
        event = ProvenanceEvent(
            now_us if occurred_at is None else build.micros(occurred_at),
            salt,
            event_type,
            activity,
            who,
            causes,
            importance,
            None if run_id is None else build.run(run_id),
            used,
            made,
            None if code is None else build.code_ref(code),
            None if trace_id is None else build.fixed(trace_id, 16, "trace_id"),
            None if span_id is None else build.fixed(span_id, 8, "span_id"),
            None if policy is None else build.text(policy, "policy"),
            bool(backfill),
            details,
            build.protected_values(protected) if protected != () else (),
            build.digests(commitments, "commitments") if commitments != () else (),
        )
        size = used_bytes + made_bytes + details_bytes + len(activity) + len(who.id)
        size += build.SMALLEST
        # Most events have little, nothing rare and our own time: no cap can be exceeded.
        if (
            causes
            or occurred_at is not None
            or code is not None
            or policy is not None
            or who.on_behalf_of is not None
            or event.protected
            or event.commitments
            or len(used) + len(made) + len(details) > MAX_ATTRIBUTES
        ):
            event.check()
            size += build.rare_size(event)
        return core.add(event, size, now_us, durable)

    def _sampled_out(self, core: Core) -> bool:
        """Decided before a sequence number is taken; the count of what is left out is signed."""
        share = self.settings.sample_auxiliary
        with core.intake.condition:
            if core.intake.full() or (share < 1.0 and self._random.random() >= share):
                core.intake.sampled_out += 1
                return True
        return False

    def _salt(self) -> bytes:
        """One of a pool that is filled anew. No lock: two threads that do so at once do no harm."""
        pool = self._ports.entropy(SALT_POOL)
        self._salts += [pool[at : at + 16] for at in range(16, SALT_POOL, 16)]
        return pool[:16]

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the brokers have everything that was emitted before.

        Args:
            timeout: seconds; None waits without end.

        Returns:
            Whether they have. If not, it waits in the spool.

        Raises:
            ConfigurationError: something that no waiting mends.
        """
        core = self._core
        return True if core is None else core.flush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """End the chain with a CLOSE statement, and wait a while until the brokers have everything.

        Args:
            timeout: seconds; SEALTRAIL_CLOSE_S by default.

        Returns:
            Whether they have. If not, it waits in the spool for the producer's next start.
        """
        with self._lock:
            self._closed = True
            core, self._core = self._core, None
        _trails.discard(self)
        if core is None:
            return True
        return core.close(self.settings.close_s if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _forked(self) -> None:
        """In a forked child: the chain, the spool and the connection belong to the parent."""
        core, self._core = self._core, None
        self._lock = threading.Lock()
        # The pool was copied: two processes must never use one salt.
        self._salts = []
        if core is not None:
            core.abandon()


def _changed(settings: ProducerSettings, overrides: dict[str, Any]) -> ProducerSettings:
    from pydantic import ValidationError

    try:
        return ProducerSettings(**{**settings.model_dump(), **overrides})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"setting {name}: {first['msg']}") from error


# Held until they are closed: a trail that the caller forgot still has events in memory.
_trails: set[Trail] = set()


def _close_all() -> None:
    for trail in list(_trails):
        try:
            trail.close()
        except SealtrailError as error:
            log.warning("closing the trail of %s: %s", trail.producer, error.message)


def _forked_all() -> None:
    for trail in list(_trails):
        trail._forked()  # noqa: SLF001 - this module is its class


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forked_all)

__all__ = ["Ports", "Trail"]
