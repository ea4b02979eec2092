"""`sealtrail local`: the embedded stack."""

import importlib
import logging
import shlex
from typing import TYPE_CHECKING

import click

from sealtrail.cli import FAILED, OK, Output, pass_output
from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from sealtrail_local.settings import LocalSettings


@click.group("local")
def local_command() -> None:
    """Start, stop and show the embedded stack: broker, schema registry and store on this machine.

    For trying out and for tests. The broker keeps its messages in memory only.
    """


@local_command.command("up")
@pass_output
def up_command(output: Output) -> int:
    """Start what does not run and wait until it answers."""
    from sealtrail_local import envfile, stack

    settings = stack.up(_settings(), output.remark)
    code = _show(output, settings)
    output.line(f"addresses and passwords: {envfile.path(settings)}")
    return code


@local_command.command("status")
@pass_output
def status_command(output: Output) -> int:
    """Show the processes; exit code 3 if one does not answer."""
    return _show(output, _settings())


@local_command.command("down")
@pass_output
def down_command(output: Output) -> None:
    """Stop the processes. Store and registry keep their data; the broker forgets its messages."""
    from sealtrail_local import stack

    stopped = stack.down(_settings(), output.remark)
    if output.json:
        output.data({"stopped": stopped})
    else:
        output.line(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@local_command.command("env")
@pass_output
def env_command(output: Output) -> None:
    """Print the stack's variables, passwords included, for `eval "$(sealtrail local env)"`."""
    from sealtrail_local import envfile

    settings = _settings()
    if not envfile.path(settings).exists():
        raise UnavailableError(
            f"there is no {envfile.path(settings)}", hint="`sealtrail local up` writes it"
        )
    variables = {"SEALTRAIL_STATE_DIR": str(settings.state_dir), **envfile.variables(settings)}
    if output.json:
        output.data(variables)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@local_command.command("broker")
def broker_command() -> None:
    """Run the broker in the foreground."""
    from sealtrail_local import broker

    _log_to_stderr()
    broker.run(_settings())


@local_command.command("registry")
def registry_command() -> None:
    """Run the schema registry in the foreground."""
    from sealtrail_local.registry import main

    _log_to_stderr()
    main.run(_settings())


@local_command.command("store")
def store_command() -> None:
    """Run the store in the foreground."""
    from sealtrail_local.store import main

    _log_to_stderr()
    main.run(_settings())


def _settings() -> "LocalSettings":
    from sealtrail.settings import load
    from sealtrail_local.settings import LocalSettings

    return load(LocalSettings)


def _show(output: Output, settings: "LocalSettings") -> int:
    from sealtrail_local import stack

    found = stack.status(settings)
    output.table(
        ("service", "address", "state", "pid", "detail"),
        [(s.name, s.address, s.state, s.pid, s.detail) for s in found],
    )
    return OK if all(s.ok for s in found) else FAILED


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def __getattr__(name: str) -> click.Command:
    """`demo_command`, looked up when it is called for: it drags in all of the demo."""
    if name == "demo_command":
        demo = importlib.import_module("sealtrail_local.demo")
        command: click.Command = demo.demo_command
        return command
    raise AttributeError(name)
