"""Sends one message with a header whose name is no UTF-8, which no client library does by itself.

Usage: nameless.py TOPIC PARTITION VALUE_IN_HEX, with AIOKAFKA_NO_EXTENSIONS=1: aiokafka's Python
code lets a name encode itself. Prints the offset.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from aiokafka import AIOKafkaProducer


class Name(str):
    """A header's name, on the wire three bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        """Those bytes."""
        return b"\xff\xfe\xfd"


async def send(topic: str, partition: int, value: bytes) -> int:
    """Send it; its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=os.environ["SEALTRAIL_KAFKA_BOOTSTRAP"])
    await producer.start()
    try:
        headers = [(Name("abc"), b"value"), ("good", b"1")]
        # A compacted topic takes none without a key.
        place = {"key": b"any", "partition": partition}
        sent = await producer.send_and_wait(topic, value, headers=headers, **place)
        return int(sent.offset)
    finally:
        await producer.stop()


if __name__ == "__main__":
    offset = asyncio.run(send(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])))
    sys.stdout.write(f"{offset}\n")
