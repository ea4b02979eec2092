"""`sealtrail local`: the servers of this machine."""

import importlib
import logging
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from sealtrail.cli import FAILED, OK, Output, pass_output
from sealtrail.errors import UnavailableError

if TYPE_CHECKING:
    from sealtrail_local.settings import LocalSettings


@click.group("local")
def local_command() -> None:
    """Start, stop and show broker, schema registry and store on this machine.

    For trying out and for tests. Unless --real is given, the broker keeps its
    messages in memory only.
    """


@local_command.command("up")
@click.option(
    "--real/--embedded",
    "real",
    default=None,
    help="Apache Kafka and Apicurio Registry (Java, fetched by Maven), or embedded servers.",
)
@click.option(
    "--secure/--plain",
    "secure",
    default=None,
    help="Real servers with TLS, names and access lists, or without.",
)
@click.option(
    "--brokers", type=click.Choice(["1", "3"]), help="How many Kafka brokers; three are real ones."
)
@pass_output
def up_command(
    output: Output, *, real: bool | None, secure: bool | None, brokers: str | None
) -> int:
    """Start what does not run and wait until it answers; without options, what ran last."""
    from sealtrail_local import envfile, stack

    chosen = {} if real is None else {"local_servers": "real" if real else "embedded"}
    if secure or real is False:
        chosen["local_secure"] = str(bool(secure))
        chosen.setdefault("local_servers", "real")
    elif secure is False:
        chosen["local_secure"] = "False"
    if brokers is not None:
        chosen["local_brokers"] = brokers
        if brokers != "1":
            if real is False:
                raise click.UsageError(
                    f"the embedded broker is one: --brokers {brokers} is for --real"
                )
            chosen.setdefault("local_servers", "real")
    settings = stack.up(_settings(chosen), output.remark)
    code = _show(output, settings)
    output.line(f"addresses and passwords: {envfile.path(settings)}")
    return code


@local_command.command("client")
@click.argument("names", nargs=-1, required=True)
@pass_output
def client_command(output: Output, names: tuple[str, ...]) -> None:
    """Give clients of the secured stack a certificate and a password each.

    Access lists and the registry's gate are brought up to date: a producer gets
    its rights if its key is registered, else with the next call of this.
    """
    from sealtrail_local import services, stack

    settings = _settings()
    if not settings.local_secure:
        raise UnavailableError(
            "the stack here is not secured: nobody needs a name",
            hint="`sealtrail local up --real --secure` starts one that is",
        )
    services.admit(settings, names, stack.environment(settings))
    output.table(("client",), [(name,) for name in names])


@local_command.command("status")
@pass_output
def status_command(output: Output) -> int:
    """Show the processes; exit code 3 if one does not answer."""
    return _show(output, _settings())


@local_command.command("down")
@pass_output
def down_command(output: Output) -> None:
    """Stop the processes. All keep their data but the embedded broker, which forgets."""
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


def _settings(chosen: Mapping[str, str] | None = None) -> "LocalSettings":
    """What the environment and local.env say, and above both the options of a command."""
    from sealtrail.settings import load, variable
    from sealtrail_local.settings import LocalSettings

    options = {variable(field): value for field, value in (chosen or {}).items()}
    return load(LocalSettings, {**os.environ, **options})


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
