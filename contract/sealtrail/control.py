"""The control chain: what operators do to the system is provenance, signed and linked as any.

Rules:
- an act is signed and on disk before it is done, and its outcome afterwards, as its child: nothing
  is done that left no trace, and what was begun and not ended shows;
- the chain belongs to a producer of its own, whose key is registered like any other;
- names of people are pseudonyms of the tenant; reasons that they give must not be personal.

Rooms that act find the recorder by entry point, as commands are found: none imports the SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, Protocol

from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from sealtrail.event import EntityRef

GROUP: Final = "sealtrail.control"
PRODUCER: Final = "sealtrail-control"
# Namespaces of what is acted upon.
KEYS: Final = "sealtrail/keys"
QUARANTINE: Final = "sealtrail/quarantine"
STORE: Final = "sealtrail/store"


@dataclass(frozen=True, slots=True)
class Act:
    """Something that an operator is about to do.

    Args:
        activity: what, such as "keys.revoke".
        subjects: what it is done to.
        details: what else belongs on record; nothing personal, no secret.
    """

    activity: str
    subjects: tuple[EntityRef, ...]
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What came of an act: filled in while it is done.

    sent: after the end, whether the brokers have its events (else they wait in the spool).
    """

    results: list[EntityRef] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    sent: bool = False


class Recorder(Protocol):
    """Records acts: `with recorder(act) as outcome: ...`."""

    def __call__(self, act: Act) -> AbstractContextManager[Outcome]:
        """Sign the act before the body, its outcome after it (also when the body raises).

        Raises:
            ConfigurationError: there is no key for the control chain.
            UnavailableError: the act cannot be signed or brought to disk.
        """


def recorder() -> Recorder:
    """The recorder of this installation.

    Raises:
        UnavailableError: the SDK is not installed.
    """
    for point in entry_points(group=GROUP):
        try:
            found: Recorder = point.load()
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"acts are recorded with the SDK, and {error.name} is not installed",
                hint='pip install "sealtrail[producer]"',
            ) from error
        return found
    raise UnavailableError(
        "nothing here records what operators do",
        hint="install sealtrail again; this installation is not complete",
    )
