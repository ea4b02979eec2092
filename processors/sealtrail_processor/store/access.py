"""Users, roles, quotas, settings profiles and row policies of ClickHouse, from one matrix. Pure.

`deploy/clickhouse/access.yaml` says who may do what. It becomes

- SQL, for servers whose access is managed by SQL: one role for each row of the matrix (named apart
  from the users: GRANT takes either); one for each tenant, whose row policies are permissive (rows
  of any tenant of a user are shown); and one restrictive policy for each label (rows above the
  clearance are not);
- server configuration (`users.d/`), where a user has one filter a table.

Both say the same; `docs/access.md` shows how to use them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from xml.sax.saxutils import escape

import yaml

from sealtrail import resources
from sealtrail.errors import MISSHAPEN, ConfigurationError
from sealtrail_processor.store import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# As sealtrail.settings.Name allows; it goes into string literals.
_TENANT = re.compile(r"[A-Za-z0-9._:/@-]{1,200}")
_HASH = re.compile(r"[0-9a-f]{64}")
_HOUR_S = 3600
UNLABELLED = ("", "internal")
ALL = "*"

Setting = int | list[int]
Tables = Literal["*"] | list[str]


@dataclass(frozen=True, slots=True)
class Role:
    """A row of the matrix: what may be selected and inserted (database -> tables), and how much."""

    name: str
    purpose: str
    tenants: Literal["all", "own"]
    clearance: str
    profile: str
    quota: str
    select: Mapping[str, Tables] = field(default_factory=dict)
    insert: Mapping[str, Tables] = field(default_factory=dict)
    grants: Sequence[str] = ()

    @property
    def sql_name(self) -> str:
        """The role in SQL."""
        return f"{self.name}_role"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a role; tenants whose rows are shown, where the role does not show all."""

    name: str
    role: str
    tenants: Sequence[str] = ()

    @property
    def variable(self) -> str:
        """Environment variable with the SHA-256 of the password, in hexadecimal."""
        return f"SEALTRAIL_{self.name.removeprefix('sealtrail_').upper()}_SHA256"


@dataclass(frozen=True, slots=True)
class Matrix:
    """The whole of access.yaml."""

    labels: Sequence[str]
    tenant_tables: Sequence[str]
    system_tables: Sequence[str]
    profiles: Mapping[str, Mapping[str, Setting]]
    quotas: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, Role]
    users: Sequence[User]


@dataclass(frozen=True, slots=True)
class Names:
    """Databases of an installation."""

    database: str = "sealtrail"
    views: str = "provenance"

    def of(self, key: str) -> str:
        """The database that the matrix calls database, views or system."""
        return {"database": self.database, "views": self.views, "system": "system"}[key]

    def twins(self, key: str) -> tuple[str, ...]:
        """That database, and the one that a cluster has beside it with the same names."""
        beside = {
            "database": (f"{self.database}{cluster.ALL}",),
            "views": (f"{self.views}{cluster.LOCAL}",),
        }
        return (self.of(key), *beside.get(key, ()))


def load(path: Path | None = None) -> Matrix:
    """Read a matrix; the shipped one unless another is named.

    Raises:
        ConfigurationError: it is no matrix, or names what it does not define.
    """
    path = path or resources.path("clickhouse", "access.yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        roles = {name: Role(name=name, **row) for name, row in raw["roles"].items()}
        users = [User(**row) for row in raw["users"]]
        matrix = Matrix(**{**raw, "roles": roles, "users": users})
    except (OSError, yaml.YAMLError, *MISSHAPEN) as error:
        raise ConfigurationError(
            f"{path.name} is no access matrix: {error}",
            hint="compare it with deploy/clickhouse/access.yaml",
        ) from None
    for problem in _problems(matrix):
        raise ConfigurationError(f"{path.name}: {problem}", hint="mend the matrix")
    return matrix


def _problems(matrix: Matrix) -> Iterator[str]:
    for role in matrix.roles.values():
        if role.profile not in matrix.profiles or role.quota not in matrix.quotas:
            yield f"role {role.name} names a profile or quota that is not there"
        if role.clearance not in matrix.labels or role.tenants not in {"all", "own"}:
            yield f"role {role.name} has a strange clearance or tenants"
    for user in matrix.users:
        role_of = matrix.roles.get(user.role)
        if role_of is None or not _NAME.fullmatch(user.name):
            yield f"user {user.name!r} has no role, or a name that is none"
        elif (role_of.tenants == "own") != bool(user.tenants):
            yield f"user {user.name}: tenants are for roles that show `own`, and needed there"
        if not all(_TENANT.fullmatch(tenant) for tenant in user.tenants):
            yield f"user {user.name} has a tenant that is no name"


def shown_labels(matrix: Matrix, clearance: str) -> list[str] | None:
    """Labels that a clearance shows, '' for none given; None when it shows everything."""
    if clearance == matrix.labels[-1]:
        return None
    shown = list(matrix.labels[: matrix.labels.index(clearance) + 1])
    return ["", *shown] if UNLABELLED[1] in shown else shown


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _tenant_filter(tenants: Sequence[str]) -> str:
    return f"tenant IN ({_quoted(tenants)})"


def _label_filter(labels: Sequence[str]) -> str:
    return f"attributes['sensitivity'] IN ({_quoted(labels)})"


def filters(matrix: Matrix, user: User) -> dict[str, str]:
    """Table -> condition of the rows that a user is shown.

    `1` stands where all are: whether a user without a policy sees anything, once others have one,
    is a setting of the server (users_without_row_policies_can_read_rows).
    """
    role = matrix.roles[user.role]
    own = _tenant_filter(user.tenants) if role.tenants == "own" else "1"
    found = {table: [own] for table in matrix.tenant_tables}
    labels = shown_labels(matrix, role.clearance)
    if labels is not None:
        found["events"].append(_label_filter(labels))
    return {table: " AND ".join(parts) for table, parts in found.items()}


def grants(matrix: Matrix, role: Role, names: Names) -> list[str]:
    """The privileges of a role, as what stands between GRANT and TO.

    Whoever may read a table or view may do so in its twin on a cluster; inserts go to tables alone.
    """
    database, all_shards = names.twins("database")
    views, local_views = names.twins("views")
    found = [
        text.format(database=database, all_shards=all_shards, views=views, local_views=local_views)
        for text in role.grants
    ]
    for key, listed in role.select.items():
        chosen = [ALL] if listed == ALL else listed
        found += [
            f"SELECT, SHOW ON {where}.{table}" for where in names.twins(key) for table in chosen
        ]
    for key, listed in role.insert.items():
        chosen = [ALL] if listed == ALL else listed
        found += [f"INSERT ON {names.of(key)}.{table}" for table in chosen]
    found += [f"SELECT ON system.{table}" for table in matrix.system_tables]
    return found


# -- SQL ----------------------------------------------------------------------------------------


def as_sql(matrix: Matrix, names: Names, hashes: Mapping[str, str]) -> list[str]:
    """Statements that make profiles, quotas, roles, policies and users; each may run again.

    Args:
        matrix: who may do what.
        names: of the databases.
        hashes: SHA-256 of passwords, hexadecimal, by user; users without one are not made.

    Raises:
        ConfigurationError: a hash is none.
    """
    statements: list[str] = []
    for name, settings in matrix.profiles.items():
        listed = ", ".join(_setting_sql(key, value) for key, value in settings.items())
        statements.append(
            f"CREATE SETTINGS PROFILE OR REPLACE sealtrail_profile_{name} SETTINGS {listed}"
        )
    for role in matrix.roles.values():
        statements.append(f"CREATE ROLE IF NOT EXISTS {role.sql_name}")
        # Settings alone: it takes away nothing that was granted by hand.
        statements.append(
            f"ALTER ROLE {role.sql_name} SETTINGS PROFILE 'sealtrail_profile_{role.profile}'"
        )
        statements += [f"GRANT {what} TO {role.sql_name}" for what in grants(matrix, role, names)]
    statements += _quota_sql(matrix)
    statements += _policy_sql(matrix, names)
    statements += _user_sql(matrix, hashes)
    return statements


def _setting_sql(name: str, value: Setting) -> str:
    if isinstance(value, list):
        return f"{name} = {value[0]} MIN {value[1]} MAX {value[2]}"
    return f"{name} = {value} CONST"


def _quota_sql(matrix: Matrix) -> list[str]:
    found = []
    for name, limits in matrix.quotas.items():
        roles = [role.sql_name for role in matrix.roles.values() if role.quota == name]
        most = ", ".join(f"{key} = {value}" for key, value in limits.items() if value)
        rule = f"MAX {most}" if most else "TRACKING ONLY"
        to = f" TO {', '.join(roles)}" if roles else ""
        found.append(
            f"CREATE QUOTA OR REPLACE sealtrail_quota_{name} KEYED BY user_name"
            f" FOR INTERVAL 1 hour {rule}{to}"
        )
    return found


def tenant_role(tenant: str) -> str:
    """The role whose holders are shown a tenant's rows."""
    return "`sealtrail_tenant_" + tenant + "`"


def _policy_sql(matrix: Matrix, names: Names) -> list[str]:
    tenants = sorted({tenant for user in matrix.users for tenant in user.tenants})
    everything = [role.sql_name for role in matrix.roles.values() if role.tenants == "all"]
    found = [f"CREATE ROLE IF NOT EXISTS {tenant_role(tenant)}" for tenant in tenants]
    for table in matrix.tenant_tables:
        on = f"ON {names.database}.{table} AS PERMISSIVE FOR SELECT USING"
        found += [
            f"CREATE ROW POLICY OR REPLACE `sealtrail_tenant_{tenant}`"
            f" {on} {_tenant_filter([tenant])} TO {tenant_role(tenant)}"
            for tenant in tenants
        ]
        found.append(
            f"CREATE ROW POLICY OR REPLACE sealtrail_all_tenants {on} 1 TO {', '.join(everything)}"
        )
    for label in matrix.labels[:-1]:
        roles = [role.sql_name for role in matrix.roles.values() if role.clearance == label]
        labels = shown_labels(matrix, label)
        if roles and labels is not None:
            found.append(
                f"CREATE ROW POLICY OR REPLACE sealtrail_cleared_{label}"
                f" ON {names.database}.events AS RESTRICTIVE FOR SELECT"
                f" USING {_label_filter(labels)} TO {', '.join(roles)}"
            )
    return found


def _user_sql(matrix: Matrix, hashes: Mapping[str, str]) -> list[str]:
    found = []
    for user in matrix.users:
        if user.name not in hashes:
            continue
        if not _HASH.fullmatch(hashes[user.name]):
            raise ConfigurationError(
                f"{user.variable} is no SHA-256",
                hint='printf %s "$PASSWORD" | sha256sum gives 64 characters of 0-9 and a-f',
            )
        found.append(
            f"CREATE USER IF NOT EXISTS {user.name}"
            f" IDENTIFIED WITH sha256_hash BY '{hashes[user.name]}'"
        )
        roles = [
            matrix.roles[user.role].sql_name,
            *(tenant_role(tenant) for tenant in user.tenants),
        ]
        found.append(f"GRANT {', '.join(roles)} TO {user.name}")
        found.append(f"ALTER USER {user.name} DEFAULT ROLE ALL")
    return found


# -- server configuration -----------------------------------------------------------------------

_HEAD = """<!-- Users of a ClickHouse server (users.d/). Made from access.yaml by `sealtrail store
     access` (as xml): edit that. Passwords come as SHA-256 in hexadecimal from the environment. -->
"""


def as_xml(matrix: Matrix, names: Names) -> str:
    """The same as configuration of a server, to be laid into users.d/."""
    lines = ["<clickhouse>", "  <profiles>"]
    for name, settings in matrix.profiles.items():
        lines += _profile_xml(name, settings)
    lines += ["  </profiles>", "  <quotas>"]
    for name, limits in matrix.quotas.items():
        lines += [f"    <sealtrail_{name}>", "      <interval>"]
        lines.append(f"        <duration>{_HOUR_S}</duration>")
        lines += [f"        <{key}>{value}</{key}>" for key, value in limits.items()]
        lines += ["      </interval>", f"    </sealtrail_{name}>"]
    lines += ["  </quotas>", "  <users>"]
    for user in matrix.users:
        lines += _user_xml(matrix, user, names)
    lines += ["  </users>", "</clickhouse>"]
    return _HEAD + "\n".join(lines) + "\n"


def _profile_xml(name: str, settings: Mapping[str, Setting]) -> list[str]:
    lines = [f"    <sealtrail_{name}>"]
    bounds = []
    for key, value in settings.items():
        if isinstance(value, list):
            lines.append(f"      <{key}>{value[0]}</{key}>")
            limits = f"<min>{value[1]}</min><max>{value[2]}</max>"
        else:
            lines.append(f"      <{key}>{value}</{key}>")
            limits = "<const/>"
        bounds.append(f"        <{key}>{limits}</{key}>")
    lines += ["      <constraints>", *bounds, "      </constraints>", f"    </sealtrail_{name}>"]
    return lines


def _user_xml(matrix: Matrix, user: User, names: Names) -> list[str]:
    role = matrix.roles[user.role]
    lines = [
        f"    <!-- {role.purpose} -->",
        f"    <{user.name}>",
        f'      <password_sha256_hex from_env="{user.variable}"/>',
        "      <networks><ip>::/0</ip></networks>",
        f"      <profile>sealtrail_{role.profile}</profile>",
        f"      <quota>sealtrail_{role.quota}</quota>",
        "      <grants>",
        *(f"        <query>GRANT {what}</query>" for what in grants(matrix, role, names)),
        "      </grants>",
    ]
    lines += ["      <databases>", f"        <{names.database}>"]
    lines += [
        f"          <{table}><filter>{escape(condition)}</filter></{table}>"
        for table, condition in filters(matrix, user).items()
    ]
    lines += [f"        </{names.database}>", "      </databases>"]
    return [*lines, f"    </{user.name}>"]
