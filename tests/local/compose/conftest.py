"""What Compose makes of docker-compose.yml, for each profile."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.local.compose.reading import NOW, PROFILES, ROOT

from sealtrail_local import compose

# Where no Docker is installed, Debian's docker-compose (requirements/debian.txt) reads the same.
COMMANDS = (("docker", "compose"), ("docker-compose",))


def compose_command() -> tuple[str, ...]:
    for command in COMMANDS:
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    raise AssertionError("neither `docker compose` nor docker-compose is installed")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker compose config` reads, with secrets of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copy(ROOT / "Dockerfile", folder)
    shutil.copytree(
        ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets", "local")
    )
    compose.make(folder / "deploy" / "secrets", NOW)
    return folder


@pytest.fixture(scope="session", params=PROFILES)
def config(request: pytest.FixtureRequest, checkout: Path) -> dict[str, Any]:
    """What Compose makes of it for a profile."""
    env_file = f"deploy/compose/{request.param}.env"
    # Its own variables would win over the file's.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("COMPOSE", "SEALTRAIL"))}
    done = subprocess.run(
        [*compose_command(), "--env-file", env_file, "config"],
        cwd=checkout,
        env=clean | {"SEALTRAIL_UID": "10001", "SEALTRAIL_GID": "10001"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # One that is not set is a warning and an empty string.
    assert "variable is not set" not in done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    found["profile"] = request.param
    return found
