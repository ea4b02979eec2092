"""docker-compose.yml as its tests read it: what a service mounts, and each store's files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[3]
PROFILES = ("single", "cluster")
# They do their work once.
ENDING = {"setup", "schemas"}
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """What is mounted, by where."""
    pairs = (
        (v["target"], v["source"]) if isinstance(v, dict) else v.split(":")[1::-1]
        for v in service.get("volumes", [])
    )
    return {str(target): str(source) for target, source in pairs}


def mounted(service: dict[str, Any], file: str) -> str:
    """What a service finds there: a file that is mounted, or one of a folder."""
    folder, name = file.rsplit("/", 1)
    return mounts(service).get(file) or f"{mounts(service)[folder]}/{name}"


def stores(config: dict[str, Any]) -> dict[str, tuple[dict[str, Any], list[ET.Element]]]:
    """Each ClickHouse server with its configuration files, in the order in which it reads them."""
    return {
        name: (
            service,
            [
                ET.fromstring(Path(source).read_text())  # noqa: S314 - our own
                for _, source in sorted(mounts(service).items())
                if source.endswith(".xml")
            ],
        )
        for name, service in config["services"].items()
        if name.startswith("clickhouse-")
    }
