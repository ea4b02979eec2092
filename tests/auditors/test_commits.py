"""Commits in a row, and chains, without a store."""

from __future__ import annotations

from itertools import pairwise

from tests.auditors.making import NOW, Chain, Partition

from sealtrail_audit.store.chains import Gap, Hole, KnownGap, Link, check, explain
from sealtrail_audit.store.commits import Commit, Disposition, Span, computed, digest, layout
from sealtrail_processor.judging.model import Log
from sealtrail_processor.store.rows import commit_digest, disposition

PLACE = {"log_id": "l", "topic": "t", "partition": 0}
CHAIN = b"c" * 32


def row(first: int, last: int) -> Commit:
    return Commit(first, last, 1, last - first + 1, 0, bytes([first, last]) * 16, 0)


def fits(commit: Commit, first: int, last: int) -> bool:
    """A commit's digest here is simply its true ends."""
    return commit.digest == bytes([first, last]) * 16


def ends(spans: list[Span]) -> list[tuple[int, int, bool]]:
    return [(s.first, s.last, s.commit is not None) for s in spans]


def moved(true: tuple[int, int], now: tuple[int, int]) -> Commit:
    count = true[1] - true[0] + 1
    return Commit(*now, 1, count, 0, bytes(true) * 16, 0)


def test_commits_in_a_row():
    spans, findings = layout(PLACE, [row(4, 6), row(0, 3), row(7, 7), row(0, 3)], fits)
    assert ends(spans) == [(0, 3, True), (4, 6, True), (7, 7, True)]
    assert findings == []


def test_a_missing_commit_leaves_a_span_without_one():
    spans, (finding,) = layout(PLACE, [row(0, 3), row(7, 7)], fits)
    assert ends(spans) == [(0, 3, True), (4, 6, False), (7, 7, True)]
    assert (finding.code, finding.key["first_offset"]) == ("ROW_MISSING", 4)


def test_moved_ends_are_told_from_missing_rows():
    spans, (finding,) = layout(PLACE, [moved((0, 3), (0, 1)), row(4, 6)], fits)
    assert ends(spans) == [(0, 3, True), (4, 6, True)]
    assert (finding.column, finding.stored, finding.computed) == ("last_offset", 1, 3)
    spans, (finding,) = layout(PLACE, [row(0, 3), moved((4, 6), (5, 6))], fits)
    assert ends(spans) == [(0, 3, True), (4, 6, True)]
    assert (finding.column, finding.stored, finding.computed) == ("first_offset", 5, 4)
    spans, (finding,) = layout(PLACE, [moved((0, 3), (0, 5)), row(4, 6)], fits)
    assert ends(spans) == [(0, 3, True), (4, 6, True)]
    assert finding.column == "last_offset"


def test_an_added_commit_between_others():
    spans, (finding,) = layout(PLACE, [row(0, 3), moved((9, 9), (2, 5)), row(4, 6)], fits)
    assert ends(spans) == [(0, 3, True), (4, 6, True)]
    assert (finding.code, finding.key["last_offset"]) == ("ROW_ADDED", 5)


def test_overlap_of_two_workers_is_no_finding():
    spans, findings = layout(PLACE, [row(0, 4), row(0, 1), row(2, 6), row(7, 8)], fits)
    assert findings == []
    assert [s.last for s in spans][-1] == 8
    assert all(a.last + 1 == b.first for a, b in pairwise(spans))


def test_a_commit_that_reaches_beyond_several_others_covers_what_they_do_not():
    # One worker wrote 1 to 16 at once and stood still; another wrote the same in pieces, and ended.
    rows = [row(0, 0), row(1, 16), row(1, 4), row(5, 12), row(17, 20)]
    spans, findings = layout(PLACE, rows, fits)
    assert findings == []
    assert ends(spans)[1:] == [(1, 4, True), (5, 12, True), (13, 16, False), (17, 20, True)]
    spans, (finding,) = layout(PLACE, [*rows[:-1], row(19, 20)], fits)
    assert (finding.code, finding.key["first_offset"]) == ("ROW_MISSING", 17)
    assert all(a.last + 1 == b.first for a, b in pairwise(spans))
    assert ends(layout(PLACE, rows[:-1], fits)[0])[-1] == (13, 16, False)


def test_the_digest_is_the_worker_s():
    chain = Chain(1)
    part = Partition(Log("l\u00f6g", "provenance.events", 0))
    first = (chain.chain_id, chain.batch(2, NOW))
    flush = part.flush(first, first, (b"x", b"garbage"), (b"", None))
    rows = [disposition(flush.log, j) for j in flush.judged]
    ours = [Disposition(*r[3:]) for r in rows]
    assert digest(ours) == commit_digest(rows)
    must = computed(Span(0, 3, None), ours)
    assert (must.first, must.last, must.messages, must.rows) == (0, 3, 4, 2)


def link(number: int, **changes: object) -> Link:
    values = {
        "batch_seq": number,
        "branch": 0,
        "first_seq": number * 2,
        "count": 2,
        "statement_hash": bytes([number + 1]) * 32,
        "previous": bytes([number]) * 32,
        "closes": False,
        "log": 0,
        "offset": number,
        "arrival": NOW,
        "sure": True,
    }
    return Link(**(values | changes))  # type: ignore[arg-type] # values of a test


def place(log: int) -> dict[str, object]:
    return PLACE | {"log_id": str(log)}


def test_a_whole_chain_and_a_broken_one():
    assert check(place, CHAIN, [link(2), link(0), link(1)]) == ([], [])
    findings, _ = check(place, CHAIN, [link(0), link(1, previous=bytes(32)), link(2)])
    assert [(f.code, f.column) for f in findings] == [("CHAIN_BROKEN", "previous")]
    findings, _ = check(place, CHAIN, [link(0), link(1, first_seq=9, count=1)])
    assert [(f.code, f.column) for f in findings] == [("CHAIN_BROKEN", "first_seq")]
    findings, _ = check(place, CHAIN, [link(0, closes=True), link(1)])
    assert [f.code for f in findings] == ["CHAIN_BROKEN"]


def test_what_was_not_verified_is_not_judged_again():
    links = [link(0), link(1, previous=bytes(32), sure=False), link(2)]
    assert check(place, CHAIN, links) == ([], [])


def test_a_batch_accepted_twice_was_added():
    findings, _ = check(place, CHAIN, [link(0), link(0, offset=9, arrival=NOW + 1)])
    assert [(f.code, f.key["offset"]) for f in findings] == [("ROW_ADDED", 9)]


def test_forged_numbers_make_one_gap_and_bounded_findings():
    _, gaps = check(place, CHAIN, [link(0), link(1, batch_seq=10**12)])
    assert [(g.first, g.last) for g in gaps] == [(1, 10**12 - 1)]
    findings, _ = explain(place, gaps, [], [], NOW)
    assert len(findings) == 1000


def test_gaps_are_honest_when_the_pipeline_found_them_and_no_commit_counts_more():
    gap = Gap(CHAIN, 1, 1, link(0), link(2))
    known = [KnownGap(CHAIN, 1)]
    assert explain(place, [gap], [], known, NOW) == ([], [gap])
    hole = Hole(0, 0, 5, 1, 2, [1, 4])
    findings, honest = explain(place, [gap], [hole], known, NOW)
    assert honest == []
    assert [(f.code, f.key["offset"]) for f in findings] == [("BATCH_MISSING", 1)]
    far = Hole(0, 3, 5, 1, 2, [4])
    findings, honest = explain(place, [gap], [far], known, NOW)
    assert honest == [gap]
    assert [(f.code, f.key["offset"]) for f in findings] == [("BATCH_MISSING", 4)]
