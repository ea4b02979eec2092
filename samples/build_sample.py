# /// script
# requires-python = ">=3.11"
# dependencies = ["zstandard>=0.25"]
# ///
"""Build the sample commit graph that Sealtrail ships, and its ground truth.

    python samples/build_sample.py GRAPH.jsonl.zst GROUND_TRUTH.json etcd --out samples

GRAPH holds one commit a line, parents before children (git's --topo-order
--reverse), as described in samples/README.md. What the importer does not read
(trees, time zones, modes, signatures) is left out; the rest is written as
lines of JSON in an .xz file, which Python's standard library reads.

The ground truth of clocks is copied from GROUND_TRUTH, which another program
computed from `git log` of the origin; the counts are computed here from what is
written, and both must agree.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "sealtrail.git-graph.v1"
KEPT = ("id", "parents", "author", "committer", "author_time", "commit_time")
# The largest window that pays here: old blob ids repeat from far back.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 25}]


def commits(graph: Path) -> Iterator[dict[str, Any]]:
    """Read the commits of the origin file, reduced to what the importer needs."""
    with graph.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            commit = json.loads(line)
            kept = {name: commit[name] for name in KEPT}
            kept["changes"] = [[c["path"], c["old"], c["new"]] for c in commit["changes"]]
            yield kept


def counts(graph: list[dict[str, Any]]) -> dict[str, Any]:
    """What an import of the graph must come to."""
    times = {commit["id"]: commit["commit_time"] for commit in graph}
    early = {
        commit["id"]: late
        for commit in graph
        if (late := max((times[p] for p in commit["parents"]), default=0) - commit["commit_time"])
        > 0
        and commit["parents"]
    }
    entities = [_entities(commit) for commit in graph]
    return {
        "commits": len(graph),
        "parent_edges": sum(len(commit["parents"]) for commit in graph),
        "roots": sum(not commit["parents"] for commit in graph),
        "merges": sum(len(commit["parents"]) > 1 for commit in graph),
        "file_changes": sum(len(commit["changes"]) for commit in graph),
        "inputs": sum(used for used, _ in entities),
        "outputs": sum(made for _, made in entities),
        "max_entities_of_a_commit": max(used + made for used, made in entities),
        "commit_time_before_a_parent": early,
    }


def _entities(commit: dict[str, Any]) -> tuple[int, int]:
    used = {(path, blob) for path, old, _ in commit["changes"] for blob in old if blob}
    made = sum(new is not None for _, _, new in commit["changes"])
    return len(used), made


def main() -> int:
    """Write NAME.commits.jsonl.xz and NAME.ground-truth.json."""
    parser = argparse.ArgumentParser(description="Build a sample commit graph.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    origin = json.loads(options.truth.read_text())["repositories"][options.name]
    graph = list(commits(options.graph))
    found = counts(graph)
    stated = origin["skew_commit_time_before_a_parent"]["all_gt_0s"]
    for name in ("commits", "parent_edges", "roots", "merges"):
        if found[name] != origin[name]:
            sys.exit(f"{name}: the graph has {found[name]}, the ground truth says {origin[name]}")
    if found["commit_time_before_a_parent"] != stated:
        sys.exit("the graph's clocks are not those of the ground truth")
    header = {
        "format": FORMAT,
        "repository": origin["repository"],
        "head": origin["head"],
        "commits": len(graph),
    }
    target = options.out / f"{options.name}.commits.jsonl.xz"
    with lzma.open(target, "wb", filters=FILTERS) as out:
        for record in (header, *graph):
            line = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
            out.write(line.encode() + b"\n")
    truth = header | {"tolerance_s": 0} | found
    path = options.out / f"{options.name}.ground-truth.json"
    path.write_text(json.dumps(truth, indent=1) + "\n")
    sys.stdout.write(f"{target.name}: {target.stat().st_size:,} bytes, {len(graph):,} commits\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
