"""One process of the local stack: what it is called, where it listens, how it is started."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sealtrail_local.health import Check
from sealtrail_local.settings import LocalSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Launch:
    """How a process is started.

    Attributes:
        command: program and arguments.
        environment: variables beside those of this process.
    """

    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Service:
    """One of the processes.

    Attributes:
        name: of its pid file and its log.
        port_field: setting that its ports follow.
        ports: where it listens; the first one is for clients.
        address: as clients write it.
        check: raises UnavailableError unless it answers.
        launch: how it is started; may fetch what it needs.
    """

    name: str
    port_field: str
    ports: tuple[int, ...]
    address: str
    check: Check
    launch: Callable[[LocalSettings, Say], Launch]

    @property
    def port(self) -> int:
        """Where clients reach it."""
        return self.ports[0]

    def pid_file(self, settings: LocalSettings) -> Path:
        """Where its process is recorded."""
        return settings.state_dir / "run" / f"{self.name}.json"

    def log_file(self, settings: LocalSettings) -> Path:
        """Where its output goes."""
        return settings.state_dir / "log" / f"{self.name}.log"
