"""Access lists of Kafka as code: what deploy/kafka/access.yaml grants, what a cluster allows. Pure.

Rules of `plan`:
- the topics and groups that the file names are ours: what a cluster grants there beyond the file is
  taken back;
- on the cluster itself only the principals of the file are ours: others may administer it, too;
- a wildcard or prefix of somebody else's that covers a topic of ours, and every DENY, is refused:
  it may serve others, so it stays drift until somebody has looked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

from sealtrail.errors import MISSHAPEN, ConfigurationError
from sealtrail.validate import event_subject
from sealtrail_processor.kafka.topics import filled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sealtrail_processor.settings import WorkerSettings

# In a role's principals: the producers for whom keys speak.
KEYS: Final = "keys"
Kind = Literal["topic", "group", "cluster"]
OPERATIONS: Final[dict[str, tuple[str, ...]]] = {
    "topic": (
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "ALTER",
        "DESCRIBE",
        "DESCRIBE_CONFIGS",
        "ALTER_CONFIGS",
    ),
    "group": ("READ", "DELETE", "DESCRIBE"),
    "cluster": ("CREATE", "ALTER", "DESCRIBE", "ALTER_CONFIGS", "DESCRIBE_CONFIGS"),
}
ACTIONS: Final = ("read", "register", "configure")
# Kafka's quotas of users (quotas.py): bytes a second, and percent of a broker's thread.
QUOTAS: Final = ("producer_byte_rate", "consumer_byte_rate", "request_percentage")
# org.apache.kafka StandardAuthorizer: what allows more allows to look, too.
IMPLIED: Final = {
    "DESCRIBE": frozenset({"READ", "WRITE", "DELETE", "ALTER"}),
    "DESCRIBE_CONFIGS": frozenset({"ALTER_CONFIGS"}),
}
# Of the one cluster, as Kafka has it.
CLUSTER: Final = "kafka-cluster"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """An operation on a resource.

    Attributes:
        kind: of the resource.
        name: of the resource.
        prefixed: whether the name stands for all that begin with it.
        operation: in Kafka's words.
    """

    kind: str
    name: str
    prefixed: bool
    operation: str

    def covers(self, kind: str, name: str) -> bool:
        """Whether it is about a resource."""
        same = self.name in (name, "*") or (self.prefixed and name.startswith(self.name))
        return self.kind == kind and same


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A line of an access list: who, from where, what; denied or allowed."""

    principal: str
    right: Right
    host: str = "*"
    denies: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A row of the matrix.

    Attributes:
        name: of the role.
        purpose: who has it.
        principals: names; KEYS alone stands for the producers that have keys.
        rights: on Kafka.
        subjects: on the registry: actions by subject.
        superuser: no list binds it.
        quotas: bounds of each principal, by their names in Kafka; 0 for none.
    """

    name: str
    purpose: str
    principals: tuple[str, ...]
    rights: tuple[Right, ...]
    subjects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    superuser: bool = False
    quotas: Mapping[str, float] = field(default_factory=dict)

    def may(self, kind: str, name: str, operation: str) -> bool:
        """Whether it may do something to a resource of Kafka."""
        enough = {operation, *IMPLIED.get(operation, ())}
        return self.superuser or any(
            r.operation in enough and r.covers(kind, name) for r in self.rights
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between the lists and the file.

    Attributes:
        act: grant, revoke, or refuse: it is not touched.
        entry: the line.
        why: of a refusal.
    """

    act: Literal["grant", "revoke", "refuse"]
    entry: Entry
    why: str = ""


def read(text: str, settings: WorkerSettings) -> list[Role]:
    """The matrix.

    Args:
        text: of access.yaml.
        settings: values of its ${...}; `access_principals` replaces principals.

    Raises:
        ConfigurationError: it says something that is not understood.
    """
    text = text.replace("${event_subject}", event_subject(settings.topic))
    try:
        found = yaml.safe_load(filled(text, settings))["roles"]
        roles = [_role(name, one, settings.access_principals) for name, one in found.items()]
    except (yaml.YAMLError, *MISSHAPEN) as error:
        raise ConfigurationError(
            f"the file of access is not understood: {error}",
            hint="compare it with deploy/kafka/access.yaml",
        ) from None
    unknown = settings.access_principals.keys() - {role.name for role in roles}
    if unknown:
        raise ConfigurationError(
            f"SEALTRAIL_ACCESS_PRINCIPALS names no role: {', '.join(sorted(unknown))}"
        )
    return roles


def _role(name: str, one: Mapping[str, Any], named: Mapping[str, Sequence[str]]) -> Role:
    unknown = one.keys() - {"is", "principals", "superuser", "kafka", "registry", "quotas"}
    if unknown:
        raise ValueError(f"{name} has {', '.join(sorted(unknown))}")
    principals = named.get(name, one["principals"])
    subjects = {}
    for row in one.get("registry", ()):
        subjects[str(row["subject"])] = _known(row["may"], ACTIONS)
    rights = tuple(right for row in one["kafka"] for right in _rights(row))
    who = (KEYS,) if principals == KEYS else tuple(str(p) for p in principals)
    bounds = one.get("quotas", {})
    quotas = {quota: float(bounds[quota]) for quota in _known(tuple(bounds), QUOTAS)}
    return Role(name, str(one["is"]), who, rights, subjects, one.get("superuser") is True, quotas)


def _rights(row: Mapping[str, Any]) -> Iterator[Right]:
    (kind,) = row.keys() & OPERATIONS.keys()
    if row.keys() - {kind, "may", "prefixed"}:
        raise ValueError(f"a row of Kafka has {', '.join(sorted(row))}")
    name = CLUSTER if kind == "cluster" else str(row[kind])
    for operation in _known(row["may"], OPERATIONS[kind]):
        yield Right(kind, name, bool(row.get("prefixed", False)), operation)


def _known(names: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    if set(names) - set(known):
        raise ValueError(f"{', '.join(sorted(set(names) - set(known)))} is none of {known}")
    return tuple(names)


def principals(role: Role, producers: Collection[str]) -> list[str]:
    """The names of those who have a role.

    Args:
        role: which.
        producers: for whom valid keys speak.
    """
    return sorted(producers) if role.principals == (KEYS,) else list(role.principals)


def holders(roles: Sequence[Role], producers: Collection[str]) -> list[tuple[Role, str]]:
    """Each role with each of those who have it."""
    return [(role, who) for role in roles for who in principals(role, producers)]


def entries(roles: Sequence[Role], producers: Collection[str]) -> set[Entry]:
    """The lists as they shall be."""
    return {Entry(who, right) for role, who in holders(roles, producers) for right in role.rights}


def plan(
    roles: Sequence[Role], producers: Collection[str], found: Collection[Entry]
) -> list[Change]:
    """What leads from the lists of a cluster to those of the file; none when they are alike.

    Args:
        roles: the matrix.
        producers: for whom valid keys speak.
        found: all lists of the cluster.
    """
    wanted = entries(roles, producers)
    ours = {(e.right.kind, e.right.name) for e in wanted if e.right.kind != "cluster"}
    ours |= {(r.kind, r.name) for role in roles for r in role.rights if r.kind != "cluster"}
    people = {entry.principal for entry in wanted}
    changes = [Change("grant", entry) for entry in sorted(wanted - set(found))]
    for entry in sorted(set(found) - wanted):
        change = _beyond(entry, ours, people)
        if change is not None:
            changes.append(change)
    return changes


def _beyond(
    entry: Entry, ours: Collection[tuple[str, str]], people: Collection[str]
) -> Change | None:
    """What becomes of a line that the file does not have."""
    right = entry.right
    if not any(right.covers(kind, name) for kind, name in ours):
        mine = right.kind == "cluster" and entry.principal in people
        return Change("revoke", entry) if mine else None
    if entry.denies:
        return Change("refuse", entry, "it denies: the file only allows")
    if right.name == "*" or (right.prefixed and (right.kind, right.name) not in ours):
        return Change("refuse", entry, "it covers more than what is ours: narrow it by hand")
    return Change("revoke", entry)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Keys, principals and certificates that do not speak of the same producers.

    Attributes:
        name: whose.
        kind: 1 a principal without a key, 2 a key without a principal, 3 a certificate without
            either. Part of the finding's identity.
        detail: in a sentence.
    """

    name: str
    kind: int
    detail: str


def mismatches(
    roles: Sequence[Role],
    producers: Collection[str],
    found: Collection[Entry],
    certificates: Collection[str],
    topic: str,
) -> list[Mismatch]:
    """Where the name of a client and the producer that a key speaks for part.

    Args:
        roles: the matrix.
        producers: for whom valid keys speak.
        found: all lists of the cluster.
        certificates: names in the certificates that were issued to clients.
        topic: of signed batches.
    """
    others = {who for role in roles if role.principals != (KEYS,) for who in role.principals}
    writers = {
        entry.principal
        for entry in found
        if not entry.denies
        and entry.right.operation in ("WRITE", "ALL")
        and entry.right.covers("topic", topic)
    }
    wrong = [
        Mismatch(who, 1, f"{who} may write to {topic}, and no valid key speaks for it")
        for who in sorted(writers - set(producers) - others)
    ]
    wrong += [
        Mismatch(
            who, 2, f"a valid key speaks for {who}, and no client of that name may write to {topic}"
        )
        for who in sorted(set(producers) - writers - {"*"})
        if "*" not in writers
    ]
    wrong += [
        Mismatch(who, 3, f"a certificate was issued to {who}, for whom no key speaks")
        for who in sorted(set(certificates) - set(producers) - others)
    ]
    return wrong
