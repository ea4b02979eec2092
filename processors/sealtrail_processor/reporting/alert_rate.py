"""How many alerts of a code go out in a minute.

A flood of bad messages must not become a flood of alerts: the findings stand in the table, and what
was held back is counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealtrail.findings import Code

log = logging.getLogger(__name__)
MINUTE_US = 60_000_000


class AlertRate:
    """Counts alerts by code and minute.

    Args:
        per_minute: of each code; 0 for no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self._minute = 0
        self._taken: dict[Code, int] = {}

    def take(self, code: Code, now: int) -> bool:
        """Whether one more may go out now (microseconds since 1970)."""
        if not self._most:
            return True
        minute = now // MINUTE_US
        if minute != self._minute:
            self._minute, self._taken = minute, {}
        taken = self._taken[code] = self._taken.get(code, 0) + 1
        if taken == self._most + 1:
            log.warning("more than %d alerts of %s in a minute: held back", self._most, code)
        return taken <= self._most
