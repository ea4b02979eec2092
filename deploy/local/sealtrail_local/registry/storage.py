"""What the registry keeps, in SQLite.

Each change is one transaction with `synchronous=FULL`: it is on disk before the client hears of
it, so an id that was handed out still means the same schema after SIGKILL or a power cut.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealtrail.errors import UnavailableError

GLOBAL: Final = ""  # stands for "all subjects" among levels and modes

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS schemas (
    id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS versions (
    subject TEXT NOT NULL, version INTEGER NOT NULL, id INTEGER NOT NULL REFERENCES schemas (id),
    deleted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (subject, version));
CREATE TABLE IF NOT EXISTS numbers (subject TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS levels (subject TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS modes (subject TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Version:
    """One version of a subject."""

    subject: str
    version: int
    id: int
    text: str
    deleted: bool


class Storage:
    """The registry's file.

    Args:
        path: of the SQLite file; made if missing.

    Raises:
        UnavailableError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise UnavailableError(
                f"the registry's file {path} cannot be opened: {error}",
                hint="look whether the folder is writable and the disk has space",
            ) from error
        self._lock = threading.RLock()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction: all of it is kept, or nothing; nobody else reads or writes meanwhile."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def versions(self, subject: str) -> list[Version]:
        """All versions of a subject, deleted ones included, oldest first."""
        return self._versions("WHERE subject = ?", (subject,))

    def versions_of(self, schema_id: int) -> list[Version]:
        """All versions that hold a schema."""
        return self._versions("WHERE id = ?", (schema_id,))

    def all_versions(self) -> list[Version]:
        """All versions of all subjects."""
        return self._versions("", ())

    def _versions(self, where: str, values: tuple[str | int, ...]) -> list[Version]:
        sql = (
            f"SELECT subject, version, id, text, deleted FROM versions JOIN schemas USING (id) {where}"  # noqa: S608, E501 - one of three constants above
            " ORDER BY subject, version"
        )
        with self._lock:
            rows = self._db.execute(sql, values).fetchall()
        return [Version(s, v, i, t, bool(d)) for s, v, i, t, d in rows]

    def text(self, schema_id: int) -> str | None:
        """Text of a schema by id; also of one whose every version is deleted."""
        with self._lock:
            row = self._db.execute("SELECT text FROM schemas WHERE id = ?", (schema_id,)).fetchone()
        return None if row is None else str(row[0])

    def add_schema(self, text: str) -> int:
        """Id of a schema; equal texts share one."""
        with self._lock:
            find = "SELECT id FROM schemas WHERE text = ?"
            row = self._db.execute(find, (text,)).fetchone()
            if row is None:
                # Not INSERT OR IGNORE: that would use up an id each time.
                self._db.execute("INSERT INTO schemas (text) VALUES (?)", (text,))
                row = self._db.execute(find, (text,)).fetchone()
        return int(row[0])

    def add_version(self, subject: str, schema_id: int) -> int:
        """Number of a new version; a number is never used twice, even after deletion."""
        with self._lock:
            self._db.execute(
                "INSERT INTO numbers VALUES (?, 1) "
                "ON CONFLICT (subject) DO UPDATE SET last = last + 1",
                (subject,),
            )
            row = self._db.execute(
                "SELECT last FROM numbers WHERE subject = ?", (subject,)
            ).fetchone()
            number = int(row[0])
            self._db.execute(
                "INSERT INTO versions (subject, version, id) VALUES (?, ?, ?)",
                (subject, number, schema_id),
            )
        return number

    def hide_version(self, subject: str, version: int) -> None:
        """Delete a version softly: it can still be seen when asked for."""
        with self._lock:
            self._db.execute(
                "UPDATE versions SET deleted = 1 WHERE subject = ? AND version = ?",
                (subject, version),
            )

    def remove_version(self, subject: str, version: int) -> None:
        """Delete a version for good."""
        with self._lock:
            self._db.execute(
                "DELETE FROM versions WHERE subject = ? AND version = ?", (subject, version)
            )

    def setting(self, table: str, subject: str) -> str | None:
        """Level or mode of a subject, or of all with GLOBAL; None if it is not set."""
        sql = f"SELECT value FROM {_known(table)} WHERE subject = ?"  # noqa: S608 - a known name
        with self._lock:
            row = self._db.execute(sql, (subject,)).fetchone()
        return None if row is None else str(row[0])

    def put_setting(self, table: str, subject: str, value: str) -> None:
        """Set the level or mode of a subject."""
        sql = f"INSERT OR REPLACE INTO {_known(table)} VALUES (?, ?)"  # noqa: S608 - a known name
        with self._lock:
            self._db.execute(sql, (subject, value))

    def drop_setting(self, table: str, subject: str) -> None:
        """Forget the level or mode of a subject."""
        sql = f"DELETE FROM {_known(table)} WHERE subject = ?"  # noqa: S608 - a known name
        with self._lock:
            self._db.execute(sql, (subject,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _known(table: str) -> str:
    assert table in {"levels", "modes"}
    return table
