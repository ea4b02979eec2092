"""Who calls: the two users of the embedded store, each with a generated password."""

import base64
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sealtrail_local.store.errors import AUTHENTICATION_FAILED, Refused


class Role(Enum):
    """What a caller may do."""

    WRITER = "writer"
    ANALYST = "analyst"


@dataclass(frozen=True)
class User:
    """A user of the store."""

    name: str
    password: str
    role: Role


def authenticate(
    users: Mapping[str, User], headers: Mapping[str, str], query: Mapping[str, str]
) -> Role:
    """The role of whoever sent a request.

    Args:
        users: the users by name.
        headers: of the request, names in lower case: `x-clickhouse-user` and `-key`, or HTTP Basic.
        query: URL parameters: `user` and `password`.

    Raises:
        Refused: unknown user or wrong password; the two are not told apart.
    """
    name = headers.get("x-clickhouse-user") or query.get("user", "default")
    password = headers.get("x-clickhouse-key") or query.get("password", "")
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(credentials).decode().partition(":")
        except ValueError:
            name, password = "", ""
    user = users.get(name)
    # An unknown user costs the same comparison as a known one.
    expected = user.password if user else secrets.token_hex()
    if not hmac.compare_digest(password.encode(), expected.encode()) or user is None:
        raise Refused(
            AUTHENTICATION_FAILED,
            f"{name}: Authentication failed: password is incorrect, "
            "or there is no user with such name",
        )
    return user.role
