"""`sealtrail demo`."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from sealtrail.cli import FINDINGS, OK, Output, pass_output
from sealtrail.cli.ending import interrupt_when_ended
from sealtrail.errors import SealtrailError, UnavailableError
from sealtrail_local import addresses, health
from sealtrail_local.demo import repository, surroundings
from sealtrail_local.demo.ledger import Ledger
from sealtrail_local.demo.report import Report
from sealtrail_local.demo.stage import Stage, wait_until
from sealtrail_local.demo.story import BILLING, IMPORTER, ORDERS, QUESTION, Story

if TYPE_CHECKING:
    from sealtrail_local.demo.verdict import Outcome

READY_S = 60.0
UP_S = 1800.0
WORKER = "worker"


@click.command("demo")
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave everything up; say what to try.")
@click.option(
    "--repo",
    envvar="REPO",
    type=click.Path(path_type=Path),
    help="A git repository, work tree or bare, instead of the shipped history.",
)
@click.option("--limit", type=click.IntRange(min=100), help="Only so many shipped commits.")
@click.option(
    "--real",
    is_flag=True,
    envvar="REAL",
    help="On Apache Kafka and Apicurio Registry (Java, fetched by Maven).",
)
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", help="With --real.")
@click.option("--secure", is_flag=True, help="With --real: TLS, names and access lists.")
@pass_output
def demo_command(
    output: Output,
    *,
    keep: bool,
    repo: Path | None,
    limit: int | None,
    real: bool,
    brokers: str,
    secure: bool,
) -> int:
    """Watch real history go through the whole pipeline.

    Starts broker, schema registry, store and worker on this machine, imports a
    repository's history, lets two services work, sends duplicates, asks
    questions, forges a message and rewrites a row. Ends with 0 if all was
    counted and found as it must be, with 1 if not.
    """
    if secure and not real:
        raise click.UsageError("--secure needs --real: the embedded broker knows no names")
    began = time.monotonic()
    history = repository.on_disk(repo) if repo else repository.shipped(limit)
    report = Report(Console(file=sys.stderr if output.json else sys.stdout, highlight=False))
    report.opening(history.label)
    state_dir = Path(tempfile.mkdtemp(prefix="sealtrail-demo-"))
    kafka = addresses.ports(0, int(brokers)) if real else (0,)
    variables = surroundings.environment(surroundings.this_process(), state_dir, kafka)
    servers = ("--real", "--brokers", brokers) if real else ()
    up = ("local", "up", *servers, *(("--secure",) if secure else ()))
    stage = Stage(variables, state_dir / "demo")
    interrupt_when_ended()
    left_up = False
    try:
        with stage:
            try:
                worker = _open(stage, report, variables, up, secure=secure)
                settings = surroundings.settings(variables)
                with Ledger(settings) as ledger:
                    outcome = Story(stage, ledger, settings, report, history).play()
                outcome.seconds_in_all = round(time.monotonic() - began, 1)
                report.verdict(outcome)
                if keep:
                    report.farewell(str(state_dir), worker, QUESTION)
                    stage.running.clear()
                    left_up = True
            except SealtrailError as error:
                _keep_logs(stage, state_dir, error)
                raise
            finally:
                if not left_up:
                    _close(stage)
    finally:
        if not left_up:
            shutil.rmtree(state_dir, ignore_errors=True)
    return _finish(output, outcome)


def _open(
    stage: Stage, report: Report, variables: dict[str, str], up: tuple[str, ...], *, secure: bool
) -> int:
    """Stack, tables, keys, worker; the worker's process id."""
    report.step("Set up: broker, schema registry, store and worker, all on this machine")
    report.command(*up)
    # Real servers are fetched at their first start.
    report.output(stage.run(*up, timeout_s=UP_S).out)
    stage.run("store", "migrate")
    producers = [word for name in (IMPORTER, ORDERS, BILLING) for word in ("--producer", name)]
    report.command("keys", "setup-dev", *producers)
    report.output(stage.run("keys", "setup-dev", *producers).out)
    if secure:
        clients = ("local", "client", IMPORTER, ORDERS, BILLING)
        report.command(*clients)
        stage.run(*clients)
    worker = stage.start(WORKER, "worker")
    settings, port = surroundings.settings(variables), int(variables["SEALTRAIL_HEALTH_PORT"])
    if not wait_until(lambda: health.worker(settings, port), stage.check, READY_S):
        raise UnavailableError("the worker is not ready", hint=f"see {stage.log(WORKER)}")
    return worker.pid


def _close(stage: Stage) -> None:
    """Stop what was started, in reverse: worker, then the stack."""
    # A second Ctrl-C must not leave servers behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stage.stop()
    stage.run("local", "down", codes=(0, 3))


def _keep_logs(stage: Stage, state_dir: Path, error: SealtrailError) -> None:
    """Something failed: the logs outlive the demo's folder."""
    kept = Path(tempfile.mkdtemp(prefix="sealtrail-demo-logs-"))
    for folder in (stage.logs, state_dir / "log"):
        if folder.is_dir():
            shutil.copytree(folder, kept, dirs_exist_ok=True)
    error.hint = f"logs of all processes: {kept}"


def _finish(output: Output, outcome: Outcome) -> int:
    if output.json:
        output.data(outcome.value())
    return FINDINGS if outcome.problems else OK
