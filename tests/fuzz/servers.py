"""Parsers of the embedded registry and store: what clients send them; see targets.py."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING

from sealtrail import resources
from sealtrail_local.registry import compatibility, schemas
from sealtrail_local.registry.errors import RegistryError
from sealtrail_local.store import bodies, statements, users
from sealtrail_local.store.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

ENCODINGS = ("", "gzip", "deflate", "lz4", "zstd")
USERS = {"analyst": users.User("analyst", "right", users.Role.ANALYST)}


def registry_request(data: bytes) -> None:
    """A schema that a client registers, beside one that is there."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(RegistryError):
        new = schemas.parse(schemas.canonical(text))
        there = schemas.parse('{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}')
        compatibility.check("FULL_TRANSITIVE", new, [there])


def store_request(data: bytes) -> None:
    """A statement with its data: how it is compressed, then the bytes."""
    with contextlib.suppress(Refused):
        bodies.decoder(ENCODINGS[data[0] % len(ENCODINGS)] if data else "")(data[1:])
    with contextlib.suppress(Refused):
        found = statements.split_insert(data)
        if found is not None:
            assert found.body_at <= len(data)
            assert found.reading(7)
            assert found.original
    statements.split_format(data)


def store_login(data: bytes) -> None:
    """Who says to be somebody, in a header as HTTP servers hand it on."""
    lines = [*data.decode("latin-1").split("\n", 2), "", ""]
    headers = {"authorization": lines[0], "x-clickhouse-user": lines[1]}
    with contextlib.suppress(Refused):
        users.authenticate(USERS, headers, {"password": lines[2]})
        if lines[2] != "right" and b":right" not in base64.b64decode(lines[0].partition(" ")[2]):
            raise AssertionError("let in without the password")


ALL: tuple[Callable[[bytes], None], ...] = (registry_request, store_request, store_login)


def seeds() -> dict[str, list[bytes]]:
    """Good inputs."""
    return {
        "registry_request": [resources.path("schemas", "SignedBatch.avsc").read_bytes()],
        "store_request": [b"INSERT INTO t (a) SETTINGS x = 1 FORMAT CSV\n1\n"],
        "store_login": [b"Basic " + base64.b64encode(b"analyst:right"), b"\nanalyst\nright"],
    }
