"""Hostile inputs by name. Those in this folder are made by `python -m tests.attacks.assets.make`.

What needs a key is made when it is used, by the attack that uses it; what is published elsewhere
(Wycheproof, C2SP) lies in tests/vectors.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).resolve().parent
_P = 2**255 - 19
_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022


# A schema that reads an event as something else.
POISON = '{"type":"record","name":"ProvenanceEvent","fields":[{"name":"salt","type":"string"}]}'


def weak_keys() -> list[bytes]:
    """Ed25519 public keys that must never be registered, 32 bytes each.

    The 14 encodings of points whose order divides eight (RFC 8032 section 5.1, both signs of x, and
    y not reduced), two that are not canonical though of full order's form, and one that is no point
    of the curve.
    """
    small = [0, 1, _P - 1, _Y8, _P - _Y8, _P, _P + 1]
    encodings = [y | sign << 255 for y in small for sign in (0, 1)]
    encodings += [_P + 3, 2**255 - 1, 2]
    return [number.to_bytes(32, "little") for number in encodings]


def texts() -> dict[str, str]:
    """Texts that are valid UTF-8 and do something to whoever shows them."""
    return {
        "nul": "a\0b",
        "ansi": "\x1b[2J\x1b[31mred\x1b[0m",
        "bidi": "invoice\u202etxt.exe",
        "line-ends": "one\ntwo\r\nthree\u2028four\u2029five\x85six",
        "zero-width": "pay\u200bpal\u2060\ufeff",
        "composed": "\u00e9",
        "decomposed": "e\u0301",
        "noncharacter": "\ufffe\uffff\U0010ffff",
        "formula": '=HYPERLINK("http://127.0.0.1","x")',
        "markup": "<script>alert(1)</script>",
        "sql": "'; DROP TABLE sealtrail.events; --",
        "tabs": "a\tb\vc\fd\be",
    }


def no_texts() -> dict[str, bytes]:
    """Bytes in the place of a text that are no UTF-8."""
    return {
        "latin-1": b"gr\xf6\xdfe",
        "overlong": b"\xc0\xaf",
        "surrogate": b"\xed\xa0\x80",
        "cut": b"\xe2\x82",
        "beyond": b"\xf4\x90\x80\x80",
        "continuation": b"\x80\x80\x80",
    }


def schemas() -> dict[str, str]:
    """Schemas that kill or stall a decoder, or read another thing than was written."""
    prefix = '{"type":"record","name":"ProvenanceEvent","namespace":"sealtrail.v1","fields":['
    time = '{"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-micros"}}'
    renamed = '{"name":"happened_at","aliases":["occurred_at"],"type":"long","default":0}'
    extra = {
        "recursive": '{"name":"next","type":["null","ProvenanceEvent"],"default":null}',
        "nothing": '{"name":"x","type":{"type":"array","items":"null"}}',
        "empty-records": '{"name":"x","type":{"type":"array","items":'
        '{"type":"record","name":"E","fields":[]}}}',
        "fixed-of-nothing": '{"name":"x","type":{"type":"fixed","name":"F","size":0}}',
        "decimal": '{"name":"x","type":{"type":"bytes","logicalType":"decimal",'
        '"precision":1000000,"scale":2}}',
        "twice": '{"name":"x","type":"int"},{"name":"x","type":"string"}',
        "unknown": '{"name":"x","type":"object"}',
        "store-name": '{"name":"_canary","type":"long"}',
    }
    made = {name: f"{prefix}{time},{field}]}}" for name, field in extra.items()}
    made["renamed"] = f"{prefix}{renamed}]}}"
    made["brackets"] = "[" * 100_000
    made["nested"] = '{"type":"array","items":' * 2_000 + '"int"' + "}" * 2_000
    made["wide"] = f"{prefix}{time}" + "".join(
        f',{{"name":"f{n}","type":"int"}}' for n in range(1_000)
    )
    made["wide"] += "]}"
    made["name-twice"] = '{"type":"record","type":"enum","name":"E","symbols":["A"]}'
    made["not-json"] = "{'type': 'record'}"
    made["empty"] = ""
    return made


def files() -> Mapping[str, bytes]:
    """The assets that are files, by name."""
    named = {f"schema-{name}.avsc": text.encode() for name, text in schemas().items()}
    named |= {f"text-{name}.txt": text.encode() for name, text in texts().items()}
    named |= {f"text-not-utf-8-{name}.bin": data for name, data in no_texts().items()}
    named["ed25519-weak-keys.txt"] = "".join(f"{key.hex()}\n" for key in weak_keys()).encode()
    return named


if __name__ == "__main__":
    for name, content in files().items():
        (HERE / name).write_bytes(content)
        sys.stdout.write(f"{len(content):8} {name}\n")
