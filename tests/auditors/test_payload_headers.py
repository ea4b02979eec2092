"""Headers repeat the statement; the SDK's own agree with the audit's reading of the wire format."""

from __future__ import annotations

from tests.auditors.making import NOW, Chain

from sealtrail import dsse, headers
from sealtrail.batch import SignedBatch, unframe
from sealtrail.statement import BatchStatement
from sealtrail_producer.envelope import _headers


def statement() -> BatchStatement:
    value = Chain(1).batch(1, NOW + 17)
    return BatchStatement.decode(SignedBatch.decode(unframe(value)[1]).statement)


def test_the_sdk_s_headers_agree():
    must = statement()
    name = f"{must.chain_id.hex()}:{must.batch_seq}"
    made = dict(_headers(must.identity, dsse.BATCH, name, must.signed_at))
    names = [n.encode() for n in made]
    assert list(headers.wrong(must, names, list(made.values()))) == []


def test_each_header_that_says_something_else_is_named():
    must = statement()
    names = [*headers.named(must), b"ce_time", b"other"]
    found = [name for name, _, _ in headers.wrong(must, names, [b"x"] * len(names))]
    assert found == names[:-1]
    assert list(headers.wrong(must, [b"ce_time"], [b"2026-01-01T00:00:00"]))


def test_what_contradicts_the_statement_is_not_kept():
    must = statement()
    good = [(name.decode(), value) for name, value in headers.named(must).items()]
    other = [("other", b"\xff\xfe"), ("other", b"")]
    lies = [("ce_source", b"/x"), ("ce_time", b"\xff"), ("ce_time", b"0001-01-01T00:00:00+23:59")]
    assert headers.consistent(must, [*lies, *good, *other]) == [*good, *other]
