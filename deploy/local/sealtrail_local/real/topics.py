"""The pipeline's topics on real brokers: made as `deploy/kafka/topics.yaml` has them."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from sealtrail.errors import UnavailableError

_TIMEOUT_S: Final = 120
_APPLY: Final = (
    sys.executable,
    "-c",
    "from sealtrail.cli import main; main()",
    "topics",
    "apply",
)


def apply(environment: Mapping[str, str]) -> None:
    """Run `sealtrail topics apply`: another room's command, by which any cluster gets its topics.

    Args:
        environment: variables that name the brokers.

    Raises:
        UnavailableError: it failed, or left something that it refuses to change.
    """
    try:
        done = subprocess.run(
            _APPLY,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"topics were not made within {_TIMEOUT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise UnavailableError(
            f"topics were not made as declared: {said[-1] if said else 'no reason given'}",
            hint="`sealtrail topics plan` shows what is another",
        )
