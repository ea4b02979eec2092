"""Writes the control chain (`sealtrail.control`): one trail per act, closed when it is done."""

from __future__ import annotations

import getpass
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sealtrail.control import PRODUCER, Act, Outcome
from sealtrail.errors import SealtrailError
from sealtrail.event import Actor, ActorKind, EventType
from sealtrail.settings import load
from sealtrail_producer.errors import KeyFileError
from sealtrail_producer.importers.pseudonyms import pseudonym, tenant_key
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail.event import EntityRef
    from sealtrail_producer.pending import Receipt

# An event holds 2,048 entities at most; acts on more of them are several events.
SUBJECTS = 1_000
DETAIL_CHARACTERS = 2_000


@contextmanager
def record(act: Act) -> Iterator[Outcome]:
    """The recorder of this installation (entry point `sealtrail.control`)."""
    with recording(load(ProducerSettings), act) as outcome:
        yield outcome


@contextmanager
def recording(settings: ProducerSettings, act: Act) -> Iterator[Outcome]:
    """Sign an act before the body and its outcome after it, see `sealtrail.control.Recorder`."""
    outcome = Outcome()
    actor = who(settings)
    trail = open_trail(settings)
    try:
        began = _emit(trail, act, actor)
        ending = "failed"
        try:
            yield outcome
            ending = "done"
        except SealtrailError as error:
            outcome.details["reason"] = error.message
            raise
        finally:
            ended = Act(f"{act.activity}.{ending}", act.subjects, outcome.details)
            _emit(trail, ended, actor, outcome.results, began)
    finally:
        outcome.sent = trail.close(settings.close_s)


def open_trail(settings: ProducerSettings) -> Trail:
    """The trail of the control chain, with its own key.

    Raises:
        KeyFileError: there is no key for it.
    """
    try:
        return Trail.from_env(PRODUCER, settings=as_control(settings))
    except KeyFileError as error:
        raise KeyFileError(
            f"acts are recorded in the control chain, and its key does not open: {error.message}",
            hint=f"sealtrail keys new --producer {PRODUCER}, then register it; "
            "or name it in SEALTRAIL_CONTROL_KEY",
        ) from error


def as_control(settings: ProducerSettings) -> ProducerSettings:
    """The settings of a service's host, as the control chain takes them: its own key, no pacing."""
    own = {
        "signers": settings.control_key,
        "key_file": "",
        "pace_bytes": 0,
        "spool_full": "raise",
    }
    return settings.model_copy(update=own)


def who(settings: ProducerSettings) -> Actor:
    """Whoever acts, by a pseudonym of the tenant."""
    name = settings.operator_name or getpass.getuser()
    key = tenant_key(settings.state_dir, settings.tenant)
    return Actor(pseudonym(key, settings.tenant, f"operator:{name}"), ActorKind.HUMAN)


def _emit(
    trail: Trail,
    act: Act,
    actor: Actor,
    results: Sequence[EntityRef] = (),
    parents: Sequence[Receipt] = (),
) -> list[Receipt]:
    """One event, or as many as the subjects need; on disk when this returns."""
    count = max(len(act.subjects), len(results), 1)
    details = {name: value[:DETAIL_CHARACTERS] for name, value in act.details.items()}
    return [
        trail.emit(
            act.activity,
            event_type=EventType.ATTEST,
            actor=actor,
            inputs=act.subjects[at : at + SUBJECTS],
            outputs=results[at : at + SUBJECTS],
            parents=parents[at // SUBJECTS : at // SUBJECTS + 1],
            attributes=details,
            durable=True,
        )
        for at in range(0, count, SUBJECTS)
    ]
