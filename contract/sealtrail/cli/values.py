"""Values that several commands take, as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class _Moment(click.ParamType):
    """A time with a zone, as microseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read ISO 8601."""
        if isinstance(value, int):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self.fail("write a time with a zone, such as 2026-11-25T19:00:00Z", param, ctx)
        return (found - _EPOCH) // _MICROSECOND


class _Fingerprint(click.ParamType):
    """A key's fingerprint, as its 32 bytes."""

    name = "fingerprint"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Read hex."""
        if isinstance(value, bytes):
            return value
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            self.fail("a fingerprint is written as 64 hex digits", param, ctx)
        return raw


MOMENT: Final = _Moment()
FINGERPRINT: Final = _Fingerprint()


def shown_time(micros: int) -> datetime:
    """Microseconds since 1970 as a time for people."""
    return _EPOCH + timedelta(microseconds=micros)
