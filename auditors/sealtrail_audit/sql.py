"""`sealtrail sql`: one question, its answer as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import click

from sealtrail.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sealtrail_audit.reader import Answer


def parameters(pairs: Iterable[str]) -> dict[str, str]:
    """name=value pairs of the command line; they are bound by the engine as {name:Type}.

    Raises:
        click.BadParameter: a pair without a name.
    """
    bound = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{pair!r} is not name=value", param_hint="--param")
        bound[name] = value
    return bound


def as_csv(answer: Answer) -> str:
    """CSV with a header; arrays, tuples and maps as JSON.

    As in RFC 4180, but lines end as ClickHouse ends them: `$(... | tail -1)` would keep a CR.
    """
    rows = [answer.columns, *([_cell(value) for value in row] for row in answer.rows)]
    return "".join(_csv_line(row) for row in rows)


def _csv_line(row: Iterable[Any]) -> str:
    out = io.StringIO()
    # Not lineterminator="\n": a CR in a value would stand there unquoted then.
    csv.writer(out).writerow(row)
    return out.getvalue().removesuffix("\r\n") + "\n"


def for_terminal(text: str) -> str:
    """The same lines, with control characters escaped."""
    return "".join(f"{printable(line)}\n" for line in text.replace("\r\n", "\n").split("\n")[:-1])


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def cut_note(answer: Answer) -> str:
    """What to say when the answer was longer than what is shown."""
    count = printable(len(answer.rows))
    return f"only the first {count} rows are shown; --limit 0 shows all"
