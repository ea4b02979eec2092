"""Nothing linked: the worker as it ships, but that no event names a parent to it.

Each event is verified, its causal prefix read as ever; then what it says of parents is forgotten,
so that neither links nor the order of clocks along them are looked at. By how much less the worker
computes, linking and skew take. (The store makes its edges of the events' bytes, in any variant.)
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sealtrail.validate import VerifiedBatch
from sealtrail_processor.judging import judge
from sealtrail_processor.pipeline import wiring

if TYPE_CHECKING:
    from sealtrail.records import Directory
    from sealtrail.validate import Place
    from sealtrail_processor.judging.judge import Arrival, Examined
    from sealtrail_processor.judging.model import RawMessage


def examine(message: RawMessage, arrival: Arrival, place: Place, directory: Directory) -> Examined:
    """Steps 1 to 9; of what was found, parents are left out."""
    examined = judge.examine(message, arrival, place, directory)
    batch = examined.outcome
    if not isinstance(batch, VerifiedBatch):
        return examined
    nothing = dataclasses.replace(batch.parents, following=(), others={})
    orphans = dataclasses.replace(batch, parents=nothing)
    return dataclasses.replace(examined, outcome=orphans)


if __name__ == "__main__":
    wiring.run(lambda outside: dataclasses.replace(outside, examine=examine))
