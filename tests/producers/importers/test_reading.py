"""Commit graphs as they are read: real repositories and the shipped file."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from sealtrail import resources
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.event import MAX_ENTITIES, Actor, ActorKind, EventType, ProvenanceEvent
from sealtrail_producer.importers.commits import Change, Commit, person
from sealtrail_producer.importers.events import drafts, event_type
from sealtrail_producer.importers.git import GitRepository, parse, repository_name
from sealtrail_producer.importers.pseudonyms import pseudonym, tenant_key
from sealtrail_producer.importers.sample import SampleFile, shipped

if TYPE_CHECKING:
    from pathlib import Path


class Repository:
    """A repository under construction; the clock of its commits is ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_700_000_000
        path.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, check: bool = True) -> str:
        people = {"NAME": "A", "EMAIL": "Ann@Example.org", "DATE": f"{self.now} +0000"}
        env = os.environ | {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in people.items()
        }
        env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, env=env, check=check, capture_output=True, text=True).stdout

    def commit(self, files: dict[bytes, str | None]) -> str:
        for name, text in files.items():
            path = self.path / os.fsdecode(name)
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        self.now += 60
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "shop")


def test_root_change_merge_deletion_and_empty_commit(repository: Repository):
    root = repository.commit({b"a b": "1", b"d/x": "2"})
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit({b"d/x": "3"})
    repository.git("checkout", "-q", "main")
    main = repository.commit({b"d/x": "4", b"a b": None})
    repository.git("merge", "side", check=False)  # stops at the conflict
    merge = repository.commit({b"d/x": "5"})
    empty = repository.commit({})
    gone = repository.commit({b"d/x": None})

    graph = GitRepository(repository.path)
    found = {commit.id: commit for commit in graph.commits()}

    assert (graph.repository, graph.total, graph.head) == ("shop", 6, gone)
    first, *_, last = found
    assert (first, last) == (root, gone)
    assert found[root].parents == ()
    assert event_type(found[root]) is EventType.CREATE
    assert [c.path for c in found[root].changes] == ["a b", "d/x"]
    assert all(c.old == (None,) and c.new for c in found[root].changes)
    assert found[merge].parents == (main, side)
    (change,) = found[merge].changes
    assert change.old == (found[main].changes[1].new, found[side].changes[0].new)
    assert event_type(found[merge]) is EventType.AGGREGATE
    assert found[empty].changes == ()
    assert event_type(found[empty]) is EventType.TRANSFORM
    assert event_type(found[gone]) is EventType.DELETE
    assert found[root].author == person(b"ann@example.org")
    assert found[gone].commit_time == 1_700_000_000 + 6 * 60


def test_a_bare_repository_reads_the_same(repository: Repository, tmp_path: Path):
    repository.commit({b"a": "1"})
    repository.commit({b"a": "2"})
    bare = tmp_path / "shop.git"
    subprocess.run(["git", "clone", "-q", "--bare", repository.path, bare], check=True)
    assert list(GitRepository(bare).commits()) == list(GitRepository(repository.path).commits())


def test_odd_paths_survive(repository: Repository):
    repository.commit({b"new\nline": "1", b"tab\t": "2", b"\xff\xfe": "3", "ü".encode(): "4"})
    (commit,) = GitRepository(repository.path).commits()
    assert {c.path for c in commit.changes} == {"new\nline", "tab\t", "\\xff\\xfe", "ü"}


def test_what_is_no_repository_is_refused(tmp_path: Path, repository: Repository):
    with pytest.raises(ConfigurationError, match="not a folder"):
        GitRepository(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="cannot read"):
        GitRepository(tmp_path)
    with pytest.raises(ConfigurationError):  # no commit yet
        GitRepository(repository.path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:secret@github.com/etcd-io/etcd.git", "etcd-io/etcd"),
        ("git@github.com:etcd-io/etcd.git", "etcd-io/etcd"),
        ("ssh://git@host:22/a/b/c.git/", "b/c"),
        ("../elsewhere/thing", "thing"),
        ("thing.git", "thing"),
    ],
)
def test_a_repository_is_named_without_host_or_password(url: str, name: str):
    assert repository_name(url) == name


def test_the_shipped_graph_is_what_its_ground_truth_says():
    truth = json.loads(resources.path("samples", "etcd.ground-truth.json").read_text())
    graph = SampleFile(shipped("etcd"))
    told = commits = edges = 0
    times: dict[str, int] = {}
    early = {}
    used = made = most = 0
    for commit in graph.commits():
        parts = drafts(commit, graph.repository, lambda p: p)
        told += len(parts)
        commits += 1
        edges += len(commit.parents)
        assert all(parent in times for parent in commit.parents), "parents come first"
        times[commit.id] = commit.commit_time
        late = max((times[p] for p in commit.parents), default=0) - commit.commit_time
        if commit.parents and late > 0:
            early[commit.id] = late
        used += len(parts[0].inputs)
        made += len(parts[0].outputs)
        most = max(most, len(parts[0].inputs) + len(parts[0].outputs))
    assert (graph.total, graph.head) == (truth["commits"], truth["head"])
    assert told == commits == truth["commits"], "one event a commit, no parts needed"
    assert edges == truth["parent_edges"]
    assert early == truth["commit_time_before_a_parent"]
    assert len(early) == 4
    assert (used, made, most) == (
        truth["inputs"],
        truth["outputs"],
        truth["max_entities_of_a_commit"],
    )


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path):
    path = tmp_path / "x.jsonl.xz"
    path.write_bytes(lzma.compress(b'{"format": "other"}\n'))
    with pytest.raises(ConfigurationError, match="not a commit graph"):
        SampleFile(path)
    path.write_bytes(b"no xz at all")
    with pytest.raises(ConfigurationError, match="cannot read"):
        SampleFile(path)


def test_a_line_that_is_no_commit_is_named(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    head = {"format": "sealtrail.git-graph.v1", "repository": "o/r", "head": "ab" * 20}
    header = json.dumps(head | {"commits": 2})
    for line in ("[]", '{"id": "x"}', '{"id": "\\ud800"}'):
        path.write_text(f"{header}\n{line}\n", encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"line 2 is no commit"):
            list(SampleFile(path).commits())


def test_what_git_did_not_write_whole_is_told():
    commit = (b"\x01" + b"ab" * 20, b"", b"a@b", b"c@d", b"1", b"2\n")
    change = (b":100644 100644 " + b"00" * 20 + b" " + b"cd" * 20 + b" M", b"a.go")
    whole = (*commit, *change)
    assert [c.changes[0].path for c in parse(iter(whole))] == ["a.go"]
    for count in (1, 4, len(whole) - 1):
        with pytest.raises(UnavailableError, match="ends within a commit"):
            list(parse(iter(whole[:count])))
    with pytest.raises(UnavailableError, match="no commit"):
        list(parse(iter((b"\x01tip", *commit[1:]))))


def _commit(**changed: Any) -> Commit:
    values: dict[str, Any] = {
        "id": "ab" * 20,
        "parents": ("cd" * 20,),
        "author": "a" * 16,
        "committer": "b" * 16,
        "author_time": 100,
        "commit_time": 200,
        "changes": (Change("f", ("1" * 40,), "2" * 40),),
    }
    return Commit(**(values | changed))


def test_a_commit_as_an_event():
    (draft,) = drafts(_commit(), "o/r", str.upper)
    assert draft.occurred_at == 200_000_000
    assert (draft.activity, draft.event_type, draft.author) == (
        "git.commit",
        EventType.TRANSFORM,
        "A" * 16,
    )
    assert draft.attributes == {
        "git.commit": "ab" * 20,
        "git.author_time": "1970-01-01T00:01:40Z",
        "git.committer": "B" * 16,
    }
    assert [(e.namespace, e.name, e.version) for e in (*draft.inputs, *draft.outputs)] == [
        ("o/r", "f", "1" * 40),
        ("o/r", "f", "2" * 40),
    ]


def test_one_blob_of_both_parents_was_used_once():
    merge = _commit(parents=("cd" * 20, "ef" * 20), changes=(Change("f", ("1", "1"), "2"),))
    (draft,) = drafts(merge, "o/r", str)
    assert len(draft.inputs) == 1
    assert draft.activity == "git.merge"


def test_what_exceeds_the_caps_goes_into_parts():
    changes = tuple(
        Change(f"dir/{n}" + "x" * 200, (f"{n:040}",), f"{n + 1:040}") for n in range(3000)
    )
    parents = tuple(f"{n:040x}" for n in range(130))
    commit = _commit(changes=changes, parents=parents)
    parts = drafts(commit, "o/r", str)
    assert parts[0].attributes["git.parts"] == str(len(parts) - 1)
    assert [p.part_of_first for p in parts] == [False] + [True] * (len(parts) - 1)
    assert sum((p.parents for p in parts), ()) == parents
    assert sum(len(p.inputs) for p in parts) == sum(len(p.outputs) for p in parts) == 3000
    for part in parts:
        assert len(part.inputs) + len(part.outputs) <= MAX_ENTITIES
        assert len(part.parents) + part.part_of_first <= 64
        event = ProvenanceEvent(
            occurred_at=part.occurred_at,
            salt=bytes(16),
            event_type=part.event_type,
            activity=part.activity,
            actor=Actor(part.author, ActorKind.HUMAN),
            inputs=part.inputs,
            outputs=part.outputs,
            attributes=part.attributes,
        )
        assert len(event.encode()) <= part.size


def test_times_beyond_the_calendar_are_kept_as_text():
    (draft,) = drafts(_commit(commit_time=2**62, author_time=2**62), "o/r", str)
    assert draft.attributes["git.commit_time"] == str(2**62)
    assert draft.attributes["git.author_time"] == str(2**62)


def test_pseudonyms_depend_on_tenant_and_key(tmp_path: Path):
    key = tenant_key(tmp_path, "acme")
    assert tenant_key(tmp_path, "acme") == key != tenant_key(tmp_path, "other")
    names = {
        pseudonym(key, "acme", "a"),
        pseudonym(key, "acme", "b"),
        pseudonym(key, "other", "a"),
        pseudonym(bytes(32), "acme", "a"),
    }
    assert len(names) == 4
    (file,) = [p for p in (tmp_path / "pseudonyms").iterdir() if p.read_bytes() == key]
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to other users"):
        tenant_key(tmp_path, "acme")
    file.chmod(0o600)
    file.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="damaged"):
        tenant_key(tmp_path, "acme")
