"""All kinds of faults, in the order in which a schedule names them."""

from __future__ import annotations

from tests.faults.injectors import (  # noqa: F401 - each enters what it holds
    away,
    clock,
    crash,
    descriptors,
    disk,
    freeze,
    kill,
    link,
    memory,
    poison,
    sink,
    storm,
)
from tests.faults.injectors.registry import FAULTS, REAL

__all__ = ["FAULTS", "REAL"]
