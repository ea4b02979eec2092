"""The keys and schemas that stored batches are judged by: stored records, the pinned root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail.errors import ConfigurationError, ContractError
from sealtrail.records import Directory, TrustRoot

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from sealtrail_audit.reader import Reader


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A stored key or schema record that does not count, and why."""

    record_key: str
    arrival: int
    detail: str


@dataclass(frozen=True, slots=True)
class Trust:
    """A directory and the stored records that it refused."""

    directory: Directory
    refused: tuple[RefusedRecord, ...]

    @property
    def tenants(self) -> Collection[str]:
        """Tenants that any key speaks for; a statement must name its own key's tenant anyway."""
        records = self.directory.keys()
        return {record.tenant for record in records}


def trust_root(path: Path | None) -> TrustRoot:
    """Read the pinned operator keys.

    Raises:
        ConfigurationError: there is no such file, or it is no trust root.
    """
    hint = "set SEALTRAIL_TRUST_ROOT to the file with the pinned operator keys"
    if path is None:
        raise ConfigurationError("no trust root is set", hint=hint)
    try:
        return TrustRoot.from_json(path.read_text())
    except FileNotFoundError:
        raise ConfigurationError(f"there is no trust root {path}", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the trust root {path}: {error}", hint=hint) from None


def load_trust(reader: Reader, root: TrustRoot) -> Trust:
    """Read all key and schema records of a store, in the order of their arrival."""
    directory = Directory(root)
    refused = []
    # hex: a record is bytes, and the driver would guess at text.
    sql = """
        SELECT toUnixTimestamp64Micro(arrival), record_key, hex(record_value)
        FROM key_records
        ORDER BY arrival, log_id, topic, partition, offset
    """
    for arrival, key, value in reader.rows(sql):
        try:
            directory.add(bytes.fromhex(value), arrival)
        except ContractError as error:
            refused.append(RefusedRecord(key, arrival, error.message))
    return Trust(directory, tuple(refused))
