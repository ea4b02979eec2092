"""Runs commands of other rooms on the stack: the same by which any cluster is set up."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from sealtrail.errors import UnavailableError

_TIMEOUT_S: Final = 120
_SEALTRAIL: Final = (sys.executable, "-c", "from sealtrail.cli import main; main()")


def run(environment: Mapping[str, str], *arguments: str, hint: str = "") -> str:
    """Run a command; what it printed.

    Args:
        environment: all its variables.
        arguments: after `sealtrail`.
        hint: for the error.

    Raises:
        UnavailableError: it failed, or found something wrong.
    """
    name = f"`sealtrail {' '.join(arguments)}`"
    try:
        done = subprocess.run(
            [*_SEALTRAIL, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{name} did not end within {_TIMEOUT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reason = said[-1] if said else "no reason given"
        raise UnavailableError(f"{name} failed: {reason}", hint=hint)
    return done.stdout
