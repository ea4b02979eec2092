"""Paths of the registry: Confluent's API as confluent-kafka's client uses it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sealtrail_local.registry import schemas
from sealtrail_local.registry.errors import (
    BAD_REQUEST,
    INVALID_SCHEMA,
    SCHEMA_NOT_FOUND,
    TOO_LARGE,
    RegistryError,
)
from sealtrail_local.registry.registry import Registry, refuse_unsupported
from sealtrail_local.registry.storage import GLOBAL, Version

_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
# A schema travels as a JSON string: escaping may double it.
_MAX_BODY_BYTES: Final = 2 * schemas.MAX_SCHEMA_BYTES + 4096

Body = dict[str, Any]
Handler = Callable[[Request, Body], Any]


def build(registry: Registry) -> Starlette:
    """The ASGI application of a registry."""
    paths = _Paths(registry)
    routes = [
        Route(path, _endpoint(handler), methods=[method])
        for method, path, handler in (
            ("GET", "/", paths.root),
            ("GET", "/schemas/types", paths.types),
            ("GET", "/schemas/ids/{id}", paths.schema),
            ("GET", "/schemas/ids/{id}/schema", paths.bare_schema),
            ("GET", "/schemas/ids/{id}/subjects", paths.subjects_of),
            ("GET", "/schemas/ids/{id}/versions", paths.versions_of),
            ("GET", "/subjects", paths.subjects),
            ("POST", "/subjects/{subject}", paths.look_up),
            ("DELETE", "/subjects/{subject}", paths.delete_subject),
            ("GET", "/subjects/{subject}/versions", paths.versions),
            ("POST", "/subjects/{subject}/versions", paths.register),
            ("GET", "/subjects/{subject}/versions/{version}", paths.version),
            ("DELETE", "/subjects/{subject}/versions/{version}", paths.delete_version),
            ("GET", "/subjects/{subject}/versions/{version}/schema", paths.version_schema),
            ("GET", "/subjects/{subject}/versions/{version}/referencedby", paths.referenced_by),
            ("POST", "/compatibility/subjects/{subject}/versions", paths.check_all),
            ("POST", "/compatibility/subjects/{subject}/versions/{version}", paths.check_one),
            ("GET", "/config", paths.global_level),
            ("PUT", "/config", paths.set_level),
            ("DELETE", "/config", paths.clear_level),
            ("GET", "/config/{subject}", paths.level),
            ("PUT", "/config/{subject}", paths.set_level),
            ("DELETE", "/config/{subject}", paths.clear_level),
            ("GET", "/mode", paths.global_mode),
            ("PUT", "/mode", paths.set_mode),
            ("GET", "/mode/{subject}", paths.mode),
            ("PUT", "/mode/{subject}", paths.set_mode),
            ("DELETE", "/mode/{subject}", paths.clear_mode),
        )
    ]
    return Starlette(routes=routes)


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request)
            # SQLite and Avro's checker take their time: not in the event loop.
            answer = await run_in_threadpool(handler, request, body)
        except RegistryError as error:
            return _reply({"error_code": error.code, "message": error.message}, error.status)
        return _reply(answer, 200)

    return endpoint


def _reply(content: Any, status: int) -> Response:
    return Response(json.dumps(content), status, media_type=_MEDIA_TYPE)


async def _body(request: Request) -> Body:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_BODY_BYTES:
            raise RegistryError(TOO_LARGE, f"The request exceeds {_MAX_BODY_BYTES} bytes")
    if not data:
        return {}
    try:
        text = data.decode()
        if schemas.json_depth(text) > schemas.MAX_DEPTH:
            raise RegistryError(INVALID_SCHEMA, "The request is nested too deeply")
        body = json.loads(text)
    except ValueError:
        raise RegistryError(BAD_REQUEST, "The request is not JSON") from None
    if not isinstance(body, dict):
        raise RegistryError(BAD_REQUEST, "The request is not a JSON object")
    return body


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() == "true"


def _subject(request: Request) -> str:
    return str(request.path_params.get("subject", GLOBAL))


def _schema_id(request: Request) -> int:
    text = str(request.path_params["id"])
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise RegistryError(SCHEMA_NOT_FOUND, f"Schema {text[:40]} not found")
    return int(text)


def _schema_text(body: Body) -> str:
    refuse_unsupported(body.get("schemaType"), body.get("references"))
    text = body.get("schema")
    if not isinstance(text, str) or not text:
        raise RegistryError(INVALID_SCHEMA, "Empty schema")
    return text


def _described(version: Version) -> Body:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.id,
        "schemaType": "AVRO",
        "schema": version.text,
    }


class _Paths:
    """One method a path: request and decoded body in, what becomes JSON out."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def root(self, request: Request, body: Body) -> Body:
        del request, body
        return {}

    def types(self, request: Request, body: Body) -> list[str]:
        del request, body
        return ["AVRO"]

    def schema(self, request: Request, body: Body) -> Body:
        del body
        return {"schema": self._registry.text(_schema_id(request)), "schemaType": "AVRO"}

    def bare_schema(self, request: Request, body: Body) -> Any:
        del body
        return json.loads(self._registry.text(_schema_id(request)))

    def subjects_of(self, request: Request, body: Body) -> list[str]:
        del body
        found = self._registry.versions_of(_schema_id(request), deleted=_flag(request, "deleted"))
        return sorted({version.subject for version in found})

    def versions_of(self, request: Request, body: Body) -> list[Body]:
        del body
        found = self._registry.versions_of(_schema_id(request), deleted=_flag(request, "deleted"))
        return [{"subject": v.subject, "version": v.version} for v in found]

    def subjects(self, request: Request, body: Body) -> list[str]:
        del body
        prefix = request.query_params.get("subjectPrefix", "")
        found = self._registry.subjects(
            deleted=_flag(request, "deleted"), deleted_only=_flag(request, "deletedOnly")
        )
        return [subject for subject in found if subject.startswith(prefix)]

    def look_up(self, request: Request, body: Body) -> Body:
        return _described(
            self._registry.look_up(
                _subject(request), _schema_text(body), deleted=_flag(request, "deleted")
            )
        )

    def register(self, request: Request, body: Body) -> Body:
        return _described(self._registry.register(_subject(request), _schema_text(body)))

    def delete_subject(self, request: Request, body: Body) -> list[int]:
        del body
        permanent = _flag(request, "permanent")
        return self._registry.delete_subject(_subject(request), permanent=permanent)

    def versions(self, request: Request, body: Body) -> list[int]:
        del body
        return self._registry.versions(_subject(request), deleted=_flag(request, "deleted"))

    def _version(self, request: Request) -> Version:
        return self._registry.version(
            _subject(request),
            str(request.path_params["version"]),
            deleted=_flag(request, "deleted"),
        )

    def version(self, request: Request, body: Body) -> Body:
        del body
        return _described(self._version(request))

    def version_schema(self, request: Request, body: Body) -> Any:
        del body
        return json.loads(self._version(request).text)

    def referenced_by(self, request: Request, body: Body) -> list[int]:
        del body
        self._version(request)
        return []  # there are no references

    def delete_version(self, request: Request, body: Body) -> int:
        del body
        return self._registry.delete_version(
            _subject(request),
            str(request.path_params["version"]),
            permanent=_flag(request, "permanent"),
        )

    def check_all(self, request: Request, body: Body) -> Body:
        return self._checked(request, body, None)

    def check_one(self, request: Request, body: Body) -> Body:
        return self._checked(request, body, str(request.path_params["version"]))

    def _checked(self, request: Request, body: Body, number: str | None) -> Body:
        problems = self._registry.check(_subject(request), _schema_text(body), number)
        answer: Body = {"is_compatible": not problems}
        if _flag(request, "verbose"):
            answer["messages"] = problems
        return answer

    def global_level(self, request: Request, body: Body) -> Body:
        del request, body
        return {"compatibilityLevel": self._registry.level()}

    def level(self, request: Request, body: Body) -> Body:
        del body
        subject = _subject(request)
        inherited = _flag(request, "defaultToGlobal")
        level = self._registry.level(subject) if inherited else self._registry.own_level(subject)
        return {"compatibilityLevel": level}

    def set_level(self, request: Request, body: Body) -> Body:
        return {
            "compatibility": self._registry.set_level(_subject(request), body.get("compatibility"))
        }

    def clear_level(self, request: Request, body: Body) -> Body:
        del body
        return {"compatibilityLevel": self._registry.clear_level(_subject(request))}

    def global_mode(self, request: Request, body: Body) -> Body:
        del request, body
        return {"mode": self._registry.mode()}

    def mode(self, request: Request, body: Body) -> Body:
        del body
        subject = _subject(request)
        inherited = _flag(request, "defaultToGlobal")
        return {
            "mode": self._registry.mode(subject) if inherited else self._registry.own_mode(subject)
        }

    def set_mode(self, request: Request, body: Body) -> Body:
        return {"mode": self._registry.set_mode(_subject(request), body.get("mode"))}

    def clear_mode(self, request: Request, body: Body) -> Body:
        del body
        return {"mode": self._registry.clear_mode(_subject(request))}
