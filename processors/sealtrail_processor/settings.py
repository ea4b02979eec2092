"""Settings of the worker (`SEALTRAIL_*`): addresses from the common ones, windows and tolerances.

docs/findings.md lists which setting belongs to which finding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sealtrail.chain import BOUNDS
from sealtrail.settings import CommonSettings, Name


class WorkerSettings(CommonSettings):
    """What can be set for the stream processor. Windows and tolerances are in seconds."""

    group: Name = Field(default="sealtrail", description="consumer group of the workers")
    worker_id: Name = Field(default="worker", description="names this worker's folder and clients")
    accept_tenants: tuple[Name, ...] = Field(
        default=(), description="tenants served beside `tenant`, as a JSON list"
    )

    flush_messages: int = Field(default=1024, ge=1, le=10_000, description="batches in one flush")
    flush_bytes: int = Field(
        default=12 * 2**20, ge=2**16, le=128 * 2**20, description="bytes in one flush"
    )
    flush_events: int = Field(default=60_000, ge=1, le=200_000, description="events in one flush")
    flush_lanes: int = Field(
        default=2,
        ge=1,
        le=16,
        description="flushes under way at a time, of different partitions: one is judged while "
        "the store writes the others",
    )
    flush_wait_s: float = Field(default=0.2, gt=0, le=10, description="a flush waits so long")

    gap_settle_s: float = Field(default=30, ge=0, description="a gap may fill so long unreported")
    orphan_window_s: float = Field(default=600, gt=0, description="a parent may be late so long")
    stalled_heartbeats: float = Field(
        default=2, ge=1, description="heartbeats that a chain may miss before it is STALLED"
    )
    clock_tolerance_s: float = Field(default=1, ge=0, description="AHEAD, REGRESSION, CAUSALITY")
    backfill_tolerance_s: float = Field(default=0, ge=0, description="CAUSALITY among backfill")
    behind_tolerance_s: float = Field(
        default=900, gt=0, description="BEHIND_OR_DELAYED: above what spools and pauses take"
    )
    links_pending_max: int = Field(
        default=100_000, ge=100, description="links that wait for a parent in memory"
    )
    links_rebuild_s: float = Field(
        default=86_400, gt=0, description="how far back a restarted linker looks for open links"
    )
    heads_max: int = Field(
        default=200_000, ge=0, description="chains of other workers whose positions are kept"
    )
    chains_max: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="chains of a partition in memory; others are read when a message names them",
    )
    chain_hashes_max: int = Field(
        default=200_000,
        ge=1_000,
        description="batch hashes of a partition's chains in memory; others are asked of the store",
    )
    chain_gaps_max: int = Field(
        default=BOUNDS.gaps,
        ge=1,
        le=1_000_000,
        description="gaps of one chain that are open at a time; a batch that opens one more is "
        "refused",
    )
    chain_branches_max: int = Field(
        default=BOUNDS.branches,
        ge=1,
        le=1_000_000,
        description="forks of one chain; a batch that begins one more is refused",
    )
    links_recent_events: int = Field(
        default=100_000, ge=0, description="events whose leaf hashes the linker keeps in memory"
    )

    alerts_per_minute: int = Field(
        default=600,
        ge=0,
        description="alerts of one code that go out in a minute; all findings stay in the store; "
        "0: no limit",
    )

    producer_bytes_per_s: int = Field(
        default=16 * 2**20,
        ge=0,
        description="bytes a second that `sealtrail acls apply` lets each producer send to each "
        "broker, by Kafka's quotas; 0: no bound",
    )
    producer_broker_percent: int = Field(
        default=100,
        ge=0,
        description="the same in percent of the time of one of a broker's threads; 0: no bound",
    )
    quarantine_bytes_per_hour: int = Field(
        default=256 * 2**20,
        ge=0,
        description="bytes of refused messages of a partition that the store is given in an hour; "
        "others are on record without their bytes, which stay in the topic; 0: all are kept",
    )
    parked_bytes_per_hour: int = Field(
        default=256 * 2**20,
        ge=0,
        description="the same for parked messages: others are released from the topic, if it still "
        "has them when their key or schema comes",
    )

    store_views: Name = Field(default="provenance", description="database of the views for people")
    store_policy: Name = Field(
        default="hot_cold", description="storage policy with the volumes hot and cold"
    )
    store_cold_after_days: int = Field(
        default=90, ge=1, description="age at which parts move to the volume cold"
    )

    replication_factor: int = Field(
        default=3, ge=1, le=9, description="copies of each partition (`sealtrail topics`)"
    )
    min_insync_replicas: int = Field(
        default=2, ge=1, le=9, description="copies that must have a message before it counts"
    )
    events_retention_ms: int = Field(
        default=30 * 86_400_000,
        ge=-1,
        description="how long batches and refused messages stay in Kafka; -1: for ever",
    )
    store_cluster: str = Field(
        default="",
        max_length=63,
        description="ClickHouse's name of the cluster: replicated tables; empty for one server",
    )
    store_shards: tuple[str, ...] = Field(
        default=(),
        description="a JSON list, one URL a shard: partition p is stored at number p modulo their "
        "count, for ever; empty: all at store_url",
    )

    access_principals: dict[Name, tuple[Name, ...]] = Field(
        default_factory=dict,
        description="principals by role of deploy/kafka/access.yaml, as JSON",
    )

    session_timeout_s: float = Field(default=8, ge=6, le=60, description="of the consumer group")
    watchdog_margin_s: float = Field(
        default=22, gt=0, description="lag without progress for session timeout plus this: exit"
    )
    health_host: Name = Field(default="127.0.0.1", description="where /metrics and /healthz listen")
    health_port: int = Field(
        default=18090, ge=0, le=65_535, description="port of /metrics, 0 takes a free one"
    )
    health_cert_file: Path | None = Field(
        default=None,
        description="PEM of the certificate that /metrics and /healthz show, with its key if there"
        " is no health_key_file: https, and no http",
    )
    health_key_file: Path | None = Field(default=None, description="PEM of that certificate's key")
    log_format: Literal["json", "console", "auto"] = Field(
        default="auto", description="auto: console at a terminal, else JSON"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severity that is logged"
    )

    @model_validator(mode="after")
    def _probes_are_whole(self) -> Self:
        if self.health_key_file and not self.health_cert_file:
            raise ValueError("SEALTRAIL_HEALTH_KEY_FILE needs SEALTRAIL_HEALTH_CERT_FILE")
        return self
