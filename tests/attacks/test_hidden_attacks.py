"""One worker, four honest services, and everything an attacker can send hidden among their events.

Each attack is found under its name, nothing else is flagged, and in the end every offset has one
fate and every event one row. Only what a user has is asked: commands, views, exit codes.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from tests.attacks.assets import make
from tests.attacks.played import key

from sealtrail import ids
from sealtrail.findings import SEVERITIES, Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.played import Played
    from tests.scenarios.fates import Sent

# -- each found and named -----------------------------------------------------------


def test_nothing_else_is_flagged(played: Played) -> None:
    expected = Counter(e.key for e in played.scene.expected)
    assert Counter(key(f) for f in played.found) == expected
    assert played.flagged_wrongly() == []


def test_findings_bear_the_severity_of_their_code(played: Played) -> None:
    assert {f["severity"] for f in played.found if not f["code"]} == set()
    assert all(f["severity"] == SEVERITIES[Code(f["code"])].value for f in played.found)


# -- as a user sees it ------------------------------------------------------------------


def test_quarantine_lists_every_refused_message(played: Played) -> None:
    listed = Counter(
        (r["code"], r["id"].split(":")[-2], r["id"].split(":")[-1]) for r in played.quarantine
    )
    sent = Counter(
        (s.code.value, str(s.partition), str(s.offset))
        for s in played.scene.sent
        if s.code is not None
    )
    assert listed == sent


def test_honest_events_are_all_there(played: Played) -> None:
    rows = played.scene.sql(
        "SELECT producer, count() AS n, uniqExact(event_id) AS ids FROM provenance.events "
        "WHERE startsWith(instance, 'honest-') GROUP BY producer"
    )
    assert {r["producer"]: (int(r["n"]), int(r["ids"])) for r in rows} == {
        producer: (number, number) for producer, number in played.scene.emitted.items()
    }
    assert sum(played.scene.emitted.values()) > 2_000


def test_links_between_honest_chains_are_verified(played: Played) -> None:
    rows = played.scene.sql(
        "SELECT verdict, count() AS n FROM provenance.links WHERE child_chain IN "
        "(SELECT chain_id FROM provenance.events WHERE startsWith(instance, 'honest-')) "
        "GROUP BY verdict"
    )
    assert {r["verdict"]: int(r["n"]) for r in rows} == {"VERIFIED": played.scene.links}


def test_verdicts_of_the_other_links(played: Played) -> None:
    rows = played.scene.sql(
        "SELECT verdict, count() AS n FROM provenance.links WHERE child_chain NOT IN "
        "(SELECT chain_id FROM provenance.events "
        "WHERE startsWith(instance, 'honest-') OR producer = 'sealtrail-control') "
        "GROUP BY verdict"
    )
    codes = Counter(e.code for e in played.scene.expected)
    assert {r["verdict"]: int(r["n"]) for r in rows} == {
        "ORPHAN": codes[Code.ORPHAN] - played.scene.late_links,
        "LOST_WITH_PRODUCER": 1,
        "MISMATCH": codes[Code.LINK_MISMATCH],
        "VERIFIED": played.scene.true_links,
    }


@pytest.mark.row("B6")
def test_gap_is_open_until_the_missing_batch_comes(played: Played) -> None:
    chain = played.scene.kept["gap"].hex()
    assert [f["code"] for f in played.halfway if f["chain_id"] == chain] == ["GAP"]
    codes = {f["code"] for f in played.open if f["chain_id"] == chain}
    assert codes == {"LATE"}


@pytest.mark.row("B6")
def test_gap_stays_open_while_a_batch_is_missing(played: Played) -> None:
    chain = played.scene.kept["still missing"].hex()
    (gap,) = [f for f in played.open if f["chain_id"] == chain and f["code"] == "GAP"]
    assert "batches 1 to 2" in gap["latest_detail"]
    query = (
        "SELECT next_batch, gaps, missing_batches FROM provenance.chain_status "
        f"WHERE chain_id = '{chain}'"
    )
    (status,) = played.scene.sql(query)
    assert {k: int(v) for k, v in status.items()} == {
        "next_batch": 1,
        "gaps": 1,
        "missing_batches": 1,
    }


@pytest.mark.row("B4", "B7")
def test_fork_names_both_heads_and_keeps_both(played: Played) -> None:
    one, other = played.scene.kept["fork"]
    (row,) = [f for f in played.found if f["code"] == "FORK" and f["chain"] == one.chain_id.hex()]
    for made in (one, other):
        assert sha256(made.statement.encode()).hexdigest() in row["detail"]
    rows = played.scene.sql(
        "SELECT branch, batch_seq, count() AS n FROM provenance.events "
        f"WHERE chain_id = '{one.chain_id.hex()}' GROUP BY branch, batch_seq ORDER BY 2, 1"
    )
    assert [(int(r["batch_seq"]), int(r["branch"]), int(r["n"])) for r in rows] == [
        (0, 0, 3),
        (1, 0, 2),
        (1, 1, 3),
        (2, 0, 3),
        (2, 1, 3),
    ]


@pytest.mark.row("B5")
def test_the_graph_is_that_of_the_run_in_order(
    played: Played, happened: Callable[[str], None]
) -> None:
    in_order, shuffled = (
        [
            # The parent's sequence number is the end of its id.
            (row["child_seq"], int(row["parent_id"][-10:], 16), row["verdict"])
            for row in played.scene.sql(
                "SELECT child_seq, parent_id, verdict FROM provenance.links "
                f"WHERE child_chain = '{chain}' ORDER BY child_seq, ordinal"
            )
        ]
        for chain in played.scene.kept["graphs"]
    )
    assert len(in_order) == 14
    assert shuffled == in_order
    happened(f"{len(in_order)} links alike, in order and shuffled")


@pytest.mark.row("C9")
def test_texts_are_stored_as_they_are_and_shown_escaped(
    played: Played, happened: Callable[[str], None]
) -> None:
    made, texts = played.scene.kept["texts"], make.texts()
    rows = played.scene.sql(
        "SELECT lower(hex(activity)) AS raw FROM provenance.events "
        f"WHERE chain_id = '{made.chain_id.hex()}' ORDER BY seq"
    )
    assert [bytes.fromhex(r["raw"]).decode() for r in rows] == list(texts.values())
    shown = "".join(
        played.scene.run("event", "show", ids.text(made.event_id(n))) for n in range(len(texts))
    )
    shown += played.scene.run("lineage", ids.text(made.event_id(1)))
    shown += played.scene.run("sql", "SELECT activity FROM provenance.events ORDER BY seq DESC")
    control = {c for c in shown if not c.isprintable()} - {"\n"}
    assert control == set()
    happened(f"{len(texts)} texts stored byte for byte, no control character shown")


@pytest.mark.row("A3")
def test_released_messages_keep_their_arrival(played: Played) -> None:
    released = [f for f in played.fates.values() if f["disposition"] == "released"]
    by_origin = {int(f["from_offset"]): f for f in released}
    parked = played.scene.kept["parked"]
    assert sorted(by_origin) == sorted(sent.offset for _, sent in parked)
    for made, sent in parked:
        fate, origin = by_origin[sent.offset], played.fates[sent.partition, sent.offset]
        assert fate["arrival"] == origin["arrival"]
        assert (fate["time_source"], int(fate["branch"])) == ("ORIGINAL", 0)
        assert int(fate["batch_seq"]) == made.statement.batch_seq
        rows = played.scene.sql(
            "SELECT seq, leaf_hash, toUnixTimestamp64Micro(arrival) AS at FROM provenance.events "
            f"WHERE chain_id = '{made.chain_id.hex()}' AND batch_seq = {made.statement.batch_seq} "
            "ORDER BY seq"
        )
        references = [made.reference(n) for n in range(len(made.events))]
        assert [r["leaf_hash"] for r in rows] == [r.leaf_hash.hex() for r in references]
        assert {r["at"] for r in rows} == {origin["arrival"]}
    # In order: no gap, no fork; and what was said of them is settled.
    chain = parked[0][0].chain_id.hex()
    assert not [f for f in played.found if f["chain"] == chain]
    offsets = {str(sent.offset) for _, sent in parked}
    states = played.scene.sql(
        "SELECT offset, state FROM provenance.quarantined WHERE partition = 1"
    )
    assert {s["state"] for s in states if str(s["offset"]) in offsets} == {"released"}


@pytest.mark.row("D2")
def test_causality_names_the_suspect(played: Played) -> None:
    ahead, _, child = played.scene.kept["ahead"]
    behind = played.scene.kept["behind"]
    suspects = {f["chain"]: f for f in played.found if f["code"] == "CAUSALITY"}
    cross = suspects[child.chain_id.hex()]
    assert cross["suspect"] == ahead.chain_id.hex()
    assert int(cross["estimate_us"]) == pytest.approx(3600e6, abs=2e6)
    assert int(cross["tolerance_us"]) == 1_000_000
    assert ids.text(child.event_id(1)) in cross["detail"]
    assert ids.text(ahead.event_id(1)) in cross["detail"]
    assert suspects[behind.chain_id.hex()]["suspect"] == behind.chain_id.hex()


@pytest.mark.row("D5")
def test_skew_is_estimated(played: Played) -> None:
    made = {m.statement.batch_seq: m for m in played.scene.kept["ahead"][:2]}
    chain = made[0].chain_id.hex()
    rows = [f for f in played.found if f["code"] == "AHEAD" and f["chain"] == chain]
    assert sorted(int(f["batch_seq"]) for f in rows) == [0, 1]
    for row in rows:
        # Less than the hour by what the message took to arrive; Kafka's clock drops what is below a
        # millisecond.
        arrival = int(played.fates[int(row["partition"]), int(row["offset"])]["arrival"])
        signed_at = made[int(row["batch_seq"])].statement.signed_at
        assert int(row["estimate_us"]) == signed_at - arrival < 3600e6 + 1_000


def test_event_show_proves_an_event_of_the_victim(played: Played) -> None:
    made = played.scene.kept["mismatch"]
    shown = played.scene.ask("event", "show", ids.text(made.event_id(2)))
    assert [p["verdict"] for p in shown[0]["parents"]] == ["VERIFIED", "MISMATCH"]


@pytest.mark.row("C13")
def test_headers_are_kept_unless_they_contradict_the_statement(played: Played) -> None:
    sent, headers = played.scene.kept["headers"]
    assert kept_headers(played, sent) == headers
    assert kept_headers(played, played.scene.kept["lies"]) == [("note", b"kept")]


def kept_headers(played: Played, sent: Sent) -> list[tuple[str, bytes]]:
    (row,) = played.scene.sql(
        "SELECT arrayMap(h -> hex(h.name), headers) AS names, "
        "arrayMap(h -> hex(h.value), headers) AS said FROM sealtrail.committed_payloads "
        f"WHERE partition = {sent.partition} AND offset = {sent.offset}"
    )
    pairs = zip(row["names"], row["said"], strict=True)
    return [(bytes.fromhex(name).decode(), bytes.fromhex(value)) for name, value in pairs]


# -- nothing lost, nothing doubled --------------------------------------------------------


def test_conservation_law(played: Played) -> None:
    law = played.conservation
    assert law.differences == []
    assert law.overlaps == 0
    assert law.consumed == len(played.fates)
    fates = Counter(f["disposition"] for f in played.fates.values())
    assert {f: n for f, n in law.dispositions.items() if n} == dict(fates)


def test_audit_finds_the_store_to_be_what_was_signed(played: Played) -> None:
    assert played.audit["findings"] == []
    assert played.audit["clean"] is True
    assert played.audit["messages"] == len(played.fates)
    assert played.audit["events"] == played.conservation.events


def test_worker_leaves_when_asked(played: Played) -> None:
    assert played.stopped == 0
    assert played.stop_s < 10
