"""What comes out of the store, and how its errors are told, without a store."""

from __future__ import annotations

import pytest

from sealtrail_audit.reader import Answer, QueryError, explain, read_answer, shown
from sealtrail_audit.sql import as_csv, for_terminal

HEAD = [b'["a","b"]\n', b'["UInt8","FixedString(2)"]\n']


def test_bytes_are_hex_and_numbers_stay_whole():
    answer = read_answer(iter([*HEAD, b'[18446744073709551615,"\xff\\u0000"]\n']), 0)
    assert answer.rows == ((18446744073709551615, "ff00"),)
    assert not answer.cut


def test_only_as_many_rows_as_asked_for():
    lines = iter([*HEAD, *[b'[1,"xy"]\n'] * 9])
    answer = read_answer(lines, 3)
    assert (len(answer.rows), answer.cut) == (3, True)
    assert not read_answer(iter([*HEAD, *[b'[1,"xy"]\n'] * 3]), 3).cut


def test_an_engine_that_fails_in_the_middle():
    trailer = b"__exception__\r\nCode: 395. DB::Exception: Too big. (X) (version 1)\n"
    with pytest.raises(QueryError, match=r"^Too big\. \(X\)$"):
        read_answer(iter([*HEAD, b'[1,"xy"]\n', trailer]), 0)


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        ("ab", "FixedString(2)", "6162"),
        ("ab", "String", "ab"),
        ("\udcff", "String", "ff"),
        (["ab"], "Array(FixedString(2))", ["6162"]),
        (["ab", "cd"], "Tuple(FixedString(2), String)", ["ab", "cd"]),
        ({"k": "v"}, "Map(String, String)", {"k": "v"}),
        (None, "Nullable(FixedString(2))", None),
    ],
)
def test_values_as_people_see_them(value: object, type_: str, text: object):
    assert shown(value, type_) == text


def test_messages_of_the_engine_are_one_line():
    error = explain(
        RuntimeError("x\nCode: 497. DB::Exception: a:\n Not\n enough. (D) (version 26)")
    )
    assert error.message == "a: Not enough. (D)"
    assert "analysts only read" in error.hint
    assert explain(RuntimeError("gone\nfar")).message == "the store failed: gone"


def test_a_syntax_error_lists_no_keywords():
    text = "Syntax error: failed at 7 (1): 1 FORMAT JSONCompactEachRowWithNamesAndTypes"
    error = explain(RuntimeError(f"Code: 62. DB::Exception: {text}. Expected one of: a, b. (S)"))
    assert error.message == "Syntax error: failed at 7 (1): 1"


def test_csv_quotes_what_it_must():
    answer = read_answer(
        iter([b'["a","b"]\n', b'["String","Bool"]\n', b'["x,\\"y\\"",true]\n', b"[null,false]\n"]),
        0,
    )
    assert as_csv(answer) == 'a,b\n"x,""y""",true\n,false\n'
    assert as_csv(Answer(("a",), ("String",), (("x\ry",), ("x\r\n",)))) == 'a\n"x\ry"\n"x\r\n"\n'


def test_csv_drives_no_terminal():
    answer = Answer(("a", "b"), ("String", "String"), (("\x1b[2J", "\x9b31m"), ("x", "\u202e")))
    assert for_terminal(as_csv(answer)) == "a,b\n\\x1b[2J,\\x9b31m\nx,\\u202e\n"
