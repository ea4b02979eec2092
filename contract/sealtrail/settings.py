"""Settings of all rooms: `SEALTRAIL_*` variables, one class a room.

- Constructing a settings class reads nothing but its arguments; `load` is the
  one place that looks at the environment and at the env file.
- The env file is `$SEALTRAIL_ENV_FILE`, else `<state_dir>/local.env` if it is
  there (`sealtrail local up` writes it). The real environment wins.
- A `SEALTRAIL_*` name that no room knows is refused: a misspelt setting must
  not pass for its default.
- A room subclasses `CommonSettings` in its `settings.py`, which imports nothing
  beyond this module and pydantic, and declares the class in the entry point
  group `sealtrail.settings`.
"""

import difflib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sealtrail.errors import ConfigurationError

PREFIX: Final = "SEALTRAIL_"
GROUP: Final = "sealtrail.settings"
MASK: Final = "********"

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
# The names that a Kafka broker accepts for a topic.
Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$")]


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Folder of keys, spools and the embedded stack (XDG Base Directory specification)."""
    base = environ.get("XDG_STATE_HOME", "")
    # The specification has relative values ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "sealtrail"


class CommonSettings(BaseSettings):
    """What more than one room has to agree on; frozen, and nothing unknown gets in."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    state_dir: Path = Field(
        default_factory=lambda: default_state_dir(os.environ),
        description="folder of keys, spools and the embedded stack",
    )
    env_file: Path | None = Field(default=None, description="file with further settings")
    environment: Name = Field(
        default="local", description="signed into every batch; elsewhere it is a replay"
    )
    tenant: Name = Field(default="default", description="whose events these are")
    kafka_bootstrap: Name = Field(
        default="127.0.0.1:19092", description="Kafka brokers, host:port, comma separated"
    )
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how clients talk to Kafka"
    )
    kafka_ca_file: Path | None = Field(
        default=None, description="PEM of the CAs that sign brokers; default: the system's"
    )
    kafka_cert_file: Path | None = Field(
        default=None,
        description="PEM of the client's certificate, with its key if there is no kafka_key_file;"
        " {identity} in it stands for the client's name",
    )
    kafka_key_file: Path | None = Field(default=None, description="PEM of the client's key")
    kafka_key_passphrase: SecretStr = Field(
        default=SecretStr(""), description="passphrase of the client's key"
    )
    kafka_sasl: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="mechanism of SASL_SSL"
    )
    kafka_username: str = Field(default="", description="user of SASL_SSL; default: kafka_identity")
    kafka_password: SecretStr = Field(
        default=SecretStr(""), description="password of kafka_username"
    )
    kafka_password_file: Path | None = Field(
        default=None, description="file with that password; may hold {identity}"
    )
    kafka_identity: str = Field(
        default="",
        description="name under which clients come; default: the producer's, else worker, operator"
        " or admin",
    )
    topic: Topic = Field(default="provenance.events", description="topic of signed batches")
    keys_topic: Topic = Field(default="provenance.keys", description="topic of key records")
    quarantine_topic: Topic = Field(
        default="provenance.quarantine", description="topic of refused messages"
    )
    alerts_topic: Topic = Field(default="provenance.alerts", description="topic of OCSF findings")
    heads_topic: Topic = Field(default="provenance.heads", description="topic of chain heads")
    verified_topic: Topic = Field(
        default="provenance.verified", description="topic of single events with their verdicts"
    )
    partitions: int = Field(
        default=4, ge=1, le=100_000, description="partitions of the topic of signed batches"
    )
    registry_url: Url = Field(default="http://127.0.0.1:18081", description="schema registry")
    registry_ca_file: Path | None = Field(
        default=None, description="PEM of the CAs that sign the registry; default: the system's"
    )
    registry_cert_file: Path | None = Field(
        default=None,
        description="PEM of the client's certificate for the registry, with its key"
        " if there is no registry_key_file",
    )
    registry_key_file: Path | None = Field(
        default=None, description="PEM of the key of registry_cert_file"
    )
    registry_username: str = Field(default="", description="user of the registry (HTTP basic)")
    registry_password: SecretStr = Field(
        default=SecretStr(""), description="password of registry_username"
    )
    store_url: Url = Field(
        default="http://127.0.0.1:18123", description="HTTP interface of ClickHouse"
    )
    store_ca_file: Path | None = Field(
        default=None, description="PEM of the CAs that sign the store; default: the system's"
    )
    store_user: Name = Field(default="sealtrail_writer", description="who writes to the store")
    store_password: SecretStr = Field(default=SecretStr(""), description="password of store_user")
    store_database: Name = Field(default="sealtrail", description="database in the store")
    analyst_user: Name = Field(default="analyst", description="who asks questions of the store")
    analyst_password: SecretStr = Field(
        default=SecretStr(""), description="password of analyst_user"
    )
    trust_root: Path | None = Field(
        default_factory=lambda data: data["state_dir"] / "trust" / "root.json",
        description="JSON file with the pinned operator keys",
    )

    @model_validator(mode="after")
    def _transport_is_whole(self) -> Self:
        # Each of these would leave a client that talks in the clear or is somebody else.
        password = self.kafka_password.get_secret_value() or self.kafka_password_file
        if self.kafka_security == "SASL_SSL" and not password:
            raise ValueError("SASL_SSL needs SEALTRAIL_KAFKA_PASSWORD or _PASSWORD_FILE")
        if self.kafka_security == "PLAINTEXT" and (
            self.kafka_username or self.kafka_ca_file or self.kafka_cert_file
        ):
            raise ValueError(
                "a user or certificates for Kafka are set, but SEALTRAIL_KAFKA_SECURITY is"
                " PLAINTEXT"
            )
        if self.kafka_key_file and not self.kafka_cert_file:
            raise ValueError("SEALTRAIL_KAFKA_KEY_FILE needs SEALTRAIL_KAFKA_CERT_FILE")
        if self.registry_key_file and not self.registry_cert_file:
            raise ValueError("SEALTRAIL_REGISTRY_KEY_FILE needs SEALTRAIL_REGISTRY_CERT_FILE")
        if self.store_ca_file and not self.store_url.startswith("https://"):
            raise ValueError("SEALTRAIL_STORE_CA_FILE is set, but SEALTRAIL_STORE_URL is no https")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only arguments count: `load` reads the environment and passes it in."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


S = TypeVar("S", bound=CommonSettings)


class _MappingSource(EnvSettingsSource):
    """pydantic-settings' decoding of variables (JSON for lists), from a mapping of ours."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        self._variables = variables
        super().__init__(settings_cls, env_ignore_empty=True)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items() if value}


@dataclass(frozen=True)
class Variables:
    """`SEALTRAIL_*` variables as found, with where each one came from."""

    values: Mapping[str, str]
    origins: Mapping[str, str]


def variable(field: str) -> str:
    """Name of the environment variable of a field."""
    return PREFIX + field.upper()


def registered() -> dict[str, type[CommonSettings]]:
    """The settings classes of all rooms by room, in order of their names."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: point.load() for point in points}


def load(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read the settings of one room from the environment and the env file.

    Args:
        cls: settings class of the room.
        environ: variables to read; the process's own if None.

    Raises:
        ConfigurationError: a variable that no room knows, a value that is
            refused, or an env file that is missing or open to others.
    """
    classes: list[type[CommonSettings]] = [*registered().values(), cls]
    environ = os.environ if environ is None else environ
    return _build(cls, gather(environ, classes), environ)


def gather(environ: Mapping[str, str], classes: Iterable[type[CommonSettings]]) -> Variables:
    """Collect the variables of the environment and the env file, refusing unknown names.

    Args:
        environ: the real environment, which wins over the file.
        classes: settings classes that say which names are known.

    Raises:
        ConfigurationError: see `load`.
    """
    classes = list(classes)
    own = _ours(environ)
    named = own.get(variable("env_file"), "")
    state = own.get(variable("state_dir"), "")
    default = (Path(state) if state else default_state_dir(environ)) / "local.env"
    file = Path(named) if named else default
    read: dict[str, str] = {}
    if named or file.exists():
        read = _ours(_read_env_file(file, classes))
    values = {**read, **own}
    origins = {**dict.fromkeys(read, str(file)), **dict.fromkeys(own, "environment")}
    _refuse_unknown(origins, {variable(f) for cls in classes for f in cls.model_fields})
    return Variables(values=values, origins=origins)


def _ours(variables: Mapping[str, str]) -> dict[str, str]:
    # Names in lower case are kept, to be refused by name rather than ignored.
    return {k: v for k, v in variables.items() if k.upper().startswith(PREFIX)}


def _read_env_file(file: Path, classes: Iterable[type[CommonSettings]]) -> dict[str, str]:
    try:
        mode = file.stat().st_mode
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read the env file {file}: {error}",
            hint=f"correct or unset {variable('env_file')}",
        ) from error
    values = {name: value for name, value in found.items() if value is not None}
    secrets = {variable(field) for cls in classes for field in secret_fields(cls)}
    holds_secret = any(values.get(name) for name in secrets)
    # Whoever can write it chooses our servers and trust root; whoever can read
    # it has our passwords.
    forbidden = stat.S_IWGRP | stat.S_IWOTH
    if holds_secret:
        forbidden |= stat.S_IRGRP | stat.S_IROTH
    if mode & forbidden:
        raise ConfigurationError(
            f"the env file {file} is open to other users (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {file}",
        )
    return values


def _refuse_unknown(origins: Mapping[str, str], known: set[str]) -> None:
    unknown = sorted(set(origins) - known)
    if not unknown:
        return
    first = unknown[0]
    near = difflib.get_close_matches(first.upper(), sorted(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigurationError(
        f"unknown setting {', '.join(unknown)} ({origins[first]})",
        hint=hint + "`sealtrail config show --defaults` lists all settings",
    )


def _build(cls: type[S], variables: Variables, environ: Mapping[str, str]) -> S:
    try:
        given = _MappingSource(cls, variables.values)()
        given.setdefault("state_dir", default_state_dir(environ))
        return cls(**given)
    except SettingsError as error:
        raise ConfigurationError(
            f"a setting cannot be read: {error}", hint="lists and maps are written as JSON"
        ) from error
    except ValidationError as error:
        problems = [
            f"{variable(str(e['loc'][0])) if e['loc'] else cls.__name__}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)
            # Defaults made of other settings only follow their errors.
            if e["type"] != "default_factory_not_called"
        ]
        raise ConfigurationError(
            "; ".join(problems), hint="`sealtrail config show --defaults` shows what is expected"
        ) from error


def secret_fields(cls: type[CommonSettings]) -> set[str]:
    """Names of the fields whose values must never be shown."""
    return {
        name
        for name, field in cls.model_fields.items()
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation)
    }


def masked(value: Any) -> Any:
    """Value of a setting as it may be shown: without secrets or passwords in URLs."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, str) and "://" in value:
        parts = urlsplit(value)
        if parts.password is not None:
            host = parts.netloc.rpartition("@")[2]
            return urlunsplit(parts._replace(netloc=f"{parts.username}:{MASK}@{host}"))
    return value


@dataclass(frozen=True)
class Shown:
    """One setting as `sealtrail config show` prints it; secrets are masked."""

    variable: str
    value: Any
    origin: str
    rooms: tuple[str, ...]
    description: str

    def as_row(self) -> dict[str, Any]:
        """The setting as an object for JSON."""
        plain = self.value if isinstance(self.value, bool | int | float | None) else str(self.value)
        return {
            "setting": self.variable,
            "value": plain,
            "origin": self.origin,
            "rooms": list(self.rooms),
            "description": self.description,
        }


def describe(
    environ: Mapping[str, str], rooms: Mapping[str, type[CommonSettings]], *, defaults: bool = False
) -> list[Shown]:
    """All settings of the given rooms, once each, with value and origin.

    Args:
        environ: variables to read.
        rooms: settings classes by room.
        defaults: show the defaults, and read neither `environ` nor the env file.

    Raises:
        ConfigurationError: see `load`.
    """
    found = Variables({}, {}) if defaults else gather(environ, rooms.values())
    shown: dict[tuple[str, str], Shown] = {}
    for room, cls in rooms.items():
        settings = _build(cls, found, environ)
        for field, info in cls.model_fields.items():
            value = masked(getattr(settings, field))
            name = variable(field)
            # Rooms that give one name different defaults get a line each.
            key = (name, repr(value))
            before = shown[key].rooms if key in shown else ()
            origin = found.origins.get(name, "default")
            text = info.description or ""
            shown[key] = Shown(name, value, origin, (*before, room), text)
    return list(shown.values())
