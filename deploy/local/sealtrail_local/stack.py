"""The embedded stack as a whole: three processes, started, looked at, stopped.

In the state directory:

    local.env     addresses and passwords (envfile.py)
    run/          pid files, a lock against two commands at a time
    log/          what the processes print
    store/        the engine's data; the only folder that the store's process may touch
    registry/     the registry's file
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealtrail import settings as common
from sealtrail.errors import ConfigurationError, SealtrailError, UnavailableError
from sealtrail_local import envfile, health, republish
from sealtrail_local.processes import (
    ProcessId,
    port_free,
    port_holder,
    read_pid_file,
    spawn,
    write_pid_file,
)
from sealtrail_local.settings import LocalSettings

_POLL_S: Final = 0.1
_LOG_TAIL: Final = 5
_PORT_WAIT_S: Final = 3.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """One of the processes.

    Attributes:
        name: also its sub-command.
        port_field: setting with its port.
        scheme: of its address.
        check: raises UnavailableError unless it answers.
    """

    name: str
    port_field: str
    scheme: str
    check: health.Check

    def port(self, settings: LocalSettings) -> int:
        """Where it listens."""
        return int(getattr(settings, self.port_field))

    def address(self, settings: LocalSettings) -> str:
        """Its address as clients write it."""
        return f"{self.scheme}127.0.0.1:{self.port(settings)}"

    def pid_file(self, settings: LocalSettings) -> Path:
        """Where its process is recorded."""
        return settings.state_dir / "run" / f"{self.name}.json"

    def log_file(self, settings: LocalSettings) -> Path:
        """Where its output goes."""
        return settings.state_dir / "log" / f"{self.name}.log"


SERVICES: Final = (
    Service("broker", "local_kafka_port", "", health.broker),
    Service("registry", "local_registry_port", "http://", health.registry),
    Service("store", "local_store_port", "http://", health.store),
)


@dataclass(frozen=True)
class Status:
    """How one of the processes is."""

    name: str
    address: str
    state: str
    pid: int | None
    detail: str

    @property
    def ok(self) -> bool:
        """Whether it runs and answers."""
        return self.state == "running"


def up(settings: LocalSettings, say: Say) -> LocalSettings:
    """Start what does not run, wait until all answer, publish key records again.

    Args:
        settings: ports and folder.
        say: shows a line on what is going on.

    Returns:
        The settings with passwords, as they are in local.env.

    Raises:
        ConfigurationError: a port is taken.
        UnavailableError: a process does not start or answer.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(settings):
        settings = envfile.with_passwords(settings)
        (settings.state_dir / "log").mkdir(exist_ok=True, mode=0o700)
        missing = [service for service in SERVICES if not _runs(service, settings, say)]
        for service in missing:
            _refuse_taken_port(service, settings)
        for service in SERVICES:
            if service not in missing:
                _wait(service, settings)
        # Not before: settings that what runs does not follow must not replace those that it does.
        envfile.write(settings)
        for service in missing:
            _start(service, settings)
        for service in missing:
            _wait(service, settings)
        published = republish.republish(settings)
        if published:
            say(f"{published} key and schema records published again from the store")
    return settings


def status(settings: LocalSettings) -> list[Status]:
    """How the processes are, in the order in which they start."""
    return [_status(service, settings) for service in SERVICES]


def down(settings: LocalSettings, say: Say) -> list[str]:
    """Stop the processes that `up` has started, last one first.

    Returns:
        Names of those that ran.
    """
    if not (settings.state_dir / "run").is_dir():
        return []
    stopped = []
    with _alone(settings):
        for service in reversed(SERVICES):
            file = service.pid_file(settings)
            process = read_pid_file(file)
            if process is not None and process.alive():
                if not process.stop(settings.local_stop_seconds):
                    say(f"{service.name} did not stop in time and was killed")
                stopped.append(service.name)
            file.unlink(missing_ok=True)
    return stopped


@contextlib.contextmanager
def _alone(settings: LocalSettings) -> Iterator[None]:
    folder = settings.state_dir / "run"
    folder.mkdir(exist_ok=True, mode=0o700)
    with (folder / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"another `sealtrail local` command works on {settings.state_dir}",
                hint="wait until it has ended",
            ) from None
        yield


def _runs(service: Service, settings: LocalSettings, say: Say) -> bool:
    file = service.pid_file(settings)
    process = read_pid_file(file)
    if process is not None and process.alive():
        if process.port not in {0, service.port(settings)}:
            raise ConfigurationError(
                f"the {service.name} runs on port {process.port}, not {service.port(settings)}",
                hint="`sealtrail local down` first, then `up`",
            )
        return True
    if file.exists():
        say(f"{service.name} is not running any more: its stale pid file is removed")
        file.unlink()
    return False


def _refuse_taken_port(service: Service, settings: LocalSettings) -> None:
    port = service.port(settings)
    # A process that was killed just now lets go of its port a moment after it counts as gone.
    deadline = time.monotonic() + _PORT_WAIT_S
    while not port_free(port):
        if port_holder(port) or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    else:
        return
    holder = port_holder(port) or "another process"
    raise ConfigurationError(
        f"port {port}, wanted for the {service.name}, is taken by {holder}",
        hint=f"stop it, or set {common.variable(service.port_field)} to a free port",
    )


def _start(service: Service, settings: LocalSettings) -> None:
    command = [sys.executable, "-m", "sealtrail_local", service.name]
    log, port = service.log_file(settings), service.port(settings)
    process = spawn(command, log, _environment(settings), port)
    write_pid_file(service.pid_file(settings), process)


def _environment(settings: LocalSettings) -> dict[str, str]:
    """Of the processes: our settings as they are now; passwords only through the file."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(common.PREFIX)}
    secret = common.secret_fields(LocalSettings)
    for name, value in settings.model_dump(exclude_none=True).items():
        if name not in secret and name != "env_file":
            environment[common.variable(name)] = str(value)
    environment["SEALTRAIL_STATE_DIR"] = str(settings.state_dir.resolve())
    environment["SEALTRAIL_ENV_FILE"] = str(envfile.path(settings).resolve())
    return environment


def _wait(service: Service, settings: LocalSettings) -> None:
    process = read_pid_file(service.pid_file(settings))
    deadline = time.monotonic() + settings.local_start_seconds
    while True:
        try:
            service.check(settings)
        except UnavailableError as error:
            gone = process is None or not process.alive()
            if gone or time.monotonic() >= deadline:
                raise _not_started(service, settings, error, gone=gone) from error
            time.sleep(_POLL_S)
        else:
            if process is not None and process.alive():
                return
            # Somebody else answers on our port.
            raise _not_started(service, settings, None, gone=True)


def _not_started(
    service: Service, settings: LocalSettings, error: UnavailableError | None, *, gone: bool
) -> UnavailableError:
    log = service.log_file(settings)
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:]
    said = " | ".join(line.strip() for line in last if line.strip())
    if gone:
        problem = "has ended"
        service.pid_file(settings).unlink(missing_ok=True)
    else:
        problem = f"did not answer within {settings.local_start_seconds:g} s"
    reason = said or (error.message if error else "")
    return UnavailableError(f"the {service.name} {problem}: {reason}", hint=f"see {log}")


def _status(service: Service, settings: LocalSettings) -> Status:
    process = read_pid_file(service.pid_file(settings))
    alive = process is not None and process.alive()
    pid = process.pid if process is not None and alive else None
    if not alive:
        detail = "stale pid file" if process is not None else ""
        return Status(service.name, service.address(settings), "stopped", None, detail)
    try:
        detail = service.check(settings)
    except SealtrailError as error:
        return Status(service.name, service.address(settings), "failing", pid, error.message)
    return Status(service.name, service.address(settings), "running", pid, detail)


def owner(settings: LocalSettings, name: str) -> ProcessId | None:
    """The recorded process of a service."""
    service = next(service for service in SERVICES if service.name == name)
    return read_pid_file(service.pid_file(settings))
