"""How statements are cut: the header of an INSERT from its data, a trailing FORMAT from a query.

ClickHouse's HTTP interface takes an INSERT and its data as one run of bytes. The engine in a
library takes statements only, so the data go to a file and the statement is rewritten to read that
file:

    INSERT INTO t (a) FORMAT CSV <data>
        -> INSERT INTO t (a) FROM INFILE '/proc/self/fd/N' COMPRESSION 'none' FORMAT CSV
    INSERT INTO t SELECT ... FROM input('a Int8') WHERE ... SETTINGS ... FORMAT Avro <data>
        -> INSERT INTO t SELECT ... FROM file('/proc/self/fd/N', 'Avro', 'a Int8', 'none') WHERE ...

This module only finds the places; it decides nothing about rights (gate.py does).
"""

import re
from dataclasses import dataclass
from typing import Final

from sealtrail_local.store.errors import SUPPORT_IS_DISABLED, SYNTAX_ERROR, Refused

# White space and comments match without a group; any other token is group 1. What is not closed
# goes to the end: looked for again at each /* or \', it would take hours in some megabytes of them.
_TOKEN: Final = re.compile(
    rb"(?:\s+|--[^\n]*|/\*.*?(?:\*/|\Z))"
    rb"|('(?:[^'\\]|\\.?|'')*(?:'|\Z)|`(?:[^`\\]|\\.?|``)*(?:`|\Z)"
    rb"|\"(?:[^\"\\]|\\.?|\"\")*(?:\"|\Z)|\w+|.)",
    re.DOTALL,
)
_REST_OF_LINE: Final = re.compile(rb"[ \t\f]*\r?\n?")
_FORMAT_AT_END: Final = re.compile(rb"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)
_FORMAT_NAME: Final = re.compile(r"\w+\Z", re.ASCII)
# INTO, table and perhaps a column list come before these can be keywords.
_FIRST_KEYWORD: Final = 4


@dataclass(frozen=True)
class InsertWithBody:
    """An INSERT whose data come in the request.

    Attributes:
        before: text up to where the file is named.
        structure: argument of `input(...)`; None for a plain INSERT.
        after: text that follows the file's name, without the FORMAT clause.
        format: name of the data's format.
        body_at: offset of the first byte of data.
    """

    before: bytes
    structure: bytes | None
    after: bytes
    format: str
    body_at: int

    def reading(self, descriptor: int) -> bytes:
        """The statement that reads its data from a descriptor of this process."""
        path = b"'/proc/self/fd/%d'" % descriptor
        name = self.format.encode()
        if self.structure is None:
            return b"%b FROM INFILE %b COMPRESSION 'none' %b FORMAT %b" % (
                self.before,
                path,
                self.after,
                name,
            )
        source = b"file(%b, '%b', %b, 'none')" % (path, name, self.structure)
        return self.before + source + self.after

    @property
    def original(self) -> bytes:
        """The statement as it was meant, without data: what the gate looks at."""
        source = b"" if self.structure is None else b"input(" + self.structure + b")"
        return b"%b%b %b FORMAT %b" % (self.before, source, self.after, self.format.encode())


@dataclass
class _Scan:
    """What has been seen of an INSERT so far."""

    depth: int = 0
    count: int = 0
    selects: bool = False
    settings_at: int | None = None
    format_at: int | None = None
    name_seen: int | None = None
    arguments_at: int | None = None
    input_depth: int = 0
    source: tuple[int, int, int, int] | None = None


def split_insert(sql: bytes) -> InsertWithBody | None:
    """Cut an INSERT from the data that follow it.

    Args:
        sql: statement, or as much of it as has arrived.

    Returns:
        The parts, or None if this is no INSERT with data (or not yet recognisable as one).

    Raises:
        Refused: the INSERT names a file or a table function as its source or target, or more than
            one `input()`.
    """
    scan = _Scan()
    for match in _TOKEN.finditer(sql):
        token = match[1]
        if token is None:
            continue
        scan.count += 1
        word = token.upper()
        if scan.count == 1 and word != b"INSERT":
            return None
        if scan.count == _FIRST_KEYWORD - 1 and word == b"FUNCTION":
            raise Refused(SUPPORT_IS_DISABLED, "FUNCTION is not allowed over HTTP")
        if scan.format_at is not None:
            return _finish(sql, scan, token, match)
        _follow_parentheses(scan, token, match)
        if scan.depth == 0 and scan.count >= _FIRST_KEYWORD and token not in b"([{)]}":
            if word == b"VALUES" and not scan.selects:
                cut = match.start() if scan.settings_at is None else scan.settings_at
                return InsertWithBody(
                    sql[:cut], None, sql[cut : match.start()], "Values", match.end()
                )
            _keyword(scan, word, match)
        scan.name_seen = match.start() if word == b"INPUT" and scan.selects else None
    return None


def _follow_parentheses(scan: _Scan, token: bytes, match: re.Match[bytes]) -> None:
    if token in (b"(", b"[", b"{"):
        scan.depth += 1
        if token == b"(" and scan.name_seen is not None:
            if scan.source is not None or scan.arguments_at is not None:
                raise Refused(SYNTAX_ERROR, "Table function 'input' may occur only once")
            scan.arguments_at, scan.input_depth = match.end(), scan.depth
            scan.source = (scan.name_seen, match.end(), 0, 0)
    elif token in (b")", b"]", b"}"):
        if scan.source and scan.arguments_at is not None and scan.depth == scan.input_depth:
            scan.source = (scan.source[0], scan.source[1], match.start(), match.end())
            scan.arguments_at = None
        scan.depth -= 1


def _keyword(scan: _Scan, word: bytes, match: re.Match[bytes]) -> None:
    if word in (b"SELECT", b"WITH"):
        scan.selects = True
        scan.settings_at = None
    elif word in (b"INFILE", b"FUNCTION") and not scan.selects:
        raise Refused(SUPPORT_IS_DISABLED, f"{word.decode()} is not allowed over HTTP")
    elif word == b"SETTINGS" and not scan.selects:
        scan.settings_at = match.start()
    elif word == b"FORMAT":
        scan.format_at = match.start()


def _finish(sql: bytes, scan: _Scan, name: bytes, match: re.Match[bytes]) -> InsertWithBody | None:
    assert scan.format_at is not None
    tail = _REST_OF_LINE.match(sql, match.end())
    body_at = tail.end() if tail else match.end()
    form = name.decode(errors="replace")
    if not _FORMAT_NAME.match(form):
        return None  # the engine words the syntax error
    if not scan.selects:
        cut = scan.format_at if scan.settings_at is None else scan.settings_at
        return InsertWithBody(sql[:cut], None, sql[cut : scan.format_at], form, body_at)
    if scan.source is None:
        return None  # INSERT ... SELECT from tables: FORMAT means nothing there
    start, inner_from, inner_to, end = scan.source
    structure = sql[inner_from:inner_to].strip()
    if not structure:
        raise Refused(SYNTAX_ERROR, "Table function 'input' needs the structure of the data here")
    return InsertWithBody(sql[:start], structure, sql[end : scan.format_at], form, body_at)


def split_format(sql: bytes) -> tuple[bytes, str | None]:
    """Cut a trailing FORMAT clause from a query.

    Args:
        sql: one statement.

    Returns:
        The statement without it, and the format's name or None.
    """
    text = sql.strip().rstrip(b";")
    tail = _FORMAT_AT_END.search(text)
    return (text[: tail.start()], tail[1].decode()) if tail else (text, None)


def literal(value: object) -> str:
    """A value as a string literal of ClickHouse's SQL."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted_name(name: str) -> str:
    """A name as a quoted identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "``") + "`"
