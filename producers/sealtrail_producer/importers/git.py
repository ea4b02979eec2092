"""Reads a repository through the `git` command: work tree or bare, as a stream.

`git rev-list` names the commits, parents first; its output goes straight into
one `git diff-tree --stdin`, which writes headers and changes of all of them.
Both are plumbing: the user's configuration does not change what they print.
Merges come as combined diffs: the paths that differ from every parent.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer.importers.commits import Change, Commit, object_id, person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

FORMAT = "%x01%H%x00%P%x00%ae%x00%ce%x00%at%x00%ct"
DIFF = ("diff-tree", "--stdin", "-r", "-c", "--raw", "--no-renames", "--root", "--no-abbrev", "-z")
CHUNK = 1 << 16


class GitRepository:
    """A `Graph` over a repository on disk.

    Args:
        path: work tree, bare repository or anything inside one.
        revision: what to import: all that is reachable from it.
        repository: name of the repository in events; its origin's if None.

    Raises:
        ConfigurationError: no repository there, or no such revision.
        UnavailableError: no `git` on this machine.
    """

    def __init__(self, path: Path, revision: str = "HEAD", repository: str | None = None) -> None:
        if not path.is_dir():
            raise ConfigurationError(
                f"{path} is not a folder", hint="name a git repository, or sample:etcd"
            )
        self._path = path
        self.head = self._ask("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        self.total = int(self._ask("rev-list", "--count", self.head))
        self.repository = repository or self._origin()

    def commits(self) -> Iterator[Commit]:
        """Stream all commits, parents before children.

        Raises:
            UnavailableError: git failed on the way (a damaged repository, say).
        """
        listing = self._start("rev-list", "--topo-order", "--reverse", self.head)
        diffing = self._start(*DIFF, "--always", f"--format={FORMAT}", stdin=listing.stdout)
        try:
            assert listing.stdout is not None
            assert diffing.stdout is not None
            # Ours must close, or rev-list never learns that diff-tree has gone.
            listing.stdout.close()
            yield from parse(tokens(diffing.stdout))
            if listing.wait() or diffing.wait():
                raise UnavailableError(
                    f"git could not read all commits of {self._path}",
                    hint=f"try: git -C {self._path} fsck",
                )
        finally:
            for process in (diffing, listing):
                process.kill()
                process.wait()
                if process.stdout:
                    process.stdout.close()

    def _origin(self) -> str:
        url = self._ask("config", "--get", "--default", "", "remote.origin.url")
        return repository_name(url) or repository_name(self._path.resolve().name)

    def _command(self, *arguments: str) -> list[str]:
        return ["git", "--no-replace-objects", "-C", str(self._path), *arguments]

    def _start(self, *arguments: str, stdin: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command(*arguments),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            env=_environment(),
        )

    def _ask(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                self._command(*arguments), capture_output=True, check=False, env=_environment()
            )
        except FileNotFoundError:
            raise UnavailableError("the command `git` is missing", hint="install git") from None
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise ConfigurationError(
                f"git cannot read {self._path}: {why or 'no commits there'}",
                hint="name a work tree or bare repository with at least one commit",
            )
        return done.stdout.decode(errors="replace").strip()


def _environment() -> dict[str, str]:
    # A hook's variables would make git look at another repository than the one named.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def repository_name(url: str) -> str:
    """owner/name of a remote's URL, without host, password or `.git`; of a path its last part."""
    path = urlsplit(url).path if "://" in url else url
    remote = "://" in url or (":" in url and not url.startswith(("/", ".")))
    if remote and "://" not in url:
        path = url.partition(":")[2]
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    return "/".join(parts[-2:] if remote else parts[-1:])


def tokens(stream: IO[bytes]) -> Iterator[bytes]:
    """What stands between the NULs of `-z` output."""
    rest = b""
    while chunk := stream.read(CHUNK):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest.strip():
        yield rest


def parse(found: Iterator[bytes]) -> Iterator[Commit]:
    """Commits out of the tokens of `git diff-tree --format=FORMAT -z --raw -c`.

    Raises:
        UnavailableError: they end within a commit, or are not what git writes.
    """
    header: list[bytes] = []
    changes: list[Change] = []
    for token in found:
        if token.startswith(b"\x01"):
            if header:
                yield _commit(header, changes)
            header, changes = [token[1:], *(_next(found) for _ in range(5))], []
        elif entry := token.lstrip(b"\n"):
            changes.append(_change(entry, _next(found)))
    if header:
        yield _commit(header, changes)


def _next(found: Iterator[bytes]) -> bytes:
    token = next(found, None)
    if token is None:
        raise UnavailableError("what git writes ends within a commit", hint="try: git fsck")
    return token


def _commit(header: list[bytes], changes: list[Change]) -> Commit:
    commit, parents, author, committer, author_time, commit_time = header
    try:
        return Commit(
            id=object_id(commit.decode()),
            parents=tuple(object_id(parent) for parent in parents.decode().split()),
            author=person(author),
            committer=person(committer),
            author_time=int(author_time or 0),
            commit_time=int(commit_time.strip() or 0),
            changes=tuple(changes),
        )
    except ValueError as error:
        raise UnavailableError(f"git writes no commit: {error}", hint="try: git fsck") from None


def _change(entry: bytes, path: bytes) -> Change:
    """git-diff-tree(1), "Raw output format" and "diff format for merges"."""
    parents = len(entry) - len(entry.lstrip(b":"))
    blobs = entry.split()[parents + 1 : 2 * parents + 2]
    if len(blobs) != parents + 1 or not parents:
        raise UnavailableError(f"git writes no change: {entry[:80]!r}", hint="try: git fsck")
    try:
        ids = [None if not blob.strip(b"0") else object_id(blob.decode()) for blob in blobs]
    except ValueError as error:
        raise UnavailableError(f"git writes no change: {error}", hint="try: git fsck") from None
    # Paths are bytes; events hold text. Nothing is lost: the escapes stand for the bytes.
    return Change(path.decode(errors="backslashreplace"), tuple(ids[:-1]), ids[-1])
