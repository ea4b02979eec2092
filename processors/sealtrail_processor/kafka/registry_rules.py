"""Rules of the registry's gate (deploy/registry/gate.conf.template), from the matrix. Pure.

A rule is a line "NAME METHOD URI" as a regular expression over the URI as it was sent: what is
written in another way (escapes, dots, other paths) matches none and is denied.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sealtrail_processor.kafka import access as kafka_access

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sealtrail_processor.kafka.access import Role

# Where Apicurio speaks Confluent's protocol.
BASE: Final = "/apis/ccompat/v7"
_NUMBER: Final = "(/([0-9]+|latest|-1)(/schema)?)?"
_QUERY: Final = r"(\?[A-Za-z0-9_=&.-]*)?"
# (method, path below BASE) by action; SUBJECT stands for the subject.
_REQUESTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "read": (
        ("GET", f"/subjects/SUBJECT/versions{_NUMBER}"),
        ("POST", "/subjects/SUBJECT"),
        ("GET", "/config/SUBJECT"),
    ),
    "register": (
        ("POST", "/subjects/SUBJECT/versions"),
        ("POST", f"/compatibility/subjects/SUBJECT/versions{_NUMBER}"),
    ),
    "configure": (("PUT", "/config/SUBJECT"),),
}
# An id says nothing of its subject, and messages hold nothing else: whoever may read any subject
# may read by id.
_BY_ID: Final = ("GET", "/schemas/ids/[0-9]+(/(schema|versions|subjects))?")


def nginx(roles: Sequence[Role], producers: Collection[str]) -> str:
    """The map of what is allowed, as nginx includes it.

    Args:
        roles: the matrix.
        producers: for whom valid keys speak.
    """
    lines = [
        "# Made by `sealtrail acls registry` of deploy/kafka/access.yaml: do not edit.",
        'map "$gate_name $request_method $request_uri" $gate_allows {',
        "    default 0;",
    ]
    rules = {rule for role in roles for rule in _rules(role, producers)}
    lines += [f'    "~^{rule}$" 1;' for rule in sorted(rules)]
    return "\n".join([*lines, "}", ""])


def _rules(role: Role, producers: Collection[str]) -> Iterator[str]:
    for name in kafka_access.principals(role, producers):
        for subject, actions in role.subjects.items():
            for action in actions:
                for method, path in _REQUESTS[action]:
                    yield _rule(name, method, path.replace("SUBJECT", re.escape(subject)))
        if any("read" in actions for actions in role.subjects.values()):
            yield _rule(name, *_BY_ID)


def _rule(name: str, method: str, path: str) -> str:
    return f"{re.escape(name)} {method} {re.escape(BASE)}{path}{_QUERY}"
