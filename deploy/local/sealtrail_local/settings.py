"""Settings of the local stack: `SEALTRAIL_LOCAL_*`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sealtrail.settings import CommonSettings, Topic


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Folder of what was downloaded (XDG Base Directory specification)."""
    base = environ.get("XDG_CACHE_HOME", "")
    # The specification has relative values ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "sealtrail"


class LocalSettings(CommonSettings):
    """Where broker, registry and store listen on this machine, and what they may take."""

    local_servers: Literal["embedded", "real"] = Field(
        default="embedded",
        description="broker and registry: embedded, or Apache Kafka and Apicurio Registry",
    )
    local_brokers: int = Field(
        default=1, ge=1, le=3, description="brokers of a stack of real servers, 1 or 3"
    )
    local_secure: bool = Field(
        default=False, description="real servers with TLS, names and access lists"
    )
    local_client_auth: Literal["scram", "mtls"] = Field(
        default="scram",
        description="how clients show who they are to secured brokers: password or certificate",
    )
    local_broker_memory_mb: int = Field(
        default=512, ge=256, description="heap of each real broker, MiB"
    )
    cache_dir: Path = Field(
        default_factory=lambda: default_cache_dir(os.environ),
        description="folder of the real servers' files, fetched once",
    )
    local_kafka_port: int = Field(
        default=19092,
        ge=1,
        le=65500,
        description="port of the broker, on loopback; real ones take up to +23",
    )
    local_kafka_advertised_port: int = Field(
        default=0,
        ge=0,
        le=65500,
        description="port that real brokers tell their clients (a proxy's), +10 each; 0: their own",
    )
    local_topics: tuple[Topic, ...] = Field(
        default=(),
        description="further topics of the embedded broker, as a JSON list; each has as many "
        "partitions as the topic of batches",
    )
    local_registry_port: int = Field(
        default=18081, ge=1, le=65535, description="port of the registry, on loopback"
    )
    local_store_port: int = Field(
        default=18123, ge=1, le=65535, description="port of the embedded store, on loopback"
    )
    local_confinement: Literal["required", "preferred", "off"] = Field(
        default="preferred",
        description="whether Landlock locks the embedded store into its folder",
    )
    local_store_memory_mb: int = Field(
        default=6000, ge=500, description="memory of the embedded store, MiB"
    )
    local_store_free_mb: int = Field(
        default=512,
        ge=0,
        description="free disk space below which the embedded store writes no more, MiB; 0: any",
    )
    local_analyst_queries: int = Field(
        default=4, ge=1, le=64, description="queries of analysts at a time in the embedded store"
    )
    local_analyst_seconds: int = Field(
        default=30, ge=1, description="longest query of an analyst in the embedded store, seconds"
    )
    local_analyst_memory_mb: int = Field(
        default=1000, ge=50, description="memory of one analyst's query in the embedded store, MiB"
    )
    local_stream_seconds: float = Field(
        default=120.0, gt=0, description="a streamed result of the embedded store is cut off after"
    )
    local_start_seconds: float = Field(
        default=180.0, gt=0, description="longest start of each process of the embedded stack"
    )
    local_stop_seconds: float = Field(
        default=15.0, gt=0, description="time to stop before a process of the stack is killed"
    )

    @model_validator(mode="after")
    def _only_real_servers_are_secured(self) -> Self:
        if self.local_secure and self.local_servers != "real":
            raise ValueError("SEALTRAIL_LOCAL_SECURE needs SEALTRAIL_LOCAL_SERVERS=real")
        return self

    @model_validator(mode="after")
    def _brokers_can_agree(self) -> Self:
        if self.local_brokers == 2:
            raise ValueError("SEALTRAIL_LOCAL_BROKERS is 1 or 3: two agree on nothing without both")
        return self

    @model_validator(mode="after")
    def _analysts_leave_memory(self) -> Self:
        # The engine's limit fails whoever asks next, inserts too: analysts must never reach it.
        analysts = self.local_analyst_queries * self.local_analyst_memory_mb
        if analysts > 0.75 * self.local_store_memory_mb:
            raise ValueError(
                f"analysts could take {analysts} MiB together, more than three quarters of "
                "SEALTRAIL_LOCAL_STORE_MEMORY_MB: lower SEALTRAIL_LOCAL_ANALYST_MEMORY_MB or "
                "SEALTRAIL_LOCAL_ANALYST_QUERIES"
            )
        return self
