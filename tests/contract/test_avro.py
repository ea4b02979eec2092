"""Canonical Avro and schemas that cannot hurt (C2 to C9)."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail import avro, resources
from sealtrail.errors import ContractError, MalformedError, NotCanonicalError

JCS = Path(__file__).parents[1] / "vectors/jcs"
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
MAP = {"type": "map", "values": "string"}
LONGS = {"type": "array", "items": "long"}


def record(*fields: Any, name: str = "R") -> Any:
    made = [{"name": f"f{i}", "type": f} for i, f in enumerate(fields)]
    return {"type": "record", "name": name, "fields": made}


@pytest.mark.parametrize(
    ("schema", "hexes"),
    [
        ("long", "8000"),  # zero in two bytes
        ("long", "82808000"),
        ("long", "80808080808080808002"),  # more than 64 bits
        ("long", "0000"),  # trailing byte
        ("boolean", "02"),
        (["null", "long"], "0200ff"),
        (["null", "long"], "0102"),  # branch -1
        (ENUM, "01"),  # symbol -1
        (LONGS, "0202020400"),  # two blocks
        (LONGS, "03040204 00".replace(" ", "")),  # negative count and size
        (LONGS, "800000"),  # end in two bytes
        (MAP, "04026202780261027800"),  # keys not sorted
        (MAP, "04026102780261027800"),  # a key twice
        (MAP, "0202610278020262027800"),  # two blocks
        ("string", "8200" + "61"),
        (FIXED, "616263"),
    ],
)
def test_c8_another_encoding_than_the_canonical_is_refused(schema: Any, hexes: str) -> None:
    codec = avro.Codec(schema)
    data = bytes.fromhex(hexes)
    codec.decode_any(data)  # a lenient decoder takes it
    with pytest.raises(NotCanonicalError):
        codec.decode(data)


@pytest.mark.parametrize(
    ("schema", "hexes"),
    [
        ("long", ""),
        ("long", "80"),
        ("string", "01"),
        ("string", "0461"),
        ("string", "04c328"),  # not UTF-8
        ("string", "06eda080"),  # a surrogate
        ("string", "feffffffffffffffff01"),  # 2^63 - 1 bytes
        ("bytes", "ffffffffffffffffff01"),  # -2^63 bytes
        ("float", "00"),
        ("double", "00000000000000"),
        (FIXED, "61"),
        (ENUM, "04"),
        (["null", "long"], "04"),
        (LONGS, "feffffffffffffffff01"),
        (MAP, "0204"),
        ("boolean", ""),
    ],
)
def test_c6_what_cannot_be_decoded_is_malformed(schema: Any, hexes: str) -> None:
    with pytest.raises(MalformedError):
        avro.Codec(schema).decode(bytes.fromhex(hexes))


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40])
def test_an_int_has_32_bits(number: int) -> None:
    wide, narrow = avro.Codec(record("long")), avro.Codec(record("int"))
    with pytest.raises(NotCanonicalError):
        narrow.decode(wide.encode({"f0": number}))
    with pytest.raises(MalformedError):
        narrow.encode({"f0": number})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("long", 2**63),
        ("long", "1"),
        ("string", b"x"),
        ("string", "\ud800"),
        (FIXED, b"abc"),
        (ENUM, "C"),
        (record("long"), {}),
        (record("long"), {"f0": 1, "f1": 2}),
        (record("int"), {}),
        (record("long"), None),
        (MAP, {"a": 1}),
        (MAP, {1: "a"}),
    ],
)
def test_a_value_that_does_not_fit_is_malformed(schema: Any, value: Any) -> None:
    with pytest.raises(MalformedError):
        avro.Codec(schema).encode(value)


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=8))
def test_maps_are_written_in_byte_order(value: dict[str, str]) -> None:
    codec = avro.Codec(record(MAP, LONGS))
    data = codec.encode({"f0": value, "f1": [1, 2]})
    assert codec.decode(data) == {"f0": value, "f1": [1, 2]}
    backwards = dict(sorted(value.items(), key=lambda kv: kv[0].encode(), reverse=True))
    assert codec.encode({"f0": backwards, "f1": [1, 2]}) == data


@given(st.sampled_from(["BatchStatement", "SignedBatch", "Heartbeat", "KeyRecord"]), st.binary())
def test_hostile_bytes_raise_only_our_errors(name: str, data: bytes) -> None:
    with suppress(ContractError):
        avro.codec(name).decode(data)


def nested(levels: int) -> str:
    return '{"type":"array","items":' * levels + '"long"' + "}" * levels


def tower(height: int) -> Any:
    """Records of records of nothing: 256 ** height steps for no byte."""
    schema = record("null", name="R0")
    for level in range(1, height):
        schema = record(schema, *[f"R{level - 1}"] * 200, name=f"R{level}")
    return schema


LINKED = record(["null", "R"])
HARMFUL = {
    "recursion": LINKED,
    "recursion in an array": record({"type": "array", "items": "R"}),
    "recursion by namespace": {"namespace": "a.b", **record(["null", "a.b.R"])},
    "array of null": {"type": "array", "items": "null"},
    "array of wrapped null": {"type": "array", "items": {"type": "null"}},
    "record without fields": record(),
    "record of nulls": record("null", {"type": {"type": "null"}}),
    "tower of nothing": tower(20),
    "fixed of no size": {"type": "fixed", "name": "F", "size": 0},
    "fixed of true size": {"type": "fixed", "name": "F", "size": True},
    "fixed of huge size": {"type": "fixed", "name": "F", "size": 2**40},
    "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 10},
    "decimal field": {
        **record("long"),
        "fields": [{"name": "a", "type": "bytes", "logicalType": "decimal"}],
    },
    "too deep": json.loads(nested(40)),
    "unknown type": "Nothing",
    "type of a later name": record("Later", {"type": "enum", "name": "Later", "symbols": ["A"]}),
    "a name twice": record(FIXED, FIXED),
    "its own name within": record(record("long", name="R")),
    "no name": {"type": "record", "fields": [{"name": "a", "type": "long"}]},
    "no fields": {"type": "record", "name": "R"},
    "a field that is no object": {"type": "record", "name": "R", "fields": ["long"]},
    "namespace that is no text": {"type": "fixed", "name": "F", "size": 2, "namespace": 7},
    "bad name": {"type": "fixed", "name": "1-x", "size": 2},
    "too many fields": record(*["long"] * 257),
    "number": 7,
    "null": None,
    "no type": {"name": "R"},
    "symbol twice": {"type": "enum", "name": "E", "symbols": ["A", "A"]},
    "fastavro's own notes": {**record("long"), "__fastavro_parsed": True},
    "fastavro's own names": {**record("long"), "__named_schemas": {"X": LINKED}},
    "items missing": {"type": "array"},
}


@pytest.mark.parametrize("schema", HARMFUL.values(), ids=HARMFUL.keys())
def test_c2_to_c7_harmful_schemas_are_refused_at_once(schema: Any) -> None:
    start = time.perf_counter()
    with pytest.raises(MalformedError):
        avro.Codec(schema)
    assert time.perf_counter() - start < 0.5


def test_harmless_schemas_are_taken() -> None:
    for schema in (
        record(FIXED, ["null", "F"], {"type": "map", "values": "null"}, "null"),
        {"namespace": "a", **record(ENUM, {"type": "array", "items": ["null", "E"]})},
    ):
        assert avro.Codec(schema).fingerprint


@pytest.mark.parametrize(
    "text",
    [
        nested(100_000),
        nested(70),
        "[" * 1000,
        '"' + "x" * 70_000 + '"',
        "",
        "{",
        '{"a":1,"a":2}',
        b"\xff",
        '"long"'.encode("utf-16"),
        "\ufeff1",
        "\ud800",
        "1" * 5000,
    ],
    ids=range(12),
)
def test_c5_hostile_json_is_refused_before_it_is_parsed(text: str | bytes) -> None:
    with pytest.raises(MalformedError):
        avro.parse_json(text)


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_rfc_8785_vectors(name: str) -> None:
    text = (JCS / f"input/{name}.json").read_text()
    expected = bytes.fromhex((JCS / f"outhex/{name}.txt").read_text())
    if name in {"structures", "values"}:
        # These hold fractions or exponents, which no schema of ours has: refused, not guessed.
        with pytest.raises(MalformedError):
            avro.canonical_json(json.loads(text))
    if name != "values":
        value = json.loads(text, parse_float=lambda number: int(float(number)))
        assert avro.canonical_json(value) == expected


@pytest.mark.parametrize("value", [1.5, 2**53, -(2**53), float("nan"), ["\ud800"], {"\ud800": 1}])
def test_what_has_no_safe_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(MalformedError):
        avro.canonical_json(value)


def test_a_deep_value_has_no_canonical_form() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(MalformedError):
        avro.canonical_json(value)


def test_a_fingerprint_sees_logical_types_and_defaults_but_no_doc() -> None:
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    prints = {
        avro.fingerprint(record(s)) for s in (micros, millis, "long", {**micros, "doc": "when"})
    }
    assert len(prints) == 3
    field = {"name": "a", "type": "long", "default": 1}
    one = {"type": "record", "name": "R", "fields": [field]}
    other = {"type": "record", "name": "R", "fields": [{**field, "default": 2}]}
    assert avro.fingerprint(one) != avro.fingerprint(other)
    # What stands in a default is data, also when it is called doc.
    told = {**field, "type": MAP, "default": {"doc": "x"}}
    assert avro.without(told, "doc") == told


def test_every_shipped_schema_is_documented_and_harmless() -> None:
    files = sorted(resources.path("schemas").glob("*.avsc"))
    assert len(files) == 9
    for file in files:
        schema = avro.load_schema(file.stem)
        assert schema["name"] == file.stem
        assert schema["namespace"] == "sealtrail.v1"
        assert all(field.get("doc") for field in [schema, *schema["fields"]])
        assert avro.codec(file.stem).schema == schema


def test_c4_a_count_of_100_million_in_five_bytes_costs_nothing() -> None:
    codec = avro.Codec(LONGS)
    start = time.perf_counter()
    for count in (b"\x80\x84\xaf\x5f", b"\xff\x83\xaf\x5f"):
        with pytest.raises(MalformedError):
            codec.decode(count + b"\x00")
    assert time.perf_counter() - start < 0.5
