"""Recovery: the store is rebuilt from the topic, its index from the payloads, equal to the row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.scenarios.scene import Scene

from sealtrail.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A store with linked events of four services and refused messages; the worker is stopped."""
    with Scene.begin() as scene:
        scene.open_services()
        scene.start_worker()
        scene.emit(20)
        scene.refuse(b"garbage", 0, Code.MALFORMED)
        scene.close_services()
        scene.flush()
        scene.wait("committed", scene.drained)
        scene.stop_worker()
        yield scene


@pytest.fixture(scope="module")
def manifest(scene: Scene) -> Path:
    """What the store held before anything was destroyed."""
    file = scene.folder / "manifest.json"
    written = scene.ask("audit", "manifest", str(file))
    assert written["rows"] > 80
    return file


def events(scene: Scene) -> int:
    return int(scene.sql("SELECT count() AS n FROM provenance.events")[0]["n"])


def test_whether_workers_run_must_be_known(scene: Scene):
    """The embedded broker does not say who is in a group: a person has to."""
    for what in ("index", "topic"):
        scene.run("recover", what, codes=(3,))
    assert events(scene) >= 80


def test_the_index_comes_back_from_the_payloads(scene: Scene, manifest: Path):
    before = events(scene)
    done = scene.ask("recover", "index", "--workers-stopped")
    assert (done["events"], done["unverified"]) == (before, 0)
    assert events(scene) == before
    found = scene.ask("audit", "restore", str(manifest))
    assert found["differences"] == []
    assert found["audit"]["clean"]


def test_everything_comes_back_from_the_topic(scene: Scene, manifest: Path):
    before = events(scene)
    assert scene.ask("recover", "topic", "--workers-stopped")["lost"] == []
    assert events(scene) == 0
    scene.start_worker()
    try:
        scene.wait("committed again", lambda: scene.drained() and events(scene) >= before)
    finally:
        scene.stop_worker()
    found = scene.ask("audit", "restore", str(manifest))
    assert found["differences"] == []
    assert found["audit"]["clean"]
    scene.run("audit", "conservation", "--drained")


def test_a_log_that_lacks_what_the_store_has_is_not_recovered_from(scene: Scene):
    scene.stack.kill("broker")
    scene.stack.start("broker")
    # The embedded broker begins anew, with another log.
    scene.run("recover", "topic", "--workers-stopped", codes=(2, 3))
    assert events(scene) >= 80
