"""The request handler: ClickHouse's HTTP interface, one statement a request."""

import asyncio
import contextlib
import os
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sealtrail_local.store import bodies, results, sessions, statements
from sealtrail_local.store.engine import Engine
from sealtrail_local.store.errors import BAD_ARGUMENTS, NOT_IMPLEMENTED, Refused, describe
from sealtrail_local.store.gate import Gate, Kind
from sealtrail_local.store.room import Room
from sealtrail_local.store.users import Role, User, authenticate

_WRITER_THREADS: Final = 8
_CLIENT_CLOSED_REQUEST: Final = 499
_INSERT: Final = re.compile(rb"\s*INSERT\b", re.IGNORECASE)
# As a server does: an error within the first megabyte still gets a status of its own.
_HELD_BACK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What analysts may take, and how long a reader may stall.

    Attributes:
        analyst_queries: analysts' queries at a time; more wait.
        stream_seconds: a streamed result is cut off after this.
        caps: settings of the engine with their upper bounds for analysts.
    """

    analyst_queries: int
    stream_seconds: float
    caps: Mapping[str, int]


@dataclass
class _Call:
    """One request on its way through."""

    headers: dict[str, str]
    query_id: str
    role: Role
    body: bodies.Body
    parameters: dict[str, str]
    request: sessions.Request
    bare: bytes
    form: str
    default_form: str
    streams: bool
    kind: Kind = field(default=Kind.OTHER)


class Store:
    """ClickHouse's HTTP interface over one engine.

    Args:
        engine: open.
        users: by name.
        limits: see `Limits`.
        folder: where bodies are staged.
        database: used unless a request names another.
        room: on the disk, for inserts; watched until `close`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        engine: Engine,
        users: Mapping[str, User],
        limits: Limits,
        folder: Path,
        database: str,
        room: Room,
    ) -> None:
        self._engine = engine
        self._room = room
        room.start()
        self._users = users
        self._limits = limits
        self._folder = folder
        self._answered: tuple[type[Exception], ...] = (Refused, *engine.errors)
        self._gate = Gate(engine.classifier(), engine.ask)
        self._handles = sessions.Handles(engine, database, limits.caps, time.monotonic)
        # Of their own: analysts must never keep an insert waiting for a thread.
        self._threads = {
            Role.WRITER: ThreadPoolExecutor(_WRITER_THREADS, "writer"),
            Role.ANALYST: ThreadPoolExecutor(limits.analyst_queries, "analyst"),
        }

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/ping", self._ping),
                Route("/replicas_status", self._ping),
                Route("/", self._root, methods=["GET", "POST"]),
            ]
        )

    def close(self) -> None:
        """End running queries, then close handles and engine."""
        self._room.close()
        self._engine.kill_all()
        for threads in self._threads.values():
            threads.shutdown(wait=True, cancel_futures=True)
        self._handles.close()
        self._engine.close()

    async def _ping(self, request: HttpRequest) -> Response:
        del request
        return PlainTextResponse("Ok.\n")

    async def _root(self, request: HttpRequest) -> Response:
        if request.method != "POST" and not request.query_params.get("query"):
            return await self._ping(request)
        query_id = request.query_params.get("query_id") or str(uuid.uuid4())
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._engine.timezone,
            "X-ClickHouse-Server-Display-Name": "sealtrail-store",
        }
        call: _Call | None = None
        try:
            role = authenticate(self._users, request.headers, request.query_params)
            call = await self._read(request, role, query_id, headers)
            return await self._run(request, call)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        except self._answered as error:
            failure = describe(error, self._engine.version)
            headers["X-ClickHouse-Exception-Code"] = str(failure.code)
            return PlainTextResponse(failure.text, failure.status, headers)
        finally:
            if call is not None and call.body.data is not None:
                call.body.data.close()

    async def _read(
        self, request: HttpRequest, role: Role, query_id: str, headers: dict[str, str]
    ) -> _Call:
        arguments = dict(request.query_params)
        if "multipart/form-data" in request.headers.get("content-type", ""):
            form_fields = await _form(request)
            statement = form_fields.pop("query", arguments.get("query", "")).encode()
            arguments |= form_fields
            body = bodies.Body(statement, statement)
        else:
            decode = bodies.decoder(request.headers.get("content-encoding", ""))
            url_statement = arguments.get("query", "").encode()
            body = await bodies.receive(request.stream(), decode, url_statement, self._folder)
        settings = sessions.request_settings(arguments)
        # Carries the id to system.processes, where KILL QUERY finds it.
        settings.setdefault("log_comment", query_id)
        if request.method == "GET":
            settings["readonly"] = "2"
        bare, named = statements.split_format(body.statement)
        default = (
            arguments.get("default_format")
            or request.headers.get("x-clickhouse-format")
            or "TabSeparated"
        )
        return _Call(
            headers=headers,
            query_id=settings["log_comment"],
            role=role,
            body=body,
            parameters={k[6:]: v for k, v in arguments.items() if k.startswith("param_")},
            request=sessions.Request(
                role=role,
                database=arguments.get("database")
                or request.headers.get("x-clickhouse-database", ""),
                settings=settings,
                session=arguments.get("session_id"),
                session_timeout=sessions.session_timeout(arguments),
                reads_file=body.staged_select,
            ),
            bare=bare,
            form=named or default,
            default_form=default,
            streams=body.data is None
            and arguments.get("wait_end_of_query") != "1"
            and results.may_stream(body.statement),
        )

    def _execute(self, call: _Call, descriptor: int | None) -> Any:
        """Run the statement, in a thread; with a descriptor, a read is written into it."""
        call.kind = self._gate.check(
            call.role,
            call.body.shown,
            call.parameters,
            reads_file=call.body.staged_select,
        )
        if call.body.data is not None or _INSERT.match(call.body.statement):
            self._room.require()
        with self._handles.for_request(call.request) as handle:
            statement = call.body.statement
            if descriptor is not None and call.kind is Kind.READ_ONLY:
                statement = results.into_descriptor(call.bare, descriptor, call.form)
            return handle.query(statement, call.default_form, params=call.parameters)

    async def _run(self, request: HttpRequest, call: _Call) -> Response:
        loop = asyncio.get_running_loop()
        threads = self._threads[call.role]
        if not call.streams:
            job = loop.run_in_executor(threads, self._execute, call, None)
            return _whole(call, await self._unless_gone(request, call, job))
        pipe = results.Pipe(loop)

        def piped() -> Any:
            try:
                return self._execute(call, pipe.write_end)
            finally:
                os.close(pipe.write_end)

        job = loop.run_in_executor(threads, piped)
        try:
            first = await self._unless_gone(request, call, asyncio.ensure_future(_begin(pipe)))
        except BaseException:
            pipe.close()
            raise
        if len(first) < _HELD_BACK_BYTES:
            pipe.close()
            return _whole(call, await job, first)
        tag = secrets.token_hex(8)
        return StreamingResponse(
            self._chunks(call, pipe, job, first, tag),
            headers=call.headers
            | {"X-ClickHouse-Format": call.form, "X-ClickHouse-Exception-Tag": tag},
            media_type=results.media_type(call.form),
        )

    async def _chunks(
        self, call: _Call, pipe: results.Pipe, job: "asyncio.Future[Any]", first: bytes, tag: str
    ) -> AsyncIterator[bytes]:
        # A reader that stops reading must not hold its query for ever.
        loop = asyncio.get_running_loop()
        stalled = loop.call_later(self._limits.stream_seconds, pipe.close)
        try:
            yield first
            while chunk := await pipe.read():
                yield chunk
            try:
                await asyncio.shield(job)
            except self._engine.errors as error:
                # Too late for a status: the tagged block, then a broken connection.
                failure = describe(error, self._engine.version)
                yield results.exception_block(failure.text, tag)
                raise
        finally:
            stalled.cancel()
            pipe.close()
            if not job.done():
                await asyncio.shield(asyncio.to_thread(self._engine.kill, call.query_id))

    async def _unless_gone(
        self, request: HttpRequest, call: _Call, job: "asyncio.Future[Any]"
    ) -> Any:
        """Wait for a query; a client that leaves ends it. A staged INSERT runs to its end."""
        gone = asyncio.ensure_future(request.receive())
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done() and call.body.data is None:
            await asyncio.to_thread(self._engine.kill, call.query_id)
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone
        return await job


async def _form(request: HttpRequest) -> dict[str, str]:
    """Query and parameters of a form; clickhouse-connect sends one when they are long."""
    try:
        form = await request.form(max_part_size=bodies.MAX_STATEMENT_BYTES)
    except HTTPException as error:
        raise Refused(BAD_ARGUMENTS, f"The form cannot be read: {error.detail}") from error
    found: dict[str, str] = {}
    for name, value in form.items():
        if not isinstance(value, str):
            raise Refused(NOT_IMPLEMENTED, "External data is not supported")
        if name == "query" or name.startswith("param_"):
            found[name] = value
    return found


async def _begin(pipe: results.Pipe) -> bytes:
    """The first part of a result; shorter than `_HELD_BACK_BYTES` only if it is all of it."""
    begun = bytearray()
    while len(begun) < _HELD_BACK_BYTES and (chunk := await pipe.read()):
        begun += chunk
    return bytes(begun)


def _whole(call: _Call, result: Any, written: bytes = b"") -> Response:
    headers = dict(call.headers)
    headers["X-ClickHouse-Summary"] = results.summary(result)
    body: bytes = written or result.bytes()
    if body or call.kind is Kind.READ_ONLY:
        headers["X-ClickHouse-Format"] = call.form
    return Response(body, headers=headers, media_type=results.media_type(call.form))
