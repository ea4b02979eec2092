"""What the demo must know of a history before it is imported: its size, the truth if known."""

from __future__ import annotations

import json
import lzma
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import resources
from sealtrail.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = "sample:etcd"


@dataclass(frozen=True, slots=True)
class History:
    """What is imported.

    Args:
        argument: as `sealtrail import git` takes it.
        label: for people.
        commits: how many there are.
        causality: commits dated before a parent, where that is known.
    """

    argument: str
    label: str
    commits: int
    causality: frozenset[str] | None = None


def shipped(limit: int | None = None) -> History:
    """The commit graph that comes with Sealtrail.

    Args:
        limit: only so many commits, whose truth is not known then.
    """
    truth = json.loads(resources.path("samples", "etcd.ground-truth.json").read_text())
    with lzma.open(resources.path("samples", "etcd.commits.jsonl.xz"), "rt") as file:
        header = json.loads(file.readline())
    commits = int(header["commits"])
    label = f"{header['repository']} (shipped commit graph)"
    if limit is not None and limit < commits:
        return History(SAMPLE, label, limit)
    return History(SAMPLE, label, commits, frozenset(truth["commit_time_before_a_parent"]))


def on_disk(path: Path) -> History:
    """A repository of the user's.

    Raises:
        ConfigurationError: git finds none there.
    """
    try:
        counted = subprocess.run(
            ["git", "-C", str(path), "rev-list", "--count", "HEAD"],  # noqa: S607 - git of PATH
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigurationError("the command `git` is missing", hint="install git") from None
    if counted.returncode:
        raise ConfigurationError(
            f"{path} is no git repository with commits: {counted.stderr.strip()}",
            hint="name a work tree or a bare repository",
        )
    return History(str(path.resolve()), str(path), int(counted.stdout))
