"""The two attacks of the demo, and what finds them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail.errors import UnavailableError
from sealtrail.keys import PublicKey
from sealtrail_local.demo import forgery, wire
from sealtrail_local.demo.stage import wait_until

if TYPE_CHECKING:
    from sealtrail_local.demo.ledger import Ledger
    from sealtrail_local.demo.report import Report
    from sealtrail_local.demo.stage import Stage
    from sealtrail_local.demo.verdict import Outcome
    from sealtrail_local.settings import LocalSettings

VICTIM = "billing"
IMPORTER = "git-import"
JUDGED_S = 30.0


class Stranger:
    """Somebody with a key that nobody registered."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = PublicKey.from_raw(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return self._key.sign(message)


def forge(
    stage: Stage, ledger: Ledger, settings: LocalSettings, report: Report, outcome: Outcome
) -> None:
    """Send an altered message and one of an impostor; see both in quarantine."""
    (honest, *_) = ledger.messages(VICTIM, 1)
    now = time.time_ns() // 1000
    values = (
        forgery.altered(honest.value),
        forgery.impostor(honest.value, Stranger(), salt=os.urandom(16), signed_at=now),
    )
    raws = [wire.Raw(honest.partition, honest.key, value, honest.headers) for value in values]
    places = wire.publish(settings, VICTIM, raws)
    outcome.forged_sent = len(places)
    report.say("Sent: a batch of billing with one bit of an event flipped, and a next batch in the")
    report.say("name of billing (a refund that never was) with everything right but the key.")

    def judged() -> bool:
        outcome.forged_found = ledger.quarantined(settings.topic, places)
        return outcome.forged_found >= outcome.forged_sent

    wait_until(judged, stage.check, JUDGED_S)
    report.command("quarantine", "list")
    report.table(("partition", "offset", "finding", "step", "why"), ledger.quarantine())
    report.say("Refused, kept byte for byte, and no event of theirs is in the store.")


def rewrite(stage: Stage, ledger: Ledger, report: Report, outcome: Outcome) -> None:
    """Change the author of a commit with the writer's password; see the audit name the row."""
    chain, seq, event_id, author = ledger.some_event(IMPORTER)
    ledger.tamper(
        "ALTER TABLE sealtrail.events UPDATE actor_id = 'mallory'"
        " WHERE chain_id = unhex({chain:String}) AND seq = {seq:UInt64}"
        " SETTINGS mutations_sync = 2",
        chain=chain,
        seq=seq,
    )
    if ledger.actor(event_id) != "mallory":
        raise UnavailableError("the row could not be rewritten")
    outcome.edited_rows = 1
    report.say(f"Somebody with the writer's password made mallory the author of event {event_id}")
    report.say(f"(was {author}). SQL believes it; the signed bytes do not:")
    answer = stage.ask("audit", "store", codes=(0, 1))
    found = answer["findings"]
    outcome.audit_findings = len(found) + int(answer["findings_left_out"])
    outcome.edited_rows_found = sum(
        f["code"] == "ROW_CHANGED" and f["table"] == "events" and f["stored"] == "mallory"
        for f in found
    )
    report.command("audit", "store")
    for finding in found[:5]:
        key = ", ".join(f"{name} {str(value)[:36]}" for name, value in finding["key"].items())
        report.say(
            f"{finding['code']} in {finding['table']}: {finding['column']} is"
            f" {finding['stored']!r}, the signed bytes say {finding['computed']!r}",
            style="red",
        )
        report.say(f"({key})", style="dim")
    report.say(
        f"{answer['events']:,} events in {answer['batches']:,} batches of {answer['chains']} chains"
        f" recomputed in {answer['seconds']:.1f} s."
    )
