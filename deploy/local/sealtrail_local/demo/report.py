"""What the demo shows: one heading a step, tables for numbers, red for what was found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sealtrail.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sealtrail_local.demo.verdict import Outcome

WIDTH = 132


class Report:
    """Writes to a terminal or a file.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        # A file or a pipe has no width: what is written there is meant to be read, too.
        if not console.is_terminal or console.width > WIDTH:
            console.width = WIDTH
        self._out = console
        self._step = 0

    def opening(self, label: str) -> None:
        """What this is."""
        text = Text.assemble(
            ("Sealtrail", "bold"),
            ": who made what from what, signed, linked, queryable, and tamper-evident.\n",
            ("producers → signed batches → Kafka → Faust worker → ClickHouse engine\n", "cyan"),
            f"History: {label}",
        )
        self._out.print(Panel(text, box=box.ROUNDED, expand=False))

    def step(self, title: str) -> None:
        """A heading."""
        self._step += 1
        self._out.print()
        self._out.print(
            Rule(Text(f"{self._step}  {title}", style="bold"), align="left", style="dim")
        )

    def say(self, text: str, style: str = "") -> None:
        """A line."""
        self._out.print(Padding(Text(text, style=style), (0, 0, 0, 2)))

    def command(self, *words: str) -> None:
        """A command that somebody could type, before what it prints."""
        shown = " ".join(f'"{w}"' if " " in w or not w else w for w in words)
        self._out.print(Padding(Text(f"$ sealtrail {shown}", style="bold cyan"), (1, 0, 0, 2)))

    def output(self, text: str, style: str = "", most: int = 24) -> None:
        """What a command printed; long output is cut and says so."""
        lines = text.rstrip("\n").splitlines()
        for line in lines[:most]:
            self._out.print(
                Padding(
                    Text(printable(line), style=style, overflow="ellipsis", no_wrap=True), (0, 2)
                )
            )
        if len(lines) > most:
            self._out.print(
                Padding(Text(f"... {len(lines) - most} more lines", style="dim"), (0, 2))
            )

    def numbers(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Names, figures, and what they mean."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column()
        table.add_column(justify="right", style="bold")
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*row)
        self._out.print(Padding(table, (0, 0, 0, 2)))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Rows under headings."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(Padding(table, (0, 0, 0, 2)))

    def progress(self) -> Progress:
        """A bar, where there is a terminal."""
        return Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        )

    def verdict(self, outcome: Outcome) -> None:
        """The end: all as it must be, or what was not."""
        self._out.print()
        if not outcome.problems:
            text = Text.assemble(
                ("Everything was as it must be. ", "bold green"),
                f"{outcome.events_stored:,} events stored and {outcome.links_resolved:,} links"
                f" verified at {outcome.events_per_second:,.0f} events/s; "
                f"{outcome.seconds_in_all:.0f} s in all.",
            )
            self._out.print(Panel(text, box=box.ROUNDED, border_style="green", expand=False))
            return
        lines = [Text("Something was not as it must be:", style="bold red")]
        lines += [Text(f"• {problem}") for problem in outcome.problems]
        self._out.print(Panel(Group(*lines), box=box.ROUNDED, border_style="red", expand=False))

    def farewell(self, state_dir: str, worker: int, question: str) -> None:
        """What to try next while everything is up."""
        lines = [
            ("Everything is still up. To use it from this shell:", ""),
            (f"  export SEALTRAIL_STATE_DIR={state_dir}", "cyan"),
            (f"  export PATH={Path(sys.executable).parent}:$PATH", "cyan"),
            ("Then, for example:", ""),
            ("  sealtrail local status", "cyan"),
            (f'  sealtrail sql "{question}"', "cyan"),
            ("  sealtrail lineage shop/invoices/R-00001 --up", "cyan"),
            ("  sealtrail quarantine list", "cyan"),
            ("  sealtrail audit store", "cyan"),
            ("  sealtrail service orders | sealtrail service billing", "cyan"),
            ("And to end it:", ""),
            (f"  kill {worker}; sealtrail local down; rm -r {state_dir}", "cyan"),
        ]
        self._out.print()
        for text, style in lines:
            self._out.print(Text(text, style=style), soft_wrap=True)
