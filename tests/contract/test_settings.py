"""Settings: where they come from, what is refused, and that secrets stay hidden."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from sealtrail import settings
from sealtrail.errors import ConfigurationError
from sealtrail.settings import CommonSettings


class RoomSettings(CommonSettings):
    workers: int = Field(default=1, description="how many")
    names: list[str] = Field(default_factory=list)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose state directory is empty."""
    return {"SEALTRAIL_STATE_DIR": str(tmp_path)}


EnvFile = Callable[..., Path]


@pytest.fixture
def env_file(tmp_path: Path) -> EnvFile:
    def write(text: str, mode: int = 0o600, name: str = "local.env") -> Path:
        file = tmp_path / name
        file.write_text(text)
        file.chmod(mode)
        return file

    return write


def test_defaults_lie_under_the_state_directory(tmp_path: Path) -> None:
    loaded = settings.load(CommonSettings, {"XDG_STATE_HOME": str(tmp_path)})
    assert loaded.state_dir == tmp_path / "sealtrail"
    assert loaded.trust_root == tmp_path / "sealtrail" / "trust" / "root.json"


def test_a_relative_xdg_state_home_is_ignored() -> None:
    assert settings.default_state_dir({"XDG_STATE_HOME": "here"}).is_absolute()


def test_construction_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALTRAIL_TENANT", "other")
    assert CommonSettings().tenant == "default"
    assert settings.load(CommonSettings).tenant == "other"


def test_settings_are_frozen_and_closed() -> None:
    common = CommonSettings()
    with pytest.raises(ValidationError):
        common.tenant = "other"  # type: ignore[misc]  # the point of the test
    with pytest.raises(ValidationError):
        CommonSettings(nonsense=1)  # type: ignore[call-arg]  # the point of the test


def test_lists_are_json_and_empty_means_unset(home: dict[str, str]) -> None:
    given = {**home, "SEALTRAIL_NAMES": '["a", "b"]', "SEALTRAIL_WORKERS": ""}
    loaded = settings.load(RoomSettings, given)
    assert loaded.names == ["a", "b"]
    assert loaded.workers == 1


def test_the_environment_wins_over_the_env_file(home: dict[str, str], env_file: EnvFile) -> None:
    env_file("SEALTRAIL_TENANT=file\nSEALTRAIL_ENVIRONMENT=file\nOTHER=1\n")
    loaded = settings.load(CommonSettings, {**home, "SEALTRAIL_TENANT": "real"})
    assert (loaded.tenant, loaded.environment) == ("real", "file")


def test_a_named_env_file_replaces_the_default_one(home: dict[str, str], env_file: EnvFile) -> None:
    env_file("SEALTRAIL_TENANT=default-file\n")
    other = env_file("SEALTRAIL_TOPIC=named\n", name="other.env")
    loaded = settings.load(CommonSettings, {**home, "SEALTRAIL_ENV_FILE": str(other)})
    assert (loaded.tenant, loaded.topic) == ("default", "named")


def test_a_named_env_file_must_exist(home: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        settings.load(CommonSettings, {**home, "SEALTRAIL_ENV_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("text", "mode", "refused"),
    [
        ("SEALTRAIL_TENANT=a\n", 0o644, False),
        ("SEALTRAIL_TENANT=a\n", 0o666, True),
        ("SEALTRAIL_STORE_PASSWORD=a\n", 0o644, True),
        ("SEALTRAIL_STORE_PASSWORD=a\n", 0o600, False),
        ("SEALTRAIL_STORE_PASSWORD=\n", 0o644, False),
    ],
)
def test_an_env_file_open_to_others_is_refused(
    home: dict[str, str], env_file: EnvFile, text: str, mode: int, refused: bool
) -> None:
    env_file(text, mode)
    if refused:
        with pytest.raises(ConfigurationError, match="open to other users") as caught:
            settings.load(CommonSettings, home)
        assert caught.value.hint.startswith("chmod 600")
    else:
        settings.load(CommonSettings, home)


@pytest.mark.parametrize("name", ["SEALTRAIL_TENNANT", "sealtrail_tenant"])
def test_an_unknown_name_is_refused_with_the_nearest_one(home: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        settings.load(CommonSettings, {**home, name: "x"})
    assert "SEALTRAIL_TENANT?" in caught.value.hint


def test_an_unknown_name_in_the_env_file_is_refused(
    home: dict[str, str], env_file: EnvFile
) -> None:
    file = env_file("SEALTRAIL_NOPE=1\n")
    with pytest.raises(ConfigurationError, match=str(file)):
        settings.load(CommonSettings, home)


def test_every_bad_value_is_named_and_no_value_shown(home: dict[str, str]) -> None:
    given = {
        **home,
        "SEALTRAIL_PARTITIONS": "hunter2",
        "SEALTRAIL_TOPIC": "a b",
        "SEALTRAIL_STORE_URL": "ftp://u:hunter2@h",
    }
    with pytest.raises(ConfigurationError) as caught:
        settings.load(CommonSettings, given)
    text = str(caught.value)
    for name in ("SEALTRAIL_PARTITIONS", "SEALTRAIL_TOPIC", "SEALTRAIL_STORE_URL"):
        assert name in text
    assert "hunter2" not in text


def test_a_list_that_is_no_json_is_a_configuration_error(home: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        settings.load(RoomSettings, {**home, "SEALTRAIL_NAMES": "[a"})


def test_errors_in_one_setting_do_not_follow_into_derived_defaults() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(CommonSettings, {"SEALTRAIL_PARTITIONS": "0"})
    assert "TRUST_ROOT" not in str(caught.value)


def test_describe_masks_secrets_and_says_where_values_come_from(
    home: dict[str, str], env_file: EnvFile
) -> None:
    file = env_file("SEALTRAIL_STORE_PASSWORD=hunter2\n")
    given = {**home, "SEALTRAIL_STORE_URL": "http://user:hunter2@host:1/x"}
    rows = settings.describe(given, {"one": CommonSettings, "two": RoomSettings})
    shown = {row.variable: row for row in rows}
    assert "hunter2" not in repr(rows)
    assert shown["SEALTRAIL_STORE_PASSWORD"].value == settings.MASK
    assert shown["SEALTRAIL_STORE_PASSWORD"].origin == str(file)
    assert shown["SEALTRAIL_STORE_URL"].value == f"http://user:{settings.MASK}@host:1/x"
    assert shown["SEALTRAIL_STORE_URL"].origin == "environment"
    assert shown["SEALTRAIL_TENANT"].rooms == ("one", "two")
    assert shown["SEALTRAIL_WORKERS"].rooms == ("two",)
    assert shown["SEALTRAIL_WORKERS"].as_row()["value"] == 1
    assert shown["SEALTRAIL_ENV_FILE"].as_row()["value"] is None
    assert shown["SEALTRAIL_STATE_DIR"].as_row()["value"] == home["SEALTRAIL_STATE_DIR"]


def test_every_room_registers_settings_that_say_what_they_mean() -> None:
    rooms = settings.registered()
    assert set(rooms) == {"producer", "processor", "auditor", "local"}
    for cls in rooms.values():
        assert issubclass(cls, CommonSettings)
        undescribed = [name for name, field in cls.model_fields.items() if not field.description]
        assert undescribed == []
