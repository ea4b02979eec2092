"""Links of honest chains, bent copies of them, and what a worker does with each."""

from dataclasses import replace
from typing import Any

from tests.contract import world as w

from sealtrail.chain import BOUNDS, Bounds, Chains, Link, Placement
from sealtrail.findings import Code
from sealtrail.statement import statement_hash


def honest(counts: list[int], *, close: bool = False, **producer: Any) -> list[Link]:
    """Links of an honest chain with so many events in each batch."""
    made = w.Producer(**producer)
    links = []
    for number, count in enumerate(counts):
        last = close and number == len(counts) - 1
        events = [w.event(made.next_seq + i).encode() for i in range(count)]
        statement = made.statement(events, close=last)
        links.append(Link.of(statement, statement_hash(statement.encode()), w.NOW + number))
        made.advance(statement)
    return links


def feed(chains: Chains, *links: Link, bounds: Bounds = BOUNDS) -> list[Placement]:
    """Place and apply, as a worker does."""
    placements = []
    for link in links:
        placement = chains.place(link, bounds=bounds)
        placements.append(placement)
        if placement.branch is not None:
            chains.apply(replace(link, branch=placement.branch))
    return placements


def codes(placements: list[Placement]) -> list[list[Code]]:
    return [[finding.code for finding in p.findings] for p in placements]


FIVE = honest([2, 1, 3, 1, 2])
CLOSED = honest([2, 1, 0], close=True)
CHAIN = FIVE[0].chain_id


def forged(link: Link, **changes: Any) -> Link:
    return replace(link, statement_hash=w.digest("forged"), **changes)
