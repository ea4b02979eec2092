"""`sealtrail service orders|billing`: the example services as processes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from sealtrail.cli import OK, Output, pass_output
from sealtrail_producer.ports import SystemClock
from sealtrail_producer.services import billing, messages, orders
from sealtrail_producer.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.group("service")
def service_command() -> None:
    """Run one of the example services."""


@service_command.command("orders")
@click.option("--count", default=100, show_default=True, help="How many orders come in.")
@click.option("--every", default=0.01, show_default=True, help="Seconds between two orders.")
@click.option("--clock-offset", default=0.0, show_default=True, help="Seconds its clock is ahead.")
@pass_output
def orders_command(output: Output, count: int, every: float, clock_offset: float) -> int:
    """Take orders and hand them on: messages, a line each, on stdout."""

    def hand_on(message: messages.Message) -> None:
        messages.write(sys.stdout, message)
        time.sleep(every)

    clock = SystemClock(offset_us=round(clock_offset * 1_000_000))
    with Trail.from_env(producer="orders", clock=clock) as trail:
        taken = orders.serve(trail, orders.incoming(count), hand_on)
    output.remark(f"orders: {taken} orders taken")
    return OK


@service_command.command("billing")
@pass_output
def billing_command(output: Output) -> int:
    """Bill the orders that arrive as messages on stdin."""
    with Trail.from_env(producer="billing") as trail:
        billed = billing.serve(trail, _stdin())
    output.data({"events": billed})
    return OK


def _stdin() -> Iterator[messages.Message]:
    # Line by line as they come: iterating over sys.stdin would wait for a full buffer.
    return messages.read(iter(sys.stdin.readline, ""))
