"""The commands, as people call them, against a real store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.auditors import making
from tests.auditors.making import TOPIC, Chain, Partition

from sealtrail import ids
from sealtrail.cli.main import run
from sealtrail_processor.judging.model import Log

if TYPE_CHECKING:
    from tests.auditors.conftest import Room


@pytest.fixture
def chain(room: Room, environment: None) -> Chain:
    """A chain of two batches in an empty store, and the environment to ask for it."""
    room.empty()
    part, chain = Partition(Log(f"log-{room.number}", TOPIC, 0)), Chain(room.number)
    room.write([part.flush(*((chain.chain_id, chain.batch(3, part.arrival)) for _ in range(2)))])
    columns = (
        *("child_chain", "child_seq", "child_branch", "ordinal", "parent_id", "verdict"),
        *("decided_at", "version"),
    )
    rows = [
        (chain.chain_id, 5, 0, 0, chain.references[4].event_id, verdict, making.NOW, version)
        for version, verdict in enumerate(("PENDING", "VERIFIED"))
    ]
    room.store.insert("link_verdicts", columns, rows, f"verdicts-{room.number}")
    return chain


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = called(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_sql_in_all_formats(chain: Chain, capsys: pytest.CaptureFixture[str]):
    question = "SELECT producer, count() AS n, [1, 2] AS list FROM provenance.events GROUP BY 1"
    assert answer(capsys, "sql", question) == [{"producer": "orders", "n": 6, "list": [1, 2]}]
    code, out, _ = called(capsys, "sql", question, "--format", "csv")
    assert (code, out) == (0, 'producer,n,list\norders,6,"[1,2]"\n')
    code, out, _ = called(capsys, "sql", question)
    assert code == 0
    assert "orders" in out


def test_sql_binds_parameters_and_shows_bytes_as_hex(
    chain: Chain, capsys: pytest.CaptureFixture[str]
):
    found = answer(
        capsys,
        *("sql", "SELECT chain_id, max(seq) AS top FROM events WHERE seq < {n:UInt64} GROUP BY 1"),
        *("-p", "n=4"),
    )
    assert found == [{"chain_id": chain.chain_id.hex(), "top": 3}]


def test_sql_says_when_there_is_more(chain: Chain, capsys: pytest.CaptureFixture[str]):
    code, out, err = called(capsys, "sql", "SELECT seq FROM events", "--limit", "2", "--json")
    assert (code, len(json.loads(out))) == (0, 2)
    assert "only the first 2 rows" in err


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("SELECT nothing FROM events", "UNKNOWN_IDENTIFIER"),
        ("DROP TABLE events", "readonly"),
        ("INSERT INTO events SELECT * FROM events", "readonly"),
        ("SELECT {n:UInt8}", "not set"),
        ("SELECT 1; SELECT 2", ""),
        ("SELECT throwIf(number = 100000) FROM numbers(1000000)", ""),
    ],
)
def test_sql_errors_are_one_line(
    chain: Chain, capsys: pytest.CaptureFixture[str], question: str, said: str
):
    code, out, err = called(capsys, "sql", question, "--limit", "0")
    assert (code, out) == (3, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_a_parameter_without_a_name_is_wrong_usage(
    chain: Chain, capsys: pytest.CaptureFixture[str]
):
    code, _, err = called(capsys, "sql", "SELECT 1", "-p", "x")
    assert code == 2
    assert "name=value" in err


def test_an_event_is_shown_with_its_proof(chain: Chain, capsys: pytest.CaptureFixture[str]):
    event_id = ids.text(chain.references[5].event_id)
    (shown,) = answer(capsys, "event", "show", event_id)
    assert shown["id"] == event_id
    assert shown["proof"]["verified"] is True
    assert shown["proof"]["leaf_hash"] == chain.references[5].leaf_hash.hex()
    assert shown["position"]["seq"] == 5
    assert shown["event"]["activity"] == "orders.enrich"
    (parent,) = shown["parents"]
    assert parent["id"] == ids.text(chain.references[4].event_id)
    assert parent["verdict"] == "VERIFIED"
    assert shown["children"] == 0
    code, out, _ = called(capsys, "event", "show", ids.text(chain.references[4].event_id))
    assert code == 0
    assert "VERIFIED" in out
    assert "children 1" in out


def test_an_event_whose_bytes_were_changed_does_not_verify(
    chain: Chain, room: Room, capsys: pytest.CaptureFixture[str]
):
    room.change("ALTER TABLE payloads UPDATE value = concat(value, 'x') WHERE 1")
    code, out, _ = called(capsys, "event", "show", ids.text(chain.references[5].event_id))
    assert code == 1
    assert "NOT VERIFIED: MALFORMED" in out


def test_an_event_whose_row_was_changed_does_not_verify(
    chain: Chain, room: Room, capsys: pytest.CaptureFixture[str]
):
    room.change("ALTER TABLE events UPDATE leaf_hash = reverse(leaf_hash)::FixedString(32) WHERE 1")
    code, out, _ = called(capsys, "event", "show", ids.text(chain.references[5].event_id))
    assert code == 1
    assert "leaf_hash" in out


def test_an_unknown_event_and_a_bad_id(chain: Chain, capsys: pytest.CaptureFixture[str]):
    unknown = ids.text(ids.event_id(bytes(32), 1))
    code, _, err = called(capsys, "event", "show", unknown)
    assert code == 3
    assert "no event" in err
    code, _, err = called(capsys, "event", "show", "x")
    assert code == 3
    assert "UUID" in err


def test_lineage_of_an_event(chain: Chain, capsys: pytest.CaptureFixture[str]):
    names = [ids.text(reference.event_id) for reference in chain.references]
    up = answer(capsys, "lineage", names[5], "--up", "--depth", "2")
    assert [event["id"] for event in up["events"]] == [names[5], names[4], names[3]]
    assert [edge["verdict"] for edge in up["edges"]] == ["VERIFIED", "PENDING"]
    assert up["notes"] == ["depth 2 reached: 1 further events lie beyond it"]
    down = answer(capsys, "lineage", names[0], "--down", "--depth", "9")
    assert [event["id"] for event in down["events"]] == names
    code, out, _ = called(capsys, "lineage", names[5])
    assert code == 0
    assert f"└── {names[4]} [VERIFIED]" in out


def test_lineage_of_an_entity(chain: Chain, capsys: pytest.CaptureFixture[str]):
    names = [ids.text(reference.event_id) for reference in chain.references]
    up = answer(capsys, "lineage", "s3://lake/größe", "--depth", "0")
    assert up["of"] == "s3://lake/größe"
    assert sorted(up["start"]) == sorted(names)
    down = answer(capsys, "lineage", "orders@7", "--down", "--depth", "0")
    assert down["of"] == "kafka://local/orders@7"
    assert len(down["start"]) == 6
    code, _, err = called(capsys, "lineage", "no/such")
    assert code == 3
    assert "knows no entity" in err


def test_audit_store_is_clean_and_names_an_edited_row(
    chain: Chain, room: Room, capsys: pytest.CaptureFixture[str]
):
    report = answer(capsys, "audit", "store")
    assert (report["clean"], report["events"], report["batches"]) == (True, 6, 2)
    room.change("ALTER TABLE events UPDATE activity = 'forged' WHERE seq = 3")
    code, out, _ = called(capsys, "audit", "store", "--json")
    assert code == 1
    (finding,) = json.loads(out)["findings"]
    assert finding["code"] == "ROW_CHANGED"
    assert finding["key"]["event"] == ids.text(chain.references[3].event_id)
    assert (finding["stored"], finding["computed"]) == ("forged", "orders.enrich")
    code, out, _ = called(capsys, "audit", "store")
    assert code == 1
    assert "activity: stored forged, computed orders.enrich" in out


def test_without_a_trust_root_nothing_can_be_verified(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SEALTRAIL_TRUST_ROOT", "/nonexistent/root.json")
    code, _, err = called(capsys, "audit", "store")
    assert code == 3
    assert "trust root" in err


def test_a_store_that_does_not_answer_is_said_in_one_line(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SEALTRAIL_STORE_URL", "http://127.0.0.1:9")
    code, _, err = called(capsys, "sql", "SELECT 1")
    assert code == 3
    assert "does not answer" in err
    assert len(err.strip().splitlines()) == 1
