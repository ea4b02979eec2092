"""Brings the servers' files into the cache: by Maven, once, each checked against its SHA-256.

`deploy/kafka` and `deploy/registry` say which versions (pom.xml) and what their files hash to
(SHA256SUMS). A folder of the cache has the hash of that list in its name and appears in one step,
so that what is in the cache is whole and is what the list says.
"""

import fcntl
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from sealtrail import resources
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_local.real import java

Server = Literal["kafka", "registry"]
SUMS: Final = "SHA256SUMS"
TITLES: Final[dict[Server, str]] = {"kafka": "Apache Kafka", "registry": "Apicurio Registry"}
_TIMEOUT_S: Final = 900
_SAID: Final = 5


def fetched(server: Server, cache: Path, say: Callable[[str], None]) -> Path:
    """Folder with a server's files; they are downloaded if they are not there yet.

    Args:
        server: which.
        cache: folder of the cache.
        say: shows a line on what is going on.

    Raises:
        UnavailableError: Maven is missing or does not get them.
        ConfigurationError: a file is not the one that was pinned.
    """
    sums = resources.path(server, SUMS).read_bytes()
    folder = cache / f"{server}-{hashlib.sha256(sums).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (cache / f"{server}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():  # nobody else brought it meanwhile
            say(f"fetching {TITLES[server]} by Maven, once (into {folder})")
            with tempfile.TemporaryDirectory(prefix=f"{server}-", dir=cache) as fresh:
                download(server, Path(fresh))
                verify(Path(fresh), pinned(sums.decode()))
                _unpack(Path(fresh))
                # mkdtemp made it for its owner only; so it stays.
                shutil.move(fresh, folder)
                Path(fresh).mkdir()  # for the context's own removal
    return folder


def download(server: Server, folder: Path) -> None:
    """Have Maven copy what a server's pom.xml names into a folder."""
    pom = resources.path(server, "pom.xml")
    mvn = java.maven(TITLES[server])
    goal = "dependency:copy-dependencies"
    command = [str(mvn), "--quiet", "--batch-mode", "--file", str(pom), goal]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(
            f"Maven did not get {TITLES[server]} within {_TIMEOUT_S} s", hint="try again"
        ) from None
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UnavailableError(
            f"Maven did not get {TITLES[server]}: {' | '.join(said[:_SAID])}",
            hint="it needs a network, or a mirror in its settings.xml",
        )


def pinned(sums: str) -> dict[str, str]:
    """SHA-256 in hex by file name, from lines as `sha256sum` writes them."""
    lines = (line.split() for line in sums.splitlines() if line.strip())
    return {name.removeprefix("*"): digest for digest, name in lines}


def verify(folder: Path, sums: dict[str, str]) -> None:
    """See that a folder has exactly the files that were pinned.

    Raises:
        ConfigurationError: one is missing, is another, or was never named.
    """
    found = {file.name: _sha256(file) for file in folder.iterdir()}
    wrong = sorted(name for name, digest in sums.items() if found.get(name, digest) != digest)
    problems = {
        "have another SHA-256 than was pinned": wrong,
        "are missing": sorted(sums.keys() - found.keys()),
        "were never pinned": sorted(found.keys() - sums.keys()),
    }
    said = [f"{', '.join(names)} {problem}" for problem, names in problems.items() if names]
    if said:
        raise ConfigurationError(
            f"what Maven fetched is refused: {'; '.join(said)}",
            hint="look at Maven's repository and mirror; nothing was kept",
        )


def _unpack(folder: Path) -> None:
    for archive in sorted(folder.glob("*.tar.gz")):
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
        archive.unlink()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def pin() -> None:
    """Write SHA256SUMS anew from what Maven fetches now: for whoever changes a version."""
    for server in TITLES:
        with tempfile.TemporaryDirectory() as fresh:
            download(server, Path(fresh))
            lines = [f"{_sha256(file)}  {file.name}\n" for file in sorted(Path(fresh).iterdir())]
        resources.path(server, SUMS).write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    pin()
