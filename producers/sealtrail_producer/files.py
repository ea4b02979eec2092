"""Small files that must be whole or not there, and names that are safe in a path."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from sealtrail.identity import safe_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["safe_name", "sync_folder", "write_private"]


def write_private(file: Path, data: bytes) -> None:
    """Write a file (mode 0600), on disk when this returns; a crash leaves the old or the new."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Process and thread keep two writers apart; the rename decides which of them wins.
    writer = f"{os.getpid()}.{threading.get_native_id()}"
    fresh = file.with_name(f".{file.name}.{writer}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
