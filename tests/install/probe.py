"""Runs inside a clean environment and prints as JSON what it finds there.

Usage: python probe.py EXTRA PACKAGE...   (EXTRA may be "base")
Standard library only, but for what the environment is said to have.
"""

import importlib
import json
import pkgutil
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path

# Needs pydantic-settings, which every extra has and the base does without; and the modules that
# need more than their extra brings (another room's, the extra signers), and say so when asked for.
SIGNERS = {f"sealtrail_producer.signers.{name}" for name in ("aws", "gcp", "token", "vault")}
LEFT_OUT = {
    "base": {"sealtrail.settings"},
    "auditor": {"sealtrail_audit.conservation.kafka"},
    "producer": SIGNERS,
}


def import_all(package: str, left_out: set[str], failed: dict[str, str]) -> list[str]:
    """Import every module of a package; names of those that could be imported."""
    names = []
    paths = importlib.import_module(package).__path__
    modules = [m.name for m in pkgutil.walk_packages(paths, package + ".", onerror=lambda _: None)]
    for name in [package, *modules]:
        if name in left_out or name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # reported to the test, which fails
            failed[name] = f"{type(error).__name__}: {error}"
        else:
            names.append(name)
    return names


def main(extra: str, packages: list[str]) -> None:
    """Print what is installed, what could be imported, and where data lies."""
    failed: dict[str, str] = {}
    imported = []
    for package in packages:
        imported += import_all(package, LEFT_OUT.get(extra, set()), failed)
    resources = importlib.import_module("sealtrail.resources")
    avro = importlib.import_module("sealtrail.avro")
    schemas = sorted(file.stem for file in resources.path("schemas").glob("*.avsc"))
    for name in schemas:
        avro.load_schema(name)
    found = {
        "requires": distribution("sealtrail").requires or [],
        "installed": {d.name: d.version for d in distributions()},
        "imported": imported,
        "failed": failed,
        "schemas": schemas,
        "places": {k: str(resources.path(k)) for k in ("schemas", "clickhouse", "samples")},
        "prefix": str(Path(sys.prefix).resolve()),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
