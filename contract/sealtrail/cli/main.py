"""Entry point of `sealtrail`: options for all commands, errors, exit codes."""

import os
import resource
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from sealtrail import __version__
from sealtrail.cli.config import config_command
from sealtrail.cli.exits import EXIT_CODES, FAILED, INTERRUPTED, OK, USAGE
from sealtrail.cli.lazy import LazyGroup, explain_missing
from sealtrail.cli.output import ReaderGoneError, printable
from sealtrail.errors import SealtrailError

# As shells report a process that a closed pipe ended: 128 + SIGPIPE.
_PIPE_CLOSED: Final = 141

_EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES
)


@dataclass
class Session:
    """What the root command learns and error handling needs."""

    debug: bool = False
    command: str = ""


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="sealtrail", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.pass_context
def root(ctx: click.Context, *, debug: bool) -> None:
    """Signed, linked and queryable provenance of data.

    Commands that print data take --json. Settings are SEALTRAIL_* variables:
    see `sealtrail config show`.
    """
    session = ctx.ensure_object(Session)
    session.debug = debug
    session.command = ctx.invoked_subcommand or ""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are shown, none is raised.

    Args:
        arguments: command line without the program's name; the process's own if None.
    """
    session = Session()
    try:
        args = None if arguments is None else list(arguments)
        result = root.main(args, prog_name="sealtrail", standalone_mode=False, obj=session)
        # A command's own exit code, or that of click's --help and ctx.exit().
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.Abort:
        _say("interrupted")
        return INTERRUPTED
    except (ReaderGoneError, BrokenPipeError):
        # The reader (`| head`) has gone: leave nothing for the interpreter's
        # own flush at exit to fail on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  # the one place where any error becomes a line
        if session.debug:
            traceback.print_exc()
        _explain(error, session)
        return FAILED
    return result if isinstance(result, int) else OK


def main() -> None:
    """Run the command line of this process."""
    # Keys and passphrases lie in memory: what crashes must not leave them on disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    sys.exit(run())


def _explain(error: Exception, session: Session) -> None:
    if isinstance(error, ModuleNotFoundError) and isinstance(root, LazyGroup):
        error = explain_missing(error, session.command, root.command_room(session.command))
    if isinstance(error, SealtrailError):
        _say(error.message, error.hint)
    elif isinstance(error, click.ClickException):
        _say(error.format_message())
    else:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if session.debug else "`sealtrail --debug ...` shows where it happened"
        _say(f"unexpected {text}", hint)


def _say(message: str, hint: str = "") -> None:
    """One line on stderr: the message, then the hint."""
    console = Console(stderr=True, highlight=False)
    line = Text.assemble(("error: ", "bold red"), printable(message))
    if hint:
        line.append(f" ({printable(hint)})", style="dim")
    console.print(line, soft_wrap=True)


root.add_command(config_command)
