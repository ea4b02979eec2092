"""Settings of the audit tools (`SEALTRAIL_*`)."""

from pydantic import Field

from sealtrail.settings import CommonSettings, Name


class AuditSettings(CommonSettings):
    """What an analyst or auditor can set."""

    query_timeout_s: int = Field(
        default=300, ge=1, le=86_400, description="longest wait for an answer of the store, seconds"
    )
    query_rows: int = Field(
        default=10_000,
        ge=1,
        description="most rows that `sealtrail sql` shows unless told otherwise",
    )
    lineage_nodes: int = Field(
        default=500, ge=1, le=100_000, description="most events in one lineage tree"
    )
    lineage_seconds: float = Field(
        default=30, gt=0, description="most seconds in which a lineage is followed further"
    )
    audit_events: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="events that `sealtrail audit store` holds in memory at a time",
    )
    audit_settle_s: int = Field(
        default=120,
        ge=0,
        description="what arrived so recently may still be on its way, seconds",
    )
    group: Name = Field(default="sealtrail", description="consumer group of the workers")
