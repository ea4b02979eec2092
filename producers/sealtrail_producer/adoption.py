"""Sends what dead processes of the same producer left in their spools.

A spool that nobody holds and that is not empty belongs to a process that crashed or could not reach
the brokers when it closed. Its chain is finished by sending it: nothing is added, nothing is signed
anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail.errors import SealtrailError
from sealtrail_producer import slots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sealtrail_producer.sender import Sender
    from sealtrail_producer.slots import Slot
    from sealtrail_producer.spool import Spool

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Orphan:
    slot: Slot
    spool: Spool
    sender: Sender

    def leave(self) -> None:
        self.sender.close()
        self.spool.close()
        self.slot.release()


class Adoption:
    """The orphans that were there when a process started.

    Args:
        root: folder of all spools.
        producer: service identity.
        open_spool: opens a folder.
        make_sender: sends a spool.
    """

    def __init__(
        self,
        root: Path,
        producer: str,
        open_spool: Callable[[Path], Spool],
        make_sender: Callable[[Spool], Sender],
    ) -> None:
        self._orphans: list[_Orphan] = []
        for slot in slots.orphans(root, producer):
            try:
                spool = open_spool(slot.folder)
            except SealtrailError as error:
                log.warning("%s", error.message)
                slot.release()
                continue
            if spool.empty:
                spool.close()
                slot.release()
            else:
                log.info("sending what %s left behind", slot.folder)
                self._orphans.append(_Orphan(slot, spool, make_sender(spool)))

    @property
    def active(self) -> bool:
        """Whether anything is left to send."""
        return bool(self._orphans)

    def step(self) -> None:
        """One turn of each; a spool that is empty, or that no retry helps, is let go."""
        for orphan in list(self._orphans):
            done = False
            try:
                orphan.sender.step()
                done = orphan.spool.empty
            except SealtrailError as error:
                log.warning("%s: %s", orphan.slot.folder, error.message)
                done = True
            if done:
                self._orphans.remove(orphan)
                orphan.leave()

    def close(self) -> None:
        """Let all go; what was not sent stays for the next process."""
        for orphan in self._orphans:
            orphan.leave()
        self._orphans.clear()

    def abandon(self) -> None:
        """Close descriptors in a forked child."""
        for orphan in self._orphans:
            orphan.spool.abandon()
            orphan.sender.abandon()
            orphan.slot.release()
        self._orphans.clear()
