"""The store's process: lock, confine, open, serve, close."""

import logging
import sys
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sealtrail import allocator, resources
from sealtrail.errors import ConfigurationError
from sealtrail_local.settings import LocalSettings
from sealtrail_local.store import confine, engine
from sealtrail_local.store.transport import Transport
from sealtrail_local.store.users import Role, User

_HOST: Final = "127.0.0.1"
_LOCK_WAIT_S: Final = 10.0
_LONGEST_URL: Final = 4 << 20  # statements travel in the URL when the body holds data

_log = logging.getLogger(__name__)


def run(settings: LocalSettings) -> None:
    """Serve the store until SIGTERM.

    Args:
        settings: with the passwords that `sealtrail local up` has generated.

    Raises:
        ConfigurationError: no passwords, or no certificate in a secured stack.
        UnavailableError: the folder is in use, cannot be confined, or does not open.
    """
    # A chunk of a body has 256 kB. By default such memory goes back to the kernel again and again,
    # and comes anew, page by page: half of what it costs to receive a body (ADR 0136).
    allocator.tune(mmap_threshold=1 << 20, trim_threshold=16 << 20)
    users = _users(settings)
    transport = _transport(settings)
    folder = settings.state_dir.resolve() / "store"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    backups = settings.state_dir.resolve() / "backups"
    lock = engine.lock_folder(folder, _LOCK_WAIT_S, time.monotonic, time.sleep)
    with lock:
        configuration = engine.prepare(
            folder, backups, resources.path("clickhouse"), settings.local_store_memory_mb << 20
        )
        _confine(settings, folder, backups)
        _serve(settings, users, folder, configuration, transport)


def _users(settings: LocalSettings) -> dict[str, User]:
    users = [
        User(settings.store_user, settings.store_password.get_secret_value(), Role.WRITER),
        User(settings.analyst_user, settings.analyst_password.get_secret_value(), Role.ANALYST),
    ]
    for user in users:
        if not user.password:
            raise ConfigurationError(
                f"the store's user {user.name} has no password",
                hint="`sealtrail local up` generates the passwords",
            )
    return {user.name: user for user in users}


def _transport(settings: LocalSettings) -> Transport | None:
    if not settings.local_secure:
        return None
    from sealtrail_local.real import secure

    transport = Transport(secure.certificates(settings).file("store"))
    transport.watch()  # before the lock, which would keep it from the file
    return transport


def _confine(settings: LocalSettings, folder: Path, backups: Path) -> None:
    if settings.local_confinement == "off":
        _log.warning("Landlock is switched off: SQL of the writer can reach files of this user")
        return
    version = confine.confine([folder, backups], _code_paths(), settings.local_store_port)
    if version:
        _log.info("confined to %s and %s by Landlock (version %d)", folder, backups, version)
    elif settings.local_confinement == "required":
        raise ConfigurationError(
            "this kernel has no Landlock, so the store cannot be confined to its folder",
            hint="use Linux 5.13 or newer, or set SEALTRAIL_LOCAL_CONFINEMENT=preferred",
        )
    else:
        _log.warning("no Landlock in this kernel: SQL of the writer can reach files of this user")


def _code_paths() -> Iterable[Path]:
    """What Python still has to read: its installation, and sources of an editable install."""
    yield Path(sys.prefix)
    yield Path(sys.base_prefix)
    yield Path(sysconfig.get_paths()["stdlib"])
    yield Path(__file__).resolve().parents[1]
    for package in ("sealtrail", "sealtrail_local"):
        location = sys.modules[package].__file__
        if location:
            yield Path(location).resolve().parent


def _serve(
    settings: LocalSettings,
    users: dict[str, User],
    folder: Path,
    configuration: Path,
    transport: Transport | None,
) -> None:
    import uvicorn

    from sealtrail_local.loopback import LoopbackOnly
    from sealtrail_local.store.room import Room
    from sealtrail_local.store.server import Limits, Store

    opened = engine.Engine(folder / "db", configuration, settings.store_database)
    limits = Limits(
        analyst_queries=settings.local_analyst_queries,
        stream_seconds=settings.local_stream_seconds,
        caps={
            "max_execution_time": settings.local_analyst_seconds,
            "max_memory_usage": settings.local_analyst_memory_mb << 20,
            "max_result_rows": 10_000_000,
            "max_result_bytes": 256_000_000,
            "max_threads": 2,
        },
    )
    margin = settings.local_store_free_mb << 20
    room = Room(folder, margin, lambda go_on: opened.merges(go_on=go_on))
    store = Store(opened, users, limits, folder / "tmp", settings.store_database, room)
    try:
        uvicorn.run(
            LoopbackOnly(store.app()),
            host=_HOST,
            port=settings.local_store_port,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=300,
            timeout_graceful_shutdown=3,
            http="h11",
            h11_max_incomplete_event_size=_LONGEST_URL,
            loop="asyncio",  # never uvloop: see results.Pipe
            ssl_context_factory=(lambda _config, _default: transport.context)
            if transport
            else None,
        )
    finally:
        store.close()
