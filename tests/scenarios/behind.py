"""Sends one lz4 batch with bytes behind the end of its frame, which brokers do not look at.

Usage: behind.py TOPIC PARTITION, with AIOKAFKA_NO_EXTENSIONS=1: aiokafka's Python code takes its
encoder from a module. Prints the offset.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiokafka import AIOKafkaProducer
from aiokafka.codec import lz4_encode
from aiokafka.record import default_records

VALUE = b"what compresses well " * 500


def and_more(data: bytes) -> bytes:
    """A frame, and what is none."""
    return bytes(lz4_encode(data)) + b"behind its end"


async def send(topic: str, partition: int) -> int:
    """Send it; its offset."""
    default_records.lz4_encode = and_more
    bootstrap = os.environ["SEALTRAIL_KAFKA_BOOTSTRAP"]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="lz4")
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, VALUE, key=b"any", partition=partition)
        return int(sent.offset)
    finally:
        await producer.stop()


if __name__ == "__main__":
    offset = asyncio.run(send(sys.argv[1], int(sys.argv[2])))
    sys.stdout.write(f"{offset}\n")
