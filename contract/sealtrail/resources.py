"""Finds the data files of the distribution: schemas, DDL, configuration of servers, sample data.

An installed wheel carries them inside its packages; a checkout (editable
install) keeps them in the top-level folders where people look for them.
`pyproject.toml` (`sources` of the wheel) and `_PLACES` say the same thing.
"""

from pathlib import Path
from typing import Final, Literal

from sealtrail.errors import UnavailableError

Kind = Literal["schemas", "clickhouse", "kafka", "registry", "samples"]

# kind -> (place in site-packages, place in a checkout)
_PLACES: Final[dict[str, tuple[str, str]]] = {
    "schemas": ("sealtrail/schemas", "schemas/avro"),
    "clickhouse": ("sealtrail/clickhouse", "deploy/clickhouse"),
    "kafka": ("sealtrail/kafka", "deploy/kafka"),
    "registry": ("sealtrail/registry", "deploy/registry"),
    "samples": ("sealtrail_producer/samples", "samples"),
}


def path(kind: Kind, *names: str) -> Path:
    """Where a data file or folder of Sealtrail lies.

    Args:
        kind: "schemas" (Avro), "clickhouse" (DDL, storage policy), "kafka" and "registry"
            (topics; versions and configuration of the servers) or "samples".
        names: path below it; without any, the folder of that kind.

    Raises:
        UnavailableError: there is no such file in this installation.
    """
    installed, checkout = _PLACES[kind]
    packages = Path(__file__).resolve().parents[1]
    for base in (packages / installed, packages.parent / checkout):
        if base.is_dir():
            found = base.joinpath(*names)
            if found.exists():
                return found
    raise UnavailableError(
        f"data file {'/'.join((kind, *names))} is missing from this installation",
        hint="install sealtrail again, or run it from a complete checkout",
    )
