"""Errors as a ClickHouse server reports them: text, code, HTTP status."""

import re
from dataclasses import dataclass
from typing import Final

UNSUPPORTED_METHOD: Final = (1, "UNSUPPORTED_METHOD")
BAD_ARGUMENTS: Final = (36, "BAD_ARGUMENTS")
NOT_IMPLEMENTED: Final = (48, "NOT_IMPLEMENTED")
SYNTAX_ERROR: Final = (62, "SYNTAX_ERROR")
UNKNOWN_SETTING: Final = (115, "UNKNOWN_SETTING")
READONLY: Final = (164, "READONLY")
TOO_MANY_BYTES: Final = (307, "TOO_MANY_BYTES")
SUPPORT_IS_DISABLED: Final = (344, "SUPPORT_IS_DISABLED")
NOT_ENOUGH_SPACE: Final = (243, "NOT_ENOUGH_SPACE")
CANNOT_DECOMPRESS: Final = (271, "CANNOT_DECOMPRESS")
SESSION_IS_LOCKED: Final = (373, "SESSION_IS_LOCKED")
ACCESS_DENIED: Final = (497, "ACCESS_DENIED")
AUTHENTICATION_FAILED: Final = (516, "AUTHENTICATION_FAILED")

_UNKNOWN_EXCEPTION: Final = 1002

# HTTPHandler.cpp of ClickHouse, exceptionCodeToHTTPStatus: what is not listed is a 500.
_STATUS: Final = {
    **dict.fromkeys((6, 26, 27, 36, 53, 62, 271, 456, 457), 400),
    194: 401,
    **dict.fromkeys((164, 192, 193, 497, 516), 403),
    **dict.fromkeys((46, 47, 50, 60, 73, 81, 115), 404),
    159: 408,
    307: 413,
    48: 501,
    **dict.fromkeys((202, 373), 503),
}
_REPEATED_PREFIX: Final = re.compile(r"^(Code: \d+\. DB::Exception: )+")
_CODE: Final = re.compile(r"Code: (\d+)")


class Refused(Exception):  # noqa: N818 - not a failure of ours but an answer
    """The store's own refusal of a request, worded as the engine words its own."""

    def __init__(self, kind: tuple[int, str], text: str) -> None:
        super().__init__(f"Code: {kind[0]}. DB::Exception: {text}. ({kind[1]})")


@dataclass(frozen=True)
class Failure:
    """An error ready to be sent."""

    code: int
    status: int
    text: str


def describe(error: Exception, version: str) -> Failure:
    """The code, HTTP status and text of a refusal or an engine error.

    Args:
        error: a `Refused`, or what chDB raised (it puts the engine's text in the message).
        version: of the engine, appended as a server does.
    """
    text = str(error)
    text = _REPEATED_PREFIX.sub(lambda m: m[1], text[max(text.find("Code: "), 0) :])
    found = _CODE.match(text)
    code = int(found[1]) if found else _UNKNOWN_EXCEPTION
    return Failure(code, _STATUS.get(code, 500), f"{text} (version {version} (chDB))\n")
