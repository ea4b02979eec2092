"""What a failed request held is let go at once, not when somebody looks for garbage."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.port import StoreUnavailable


class Body:
    """What is sent, as something that can be watched."""


def failing(held: list[weakref.ref[Body]]) -> Any:
    """A request that ends in a cycle of error, traceback and frame, as urllib3's do."""

    def run(_: object) -> None:
        body = Body()
        held.append(weakref.ref(body))
        try:
            Path("/nowhere/at/all").read_bytes()
        except OSError as error:
            new = OSError(f"no connection: {error}")
            raise new from error

    return run


def test_the_body_of_a_request_that_failed_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clickhouse_connect.get_client", lambda **_: Any)
    store = ClickHouseStore("http://127.0.0.1:9", "nobody", "nothing")
    held: list[weakref.ref[Body]] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store._call(failing(held))
        assert [ref() for ref in held] == [None] * 3
    finally:
        gc.enable()
