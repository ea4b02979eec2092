"""Settings of the SDK and the importers (`SEALTRAIL_*`)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from sealtrail.settings import CommonSettings


class ProducerSettings(CommonSettings):
    """What a producing service can set."""

    instance: str = Field(
        default="", description="name of the process among its producer's; default: host name"
    )
    key_file: str = Field(
        default="",
        description="encrypted PKCS#8 files, ':' between; default: STATE_DIR/keys/PRODUCER.pem",
    )
    signers: str = Field(
        default="",
        description="keys that sign, spaces between: files, or pkcs11:, vault:, aws-kms:, gcp-kms: "
        "URIs; instead of key_file",
    )
    key_passphrase: SecretStr = Field(
        default=SecretStr(""), description="passphrase of the key files"
    )
    key_passphrase_file: Path | None = Field(
        default=None, description="file with the passphrase; default: NAME.pass beside NAME.pem"
    )
    key_refresh_s: float = Field(
        default=2.0, ge=0.0, description="seconds between looks for a rotated key; 0: never"
    )
    pkcs11_pin: SecretStr = Field(default=SecretStr(""), description="user PIN of pkcs11: keys")
    vault_url: str = Field(default="", description="Vault of vault: keys; default: VAULT_ADDR")
    vault_token: SecretStr = Field(
        default=SecretStr(""), description="opens Vault; default: VAULT_TOKEN"
    )
    operator_keys: str = Field(
        default="",
        description="operator keys that sign records here, as signers; "
        "default: STATE_DIR/trust/operator*.pem",
    )
    control_key: str = Field(
        default="",
        description="key of the control chain; default: STATE_DIR/keys/sealtrail-control.pem",
    )
    operator_name: str = Field(
        default="",
        description="who acts: a pseudonym of it is recorded in the control chain; "
        "default: the user of the system",
    )
    operator_passphrase: SecretStr = Field(
        default=SecretStr(""), description="passphrase of the operator's key (sealtrail keys)"
    )
    kafka_config: Path | None = Field(
        default=None, description="file with more librdkafka properties, name=value lines"
    )
    identity_mismatch: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="what the SDK does when brokers know it under another name than its keys'",
    )
    batch_events: int = Field(default=512, ge=1, le=65_536, description="events in a batch at most")
    batch_bytes: int = Field(
        default=786_432,
        ge=1024,
        le=7_340_032,
        description="bytes of events in a batch at most (one larger event goes alone)",
    )
    batch_ms: int = Field(
        default=200, ge=1, le=60_000, description="milliseconds that an event waits for others"
    )
    queue_events: int = Field(
        default=16_384, ge=1, description="events in memory that are not in the spool yet"
    )
    heartbeat_s: int = Field(default=60, ge=1, le=86_400, description="seconds between heartbeats")
    chain_s: int = Field(
        default=86_400, ge=1, description="age in seconds at which a chain is closed and continued"
    )
    sample_auxiliary: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of AUXILIARY events that is kept"
    )
    spool_dir: Path | None = Field(default=None, description="default: STATE_DIR/spool")
    spool_bytes: int = Field(
        default=268_435_456, ge=65_536, description="bytes that wait for the brokers at most"
    )
    spool_fsync: Literal["always", "interval", "never"] = Field(
        default="always", description="when batches are brought to disk"
    )
    spool_fsync_ms: int = Field(
        default=1000, ge=1, description="milliseconds between syncs with spool_fsync=interval"
    )
    spool_full: Literal["block", "raise"] = Field(
        default="block", description="what emit() does when the spool cannot take more"
    )
    close_s: float = Field(
        default=10.0, ge=0.0, description="seconds that close() waits for the brokers"
    )
    pace_bytes: int = Field(
        default=0,
        ge=0,
        description="bytes per partition that pace_group has not consumed at most; 0: no pacing",
    )
    pace_group: str = Field(default="sealtrail", description="consumer group that pacing looks at")
