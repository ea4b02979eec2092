"""What is hidden in the honest traffic, one function an attack, in the order of play."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks import (
    chain,
    clock,
    encoding,
    every_bit,
    heartbeat,
    key_record,
    link,
    record,
    replay,
    restart,
    schema,
    signature,
    text,
    tree,
)
from tests.attacks.registry import ENTERED

if TYPE_CHECKING:
    from tests.attacks.registry import Attack

# Imports are sorted by name, so that the order is said here; within a subject it is the file's.
SUBJECTS = (
    *(every_bit, signature, key_record, tree, replay, chain, encoding, schema, text, record),
    # The last one kills the worker.
    *(clock, link, heartbeat, restart),
)
ATTACKS: dict[str, Attack] = {
    name: attack
    for subject in SUBJECTS
    for name, attack in ENTERED.items()
    if attack.__module__ == subject.__name__
}
