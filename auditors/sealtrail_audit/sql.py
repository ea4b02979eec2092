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
    """RFC 4180 text with a header; arrays, tuples and maps as JSON."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(answer.columns)
    for row in answer.rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


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
