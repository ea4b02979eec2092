"""What the example services hand to one another: a body and headers, a line of JSON each.

The header `sealtrail-parent` names the event that made a message
(docs/wire-format.md, "Context between services"); over HTTP or Kafka it is the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealtrail.errors import MalformedError
from sealtrail_producer import reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from sealtrail.event import ParentRef


@dataclass(frozen=True, slots=True)
class Message:
    """One message; a header may stand several times."""

    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()

    def parents(self) -> list[ParentRef]:
        """The events that made it.

        Raises:
            EventError: a header that names none.
        """
        return [reference.parse(text) for name, text in self.headers if name == reference.HEADER]


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
