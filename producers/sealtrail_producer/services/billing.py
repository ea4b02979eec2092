"""`billing`: bills each order that it is handed; the order's event is the cause of its own."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail.event import EntityRef, EventType
from sealtrail_producer.services.messages import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sealtrail_producer import Trail
    from sealtrail_producer.services.messages import Message


def serve(trail: Trail, messages: Iterable[Message]) -> int:
    """Bill orders until there are no more; how many those were.

    Args:
        trail: where the service records what it does.
        messages: orders with the headers that they came with.
    """
    billed = 0
    for message in messages:
        order = message.body
        taken = canonical(order)
        number = str(order["order"])
        invoice = canonical({"invoice": number.replace("A-", "R-"), "cents": order["cents"]})
        trail.emit(
            "billing.invoice",
            event_type=EventType.TRANSFORM,
            # What was read and what was made of it, each by its digest.
            inputs=[EntityRef("shop/orders", number, "1", sha256(taken).digest(), len(taken))],
            outputs=[
                EntityRef(
                    "shop/invoices",
                    number.replace("A-", "R-"),
                    "1",
                    sha256(invoice).digest(),
                    len(invoice),
                )
            ],
            parents=message.parents(),
        )
        billed += 1
    return billed
