"""The closed list of findings, dispositions and verdicts (docs/wire-format.md, "Findings")."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """What can be found. Grouped by what becomes of the message."""

    # Quarantined.
    MALFORMED = "MALFORMED"
    UNKNOWN_PAYLOAD_TYPE = "UNKNOWN_PAYLOAD_TYPE"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    NOT_CANONICAL = "NOT_CANONICAL"
    WRONG_ENVIRONMENT = "WRONG_ENVIRONMENT"
    WRONG_TENANT = "WRONG_TENANT"
    WRONG_TOPIC = "WRONG_TOPIC"
    WRONG_PARTITION = "WRONG_PARTITION"
    KEY_NOT_AUTHORISED = "KEY_NOT_AUTHORISED"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_REVOKED = "KEY_REVOKED"
    SCHEMA_NOT_ALLOWED = "SCHEMA_NOT_ALLOWED"
    BAD_ROOT = "BAD_ROOT"
    BAD_EVENT = "BAD_EVENT"
    ID_COLLISION = "ID_COLLISION"
    CRASH_LOOP = "CRASH_LOOP"
    # Parked until the record arrives.
    UNKNOWN_KEY = "UNKNOWN_KEY"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    # Accepted, with a finding.
    GAP = "GAP"
    GAP_FILLED = "GAP_FILLED"
    FORK = "FORK"
    LATE = "LATE"
    ORPHAN = "ORPHAN"
    LINK_MISMATCH = "LINK_MISMATCH"
    LOST_WITH_PRODUCER = "LOST_WITH_PRODUCER"
    CYCLE = "CYCLE"
    AHEAD = "AHEAD"
    BEHIND_OR_DELAYED = "BEHIND_OR_DELAYED"
    REGRESSION = "REGRESSION"
    CAUSALITY = "CAUSALITY"
    # By timers and audits.
    STALLED_CHAIN = "STALLED_CHAIN"
    DATA_LOSS_WINDOW = "DATA_LOSS_WINDOW"
    ROW_CHANGED = "ROW_CHANGED"
    ROW_MISSING = "ROW_MISSING"
    ROW_ADDED = "ROW_ADDED"
    BATCH_MISSING = "BATCH_MISSING"
    CHAIN_BROKEN = "CHAIN_BROKEN"
    IDENTITY_MISMATCH = "IDENTITY_MISMATCH"


# How the detail begins of a refused message whose bytes the store was not given; then their size.
NOT_KEPT = "not kept: "

PARKED_CODES = frozenset({Code.UNKNOWN_KEY, Code.UNKNOWN_SCHEMA})


class Severity(StrEnum):
    """As OCSF's severity names."""

    INFORMATIONAL = "INFORMATIONAL"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


SEVERITIES: dict[Code, Severity] = {
    Code.MALFORMED: Severity.MEDIUM,
    Code.UNKNOWN_PAYLOAD_TYPE: Severity.MEDIUM,
    Code.BAD_SIGNATURE: Severity.CRITICAL,
    Code.NOT_CANONICAL: Severity.HIGH,
    Code.WRONG_ENVIRONMENT: Severity.HIGH,
    Code.WRONG_TENANT: Severity.HIGH,
    Code.WRONG_TOPIC: Severity.HIGH,
    Code.WRONG_PARTITION: Severity.HIGH,
    Code.KEY_NOT_AUTHORISED: Severity.CRITICAL,
    Code.KEY_EXPIRED: Severity.HIGH,
    Code.KEY_REVOKED: Severity.CRITICAL,
    Code.SCHEMA_NOT_ALLOWED: Severity.HIGH,
    Code.BAD_ROOT: Severity.CRITICAL,
    Code.BAD_EVENT: Severity.HIGH,
    Code.ID_COLLISION: Severity.HIGH,
    Code.CRASH_LOOP: Severity.CRITICAL,
    Code.UNKNOWN_KEY: Severity.MEDIUM,
    Code.UNKNOWN_SCHEMA: Severity.MEDIUM,
    Code.GAP: Severity.HIGH,
    Code.GAP_FILLED: Severity.INFORMATIONAL,
    Code.FORK: Severity.CRITICAL,
    Code.LATE: Severity.LOW,
    Code.ORPHAN: Severity.MEDIUM,
    Code.LINK_MISMATCH: Severity.CRITICAL,
    Code.LOST_WITH_PRODUCER: Severity.MEDIUM,
    Code.CYCLE: Severity.CRITICAL,
    Code.AHEAD: Severity.MEDIUM,
    Code.BEHIND_OR_DELAYED: Severity.LOW,
    Code.REGRESSION: Severity.MEDIUM,
    Code.CAUSALITY: Severity.MEDIUM,
    Code.STALLED_CHAIN: Severity.HIGH,
    Code.DATA_LOSS_WINDOW: Severity.CRITICAL,
    Code.ROW_CHANGED: Severity.CRITICAL,
    Code.ROW_MISSING: Severity.CRITICAL,
    Code.ROW_ADDED: Severity.CRITICAL,
    Code.BATCH_MISSING: Severity.CRITICAL,
    Code.CHAIN_BROKEN: Severity.CRITICAL,
    Code.IDENTITY_MISMATCH: Severity.HIGH,
}


class Disposition(StrEnum):
    """What became of one offset; the conservation law sums over all seven."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    PARKED = "parked"
    RELEASED = "released"
    HEARTBEAT = "heartbeat"
    LOST = "lost"


class Verdict(StrEnum):
    """What is known of a link from an event to its parent."""

    PENDING = "PENDING"
    POSITION = "POSITION"
    VERIFIED = "VERIFIED"
    MISMATCH = "MISMATCH"
    ORPHAN = "ORPHAN"
    LOST_WITH_PRODUCER = "LOST_WITH_PRODUCER"
    EXTERNAL = "EXTERNAL"
