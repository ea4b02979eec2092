"""The command `sealtrail`: what every room's commands share.

A room writes click commands, names them in the entry point group
`sealtrail.commands`, and uses from here:

- `pass_output`: hands the command an `Output` first and gives it `--json`;
- exit codes `OK`, `FINDINGS`, `USAGE`, `FAILED`: a command returns one of them
  (None counts as OK);
- errors: raise `SealtrailError(message, hint=...)`; it is shown as one line,
  and the command ends with FAILED.
"""

from sealtrail.cli.exits import FAILED, FINDINGS, INTERRUPTED, OK, USAGE
from sealtrail.cli.main import main, root
from sealtrail.cli.output import Output, pass_output

__all__ = [
    "FAILED",
    "FINDINGS",
    "INTERRUPTED",
    "OK",
    "USAGE",
    "Output",
    "main",
    "pass_output",
    "root",
]
