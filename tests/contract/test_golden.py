"""Golden bytes: made again they are the same, and they say what golden.json says."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.contract import second_verifier
from tests.contract import world as w
from tests.vectors import generate

from sealtrail import avro, batch, dsse, ids, merkle, records, resources, statement, validate
from sealtrail.causal import causal_prefix
from sealtrail.event import COMMITMENT_TAG
from sealtrail.findings import SEVERITIES, Code
from sealtrail.validate import Place, VerifiedBatch, VerifiedHeartbeat

REPOSITORY = Path(__file__).parents[2]
FILES = {path.name: path.read_bytes() for path in generate.GOLDEN.iterdir()}
TABLE = json.loads(FILES["golden.json"])
BATCHES = [f for f in TABLE["files"] if f["file"].startswith("batch")]
RECORDS = [f["file"] for f in TABLE["files"] if f["file"].startswith("record")]
# The second signature is only there to be seen; verifiers of the world trust one operator.
COUNTED = [
    "record-key.bin",
    "record-key-ml-dsa-44.bin",
    "record-key-retired.bin",
    "record-schema.bin",
]


def test_made_again_they_are_the_same() -> None:
    made = generate.generate()
    assert sorted(made) == sorted(FILES)
    for name, content in made.items():
        assert content == FILES[name], f"{name}: run python -m tests.vectors.generate"


def test_a_lost_ml_dsa_signature_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{generate.POST_QUANTUM}.bin"
    monkeypatch.setattr(generate, "GOLDEN", tmp_path)
    fresh = generate.post_quantum()
    assert isinstance(w.judge(fresh), VerifiedBatch)
    assert fresh != FILES[name]
    (tmp_path / name).write_bytes(fresh)
    assert generate.post_quantum() == fresh
    envelope = batch.SignedBatch.decode(batch.unframe(fresh)[1])
    spoilt = [s[:-1] + bytes([s[-1] ^ 1]) for s in envelope.signatures]
    (tmp_path / name).write_bytes(fresh.replace(envelope.signatures[-1], spoilt[-1]))
    assert isinstance(w.judge(generate.post_quantum()), VerifiedBatch)


def place() -> Place:
    where = TABLE["place"]
    return Place(where["environment"], where["tenants"], where["topic"], where["partition"])


def directory() -> records.Directory:
    known = records.Directory(records.TrustRoot.from_json(json.dumps(TABLE["trust_root"])))
    for name in COUNTED:
        known.add(FILES[name], TABLE["records_arrive"])
    return known


@pytest.mark.parametrize("about", TABLE["files"], ids=lambda f: f["file"])
def test_what_golden_json_says(about: dict[str, Any]) -> None:
    assert sha256(FILES[about["file"]]).hexdigest() == about["sha256"]


@pytest.mark.parametrize("about", BATCHES, ids=lambda f: f["file"])
def test_golden_batches_are_verified(about: dict[str, Any]) -> None:
    result = validate.validate(FILES[about["file"]], place(), TABLE["arrival"], directory())
    assert isinstance(result, VerifiedBatch), result
    assert result.statement_hash.hex() == about["statement_hash"]
    assert [leaf.hex() for leaf in result.leaf_hashes] == about["leaf_hashes"]
    said = result.statement
    for index, text in enumerate(about["event_ids"]):
        seq = said.first_seq + index
        assert ids.parse(ids.from_text(text)) == (ids.chain_prefix(said.chain_id), seq)


def test_the_second_verifier_takes_them_too() -> None:
    values = [(TABLE["records_arrive"], FILES[name]) for name in COUNTED]
    known = second_verifier.Records([w.OPERATOR.public_key.der], 1, values)
    for about in BATCHES:
        value, at = FILES[about["file"]], TABLE["arrival"]
        assert second_verifier.verify(value, TABLE["place"], at, known, at) is None


def test_the_golden_heartbeat() -> None:
    result = validate.validate(FILES["heartbeat.bin"], place(), TABLE["arrival"], directory())
    assert isinstance(result, VerifiedHeartbeat)
    second = next(f for f in BATCHES if f["file"] == "batch-second.bin")
    assert result.heartbeat.head.hex() == second["statement_hash"]


@pytest.mark.parametrize("name", RECORDS)
def test_golden_records_are_signed(name: str) -> None:
    record = records.SignedRecord.decode(FILES[name])
    record.open(w.ROOT)
    if name == "record-key-two-operators.bin":
        record.open(records.TrustRoot(2, (w.OPERATOR.public_key, w.OPERATOR_2.public_key)))


def test_the_golden_chain_is_one() -> None:
    one, two, close, follows = (
        next(f["statement"] for f in BATCHES if f["file"] == f"batch-{n}.bin")
        for n in ("first", "second", "close", "continues")
    )
    assert one["chain_id"] == two["chain_id"] == close["chain_id"] != follows["chain_id"]
    head = next(f for f in BATCHES if f["file"] == "batch-close.bin")["statement_hash"]
    assert follows["genesis"]["continues"]["head"] == head
    second = batch.SignedBatch.decode(batch.unframe(FILES["batch-second.bin"])[1])
    first = batch.SignedBatch.decode(batch.unframe(FILES["batch-first.bin"])[1])
    parent = causal_prefix(second.events[0])[1][0]
    assert parent.leaf_hash == merkle.leaf_hash(first.events[0])
    assert parent.occurred_at == causal_prefix(first.events[0])[0]
    assert ids.text(parent.event_id) in (REPOSITORY / "docs/wire-format.md").read_text()


def test_the_example_of_the_text_is_the_golden_file() -> None:
    text = (REPOSITORY / "docs/wire-format.md").read_text()
    block = re.search(r"## Example.*?```\n(.*?)```", text, re.DOTALL)
    assert block is not None
    # Bytes stand before two spaces, or fill the line; what follows says what they are.
    rows = [line.split("  ")[0] for line in block[1].splitlines()]
    assert bytes.fromhex("".join(rows)) == FILES["batch-first.bin"]


def test_the_root_of_the_text_is_the_golden_file() -> None:
    text = (REPOSITORY / "docs/wire-format.md").read_text()
    block = re.search(r"record-root.bin.*?```\n(.*?)```", text, re.DOTALL)
    assert block is not None
    rows = [re.split(r"  +", line)[0] for line in block[1].splitlines()]
    assert bytes.fromhex("".join(rows)) == FILES["record-root.bin"]


def test_the_text_names_every_payload_type_and_tag() -> None:
    text = (REPOSITORY / "docs/wire-format.md").read_text()
    assert all(f"`{name}`" in text for name in dsse.PAYLOAD_TYPES)
    for tag in (statement.CHAIN_ID_TAG, COMMITMENT_TAG):
        assert f"`{tag[:-1].decode()}` 00" in text


def test_the_text_lists_every_finding_with_its_severity() -> None:
    text = (REPOSITORY / "docs/wire-format.md").read_text()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.partition("## Findings")[2].splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ][1:]
    assert [(row[0], row[3]) for row in rows] == [(str(c), str(SEVERITIES[c])) for c in Code]


@pytest.mark.parametrize(
    "path", sorted(resources.path("schemas").glob("*.avsc")), ids=lambda p: p.stem
)
def test_the_text_has_the_layout_of_every_record(path: Path) -> None:
    text = (REPOSITORY / "docs/wire-format.md").read_text()
    names = [field["name"] for field in avro.load_schema(path.stem)["fields"]]
    tables = re.findall(r"\| field \| type \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text)
    assert names in [re.findall(r"^\| `(\w+)`", table, re.MULTILINE) for table in tables]
