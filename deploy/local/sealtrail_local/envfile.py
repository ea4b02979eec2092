"""local.env: where the local stack listens and the passwords it generated.

`sealtrail.settings` reads the file by itself, so that every other command finds the stack. Only
its owner may read it.
"""

import os
import secrets
from pathlib import Path
from typing import Final

from sealtrail import settings as common
from sealtrail_local import addresses
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

_HEADER: Final = "# Written by `sealtrail local up`; the real environment wins over it.\n"
_PASSWORD_BYTES: Final = 24


def path(settings: LocalSettings) -> Path:
    """Where the file lies."""
    return settings.state_dir / "local.env"


def with_passwords(settings: LocalSettings) -> LocalSettings:
    """The settings with a password for each user: those that are set, or new random ones."""
    made = {
        name: secrets.token_urlsafe(_PASSWORD_BYTES)
        for name in ("store_password", "analyst_password")
        if not getattr(settings, name).get_secret_value()
    }
    if not made:
        return settings
    values = settings.model_dump(exclude_unset=True)
    return LocalSettings(**{**values, **made})


def variables(settings: LocalSettings) -> dict[str, str]:
    """What other processes need to use the stack, by name of the variable."""
    brokers = addresses.brokers(settings)
    return {
        "SEALTRAIL_KAFKA_BOOTSTRAP": addresses.bootstrap(settings),
        "SEALTRAIL_REGISTRY_URL": addresses.registry(settings),
        "SEALTRAIL_STORE_URL": addresses.store(settings),
        "SEALTRAIL_STORE_USER": settings.store_user,
        "SEALTRAIL_STORE_PASSWORD": settings.store_password.get_secret_value(),
        "SEALTRAIL_STORE_DATABASE": settings.store_database,
        "SEALTRAIL_ANALYST_USER": settings.analyst_user,
        "SEALTRAIL_ANALYST_PASSWORD": settings.analyst_password.get_secret_value(),
        "SEALTRAIL_PARTITIONS": str(settings.partitions),
        "SEALTRAIL_REPLICATION_FACTOR": str(brokers),
        "SEALTRAIL_MIN_INSYNC_REPLICAS": str(addresses.min_insync(brokers)),
        **_secured(settings),
        # So that `status` and `down` find a stack that was started in another way.
        "SEALTRAIL_LOCAL_SERVERS": settings.local_servers,
        "SEALTRAIL_LOCAL_BROKERS": str(settings.local_brokers),
        "SEALTRAIL_LOCAL_KAFKA_PORT": str(settings.local_kafka_port),
        "SEALTRAIL_LOCAL_REGISTRY_PORT": str(settings.local_registry_port),
        "SEALTRAIL_LOCAL_STORE_PORT": str(settings.local_store_port),
    }


def _secured(settings: LocalSettings) -> dict[str, str]:
    if not settings.local_secure:
        return {}
    return {
        "SEALTRAIL_LOCAL_SECURE": "true",
        "SEALTRAIL_LOCAL_CLIENT_AUTH": settings.local_client_auth,
        **{common.variable(name): value for name, value in secure.transport(settings).items()},
    }


def write(settings: LocalSettings) -> Path:
    """Write the file, readable by its owner only; whole or not at all.

    Args:
        settings: with passwords.
    """
    target = path(settings)
    fresh = target.with_name(f"{target.name}.{os.getpid()}.new")
    lines = (f"{name}={_quoted(value)}\n" for name, value in variables(settings).items())
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_HEADER)
        file.writelines(lines)
    fresh.replace(target)
    return target


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
