"""Commands of the rooms, found by entry point and imported when used.

`sealtrail --help` imports no room: the lines it shows stand in `ROOMS`. A
command whose room lacks its extra says which one to install.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from sealtrail.errors import UnavailableError

GROUP: Final = "sealtrail.commands"


@dataclass(frozen=True)
class Room:
    """A room in the help: its heading, its extra, a line for each command."""

    heading: str
    extra: str
    commands: dict[str, str]


ROOMS: Final[dict[str, Room]] = {
    "sealtrail_local": Room(
        "Try it out",
        "local",
        {
            "demo": "Watch real history go through the whole pipeline.",
            "local": "Start, stop and show the embedded stack.",
            "certs": "Make and rotate certificates of a development CA.",
        },
    ),
    "sealtrail_bench": Room(
        "Measure",
        "all",
        {"bench": "Measure rates, latency, memory, storage and cost on this machine."},
    ),
    "sealtrail_producer": Room(
        "Produce",
        "producer",
        {
            "emit": "Emit one event from the command line.",
            "import": "Import history that happened before (git).",
            "keys": "Make, register and show signing keys.",
            "schemas": "Register this version's schemas.",
            "service": "Run one of the example services.",
        },
    ),
    "sealtrail_processor": Room(
        "Process",
        "processor",
        {
            "worker": "Run a worker of the pipeline.",
            "store": "Create and migrate the tables of the store.",
            "recover": "Rebuild the store from the topic, or its index from the payloads.",
            "quarantine": "List, show, replay and dismiss refused messages.",
            "acls": "Compare Kafka's access lists with what is declared, and make them so.",
            "topics": "Compare the topics with what is declared, and make them so.",
        },
    ),
    "sealtrail_audit": Room(
        "Ask and audit",
        "auditor",
        {
            "sql": "Ask the store a question in SQL.",
            "event": "Show an event with its proof.",
            "lineage": "Show where something came from, or what became of it.",
            "audit": "Hold the store against what was signed and consumed.",
        },
    ),
}


def explain_missing(error: ModuleNotFoundError, command: str, room: str) -> UnavailableError:
    """Say which extra to install for a module that a command did not find.

    Args:
        error: as the import system raised it.
        command: what the user called.
        room: top-level package of the command.
    """
    missing = (error.name or "").partition(".")[0]
    known = ROOMS.get(room)
    if missing == room or known is None:
        return UnavailableError(
            f"`sealtrail {command}` cannot be loaded: {error}",
            hint="install sealtrail again; this installation is not complete",
        )
    return UnavailableError(
        f"`sealtrail {command}` needs {missing}, which is not installed",
        hint=f'pip install "sealtrail[{known.extra}]"',
    )


class LazyGroup(click.Group):
    """A group with the commands of all rooms, each imported at its first use."""

    def __init__(
        self,
        *args: object,
        points: Callable[[], list[EntryPoint]] | None = None,
        **kwargs: object,
    ) -> None:
        # click's own signature is long; it is handed through unchanged.
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self._points = points or (lambda: list(entry_points(group=GROUP)))

    def _lazy(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in self._points()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, those of the rooms included."""
        return sorted({*super().list_commands(ctx), *self._lazy()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command.

        Raises:
            UnavailableError: its room, or an extra of its room, is not installed.
        """
        own = super().get_command(ctx, cmd_name)
        point = self._lazy().get(cmd_name)
        if own is not None or point is None:
            return own
        room = room_of(point)
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            raise explain_missing(error, cmd_name, room) from error
        except AttributeError as error:
            raise UnavailableError(
                f"`sealtrail {cmd_name}` cannot be loaded: {error}",
                hint="install sealtrail again; this installation is not complete",
            ) from error
        if not isinstance(command, click.Command):
            raise UnavailableError(
                f"`sealtrail {cmd_name}` is not a command: {point.value}",
                hint=f"see what {room} declares in the entry point group {GROUP}",
            )
        return command

    def command_room(self, name: str) -> str:
        """Top-level package of a command; the contract's own for built-in ones."""
        point = self._lazy().get(name)
        return room_of(point) if point else "sealtrail"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by room, without importing any room."""
        del ctx  # part of click's signature
        lazy = self._lazy()
        for package, room in ROOMS.items():
            rows = [
                (name, text)
                for name, text in room.commands.items()
                if name in lazy and room_of(lazy[name]) == package
            ]
            _section(formatter, room.heading, rows)
        listed = {name for room in ROOMS.values() for name in room.commands}
        rows = [
            (name, command.get_short_help_str(limit=80))
            for name, command in sorted(self.commands.items())
            if not command.hidden
        ]
        rows += [(name, f"From {room_of(lazy[name])}.") for name in sorted(set(lazy) - listed)]
        _section(formatter, "Other commands", rows)


def room_of(point: EntryPoint) -> str:
    """Top-level package that an entry point lies in."""
    return point.module.partition(".")[0]


def _section(formatter: click.HelpFormatter, heading: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows)
