"""`sealtrail config`: the settings in force, secrets masked."""

import os

import click

from sealtrail.cli.output import Output, pass_output
from sealtrail.errors import UnavailableError


@click.group("config")
def config_command() -> None:
    """Show the settings."""


@config_command.command("show")
@click.option("--defaults", is_flag=True, help="Show the defaults; do not look at what is set.")
@pass_output
def show_command(output: Output, *, defaults: bool) -> None:
    """Show every setting with its value, where that comes from, and who reads it.

    Secrets are masked. Settings come from the environment, else from the file
    in SEALTRAIL_ENV_FILE (by default local.env in the state directory).
    """
    try:
        from sealtrail import settings  # the base install has no pydantic-settings
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"`sealtrail config` needs {error.name}, which is not installed",
            hint='pip install "sealtrail[auditor]", or any other extra',
        ) from error
    shown = settings.describe(os.environ, settings.registered(), defaults=defaults)
    if output.json:
        output.data([setting.as_row() for setting in shown])
        return
    everywhere = max(len(setting.rooms) for setting in shown)
    output.table(
        ("setting", "value", "from", "read by", "meaning"),
        [
            (
                setting.variable,
                setting.value,
                setting.origin,
                "all" if len(setting.rooms) == everywhere else ", ".join(setting.rooms),
                setting.description,
            )
            for setting in shown
        ],
    )
