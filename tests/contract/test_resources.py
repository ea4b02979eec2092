"""Data files are found in a checkout and in an installed package."""

from pathlib import Path

import pytest

from sealtrail import resources
from sealtrail.errors import UnavailableError


def test_each_kind_is_there() -> None:
    for kind in ("schemas", "clickhouse", "kafka", "registry", "samples"):
        assert resources.path(kind).is_dir()
    assert resources.path("schemas", "ProvenanceEvent.avsc").is_file()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"schemas/Nothing\.avsc is missing"):
        resources.path("schemas", "Nothing.avsc")


def test_an_installed_package_carries_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "sealtrail"
    (package / "schemas").mkdir(parents=True)
    (package / "schemas" / "X.avsc").touch()
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    assert resources.path("schemas", "X.avsc") == package / "schemas" / "X.avsc"
