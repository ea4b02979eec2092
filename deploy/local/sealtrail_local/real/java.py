"""Finds a Java that is new enough: a machine may have several, and its default may be too old."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sealtrail.errors import UnavailableError

# Where distributions, SDKMAN and images put them.
_PLACES: Final = ("/usr/lib/jvm/*", "/opt/java/*", "/opt/jdk*", "~/.sdkman/candidates/java/*")
_VERSION: Final = re.compile(r'^JAVA_VERSION="(?:1\.)?(\d+)', re.MULTILINE)


def find(minimum: int, wanted_for: str, environ: Mapping[str, str] | None = None) -> Path:
    """The `java` program of a version that suffices.

    JAVA_HOME and the one on PATH are taken if they suffice, else the newest that is installed.

    Args:
        minimum: first version that will do, 21 for instance.
        wanted_for: what needs it, for the message.
        environ: variables to look at; the process's own if None.

    Raises:
        UnavailableError: there is none; the message says which there are.
    """
    environ = os.environ if environ is None else environ
    seen: dict[Path, int] = {}
    for home in _preferred(environ):
        version = _version(home)
        if version >= minimum:
            return home / "bin" / "java"
        if version:
            seen[home] = version
    installed = {home: _version(home) for home in _installed(environ)}
    enough = {home: version for home, version in installed.items() if version >= minimum}
    if enough:
        return max(enough, key=lambda home: (enough[home], str(home))) / "bin" / "java"
    seen |= {home: version for home, version in installed.items() if version}
    found = ", ".join(f"Java {version} in {home}" for home, version in sorted(seen.items()))
    raise UnavailableError(
        f"{wanted_for} needs Java {minimum} or later; found: {found or 'no Java at all'}",
        hint=f"install a JDK of version {minimum} or later, or set JAVA_HOME to one",
    )


def maven(wanted_for: str, environ: Mapping[str, str] | None = None) -> Path:
    """The `mvn` program.

    Raises:
        UnavailableError: there is none.
    """
    environ = os.environ if environ is None else environ
    found = shutil.which("mvn", path=environ.get("PATH", ""))
    if found is None:
        raise UnavailableError(
            f"Maven (mvn) is not installed: it fetches {wanted_for}",
            hint="install the package maven; it is needed once, until the files are in the cache",
        )
    return Path(found)


def _preferred(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home)
    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(on_path).resolve().parents[1]


def _installed(environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("HOME", "")
    for place in _PLACES:
        pattern = Path(place.replace("~", home) if home else place)
        for found in sorted(pattern.parent.glob(pattern.name)):
            yield found.resolve()


def _version(home: Path) -> int:
    """Its feature version, by the file that every JDK since 9 has; 0 if that is no Java."""
    if not os.access(home / "bin" / "java", os.X_OK):
        return 0
    try:
        found = _VERSION.search((home / "release").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return 0
    return int(found.group(1)) if found else 0
