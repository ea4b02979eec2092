"""A handle for one request: the caller's roles, limits, database and settings only.

Named sessions (`session_id`) keep their handle, and with it temporary tables and settings. Only
the writer has them: an analyst's settings must not outlive the request that they were checked for.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sealtrail_local.store.engine import Engine
from sealtrail_local.store.errors import (
    BAD_ARGUMENTS,
    READONLY,
    SESSION_IS_LOCKED,
    UNKNOWN_SETTING,
    Refused,
)
from sealtrail_local.store.statements import literal, quoted_name
from sealtrail_local.store.users import Role

# Parameters of the URL that are no settings.
TRANSPORT: Final = frozenset({
    "query", "database", "user", "password", "session_id", "session_timeout", "session_check",
    "query_id", "default_format", "compress", "decompress", "buffer_size", "wait_end_of_query",
    "quota_key", "stacktrace", "role", "client_protocol_version", "close_session",
    "enable_http_compression", "add_http_cors_header", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
})  # fmt: skip
# Form and size of the answer: what drivers set by themselves.
_ANALYST_MAY_SET: Final = frozenset({
    "date_time_output_format", "output_format_json_quote_64bit_integers", "session_timezone",
    "extremes", "output_format_arrow_string_as_string", "max_block_size",
    "output_format_arrow_compression_method",
    "output_format_native_use_flattened_dynamic_and_json_serialization", "log_comment", "readonly",
})  # fmt: skip
_SETTING: Final = re.compile(r"\w+\Z", re.ASCII)
# The engine remembers schemas and counts of files by path; ours is a descriptor's number, used
# again and again.
_STAGED_SETTINGS: Final = {
    "schema_inference_use_cache_for_file": "0",
    "use_cache_for_count_from_files": "0",
}
_DEFAULT_TIMEOUT_S, _MAX_TIMEOUT_S = 60, 3600


@dataclass(frozen=True)
class Request:
    """What a request asks of its handle.

    Attributes:
        role: of the caller.
        database: to use; empty for the store's own.
        settings: from the URL.
        session: name of the session, or None.
        session_timeout: seconds that the session stays without requests.
        reads_file: whether the statement reads its staged body.
    """

    role: Role
    database: str
    settings: Mapping[str, str]
    session: str | None = None
    session_timeout: int = _DEFAULT_TIMEOUT_S
    reads_file: bool = False


def request_settings(arguments: Mapping[str, str]) -> dict[str, str]:
    """The settings among URL parameters.

    Raises:
        Refused: a name that cannot be one.
    """
    settings = {
        name: value
        for name, value in arguments.items()
        if name not in TRANSPORT and not name.startswith("param_")
    }
    for name in settings:
        if not _SETTING.match(name):
            raise Refused(UNKNOWN_SETTING, f"Unknown setting '{name}'")
    return settings


def session_timeout(arguments: Mapping[str, str]) -> int:
    """Seconds that a session stays.

    Raises:
        Refused: not a number.
    """
    try:
        return min(int(arguments.get("session_timeout", _DEFAULT_TIMEOUT_S)), _MAX_TIMEOUT_S)
    except ValueError:
        raise Refused(BAD_ARGUMENTS, "session_timeout is not a number of seconds") from None


@dataclass
class _Session:
    """A handle that outlives its requests."""

    handle: Any = None
    busy: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    until: float = 0.0
    # Whether the last request chose a database of its own, which must not stay.
    borrowed: bool = True


class Handles:
    """Hands out handles.

    Args:
        engine: where they come from.
        database: the store's own.
        caps: settings that limit an analyst's query, with their upper bounds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, engine: Engine, database: str, caps: Mapping[str, int], clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._database = database
        self._caps = caps
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def for_request(self, request: Request) -> Iterator[Any]:
        """A handle with the request's roles, database, limits and settings applied.

        Raises:
            Refused: a setting that the caller may not choose, or a session that is in use.
        """
        if request.role is Role.ANALYST:
            with self._engine.handle() as handle:
                self._prepare_analyst(handle, request)
                yield handle
        elif request.session is None:
            with self._engine.handle() as handle:
                self._enter(handle, request)
                _set(handle, self._writer_settings(request))
                _take_roles(handle, request)
                yield handle
        else:
            with self._session(request.session, request) as handle:
                yield handle

    def close(self) -> None:
        """Close what sessions hold."""
        with self._lock:
            for session in self._sessions.values():
                if session.handle is not None and not session.busy:
                    session.handle.close()
            self._sessions.clear()

    def _enter(self, handle: Any, request: Request) -> None:
        try:
            handle.query(f"USE {quoted_name(request.database or self._database)}")
        except self._engine.errors:
            if request.database:
                raise
            # The store's own was dropped: who brings it back must be let in.
            handle.query("USE system")

    @staticmethod
    def _writer_settings(request: Request) -> dict[str, str]:
        return {**request.settings, **(_STAGED_SETTINGS if request.reads_file else {})}

    def _prepare_analyst(self, handle: Any, request: Request) -> None:
        for name in request.settings:
            if name not in _ANALYST_MAY_SET and name not in self._caps:
                raise Refused(READONLY, f"Cannot modify '{name}' setting in readonly mode")
        handle.query(f"USE {quoted_name(request.database or self._database)}")
        handle.query("SET ROLE NONE")
        caps = {name: _capped(request.settings.get(name), cap) for name, cap in self._caps.items()}
        # readonly last: nothing can be set after it.
        _set(handle, {**request.settings, **caps, "readonly": "1"})

    @contextlib.contextmanager
    def _session(self, name: str, request: Request) -> Iterator[Any]:
        session = self._claim(name)
        try:
            if session.handle is None:
                session.handle = self._engine.connect()
            if request.database or session.borrowed:
                database = request.database or self._database
                session.handle.query(f"USE {quoted_name(database)}")
                session.borrowed = bool(request.database)
            wanted = self._writer_settings(request)
            stale = [key for key in session.settings if key not in wanted]
            if stale:
                session.handle.query("SET " + ", ".join(f"{key} = DEFAULT" for key in stale))
            _set(
                session.handle,
                {key: value for key, value in wanted.items() if session.settings.get(key) != value},
            )
            session.settings = wanted
            _take_roles(session.handle, request)
            yield session.handle
        finally:
            session.until = self._clock() + request.session_timeout
            session.busy = False

    def _claim(self, name: str) -> _Session:
        with self._lock:
            now = self._clock()
            over = [k for k, s in self._sessions.items() if s.until < now and not s.busy]
            for key in over:
                expired = self._sessions.pop(key)
                if expired.handle is not None:
                    expired.handle.close()
            session = self._sessions.setdefault(name, _Session())
            if session.busy:
                raise Refused(SESSION_IS_LOCKED, f"Session {name} is locked by a concurrent client")
            session.busy = True
            return session


def _take_roles(handle: Any, request: Request) -> None:
    loader = ", sealtrail_loader" if request.reads_file else ""
    handle.query(f"SET ROLE sealtrail_writer{loader}")


def _set(handle: Any, settings: Mapping[str, str]) -> None:
    if settings:
        pairs = (f"{name} = {literal(value)}" for name, value in settings.items())
        handle.query("SET " + ", ".join(pairs))


def _capped(asked: str | None, cap: int) -> str:
    try:
        number = int(asked or 0)
    except ValueError:
        raise Refused(BAD_ARGUMENTS, f"not a number: {asked!r}") from None
    # 0 means no limit to the engine, a negative number nothing good.
    return str(min(number, cap) if number > 0 else cap)
