"""Exit codes of every `sealtrail` command."""

from typing import Final

OK: Final = 0
FINDINGS: Final = 1
USAGE: Final = 2
FAILED: Final = 3
# As shells report a process that a signal ended: 128 + SIGINT.
INTERRUPTED: Final = 130

EXIT_CODES: Final = (
    (OK, "fine"),
    (FINDINGS, "the command ran and found something wrong in what it looked at"),
    (USAGE, "the command line is wrong"),
    (FAILED, "the command could not run: a setting, a file, a server"),
    (INTERRUPTED, "interrupted by the user"),
)
