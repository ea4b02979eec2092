"""The local stack as a whole: its processes, started, looked at, stopped.

In the state directory:

    local.env     addresses and passwords (envfile.py)
    run/          pid files, a lock against two commands at a time
    log/          what the processes print
    store/        the engine's data; the only folder that the store's process may touch
    registry/     the embedded registry's file
    kafka/        real brokers: a folder each, and the cluster's id
    apicurio/     the real registry's file
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealtrail import settings as common
from sealtrail.errors import ConfigurationError, SealtrailError, UnavailableError
from sealtrail_local import envfile, republish
from sealtrail_local.processes import (
    ProcessId,
    port_free,
    port_holder,
    read_pid_file,
    spawn,
    write_pid_file,
)
from sealtrail_local.real import secure, topics
from sealtrail_local.service import Launch, Say, Service
from sealtrail_local.services import admit, services
from sealtrail_local.settings import LocalSettings

_POLL_S: Final = 0.1
_LOG_TAIL: Final = 5
_TRANSPORT: Final = ("kafka_", "registry_", "store_url", "store_ca_file")
_PORT_WAIT_S: Final = 3.0


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
        wanted = services(settings)
        _refuse_another_stack(wanted, settings)
        missing = [service for service in wanted if not _runs(service, settings, say)]
        for service in missing:
            _refuse_taken_ports(service)
        for service in wanted:
            if service not in missing:
                _wait(service, settings)
        launches = [(service, service.launch(settings, say)) for service in missing]
        # Not before: settings that what runs does not follow must not replace those that it does.
        envfile.write(settings)
        for service, launch in launches:
            _start(service, launch, settings)
        for service in missing:
            _wait(service, settings)
        if missing and settings.local_servers == "real":
            # The embedded broker comes with its topics.
            variables = environment(settings)
            topics.apply(variables | (secure.superuser(settings) if settings.local_secure else {}))
            if settings.local_secure:
                admit(settings, secure.ROLES, variables)
        published = republish.republish(settings)
        if published:
            say(f"{published} key and schema records published again from the store")
    return settings


def status(settings: LocalSettings) -> list[Status]:
    """How the processes are, in the order in which they start."""
    return [_status(service, settings) for service in services(settings)]


def down(settings: LocalSettings, say: Say) -> list[str]:
    """Stop the processes that `up` has started, last one first.

    Returns:
        Names of those that ran.
    """
    if not (settings.state_dir / "run").is_dir():
        return []
    with _alone(settings):
        running = [(name, process) for name, process in _recorded(settings) if process.alive()]
        # All are told first: the last ones of a cluster wait for the others, which are not there.
        for _, process in running:
            process.signal(signal.SIGTERM)
        for name, process in running:
            if not process.ended(settings.local_stop_seconds):
                say(f"{name} did not stop in time and was killed")
        for file in _pid_files(settings):
            file.unlink(missing_ok=True)
    return [name for name, _ in running]


def start(settings: LocalSettings, name: str) -> ProcessId:
    """Start one process of a stack that was up, and wait until it answers.

    Args:
        settings: of the stack.
        name: of the process, as `status` shows it.

    Raises:
        ConfigurationError: a port is taken.
        UnavailableError: it does not start or answer, or runs already.
    """
    with _alone(settings):
        (service,) = (service for service in services(settings) if service.name == name)
        if _runs(service, settings, lambda _: None):
            raise UnavailableError(f"the {name} runs already")
        _refuse_taken_ports(service)
        _start(service, service.launch(settings, lambda _: None), settings)
        _wait(service, settings)
    process = owner(settings, name)
    if process is None:
        raise UnavailableError(f"the {name} has ended")
    return process


def owner(settings: LocalSettings, name: str) -> ProcessId | None:
    """The recorded process of a service, if there is one."""
    return dict(_recorded(settings)).get(name)


def _pid_files(settings: LocalSettings) -> list[Path]:
    return sorted((settings.state_dir / "run").glob("*.json"))


def _recorded(settings: LocalSettings) -> list[tuple[str, ProcessId]]:
    """The processes that have pid files, whatever the settings say now: last one to start first."""
    found = ((file.stem, read_pid_file(file)) for file in _pid_files(settings))
    # Brokers, registry, store: they start in the order of their names.
    return [(name, process) for name, process in found if process is not None][::-1]


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


def _refuse_another_stack(wanted: Sequence[Service], settings: LocalSettings) -> None:
    names = {service.name for service in wanted}
    others = [n for n, process in _recorded(settings) if n not in names and process.alive()]
    if others:
        raise ConfigurationError(
            f"another kind of stack runs in {settings.state_dir}: {', '.join(others)}",
            hint="`sealtrail local down` first, then `up`",
        )


def _runs(service: Service, settings: LocalSettings, say: Say) -> bool:
    file = service.pid_file(settings)
    process = read_pid_file(file)
    if process is not None and process.alive():
        if process.port not in {0, service.port}:
            raise ConfigurationError(
                f"the {service.name} runs on port {process.port}, not {service.port}",
                hint="`sealtrail local down` first, then `up`",
            )
        return True
    if file.exists():
        say(f"{service.name} is not running any more: its stale pid file is removed")
        file.unlink()
    return False


def _refuse_taken_ports(service: Service) -> None:
    for port in service.ports:
        _refuse_taken_port(port, service)


def _refuse_taken_port(port: int, service: Service) -> None:
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


def _start(service: Service, launch: Launch, settings: LocalSettings) -> None:
    environment = {**_environment(settings), **launch.environment}
    process = spawn(launch.command, service.log_file(settings), environment, service.port)
    write_pid_file(service.pid_file(settings), process)


def environment(settings: LocalSettings) -> dict[str, str]:
    """Variables of whatever uses the stack."""
    return _environment(settings) | envfile.variables(settings)


def _environment(settings: LocalSettings) -> dict[str, str]:
    """Of the processes: our settings as they are now; passwords only through the file.

    So is how the servers are reached: as they run now, not as they did before.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(common.PREFIX)}
    secret = common.secret_fields(LocalSettings)
    for name, value in settings.model_dump(exclude_none=True).items():
        if name not in secret and name != "env_file" and not name.startswith(_TRANSPORT):
            # Lists are read as JSON.
            text = json.dumps(value) if isinstance(value, tuple) else str(value)
            environment[common.variable(name)] = text
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
    lines = (line.strip() for line in log.read_text("utf-8", "replace").splitlines())
    # Of a Java exception the places say little, and there are many.
    telling = [line for line in lines if line and not line.startswith(("at ", "... "))]
    said = " | ".join(telling[-_LOG_TAIL:])
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
        return Status(service.name, service.address, "stopped", None, detail)
    try:
        detail = service.check(settings)
    except SealtrailError as error:
        return Status(service.name, service.address, "failing", pid, error.message)
    return Status(service.name, service.address, "running", pid, detail)
