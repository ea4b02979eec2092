"""Somebody who puts bad messages among the honest ones for as long as it is let.

The attacks are those of tests/scenarios: each writes down what it sent, the fate that each message
must meet and the findings that must be made. Those that wait for a window to pass, or that depend
on when a worker looks, are left out here.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from tests.attacks.play import ATTACKS
from tests.scenarios.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Stack

CHOSEN = (
    "bit_flipped_in_event",
    "bit_flipped_in_statement",
    "bit_flipped_in_signature",
    "bit_flipped_in_the_name_of_the_signer",
    "signer_stripped",
    "wrong_key",
    "replay_into_another_place",
    "release_that_never_was",
    "fork",
    "continued_twice",
    "out_of_order",
    "claim_to_a_chain",
    "statement_not_canonical",
    "events_other_than_signed",
    "signature_for_another_use",
    "schema_of_nobody",
    "headers",
    "event_that_holds_two",
    "event_that_swallows_its_neighbour",
    "clock_ahead",
    "clock_goes_back",
    "clock_behind",
    "time_of_another_age",
    "orphan",
    "wrong_leaf_hash",
    "circle",
    "forged_heartbeat",
)
FLUSH_S = 120.0


class Forger:
    """Plays attacks in a random order from a thread of its own.

    Args:
        stack: where to.
        seed: of order and pauses.
        pause_s: between two attacks on average.
    """

    def __init__(self, stack: Stack, seed: int, pause_s: float) -> None:
        self.scene = Scene(stack)
        self.played: dict[str, int] = {}
        self.failed: BaseException | None = None
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="forger", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def play(self, name: str) -> None:
        """One attack now."""
        self.send(name, ATTACKS[name])

    def send(self, name: str, act: Callable[[Scene], object]) -> None:
        """Have something sent by hand now, to be told of under a name."""
        with self._lock:
            self.scene.attack = name
            act(self.scene)
            self.played[name] = self.played.get(name, 0) + 1

    def finish(self) -> None:
        """Play no more, and wait until the broker has all; raises what went wrong."""
        self._stop.set()
        self._thread.join()
        if self.failed is not None:
            raise self.failed
        self.scene.flush(FLUSH_S)

    def _run(self) -> None:
        left: list[str] = []
        try:
            while not self._stop.wait(self._random.uniform(0, 2 * self._pause_s)):
                if not left:
                    left = list(CHOSEN)
                    self._random.shuffle(left)
                self.play(left.pop())
        except BaseException as error:  # noqa: BLE001 - told by `finish`, in the main thread
            self.failed = error
