"""What the example services hand to one another: a body and headers, a line of JSON each.

The header `sealtrail-parent` names the event that made a message:
`<event id>.<occurred_at>.<leaf hash>`, each part base64url without padding,
occurred_at as 8 bytes of big-endian microseconds (docs/wire-format.md, "Context").
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealtrail import ids
from sealtrail.errors import MalformedError
from sealtrail.event import ParentRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

PARENT = "sealtrail-parent"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; a header may stand several times."""

    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()

    def parents(self) -> list[ParentRef]:
        """The events that made it.

        Raises:
            MalformedError: a header that names none.
        """
        return [parse_parent(value) for name, value in self.headers if name == PARENT]


def canonical(body: dict[str, Any]) -> bytes:
    """The bytes of a body that digests are taken of."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def write(stream: TextIO, message: Message) -> None:
    """Hand a message on at once."""
    stream.write(json.dumps({"headers": message.headers, "body": message.body}) + "\n")
    stream.flush()


def read(stream: Iterable[str]) -> Iterator[Message]:
    """Messages as they arrive, until the sender closes.

    Raises:
        MalformedError: a line that is no message.
    """
    for number, line in enumerate(stream, 1):
        try:
            value = json.loads(line)
            headers = tuple((str(name), str(text)) for name, text in value["headers"])
            yield Message(dict(value["body"]), headers)
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedError(f"line {number} is no message: {error}") from None


def format_parent(reference: ParentRef) -> str:
    """The value of a `sealtrail-parent` header."""
    when = reference.occurred_at.to_bytes(8, "big", signed=True)
    parts = (reference.event_id, when, reference.leaf_hash)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def parse_parent(value: str) -> ParentRef:
    """The event that a `sealtrail-parent` header names.

    Raises:
        MalformedError: it names none.
    """
    try:
        event_id, when, leaf = (
            urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in value.split(".")
        )
    except (ValueError, Base64Error):
        raise MalformedError(f"{PARENT} header {value[:200]!r} is not three parts") from None
    if len(when) != 8 or len(leaf) != 32:
        raise MalformedError(f"{PARENT} header {value[:200]!r} has parts of wrong length")
    ids.parse(event_id)
    return ParentRef(event_id, int.from_bytes(when, "big", signed=True), leaf)
