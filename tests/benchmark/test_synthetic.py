"""A store that was filled by the engine answers as one that the pipeline filled."""

import time
from hashlib import sha256

import pytest
from tests.conftest import Stack

from sealtrail import ids
from sealtrail.batch import SignedBatch, frame
from sealtrail.settings import load
from sealtrail_audit import graph, lineage, reader
from sealtrail_audit.settings import AuditSettings
from sealtrail_bench import storage, synthetic
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import migrate
from sealtrail_processor.store.opening import open_store


def test_ids_links_and_commits_are_as_the_pipeline_makes_them(stack: Stack) -> None:
    store = open_store(load(WorkerSettings, stack.env))
    migrate.migrate(store, migrate.Layout(), time.time_ns() // 1000)
    synthetic.fill(store, 0, 3_000)
    number = 2_005
    name = synthetic.event_id(store, number)
    assert name == ids.event_id(sha256(b"chain2").digest(), 5)
    assert store.query("SELECT count(), uniqExact(event_id) FROM committed_events") == [
        (3000, 3000)
    ]
    room = reader.connect(load(AuditSettings, stack.env))
    source = graph.StoreSource(room)
    up = lineage.walk(source, [name], up=True, depth=2, max_nodes=50)
    # The event before it, the one a chain before, and theirs.
    earlier = [number, number - 1, number - 1000, number - 2, number - 1001, number - 2000]
    assert set(up.nodes) == {synthetic.event_id(store, n) for n in earlier}
    assert all(node.stored for node in up.nodes.values())
    # Rows that were written again count once; what is not committed, or of a log without a commit,
    # is not there.
    store.command("INSERT INTO edges_by_child SELECT * FROM edges_by_child")
    store.command("INSERT INTO events SELECT * FROM events")
    for change in ("toUInt64(3) AS offset", "'gone' AS log_id, toUInt64(0) AS offset"):
        for table in ("edges_by_child", "edges_by_parent"):
            store.command(
                f"INSERT INTO {table} SELECT * REPLACE ({change}, toUInt8(ordinal + 2) AS ordinal) "
                f"FROM {table}"
            )
    unchanged = lineage.walk(graph.StoreSource(room), [name], up=True, depth=2, max_nodes=50)
    assert unchanged == up
    # Of one reference the linker said something, and then something else.
    for version, verdict in ((1, "PENDING"), (3, "VERIFIED"), (2, "ORPHAN")):
        store.command(
            "INSERT INTO link_verdicts (child_chain, child_seq, child_branch, ordinal, parent_id, "
            f"verdict, decided_at, version) SELECT child_chain, child_seq, child_branch, ordinal, "
            f"parent_id, '{verdict}', now64(6), {version} FROM edges_by_child "
            f"WHERE child_id = unhex('{name.hex()}') AND ordinal = 0 LIMIT 1"
        )
    again = lineage.walk(source, [name], up=True, depth=2, max_nodes=50)
    assert [edge.verdict for edge in again.edges[name]] == ["VERIFIED", "PENDING"]
    assert {e.verdict for child, es in again.edges.items() if child != name for e in es} == {
        "PENDING"
    }
    down = lineage.walk(source, [synthetic.event_id(store, 0)], up=False, depth=3, max_nodes=50)
    assert len(down.nodes) == 4
    for table in ("edges_by_child", "edges_by_parent"):
        store.command(f"DELETE FROM {table} WHERE ordinal > 1")
    figures = storage.measure(store, merge=True)
    assert figures["events"] == 3000
    assert figures["tables"]["events"] > figures["tables"]["commits"] > 0
    ttls = "SELECT groupArray(extract(engine_full, ' TTL (.*?) SETTINGS ')) FROM system.tables"
    before = store.query(ttls)
    colder = storage.cold(store)
    assert store.query(ttls) == before
    assert colder["volumes"]["cold"] > 0.9 * colder["at_rest_bytes"] > 0
    # What a message has beside its events is evidence, too.
    body = bytes(range(256)) * 30
    envelope = SignedBatch("of a test", body[:3000], (body[:64],), 1, (body,))
    value = frame(1, envelope.encode())
    store.command(f"INSERT INTO payloads (offset, value) SELECT 1, unhex('{value.hex()}')")
    beside = storage.measure(store, merge=False)["evidence_bytes"] - figures["evidence_bytes"]
    assert beside == pytest.approx((len(value) - len(body)) / 3000, abs=0.2)
    store.close()
