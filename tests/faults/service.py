"""A service under load: emits at a steady rate through the SDK, and says what it was promised.

Usage: service.py NAME FOLDER RATE BEGAN [alone]. Emits RATE events a second, counted from
BEGAN (a reading of the system's monotonic clock) over all process runs of NAME, so that what a dead
or frozen process missed is made up for. SIGTERM: closes its chain and waits for the brokers.

Each event names the one before it as its parent. Four times a second one is emitted durably; it
names the last durable events of the other services too, and what lies before it counts as promised
(ledger.py). References of durable events stand in FOLDER/references; a service whose clock is wrong
("alone") neither reads nor writes there, so that its times spoil nobody's.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults import ledger

from sealtrail.errors import SealtrailError
from sealtrail.event import EntityRef, EventType
from sealtrail_producer import Trail, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.event import ParentRef
    from sealtrail_producer.pending import Receipt

PRODUCER = "load"
TICK_S = 0.02
DURABLE_S = 0.25
# The broker may be away, and be paced by a store that is.
FLUSH_S = 600.0


class Service:
    """One process run."""

    def __init__(self, name: str, folder: Path, rate: float, began: float, *, alone: bool) -> None:
        self.name, self.rate, self.began = name, rate, began
        self.references = folder / "references"
        self.alone = alone
        self.before = sum(r.emitted for r in ledger.runs(folder / "ledger") if r.service == name)
        self.trail = Trail.from_env(PRODUCER, instance=name)
        self.page = ledger.Page(folder / "ledger", name, self.trail.chain_id)
        self.count = 0
        self.lock = threading.Lock()
        # Not `stop`: a handler that sets an event while this thread looks at it waits for itself.
        self.asked = False
        self.stop = threading.Event()

    def run(self) -> bool:
        """Emit until asked to stop; whether the brokers have everything."""
        promising = threading.Thread(target=self._promise, daemon=True)
        promising.start()
        last: Receipt | None = None
        while not self.asked:
            self.stop.wait(TICK_S)
            due = self.rate * (time.monotonic() - self.began)
            while self.before + self.count < due and not self.asked:
                last = self._emit([last] if last else [], durable=False)
        self.stop.set()
        promising.join()
        complete = self.trail.flush(FLUSH_S) and self.trail.close(FLUSH_S)
        self.page.promised(self.count)
        return complete

    def _emit(self, parents: Sequence[Receipt | ParentRef], *, durable: bool) -> Receipt:
        with self.lock:
            number = self.before + self.count
            self.count += 1
            self.page.emitted(self.count)
        return self.trail.emit(
            "load.step",
            event_type=EventType.TRANSFORM,
            inputs=[EntityRef("load", f"{self.name}/{number % 97}", str(number))],
            outputs=[EntityRef("load", f"{self.name}/{(number + 1) % 97}", str(number + 1))],
            parents=parents,
            attributes={"number": str(number), "instance": self.name},
            durable=durable,
        )

    def _promise(self) -> None:
        """In a thread of its own: a disk that is full holds up this one alone."""
        while not self.stop.wait(DURABLE_S):
            try:
                receipt = self._emit(self._others(), durable=True)
            except SealtrailError as error:
                sys.stderr.write(f"{self.name}: {error.message}\n")
                continue
            if receipt.event_id is not None:
                # The last five bytes of an id are its sequence number.
                self.page.promised(int.from_bytes(receipt.event_id[-5:], "big") + 1)
            self._tell(receipt)

    def _others(self) -> list[ParentRef]:
        if self.alone:
            return []
        names = sorted(p for p in self.references.glob("*.ref") if p.stem != self.name)
        return [reference.parse(path.read_text()) for path in names]

    def _tell(self, receipt: Receipt) -> None:
        if self.alone:
            return
        fresh = self.references / f"{self.name}.new"
        try:
            fresh.write_text(reference.format(receipt.reference))
            fresh.replace(fresh.with_suffix(".ref"))
        except OSError as error:  # of a disk without room or a process without descriptors
            sys.stderr.write(f"{self.name}: {error}\n")


def main(name: str, folder: str, rate: str, began: str, alone: str = "") -> int:
    """Run until SIGTERM."""
    service = Service(name, Path(folder), float(rate), float(began), alone=bool(alone))
    signal.signal(signal.SIGTERM, lambda *_: setattr(service, "asked", True))
    return 0 if service.run() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
