"""Commands of the room: each is imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_COMMANDS = {
    "keys_command": "sealtrail_producer.keys_cli",
    "emit_command": "sealtrail_producer.emit_cli",
    "import_command": "sealtrail_producer.importers.cli",
    "schemas_command": "sealtrail_producer.schemas_cli",
    "service_command": "sealtrail_producer.services.cli",
}


def __getattr__(name: str) -> Any:
    """Import a command's module when the command is called."""
    if name in _COMMANDS:
        return getattr(import_module(_COMMANDS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
