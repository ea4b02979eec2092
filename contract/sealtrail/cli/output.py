"""Output of commands: for people on a terminal, or one JSON document with `--json`.

- stdout carries results only; progress and errors go to stderr.
- With `--json` nothing but JSON is written to stdout.
- Names in events are written by strangers: control characters are shown
  escaped, so that no value can drive the terminal.
"""

import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Concatenate, Final, NoReturn, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeRemainingColumn as RemainingColumn
from rich.table import Table
from rich.text import Text

P = ParamSpec("P")
R = TypeVar("R")

# Width of tables that go to a file or a pipe, where nothing may be cut off.
_PIPE_WIDTH: Final = 10_000
# Controls beyond ASCII, line ends that JSON has no use for, marks that change the direction.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def to_json(value: Any) -> Any:
    """Turn a value that JSON does not know into one that it does.

    Bytes become hex, times ISO 8601 (UTC where they carry a zone), enums their
    names, sets sorted lists, dataclasses objects, anything else its text (which
    leaves a SecretStr masked).
    """
    result: Any = str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        result = bytes(value).hex()
    elif isinstance(value, datetime) and value.tzinfo:
        result = value.astimezone(UTC).isoformat()
    elif isinstance(value, date):  # a datetime without a zone is one, too
        result = value.isoformat()
    elif isinstance(value, Enum):
        result = value.name
    elif isinstance(value, set | frozenset):
        result = sorted(value, key=repr)
    elif is_dataclass(value) and not isinstance(value, type):
        result = asdict(value)
    return result


def printable(value: Any) -> str:
    """Text of a value in a table or line; control characters are escaped."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list | tuple | Mapping):
        text = json.dumps(value, default=to_json, ensure_ascii=False)
    else:
        text = str(to_json(value))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ReaderGoneError(Exception):
    """Whoever read stdout (`| head`) has closed it.

    Not an OSError: click and rich would turn that into exit code 1, which
    stands for findings here.
    """


class _Stdout(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise ReaderGoneError


class Output:
    """Where a command writes to.

    Attributes:
        json: whether the user asked for JSON; it is the only thing on stdout then.
        console: rich console on stderr, for progress and remarks.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.console = Console(stderr=True, highlight=False)
        self._out = _Stdout(
            file=sys.stdout,
            highlight=False,
            markup=False,
            soft_wrap=False,
            width=None if sys.stdout.isatty() else _PIPE_WIDTH,
        )

    def data(self, value: Any) -> None:
        """Print a result: one line of JSON, or names and values for people."""
        if self.json:
            self._write_json(value)
        elif isinstance(value, Mapping):
            width = max((len(printable(k)) for k in value), default=0)
            for key, item in value.items():
                self.line(f"{printable(key):<{width}}  {printable(item)}")
        else:
            self.line(printable(value))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
        """Print rows: a table for people, a list of objects (column: value) as JSON."""
        if self.json:
            self._write_json([dict(zip(columns, row, strict=True)) for row in rows])
            return
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(Text(printable(column)), overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(table)

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line for people; nothing with `--json`.

        The text is shown as it is: pass what strangers wrote through `printable`.
        """
        if not self.json:
            self._out.print(Text(text, style=style), soft_wrap=True)

    def remark(self, text: str) -> None:
        """Say on stderr what is going on."""
        self.console.print(Text(text), soft_wrap=True)

    @contextmanager
    def progress(
        self, description: str, total: float | None = None
    ) -> Iterator[Callable[[float], None]]:
        """Show a bar on stderr while the body runs, if that is a terminal.

        Args:
            description: what is being done.
            total: number of steps; None if unknown.

        Yields:
            A function that advances the bar by a number of steps.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RemainingColumn(),
        )
        hidden = not self.console.is_terminal
        with Progress(*columns, console=self.console, disable=hidden, transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda steps: bar.advance(task, steps)

    def _write_json(self, value: Any) -> None:
        text = json.dumps(value, default=to_json, ensure_ascii=False, separators=(",", ":"))
        # Outside of ASCII JSON lets pass what terminals obey (C1 controls) or mirror (bidi marks).
        text = _UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)
        try:
            click.echo(text)
        except BrokenPipeError as error:
            raise ReaderGoneError from error


def pass_output(function: Callable[Concatenate[Output, P], R]) -> Callable[P, R]:
    """Give a command the option `--json` and hand it an `Output` as first argument."""

    @click.option("--json", "json_", is_flag=True, help="Print JSON and nothing else on stdout.")
    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        json_ = bool(kwargs.pop("json_"))
        return function(Output(json=json_), *args, **kwargs)

    # click's decorator returns the function that it was given, typed as any callable.
    return command
