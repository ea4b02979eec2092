"""A commit graph as the importer sees it, wherever it was read from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

# SHA-1 or SHA-256.
_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Change:
    """One touched path: the blob id in each parent (None: absent) and now (None: deleted)."""

    path: str
    old: tuple[str | None, ...]
    new: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. Ids are in hex, times Unix seconds, people `person` of their address."""

    id: str
    parents: tuple[str, ...]
    author: str
    committer: str
    author_time: int
    commit_time: int
    changes: tuple[Change, ...]


class Graph(Protocol):
    """A source of commits; `total` is how many `commits` will yield."""

    repository: str
    head: str
    total: int

    def commits(self) -> Iterator[Commit]:
        """All commits, parents before children, in an order that the head alone decides."""
        ...


def object_id(value: Any) -> str:
    """An id of git's, as it was read.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} is no id of git's")
    return value


def person(address: bytes) -> str:
    """The 16 hex digits that stand for an e-mail address until the tenant's key is applied.

    Public and guessable: it only keeps addresses out of files such as the sample.
    """
    return sha256(address.strip().lower()).hexdigest()[:16]
