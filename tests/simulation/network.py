"""The network between an SDK and the broker: a connection, and what is on its way when it ends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tests.simulation.group import PARTITIONS

from sealtrail_producer.ports import BusyError

if TYPE_CHECKING:
    from tests.simulation.broker import SimBroker

    from sealtrail_producer.ports import Delivered, Message


class SimTransport:
    """One connection of an SDK; in order, like an idempotent producer's."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker
        self._waiting: deque[tuple[Message, Delivered]] = deque()

    def partitions(self, topic: str) -> int:
        """As the broker says."""
        del topic
        self._broker.ask()
        return PARTITIONS

    def standing(self, topic: str, partition: int) -> str:
        """Where it is."""
        return f"{topic}[{partition}] is simulated"

    def send(self, message: Message, done: Delivered) -> None:
        """Queue a message."""
        if len(self._waiting) >= 20:
            raise BusyError
        self._waiting.append((message, done))

    def poll(self, timeout_s: float) -> None:
        """Deliver until one has to wait."""
        del timeout_s
        while self._waiting:
            message, done = self._waiting[0]
            delivery = self._broker.take(message)
            if delivery is None:
                return
            self._waiting.popleft()
            done(delivery)

    def close(self) -> None:
        """Give up; what was sent may still be on its way."""
        for message, _ in self._waiting:
            if self._broker.tape.one_in(2):
                self._broker.late.append(message)
        self._waiting.clear()

    def abandon(self) -> None:
        """The process died: what it sent may still be on its way."""
        self.close()
