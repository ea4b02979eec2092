"""A secured stack, with producers that have keys and one client that has no business there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.conftest import Stack, running_stack

from sealtrail import connections
from sealtrail.settings import CommonSettings, load
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

PRODUCERS = ("billing", "orders")
STRANGER = "mallory"
COMMAND = (sys.executable, "-c", "from sealtrail.cli import main; main()")


@dataclass(frozen=True)
class Secured:
    """A secured stack.

    Attributes:
        stack: it.
    """

    stack: Stack

    def run(self, *arguments: str, code: int = 0, **variables: str) -> list[dict[str, str]]:
        """Run a command with --json on it; what it printed."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SEALTRAIL_")}
        done = subprocess.run(
            [*COMMAND, *arguments, "--json"],
            env={**plain, **self.stack.env, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout) if done.stdout else []

    def kafka(self, name: str, how: str = "scram") -> dict[str, str]:
        """Librdkafka's properties of a client, with its password or its certificate."""
        local = load(LocalSettings, self.stack.env)
        if name == secure.BOOTSTRAP:
            return secure.properties(local)
        variables = dict(self.stack.env)
        if how == "mtls":
            variables |= secure.superuser(local)
            variables["SEALTRAIL_KAFKA_CERT_FILE"] = str(secure.certificates(local).file(name))
        return connections.librdkafka(load(CommonSettings, variables), name)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    """A secured stack of one broker, of a module's own."""
    with running_stack(real=True, secure=True) as stack:
        found = Secured(stack)
        named = [word for name in PRODUCERS for word in ("--producer", name)]
        found.run("keys", "setup-dev", *named)
        found.run("local", "client", *PRODUCERS, STRANGER, "sealtrail-control")
        found.run("store", "migrate")
        yield found
