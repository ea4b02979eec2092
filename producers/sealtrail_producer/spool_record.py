"""How a message lies in the spool: length, checksum, message.

    length   4 bytes, big-endian: bytes of the body
    digest  16 bytes: the first half of SHA-256(index, length, body)
    body     flags (1), partition (4), lengths of topic (2), key (2) and number of headers (2),
    topic, key,
             per header: lengths (2, 4), name, value; the rest is the value

The index goes into the digest but not into the file: it is the position, and a record that is found
anywhere else (an old block of the file system, a copied segment) is no record.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

from sealtrail_producer.ports import Message

PREFIX = struct.Struct(">I16s")
MAX_BODY = 64 * 1024 * 1024
_INDEX = struct.Struct(">QI")
_HEAD = struct.Struct(">BIHHH")
_HEADER = struct.Struct(">HI")
_FRAMED, _DURABLE = 1, 2


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the spool.

    framed: its value is final. Otherwise it is an envelope that waits for the registry's ids.
    durable: it was on disk before it was sent, so that a later chain may name it as continued.
    """

    index: int
    message: Message
    framed: bool
    durable: bool


def encode(index: int, message: Message, *, framed: bool, durable: bool) -> bytes:
    """The bytes of one record."""
    topic = message.topic.encode()
    flags = framed * _FRAMED | durable * _DURABLE
    parts = [
        _HEAD.pack(flags, message.partition, len(topic), len(message.key), len(message.headers)),
        topic,
        message.key,
    ]
    for name, value in message.headers:
        raw = name.encode()
        parts += (_HEADER.pack(len(raw), len(value)), raw, value)
    parts.append(message.value)
    body = b"".join(parts)
    return PREFIX.pack(len(body), _digest(index, body)) + body


def decode(index: int, prefix: bytes, body: bytes) -> Record | None:
    """The record that stands at an index, or None if these bytes are not it."""
    length, digest = PREFIX.unpack(prefix)
    if length != len(body) or digest != _digest(index, body):
        return None
    try:
        return _read(index, body)
    except (struct.error, UnicodeDecodeError):
        # The digest is no secret: whoever can write here can make it hold.
        return None


def _read(index: int, body: bytes) -> Record:
    """The record in a body whose digest holds."""
    flags, partition, topic_size, key_size, count = _HEAD.unpack_from(body)
    at = _HEAD.size
    topic = body[at : at + topic_size].decode()
    at += topic_size
    key = body[at : at + key_size]
    at += key_size
    headers = []
    for _ in range(count):
        name_size, value_size = _HEADER.unpack_from(body, at)
        at += _HEADER.size
        name = body[at : at + name_size].decode()
        at += name_size
        headers.append((name, body[at : at + value_size]))
        at += value_size
    message = Message(topic, partition, key, tuple(headers), body[at:])
    return Record(index, message, bool(flags & _FRAMED), bool(flags & _DURABLE))


def _digest(index: int, body: bytes) -> bytes:
    return sha256(_INDEX.pack(index, len(body)) + body).digest()[:16]
