"""`orders`: takes orders, records each one, hands it on with a reference to its event."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail.event import EntityRef, EventType
from sealtrail_producer import reference
from sealtrail_producer.services.messages import Message, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sealtrail_producer import Trail

GOODS = (("tea", 480), ("coffee", 1190), ("mate", 720), ("cocoa", 950))


def incoming(count: int) -> Iterator[dict[str, str | int]]:
    """What customers would send: orders, the same ones in each run."""
    for number in range(1, count + 1):
        article, price = GOODS[number % len(GOODS)]
        pieces = number % 5 + 1
        yield {"order": f"A-{number:05}", "article": article, "cents": pieces * price}


def serve(
    trail: Trail, orders: Iterable[dict[str, str | int]], hand_on: Callable[[Message], None]
) -> int:
    """Take orders until there are no more; how many those were.

    Args:
        trail: where the service records what it does.
        orders: what comes in.
        hand_on: takes each order with its headers.
    """
    taken = 0
    for order in orders:
        body = canonical(order)
        placed = EntityRef(
            "shop/orders", str(order["order"]), "1", sha256(body).digest(), len(body)
        )
        receipt = trail.emit("orders.place", event_type=EventType.CREATE, outputs=[placed])
        # The reference travels with the data: whoever works on it can name its cause.
        cause = reference.format(receipt.reference)
        hand_on(Message(order, ((reference.HEADER, cause),)))
        taken += 1
    return taken
