"""The registry's API, against the application itself."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sealtrail_local.registry import schemas
from sealtrail_local.registry.app import build
from sealtrail_local.registry.registry import Registry
from sealtrail_local.registry.storage import Storage


def record(*fields: dict[str, Any], name: str = "R") -> str:
    return json.dumps({"type": "record", "name": name, "fields": list(fields)})


A = {"name": "a", "type": "int"}
A_LONG = {"name": "a", "type": "long"}
B = {"name": "b", "type": "string"}
B_DEFAULT = {"name": "b", "type": "string", "default": ""}


class Api:
    """Calls the application without a network."""

    def __init__(self, path: Path) -> None:
        self.storage = Storage(path)
        self._transport = httpx.ASGITransport(build(Registry(self.storage)))

    async def __call__(
        self, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, Any]:
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with httpx.AsyncClient(transport=self._transport, base_url="http://r") as client:
            answer = await client.request(method, path, content=content, params=query or None)
        return answer.status_code, answer.json()

    async def register(self, subject: str, schema: str) -> tuple[int, Any]:
        return await self("POST", f"/subjects/{subject}/versions", {"schema": schema})


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path / "registry.sqlite")
    yield made
    made.storage.close()


async def test_ids_and_versions(api: Api):
    first = (await api.register("s", record(A)))[1]
    assert (first["id"], first["version"]) == (1, 1)
    again = (await api.register("s", json.dumps(json.loads(record(A)), indent=2)))[1]
    assert (again["id"], again["version"]) == (1, 1)
    assert (await api.register("other", record(A)))[1]["id"] == 1
    assert (await api.register("s", record(A, B_DEFAULT)))[1]["version"] == 2
    assert await api("GET", "/subjects") == (200, ["other", "s"])
    assert await api("GET", "/subjects", subjectPrefix="o") == (200, ["other"])
    assert await api("GET", "/subjects/s/versions") == (200, [1, 2])
    status, latest = await api("GET", "/subjects/s/versions/latest")
    assert (status, latest["version"], latest["id"]) == (200, 2, 2)
    assert json.loads((await api("GET", "/schemas/ids/1"))[1]["schema"]) == json.loads(record(A))
    assert (await api("GET", "/schemas/ids/1/schema"))[1] == json.loads(record(A))
    assert await api("GET", "/schemas/ids/1/subjects") == (200, ["other", "s"])
    assert (await api("GET", "/schemas/ids/1/versions"))[1] == [
        {"subject": "other", "version": 1},
        {"subject": "s", "version": 1},
    ]
    assert (await api("POST", "/subjects/s", {"schema": record(A)}))[1]["version"] == 1
    assert await api("GET", "/schemas/types") == (200, ["AVRO"])
    assert await api("GET", "/subjects/s/versions/1/referencedby") == (200, [])


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), [
    ("GET", "/subjects/none/versions", None, 404, 40401),
    ("GET", "/subjects/none/versions/1", None, 404, 40401),
    ("POST", "/subjects/none", {"schema": record(A)}, 404, 40401),
    ("DELETE", "/subjects/none", None, 404, 40401),
    ("GET", "/subjects/s/versions/9", None, 404, 40402),
    ("POST", "/subjects/s", {"schema": record(B)}, 404, 40403),
    ("GET", "/schemas/ids/99", None, 404, 40403),
    ("GET", "/schemas/ids/x", None, 404, 40403),
    ("DELETE", "/subjects/s/versions/1?permanent=true", None, 404, 40407),
    ("DELETE", "/subjects/s?permanent=true", None, 404, 40405),
    ("GET", "/config/s", None, 404, 40408),
    ("GET", "/mode/s", None, 404, 40409),
    ("POST", "/subjects/s/versions", {"schema": record(A, B)}, 409, 409),
    ("POST", "/subjects/s/versions", {"schema": "{"}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": ""}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": 7}, 422, 42201),
    ("POST", "/subjects/s/versions", {}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": '{"type":"record"}'}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": '{"type":"nosuch"}'}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": "7"}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": "{}", "schemaType": "JSON"}, 422, 42201),
    ("POST", "/subjects/s/versions", {"schema": record(A), "references": [{}]}, 422, 42201),
    ("GET", "/subjects/s/versions/0", None, 422, 42202),
    ("GET", "/subjects/s/versions/x", None, 422, 42202),
    ("GET", "/subjects/s/versions/99999999999999999999", None, 422, 42202),
    ("PUT", "/config", {"compatibility": "SOMETIMES"}, 422, 42203),
    ("PUT", "/mode", {"mode": "SOMETIMES"}, 422, 42204),
    ("PUT", "/mode/s", {"mode": "IMPORT"}, 422, 42205),
    ("POST", "/subjects/s/versions", b"no json", 400, 400),
    ("POST", "/subjects/s/versions", b"[]", 400, 400),
    ("POST", "/subjects/s/versions", b"\xff", 400, 400),
    ("POST", "/subjects/s/versions", b" " * 600_000, 413, 413),
])  # fmt: skip
async def test_errors(api: Api, method: str, path: str, body: Any, status: int, code: int):
    await api.register("s", record(A))
    found, answer = await api(method, path, body)
    assert (found, answer["error_code"]) == (status, code), answer
    assert answer["message"]


async def test_compatibility_of_every_level(api: Api):
    widened, narrowed, added = record(A_LONG), record(A), record(A, B_DEFAULT)
    for level, old, new, good in (
        ("BACKWARD", narrowed, widened, True),
        ("BACKWARD", widened, narrowed, False),
        ("FORWARD", narrowed, widened, False),
        ("FORWARD", widened, narrowed, True),
        ("FULL", narrowed, widened, False),
        ("FULL", narrowed, added, True),
        ("NONE", record(A), '"string"', True),
        ("FULL", record(A), '"string"', False),
    ):
        subject = f"{level}-{hash((old, new))}"
        await api("PUT", f"/config/{subject}", {"compatibility": level})
        await api.register(subject, old)
        path = f"/compatibility/subjects/{subject}/versions"
        _, answer = await api("POST", path, {"schema": new}, verbose="true")
        assert (answer["is_compatible"], bool(answer["messages"])) == (good, not good)
        assert (await api("POST", f"{path}/latest", {"schema": new}))[1]["is_compatible"] is good
        assert (await api.register(subject, new))[0] == (200 if good else 409)


async def test_transitive_levels_look_at_all_versions(api: Api):
    for level, status in (("BACKWARD", 200), ("BACKWARD_TRANSITIVE", 409)):
        await api("PUT", f"/config/{level}", {"compatibility": "BACKWARD"})
        # b goes, then comes back as a number: fine for the last version, not for the first.
        await api.register(level, record(A, B))
        await api.register(level, record(A))
        await api("PUT", f"/config/{level}", {"compatibility": level})
        new = record(A, {"name": "b", "type": "int", "default": 0})
        assert (await api.register(level, new))[0] == status


async def test_levels(api: Api):
    assert await api("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})
    assert await api("PUT", "/config", {"compatibility": "full"}) == (
        200,
        {"compatibility": "FULL"},
    )
    assert (await api("GET", "/config/s", defaultToGlobal="true"))[1] == {
        "compatibilityLevel": "FULL"
    }
    await api("PUT", "/config/s", {"compatibility": "NONE"})
    assert (await api("GET", "/config/s"))[1] == {"compatibilityLevel": "NONE"}
    assert (await api("DELETE", "/config/s"))[1] == {"compatibilityLevel": "NONE"}
    assert (await api("DELETE", "/config/s"))[0] == 404
    await api("DELETE", "/config")
    assert (await api("GET", "/config"))[1] == {"compatibilityLevel": "BACKWARD"}


async def test_read_only_mode(api: Api):
    await api.register("s", record(A))
    assert await api("PUT", "/mode/s", {"mode": "READONLY"}) == (200, {"mode": "READONLY"})
    assert (await api.register("s", record(A)))[0] == 200
    assert (await api.register("s", record(A, B_DEFAULT)))[1]["error_code"] == 42205
    assert (await api("DELETE", "/subjects/s"))[1]["error_code"] == 42205
    assert await api("DELETE", "/mode/s") == (200, {"mode": "READONLY"})
    assert await api("GET", "/mode/s", defaultToGlobal="true") == (200, {"mode": "READWRITE"})
    assert await api("GET", "/mode") == (200, {"mode": "READWRITE"})
    assert (await api.register("s", record(A, B_DEFAULT)))[0] == 200


async def test_deletion_in_two_steps(api: Api):
    await api.register("s", record(A))
    await api.register("s", record(A, B_DEFAULT))
    assert await api("DELETE", "/subjects/s/versions/2") == (200, 2)
    assert (await api("DELETE", "/subjects/s/versions/2"))[1]["error_code"] == 40406
    assert await api("GET", "/subjects/s/versions") == (200, [1])
    assert await api("GET", "/subjects/s/versions", deleted="true") == (200, [1, 2])
    assert await api("DELETE", "/subjects/s/versions/2", permanent="true") == (200, 2)
    assert await api("DELETE", "/subjects/s") == (200, [1])
    assert (await api("DELETE", "/subjects/s"))[1]["error_code"] == 40404
    assert await api("GET", "/subjects") == (200, [])
    assert await api("GET", "/subjects", deletedOnly="true") == (200, ["s"])
    assert await api("DELETE", "/subjects/s", permanent="true") == (200, [1])
    assert (await api("GET", "/subjects/s/versions"))[0] == 404
    # What was written with it must stay readable, and no number comes again.
    assert (await api("GET", "/schemas/ids/1"))[0] == 200
    assert (await api.register("s", record(A)))[1]["version"] == 3


@pytest.mark.parametrize("levels", [101, 1_000, 30_000])
async def test_deep_nesting_is_refused_before_it_is_parsed(api: Api, levels: int):
    deep = '{"type":"array","items":' * levels + '"int"' + "}" * levels
    status, answer = await api.register("s", deep)
    assert (status, answer["error_code"]) in {(422, 42201), (413, 413)}
    body = ("[" * levels).encode()
    assert (await api("POST", "/subjects/s/versions", body))[1]["error_code"] == 42201


def chain(types: int, field: str) -> str:
    """A record in a record in a record, each by name: shallow JSON, deep types."""
    inner = '{"type":"record","name":"T0","fields":[]}'
    fields = [f'{{"name":"x0","type":{inner}}}'] + [
        f'{{"name":"x{i}","type":{{"type":"record","name":"T{i}","fields":'
        f'[{{"name":"{field}","type":"T{i - 1}"}}]}}}}'
        for i in range(1, types)
    ]
    return f'{{"type":"record","name":"R","fields":[{",".join(fields)}]}}'


async def test_schemas_that_the_checker_would_take_minutes_for(api: Api):
    assert (await api.register("s", chain(1500, "f")))[1]["error_code"] == 42201
    wide = json.dumps([{"type": "array", "items": "int"}] * 60)
    assert (await api.register("s", wide))[1]["error_code"] == 42201
    assert (await api.register("s", chain(99, "f")))[0] == 200
    started = time.monotonic()
    assert (await api.register("s", chain(99, "g")))[0] == 409
    assert time.monotonic() - started < 10


def test_size_cap():
    with pytest.raises(Exception, match="exceeds"):
        schemas.canonical(" " * (schemas.MAX_SCHEMA_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "depth"),
    [("[]", 1), ('{"a":[1]}', 2), ('"[[["', 0), ('["\\"[[["]', 1), ("]]][", 1), ("", 0)],
)
def test_depth(text: str, depth: int):
    assert schemas.json_depth(text) == max(depth, 0) or text == "]]]["


def test_storage_outlives_its_process(tmp_path: Path):
    path = tmp_path / "r.sqlite"
    first = Storage(path)
    version = Registry(first).register("s", record(A))
    first.close()
    second = Storage(path)
    assert Registry(second).version("s", "latest") == version
    second.close()
