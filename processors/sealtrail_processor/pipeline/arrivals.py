"""When each message arrived: the broker's stamp, our receipt, or the first arrival of a release."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail_processor.judging import released
from sealtrail_processor.judging.judge import Arrival
from sealtrail_processor.judging.model import LOG_APPEND, ORIGINAL, RECEIPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.judging.model import RawMessage
    from sealtrail_processor.judging.ports import Coordinates, Ledger


def unstamped(messages: Sequence[RawMessage]) -> list[int]:
    """Offsets of messages that the broker did not stamp: their arrival is a receipt of ours."""
    return [message.offset for message in messages if not message.append_time]


def settled(
    messages: Sequence[RawMessage], receipts: Mapping[int, int], last: int, ledger: Ledger
) -> list[Arrival]:
    """Arrivals of a partition's next messages; they never go back.

    Args:
        messages: in the order of the log.
        receipts: by offset, of those that the broker did not stamp.
        last: the latest arrival before them.
        ledger: knows what was refused.

    Raises:
        UnavailableError: of the ledger.
    """
    found = []
    origins = _origins(messages, ledger)
    for message in messages:
        own = message.timestamp_us if message.append_time else receipts[message.offset]
        last = max(last, own)
        source = LOG_APPEND if message.append_time else RECEIPT
        origin = origins.get(message.offset)
        if origin is None:
            found.append(Arrival(last, source, last))
        else:
            # A release is judged with the keys known now, but it arrived when it arrived first.
            found.append(Arrival(origin[1], ORIGINAL, last, origin[0]))
    return found


def _origins(messages: Sequence[RawMessage], ledger: Ledger) -> dict[int, tuple[Coordinates, int]]:
    """Offset -> (coordinates, arrival) of the refused message that it repeats."""
    claims = {}
    for message in messages:
        origin = released.origin(message.headers)
        if origin is not None and message.value is not None:
            claims[message.offset] = (origin, sha256(message.value).digest())
    if not claims:
        return {}
    # Anybody can write a header: only that the same bytes were refused there bears it out.
    known = ledger.refused({origin for origin, _ in claims.values()})
    return {
        offset: (origin, known[origin][0])
        for offset, (origin, digest) in claims.items()
        if origin in known and known[origin][1] == digest
    }
