"""Heartbeats of somebody else, altered, or of another head."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.attacks.signature import flip

from sealtrail.findings import Code, Disposition

if TYPE_CHECKING:
    from tests.scenarios.chains import Made
    from tests.scenarios.scene import Scene


@attack("A11", "B7")
def forged_heartbeat(scene: Scene) -> None:
    chain = scene.chain("orders", 0)
    made: Made = chain.make()
    scene.accept(made)
    scene.send(chain.heartbeat(), 0, Disposition.HEARTBEAT)
    scene.refuse(chain.heartbeat(scene.signers("billing")), 0, Code.KEY_NOT_AUTHORISED)
    scene.refuse(flip(chain.heartbeat(), -40), 0, Code.BAD_SIGNATURE)
    # Its own key swears to another head: it has signed two.
    other = chain.heartbeat(head=os.urandom(32))
    sent = scene.send(other, 0, Disposition.HEARTBEAT)
    scene.finding(Code.FORK, made, sent)
    scene.send(chain.heartbeat(), 0, Disposition.HEARTBEAT)
