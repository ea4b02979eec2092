"""Reads a commit graph from a file: lines of JSON, compressed or not (samples/README.md)."""

from __future__ import annotations

import json
import lzma
from typing import TYPE_CHECKING, Any

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail_producer.importers.commits import Change, Commit

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
        header = next(self._lines(), {})
        if header.get("format") != FORMAT:
            raise ConfigurationError(
                f"{path.name} is not a commit graph ({FORMAT})",
                hint="name a git repository, or sample:etcd",
            )
        self.repository = str(header["repository"])
        self.head = str(header["head"])
        self.total = min(int(header["commits"]), limit if limit is not None else 1 << 62)

    def commits(self) -> Iterator[Commit]:
        """Stream all commits, parents before children."""
        lines = self._lines()
        next(lines)
        for _, value in zip(range(self.total), lines, strict=False):
            yield _commit(value)

    def _lines(self) -> Iterator[dict[str, Any]]:
        opener: Any = lzma.open if self._path.suffix == ".xz" else open
        try:
            with opener(self._path, "rt", encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)
        except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
            raise ConfigurationError(f"cannot read {self._path.name}: {error}") from None


def shipped(name: str) -> Path:
    """Where the sample that `sample:NAME` stands for lies.

    Raises:
        UnavailableError: no such sample.
    """
    return resources.path("samples", f"{name}.commits.jsonl.xz")


def _commit(value: dict[str, Any]) -> Commit:
    return Commit(
        id=value["id"],
        parents=tuple(value["parents"]),
        author=value["author"],
        committer=value["committer"],
        author_time=value["author_time"],
        commit_time=value["commit_time"],
        changes=tuple(Change(path, tuple(old), new) for path, old, new in value["changes"]),
    )
