"""The one chDB engine of this process: its folder, its configuration, its handles.

The configuration files are those of deploy/clickhouse; a server reads the same ones. Folders and
limits reach them through the environment (`from_env`), as on a server.
"""

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from sealtrail.errors import UnavailableError
from sealtrail_local.store.gate import Classify
from sealtrail_local.store.statements import literal

# Where each shared file goes so that the engine merges it as a server would.
_CONFIGURATION: Final = {
    "embedded/engine.xml": "config.xml",
    "storage.xml": "config.d/storage.xml",
    "embedded/users.xml": "users.xml",
    "embedded/roles.xml": "users.d/roles.xml",
}
_LOCK_PAUSE_S: Final = 0.1


def lock_folder(
    folder: Path, wait_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> IO[str]:
    """Take the store's folder for this process; the kernel lets go of it when the process ends.

    The engine itself answers a second process on its path with an unrelated message.

    Args:
        folder: of the store.
        wait_s: seconds to wait for another process that is just stopping.
        clock: seconds, monotonic.
        sleep: waits for a number of seconds.

    Raises:
        UnavailableError: another process still holds it.
    """
    file = (folder / "lock").open("a+", encoding="utf-8")
    deadline = clock() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if clock() >= deadline:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                file.close()
                raise UnavailableError(
                    f"the store's folder {folder} is in use by process {holder}",
                    hint="stop that process (`sealtrail local down`), or choose another "
                    "SEALTRAIL_STATE_DIR",
                ) from None
            sleep(_LOCK_PAUSE_S)
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def prepare(folder: Path, backups: Path, source: Path, memory_bytes: int) -> Path:
    """Lay out the store's folder and put the engine's settings into the environment.

    Args:
        folder: of the store.
        backups: where backups go, apart from what they are of.
        source: folder with the shared configuration files (deploy/clickhouse).
        memory_bytes: limit of the engine's memory.

    Returns:
        The engine's main configuration file.
    """
    for name in ("tmp", "hot", "cold", "config/config.d", "config/users.d"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    backups.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, target in _CONFIGURATION.items():
        shutil.copyfile(source / name, folder / "config" / target)
    os.environ |= {
        # Importing chDB makes a scratch engine in the temporary folder.
        "TMPDIR": str(folder / "tmp"),
        "SEALTRAIL_HOT_PATH": f"{folder}/hot/",
        "SEALTRAIL_COLD_PATH": f"{folder}/cold/",
        "SEALTRAIL_BACKUP_PATH": f"{backups}/",
        "SEALTRAIL_STORE_USERS": str(folder / "config" / "users.xml"),
        "SEALTRAIL_STORE_TMP": f"{folder / 'tmp'}/",
        "SEALTRAIL_STORE_MEMORY": str(memory_bytes),
    }
    return folder / "config" / "config.xml"


class Engine:
    """The engine, open on a path, until `close`.

    Settings, USE, roles and temporary tables belong to a handle; handles run side by side. One
    handle, the anchor, is never used for queries: it keeps merges and TTL moves running.

    Args:
        path: folder of the engine's metadata.
        configuration: main configuration file.
        database: made if missing. Never chDB's own `default`, where an unknown table is taken for
            a file name.

    Raises:
        UnavailableError: the engine does not open.
    """

    def __init__(self, path: Path, configuration: Path, database: str) -> None:
        import chdb

        self._chdb: Any = chdb  # it has no types
        self._path = str(path)
        try:
            self._anchor = self._chdb.connect(f"{path}?config-file={configuration}")
            with contextlib.closing(self.connect()) as handle:
                handle.query(f"CREATE DATABASE IF NOT EXISTS `{database}`")
            self.version, self.timezone = self.ask("SELECT version(), timezone()").split("\t")
        except (RuntimeError, chdb.ChdbError) as error:
            raise UnavailableError(
                f"the store does not open: {error}",
                hint=f"look whether another process uses {path}, and whether the disk is full",
            ) from error

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a handle's `query` raises for an error in the engine."""
        return (RuntimeError, self._chdb.ChdbError)

    def connect(self) -> Any:
        """A new handle (0.3 ms); the caller closes it."""
        return self._chdb.connect(self._path)

    @contextlib.contextmanager
    def handle(self) -> Iterator[Any]:
        """A new handle, closed at the end."""
        with contextlib.closing(self.connect()) as handle:
            yield handle

    def ask(self, sql: str, parameters: Mapping[str, str] | None = None) -> str:
        """Run a trusted query on a handle of its own and return its text without the last newline.

        Raises:
            RuntimeError: the engine's error.
        """
        with self.handle() as handle:
            try:
                found: bytes = handle.query(
                    sql, "TabSeparatedRaw", params=dict(parameters or {})
                ).bytes()
            except self._chdb.ChdbError as error:
                raise RuntimeError(str(error)) from error
        return found.decode().removesuffix("\n")

    def classifier(self) -> Classify:
        """The engine's parser as the gate wants it."""
        # One handle a thread: a classification keeps nothing, and a handle costs as much as it
        # does.
        own = threading.local()

        def classify(statement: bytes) -> Mapping[str, Any]:
            if not hasattr(own, "handle"):
                own.handle = self.connect()
            # A private name: the only way to the engine's own classification; chDB is pinned for
            # it.
            report: Mapping[str, Any] = own.handle._conn.classify_query(statement)  # noqa: SLF001
            return report

        return classify

    def kill(self, query_id: str) -> None:
        """End a query by the id that its settings carry; a query that has ended already is fine."""
        with contextlib.suppress(*self.errors):
            self.ask(f"KILL QUERY WHERE Settings['log_comment'] = {literal(query_id)} ASYNC")

    def kill_all(self) -> None:
        """End all queries: the process is about to stop."""
        with contextlib.suppress(*self.errors):
            self.ask("KILL QUERY WHERE 1 ASYNC")

    def merges(self, *, go_on: bool) -> None:
        """Let merges run, or end those that do and begin none.

        Raises:
            RuntimeError: the engine's error.
        """
        with self.handle() as handle:
            try:
                handle.query("SET ROLE sealtrail_upkeep")
                handle.query(f"SYSTEM {'START' if go_on else 'STOP'} MERGES")
            except self._chdb.ChdbError as error:
                raise RuntimeError(str(error)) from error

    def close(self) -> None:
        """Close the engine; parts are on disk already."""
        self._anchor.close()
