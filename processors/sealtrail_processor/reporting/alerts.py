"""Findings as OCSF records (Detection Finding, class 2004, schema version 1.8.0) for a SIEM. Pure.

https://schema.ocsf.io/1.8.0/classes/detection_finding; the tests hold every code against its JSON
schema. Text that a producer chose is data in a JSON string, never part of a format.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sealtrail import __version__, ids
from sealtrail.findings import SEVERITIES, Code, Severity
from sealtrail.statement import ZERO
from sealtrail_processor.judging.model import Finding, Log, finding_id
from sealtrail_processor.judging.ports import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable

OCSF_VERSION = "1.8.0"
_CATEGORY, _CLASS, _ACTIVITY_CREATE = 2, 2004, 1
_SEVERITY_ID = {
    Severity.INFORMATIONAL: 1,
    Severity.LOW: 2,
    Severity.MEDIUM: 3,
    Severity.HIGH: 4,
    Severity.CRITICAL: 5,
}
TITLES = {
    Code.MALFORMED: "Message is not a signed batch",
    Code.UNKNOWN_PAYLOAD_TYPE: "Message has a payload type that is not allowed",
    Code.BAD_SIGNATURE: "Signature does not hold",
    Code.NOT_CANONICAL: "Statement is not in its canonical form",
    Code.WRONG_ENVIRONMENT: "Batch was signed for another environment",
    Code.WRONG_TENANT: "Batch was signed for another tenant",
    Code.WRONG_TOPIC: "Batch was signed for another topic",
    Code.WRONG_PARTITION: "Batch was signed for another partition",
    Code.KEY_NOT_AUTHORISED: "Key may not speak for this producer",
    Code.KEY_EXPIRED: "Key is not valid at this time",
    Code.KEY_REVOKED: "Key was revoked",
    Code.SCHEMA_NOT_ALLOWED: "Event schema is not allowed here",
    Code.BAD_ROOT: "Events are not those that were signed",
    Code.BAD_EVENT: "Event is not what its batch says",
    Code.ID_COLLISION: "Chain takes the ids of another chain",
    Code.CRASH_LOOP: "Workers died of a message",
    Code.UNKNOWN_KEY: "Key is not known yet",
    Code.UNKNOWN_SCHEMA: "Event schema is not known yet",
    Code.GAP: "Batches of a chain are missing",
    Code.GAP_FILLED: "Missing batches have come",
    Code.FORK: "Chain is forked",
    Code.LATE: "Batch came after its gap had settled",
    Code.ORPHAN: "Parent of an event never came",
    Code.LINK_MISMATCH: "Event names another parent than is stored",
    Code.LOST_WITH_PRODUCER: "Parent was lost with its producer",
    Code.CYCLE: "Events name each other as parents",
    Code.AHEAD: "Producer's clock is ahead",
    Code.BEHIND_OR_DELAYED: "Producer's clock is behind, or the batch was delayed",
    Code.REGRESSION: "Producer's clock went back",
    Code.CAUSALITY: "Event is dated before its cause",
    Code.STALLED_CHAIN: "Producer fell silent without closing its chain",
    Code.DATA_LOSS_WINDOW: "Messages were gone before they were read or released",
    Code.ROW_CHANGED: "Stored row was changed",
    Code.ROW_MISSING: "Stored row is missing",
    Code.ROW_ADDED: "Stored row was added",
    Code.BATCH_MISSING: "Stored batch is missing",
    Code.CHAIN_BROKEN: "Stored chain is broken",
    Code.IDENTITY_MISMATCH: "Client's name is not the producer that a key speaks for",
}


def record(log: Log, offset: int, finding: Finding, *, tenant: str, time_us: int) -> dict[str, Any]:
    """One finding as an OCSF record.

    Args:
        log: partition that it is about.
        offset: message that it is about.
        finding: what was found.
        tenant: whose chain it is, empty when that is not known.
        time_us: when, microseconds since 1970.
    """
    severity = SEVERITIES[finding.code]
    uid = finding_id(log, offset, finding).hex()
    milliseconds = time_us // 1000
    subject: dict[str, Any] = {
        "log_id": log.log_id,
        "topic": log.topic,
        "partition": log.partition,
        "offset": offset,
        "code": finding.code.value,
    }
    if finding.chain_id != ZERO:
        subject |= {"chain_id": finding.chain_id.hex(), "batch_seq": finding.batch_seq}
    if finding.event_id is not None:
        subject["event_id"] = ids.text(finding.event_id)
    if finding.suspect is not None:
        subject["suspect_chain_id"] = finding.suspect.hex()
    if finding.estimate_us:
        subject |= {"estimate_us": finding.estimate_us, "tolerance_us": finding.tolerance_us}
    metadata: dict[str, Any] = {
        "version": OCSF_VERSION,
        "uid": uid,
        "product": {"name": "Sealtrail", "vendor_name": "Sealtrail", "version": __version__},
    }
    if tenant:
        metadata["tenant_uid"] = tenant
    return {
        "activity_id": _ACTIVITY_CREATE,
        "category_uid": _CATEGORY,
        "class_uid": _CLASS,
        "type_uid": _CLASS * 100 + _ACTIVITY_CREATE,
        "severity_id": _SEVERITY_ID[severity],
        "status_id": 1,
        "time": milliseconds,
        "message": finding.detail,
        "metadata": metadata,
        "finding_info": {
            "uid": uid,
            "title": TITLES[finding.code],
            "desc": finding.detail,
            "types": [finding.code.value],
            "created_time": milliseconds,
        },
        "unmapped": subject,
    }


def messages(
    topic: str, log: Log, found: Iterable[tuple[int, Finding, str, int]]
) -> list[Outgoing]:
    """Alerts to be published; found holds (offset, finding, tenant, time in microseconds).

    The key is the chain (or the partition), so that a reader sees the alerts of one in order.
    """
    outgoing = []
    for offset, finding, tenant, time_us in found:
        value = record(log, offset, finding, tenant=tenant, time_us=time_us)
        key = finding.chain_id.hex() if finding.chain_id != ZERO else f"{log.topic}/{log.partition}"
        headers = (("content-type", b"application/json"),)
        body = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
        outgoing.append(Outgoing(topic, key.encode(), body, headers))
    return outgoing
