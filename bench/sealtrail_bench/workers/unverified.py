"""Nothing verified: the worker as it ships, but that it believes every batch.

No signature, canonical form, key, schema pin, hash, root, cause or clock is looked at. What
remains: consuming, chains, the insert with its boundary check, all tables, the commit.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sealtrail import avro
from sealtrail.batch import SignedBatch, unframe
from sealtrail.causal import Parents
from sealtrail.statement import ZERO, BatchStatement
from sealtrail.validate import VerifiedBatch
from sealtrail_processor.judging.judge import Arrival, Examined
from sealtrail_processor.pipeline import wiring

if TYPE_CHECKING:
    from sealtrail.records import Directory
    from sealtrail.validate import Place
    from sealtrail_processor.judging.model import RawMessage


def believe(message: RawMessage, arrival: Arrival, place: Place, directory: Directory) -> Examined:
    """Steps 1 to 9 without any of them: a batch is what it says."""
    del place, directory
    value = avro.codec("SignedBatch").decode_any(unframe(message.value or b"")[1])
    said = avro.codec("BatchStatement").decode_any(value["statement"])
    events = tuple(value["events"])
    envelope = SignedBatch(
        value["payload_type"], value["statement"], tuple(value["signatures"]), 0, events
    )
    leaves, times = (ZERO,) * len(events), (0,) * len(events)
    batch = VerifiedBatch(
        envelope,
        BatchStatement.read(said),
        # Some name of the batch for the chain; the statement's root serves.
        said["root"],
        leaves,
        times,
        Parents(0, times, leaves, (), {}),
        avro.codec("ProvenanceEvent"),
    )
    return Examined(message, arrival, batch)


if __name__ == "__main__":
    wiring.run(lambda outside: dataclasses.replace(outside, examine=believe))
