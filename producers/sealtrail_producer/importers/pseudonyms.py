"""Names of people in events: pseudonyms under a key of the tenant.

HMAC-SHA-256 under a key that never leaves the machine: whoever holds the events
but not the key cannot try addresses until one fits. The same person gets the
same name in all imports of a tenant; destroying the key makes the names
meaningless (for values that must be readable again, see `protected` events).
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32


def pseudonym(key: bytes, tenant: str, person: str) -> str:
    """A person's name in events: 32 hex digits.

    Args:
        key: the tenant's key, 32 bytes.
        tenant: whose events; the same key gives another tenant other names.
        person: `commits.person` of the address.
    """
    message = b"sealtrail/pseudonym/v1\x00" + tenant.encode() + b"\x00" + person.encode()
    return hmac.new(key, message, sha256).hexdigest()[:32]


def tenant_key(state_dir: Path, tenant: str) -> bytes:
    """The tenant's key from the state folder; made on first use, readable by its owner alone.

    Raises:
        ConfigurationError: the file is open to others, or damaged.
    """
    # The tenant may hold any character; its hash is a safe file name.
    path = state_dir / "pseudonyms" / f"{sha256(tenant.encode()).hexdigest()[:16]}.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # of two importers that start at once one wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"{path} is open to other users", hint=f"chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{path} is damaged", hint="restore it from a backup")
    return key
