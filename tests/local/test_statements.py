"""How an INSERT is cut from its data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail_local.store.errors import Refused
from sealtrail_local.store.statements import literal, quoted_name, split_format, split_insert


@pytest.mark.parametrize(("sql", "reading", "data"), [
    (b"INSERT INTO t FORMAT CSV\n1\n",
     b"INSERT INTO t  FROM INFILE '/proc/self/fd/7' COMPRESSION 'none'  FORMAT CSV", b"1\n"),
    (b"insert into `my FORMAT` (a, `select`) settings a=1, b='x' format Native\r\n\x00",
     (b"insert into `my FORMAT` (a, `select`)  FROM INFILE '/proc/self/fd/7' COMPRESSION 'none' "
     b"settings a=1, b='x'  FORMAT Native"), b"\x00"),
    (b"INSERT /* FORMAT x */ INTO t -- FORMAT y\n FORMAT TSV x\ty",
     (b"INSERT /* FORMAT x */ INTO t -- FORMAT y\n  FROM INFILE '/proc/self/fd/7' "
     b"COMPRESSION 'none'  FORMAT TSV"), b"x\ty"),
    ((b"INSERT INTO t SELECT f(a) FROM input('a Int8, b String') WHERE x SETTINGS m = 1 "
     b"FORMAT Avro\nObj"),
     (b"INSERT INTO t SELECT f(a) FROM file('/proc/self/fd/7', 'Avro', 'a Int8, b String', "
     b"'none') WHERE x SETTINGS m = 1 "), b"Obj"),
    ((b"INSERT INTO t WITH 1 AS o SELECT a FROM (SELECT * FROM INPUT( 'a DateTime(\\'UTC\\')' ) ) "
     b"FORMAT CSV 1"),
     (b"INSERT INTO t WITH 1 AS o SELECT a FROM (SELECT * FROM file('/proc/self/fd/7', 'CSV', "
     b"'a DateTime(\\'UTC\\')', 'none') ) "), b"1"),
])  # fmt: skip
def test_data_go_to_a_file(sql: bytes, reading: bytes, data: bytes):
    insert = split_insert(sql)
    assert insert is not None
    assert insert.reading(7) == reading
    assert sql[insert.body_at :] == data


@pytest.mark.parametrize("open_", [b"/*", b"\\'", b'\\"', b"\\`"])
def test_what_is_not_closed_is_looked_for_once(open_: bytes):
    # Looked for again at each of them, the end would take minutes to be not found.
    assert split_insert(b"INSERT INTO t " + open_ * 300_000) is None


def test_values_are_cut_behind_the_word():
    insert = split_insert(b"INSERT INTO t (a) VALUES (1), (2)")
    assert insert is not None
    assert (insert.format, insert.body_at) == ("Values", 24)


@pytest.mark.parametrize(
    "sql",
    [
        b"",
        b"SELECT 1 FORMAT CSV",
        b"INSERT INTO t SELECT 1",
        b"INSERT INTO t SELECT a FROM u FORMAT CSV",
        b"INSERT INTO t SELECT input FROM u",
        b"INSERT INTO t FORMAT",
        b"WITH x AS (SELECT 1) INSERT INTO t FORMAT CSV 1",
    ],
)
def test_no_insert_with_data(sql: bytes):
    assert split_insert(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
        b"INSERT INTO FUNCTION file('x') FORMAT CSV 1",
        b"INSERT INTO TABLE FUNCTION url('x') FORMAT CSV 1",
        b"INSERT INTO t SELECT * FROM input('a Int8'), input('a Int8') FORMAT CSV 1",
        b"INSERT INTO t SELECT * FROM input(input('a Int8')) FORMAT CSV 1",
        b"INSERT INTO t SELECT * FROM input( ) FORMAT CSV 1",
    ],
)
def test_refused(sql: bytes):
    with pytest.raises(Refused):
        split_insert(sql)


@given(st.binary(max_size=300))
def test_any_bytes_are_cut_or_refused(noise: bytes):
    for sql in (noise, b"INSERT INTO t " + noise, b"INSERT INTO t SELECT a FROM input(" + noise):
        try:
            insert = split_insert(sql)
        except Refused:
            continue
        if insert is not None:
            assert insert.body_at <= len(sql)
            assert insert.reading(3)


@given(st.binary(max_size=100))
def test_data_are_never_looked_at(data: bytes):
    insert = split_insert(b"INSERT INTO t FORMAT RowBinary\n" + data)
    assert insert is not None
    assert insert.body_at == 31


def test_formats():
    assert split_format(b" SELECT 1 FORMAT JSON ; ") == (b"SELECT 1 ", "JSON")
    assert split_format(b"SELECT 'x FORMAT JSON'") == (b"SELECT 'x FORMAT JSON'", None)


def test_quoting():
    assert literal("o'x\\") == "'o\\'x\\\\'"
    assert quoted_name("a`b") == "`a``b`"
