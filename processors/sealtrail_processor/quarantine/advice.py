"""What to do about a message in quarantine, by what was found: one sentence each."""

from __future__ import annotations

from typing import Final

from sealtrail.findings import Code

# The steps of docs/wire-format.md, "Validation".
STEPS: Final = {
    0: "not looked at",
    1: "size and framing",
    2: "envelope",
    3: "signatures",
    4: "statement",
    5: "place",
    6: "keys",
    7: "schema",
    8: "root",
    9: "events",
    10: "place in the chain",
}

_OTHER_PLACE = (
    "It was signed for somewhere else: find out who sent it here. A service with wrong settings is "
    "mended there and sends again; else it is a replay, dismiss it."
)
NEXT: Final = {
    Code.MALFORMED: (
        "Nothing that producers of this contract send: look at key, headers and time for who wrote "
        "to the topic, and dismiss it."
    ),
    Code.UNKNOWN_PAYLOAD_TYPE: (
        "An envelope of a newer version, or of another use: update the workers and replay it, or "
        "dismiss it."
    ),
    Code.BAD_SIGNATURE: (
        "Altered on its way or forged; no replay can mend it. If the sender is yours, compare its "
        "key with `sealtrail keys list`; then dismiss it."
    ),
    Code.NOT_CANONICAL: (
        "Signed by a known key, but not by our SDK: ask the producer which software signs for it."
    ),
    Code.WRONG_ENVIRONMENT: _OTHER_PLACE,
    Code.WRONG_TENANT: (
        "Signed for a tenant that is not served here: add it to SEALTRAIL_ACCEPT_TENANTS and "
        "replay, if it should be; else dismiss it."
    ),
    Code.WRONG_TOPIC: _OTHER_PLACE,
    Code.WRONG_PARTITION: _OTHER_PLACE,
    Code.KEY_NOT_AUTHORISED: (
        "The key belongs to another producer, tenant, environment or topic: if its record is "
        "wrong, register it anew and replay; if not, somebody uses a key that is not theirs."
    ),
    Code.KEY_EXPIRED: (
        "It arrived before the key's record was valid, or after its end: rotate the producer's key "
        "(`sealtrail keys rotate`); what it signed after the end stays refused."
    ),
    Code.KEY_REVOKED: (
        "After a compromise this is what a thief would send: `sealtrail keys exposure KEY` shows "
        "what else the key signed. A service that still signs with a retired key needs its new one."
    ),
    Code.SCHEMA_NOT_ALLOWED: (
        "The schema is pinned for another subject, or later: pin it here (`sealtrail keys "
        "pin-schema`) and replay, if it should be allowed."
    ),
    Code.BAD_ROOT: (
        "Events were changed, added or taken out after they were signed; the honest batch has the "
        "same chain and number: look for it among the neighbours, then dismiss this one."
    ),
    Code.BAD_EVENT: (
        "An event that cannot be read as it was hashed, signed by its producer: ask the producer "
        "which software signs for it."
    ),
    Code.ID_COLLISION: (
        "The chain belongs to another producer or instance: two processes with copied state, or a "
        "forger; compare producer and instance with the chain's own."
    ),
    Code.GAP: (
        "Too many batches before it are missing: find out why they do not come (parked, dismissed, "
        "forged numbers?), then replay this one, or raise SEALTRAIL_CHAIN_GAPS_MAX before."
    ),
    Code.FORK: (
        "The chain has forked as often as it may: two processes with copied state, or a stolen key "
        "(`sealtrail keys exposure KEY`); revoke it, or raise SEALTRAIL_CHAIN_BRANCHES_MAX and "
        "replay."
    ),
    Code.CRASH_LOOP: (
        "It ended the worker each time: keep the bytes for a report, and replay it on a version "
        "that is mended, or dismiss it."
    ),
    Code.UNKNOWN_KEY: (
        "It waits for a key record and is released by itself: `sealtrail keys register` where the "
        "operators are, if the key is its producer's; else dismiss it."
    ),
    Code.UNKNOWN_SCHEMA: (
        "It waits for a schema pin and is released by itself: `sealtrail keys pin-schema` with the "
        "producer's version, if it should be allowed; else dismiss it."
    ),
}


def next_step(code: str, *, passes_now: bool, name: str) -> str:
    """What to do.

    Args:
        code: of the finding.
        passes_now: whether steps 1 to 9 would let it pass with what is known today.
        name: id of the message.
    """
    # What step 10 says is not among what would be judged today.
    if passes_now and code not in (Code.ID_COLLISION, Code.GAP, Code.FORK):
        return f"With what is known today it would pass: sealtrail quarantine replay {name}"
    try:
        return NEXT[Code(code)]
    except (KeyError, ValueError):
        return "This finding is of another version: update the tools, then look again."
