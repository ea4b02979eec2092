"""`sealtrail import git`."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sealtrail.cli import OK, Output, pass_output
from sealtrail.settings import load
from sealtrail_producer.importers.checkpoint import Checkpoint
from sealtrail_producer.importers.git import GitRepository
from sealtrail_producer.importers.pseudonyms import pseudonym, tenant_key
from sealtrail_producer.importers.resume import mark, resume
from sealtrail_producer.importers.run import GROUP_BYTES, GROUP_EVENTS, Importer, Told
from sealtrail_producer.importers.sample import SHIPPED, SampleFile, shipped
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.trail import Trail

if TYPE_CHECKING:
    from sealtrail_producer.importers.commits import Graph

PRODUCER = "git-import"
# Below what the embedded broker keeps of a partition; it spares any broker.
PACE_BYTES = 1_900_000
CLOSE_S = 60.0
HELD_UP = "waiting: brokers or workers take nothing (is `sealtrail worker` running?)"


@click.group("import")
def import_command() -> None:
    """Import history that happened before."""


@import_command.command("git")
@click.argument("path")
@click.option("--revision", default="HEAD", show_default=True, help="Import what it reaches.")
@click.option("--name", help="Name of the repository in events; by default that of its origin.")
@click.option("--producer", default=PRODUCER, show_default=True, help="Whose key signs.")
@click.option("--limit", type=click.IntRange(min=1), help="Read so many commits of a sample.")
@click.option(
    "--pace-bytes",
    type=click.IntRange(min=0),
    help="Bytes that the pipeline may lag behind, per partition; 0: no pacing.",
)
@click.option("--anew", is_flag=True, help="Forget what was told before; tells it all again.")
@pass_output
def import_git_command(
    output: Output,
    path: str,
    revision: str,
    name: str | None,
    producer: str,
    limit: int | None,
    pace_bytes: int | None,
    *,
    anew: bool,
) -> int:
    """Tell the history of a git repository: each commit becomes a signed event.

    PATH is a work tree, a bare repository, a commit graph in a file, or
    sample:etcd. Run it again after an interruption, or when there are new
    commits: only what was not told yet is told.
    """
    settings = load(ProducerSettings)
    graph = _graph(path, revision, name, limit)
    key = tenant_key(settings.state_dir, settings.tenant)
    pace = pace_bytes if pace_bytes is not None else settings.pace_bytes or PACE_BYTES
    file = _checkpoint_file(settings, producer, graph.repository)
    if anew:
        file.unlink(missing_ok=True)
    began = time.monotonic()
    with Checkpoint(file) as checkpoint:
        root = settings.spool_dir or settings.state_dir / "spool"
        found = mark(root, producer, graph.repository, settings.spool_bytes)
        again = resume(checkpoint, found, GROUP_EVENTS)
        trail = Trail.from_env(
            producer,
            settings=settings,
            instance=graph.repository,
            # Wider than a group: nothing leaves before the checkpoint knows of it.
            batch_events=GROUP_EVENTS + 1,
            batch_bytes=max(settings.batch_bytes, GROUP_BYTES + 1),
            batch_ms=60_000,
            pace_bytes=pace,
            close_s=CLOSE_S,
        )
        with trail, output.progress(f"importing {graph.repository}", graph.total) as advance:
            importer = Importer(
                trail,
                checkpoint,
                lambda person: pseudonym(key, settings.tenant, person),
                lambda: output.remark(HELD_UP),
            )
            told = importer.run(graph, advance)
    _report(output, graph, told, again, time.monotonic() - began)
    return OK


def _graph(path: str, revision: str, name: str | None, limit: int | None) -> Graph:
    if path.startswith(SHIPPED):
        return SampleFile(shipped(path.removeprefix(SHIPPED)), limit)
    if Path(path).is_file():
        return SampleFile(Path(path), limit)
    return GitRepository(Path(path), revision, name)


def _checkpoint_file(settings: ProducerSettings, producer: str, repository: str) -> Path:
    # Another environment or topic is another history.
    parts = (settings.environment, settings.tenant, settings.topic, producer, repository)
    digest = sha256("\0".join(parts).encode()).hexdigest()[:24]
    return settings.state_dir / "imports" / f"{digest}.refs"


def _report(output: Output, graph: Graph, told: Told, again: int, seconds: float) -> None:
    output.data(
        {
            "repository": graph.repository,
            "head": graph.head,
            "commits": told.commits,
            "events": told.events,
            "child_events": told.parts,
            "links": told.links,
            "known_before": told.known_before,
            "told_again": again,
            "parents_missing": len(told.missing_parents),
            "seconds": round(seconds, 3),
        }
    )
