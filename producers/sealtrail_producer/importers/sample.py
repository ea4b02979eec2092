"""Reads a commit graph from a file: lines of JSON, compressed or not (samples/README.md)."""

from __future__ import annotations

import json
import lzma
from typing import TYPE_CHECKING, Any

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail_producer.importers.commits import Change, Commit, object_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "sealtrail.git-graph.v1"
SHIPPED = "sample:"


class SampleFile:
    """A `Graph` over a file whose first line says what it is.

    Args:
        path: the .jsonl or .jsonl.xz file.
        limit: read only that many commits; all if None.

    Raises:
        ConfigurationError: not such a file.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path = path
        header: Any = next(self._lines(), None)
        try:
            if header["format"] != FORMAT:
                raise ValueError(header["format"])  # noqa: TRY301 - one way out
            self.repository = _text(header["repository"])
            self.head = object_id(header["head"])
            commits = _number(header["commits"])
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(
                f"{path.name} is not a commit graph ({FORMAT})",
                hint="name a git repository, or sample:etcd",
            ) from None
        self.total = min(commits, limit if limit is not None else 1 << 62)

    def commits(self) -> Iterator[Commit]:
        """Stream all commits, parents before children.

        Raises:
            ConfigurationError: a line that is no commit.
        """
        lines = self._lines()
        next(lines)
        for number, value in zip(range(self.total), lines, strict=False):
            try:
                commit = _commit(value)
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"{self._path.name}: line {number + 2} is no commit: {error}"
                ) from None
            yield commit

    def _lines(self) -> Iterator[Any]:
        opener: Any = lzma.open if self._path.suffix == ".xz" else open
        try:
            with opener(self._path, "rt", encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)
        except (OSError, ValueError, EOFError, RecursionError, lzma.LZMAError) as error:
            raise ConfigurationError(f"cannot read {self._path.name}: {error}") from None


def shipped(name: str) -> Path:
    """Where the sample that `sample:NAME` stands for lies.

    Raises:
        UnavailableError: no such sample.
    """
    return resources.path("samples", f"{name}.commits.jsonl.xz")


def _commit(value: Any) -> Commit:
    return Commit(
        id=object_id(value["id"]),
        parents=tuple(object_id(parent) for parent in value["parents"]),
        author=_text(value["author"]),
        committer=_text(value["committer"]),
        author_time=_number(value["author_time"]),
        commit_time=_number(value["commit_time"]),
        changes=tuple(_change(*change) for change in value["changes"]),
    )


def _change(path: Any, old: Any, new: Any) -> Change:
    blobs = (None if blob is None else object_id(blob) for blob in (*old, new))
    *before, now = blobs
    return Change(_text(path), tuple(before), now)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} is no text")
    # Half of a character is none either.
    value.encode()
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{str(value)[:80]!r} is no number")
    return value
