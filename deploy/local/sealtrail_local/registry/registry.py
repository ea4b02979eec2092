"""The registry's rules: subjects, versions, ids, compatibility levels, modes.

- Equal schemas share one id, in all subjects; an id never changes its meaning.
- Registering what a subject already has gives the same id again, without a check.
- A version number is never used twice. Deletion has two steps: soft (hidden), then permanent.
- A schema stays readable by id after deletion: messages that were written with it must stay
  readable.
"""

from typing import Final

from sealtrail_local.registry import compatibility, schemas
from sealtrail_local.registry.errors import (
    INCOMPATIBLE,
    INVALID_MODE,
    INVALID_SCHEMA,
    INVALID_VERSION,
    LEVEL_NOT_SET,
    MODE_NOT_SET,
    NOT_PERMITTED,
    SCHEMA_NOT_FOUND,
    SUBJECT_NOT_FOUND,
    SUBJECT_NOT_SOFT_DELETED,
    SUBJECT_SOFT_DELETED,
    VERSION_NOT_FOUND,
    VERSION_NOT_SOFT_DELETED,
    VERSION_SOFT_DELETED,
    RegistryError,
)
from sealtrail_local.registry.storage import GLOBAL, Storage, Version

MODES: Final = ("READWRITE", "READONLY", "IMPORT")
_LAST_VERSION: Final = 2**31 - 1


class Registry:
    """Subjects and their schemas.

    Args:
        storage: where they are kept.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def register(self, subject: str, text: str) -> Version:
        """Add a schema to a subject.

        Args:
            subject: its name.
            text: the schema.

        Raises:
            RegistryError: 42201 invalid, 409 incompatible, 42205 read-only.
        """
        text = schemas.canonical(text)
        new = schemas.parse(text)
        with self._storage.change():
            versions = self._storage.versions(subject)
            for version in versions:
                if version.text == text and not version.deleted:
                    return version
            self._refuse_read_only(subject)
            live = [schemas.parse(v.text) for v in versions if not v.deleted]
            problems = compatibility.check(self.level(subject), new, live)
            if problems:
                raise RegistryError(
                    INCOMPATIBLE,
                    "Schema being registered is incompatible with an earlier schema for subject "
                    f'"{subject}", details: {problems}',
                )
            schema_id = self._storage.add_schema(text)
            number = self._storage.add_version(subject, schema_id)
        return Version(subject, number, schema_id, text, deleted=False)

    def look_up(self, subject: str, text: str, *, deleted: bool = False) -> Version:
        """The version of a subject that holds a schema.

        Raises:
            RegistryError: 40401 no such subject, 40403 not among its schemas.
        """
        text = schemas.canonical(text)
        for version in reversed(self._seen(subject, deleted=deleted)):
            if version.text == text:
                return version
        raise RegistryError(SCHEMA_NOT_FOUND, "Schema not found")

    def text(self, schema_id: int) -> str:
        """A schema by id.

        Raises:
            RegistryError: 40403.
        """
        text = self._storage.text(schema_id)
        if text is None:
            raise RegistryError(SCHEMA_NOT_FOUND, f"Schema {schema_id} not found")
        return text

    def versions_of(self, schema_id: int, *, deleted: bool = False) -> list[Version]:
        """Where a schema is used.

        Raises:
            RegistryError: 40403.
        """
        self.text(schema_id)
        return [v for v in self._storage.versions_of(schema_id) if deleted or not v.deleted]

    def subjects(self, *, deleted: bool = False, deleted_only: bool = False) -> list[str]:
        """Names of the subjects."""
        versions = self._storage.all_versions()
        live = {v.subject for v in versions if not v.deleted}
        everything = {v.subject for v in versions}
        if deleted_only:
            return sorted(everything - live)
        return sorted(everything if deleted else live)

    def versions(self, subject: str, *, deleted: bool = False) -> list[int]:
        """Version numbers of a subject.

        Raises:
            RegistryError: 40401.
        """
        return [v.version for v in self._seen(subject, deleted=deleted)]

    def version(self, subject: str, number: str, *, deleted: bool = False) -> Version:
        """A version of a subject.

        Args:
            subject: its name.
            number: a version's number, `latest` or `-1`.
            deleted: whether softly deleted ones count.

        Raises:
            RegistryError: 40401, 40402, 42202 not a version.
        """
        wanted = version_number(number)
        seen = self._seen(subject, deleted=deleted)
        if wanted is None:
            return seen[-1]
        for version in seen:
            if version.version == wanted:
                return version
        raise RegistryError(VERSION_NOT_FOUND, f"Version {wanted} not found")

    def delete_subject(self, subject: str, *, permanent: bool) -> list[int]:
        """Delete all versions of a subject, softly or, after that, for good.

        Raises:
            RegistryError: 40401, 40404 deleted already, 40405 not softly deleted before, 42205.
        """
        with self._storage.change():
            self._refuse_read_only(subject)
            versions = self._storage.versions(subject)
            if not versions:
                raise _no_subject(subject)
            live = [v for v in versions if not v.deleted]
            if permanent:
                if live:
                    raise RegistryError(
                        SUBJECT_NOT_SOFT_DELETED,
                        f"Subject '{subject}' was not deleted first before being "
                        "permanently deleted",
                    )
                for version in versions:
                    self._storage.remove_version(subject, version.version)
                self._storage.drop_setting("levels", subject)
                self._storage.drop_setting("modes", subject)
                return [v.version for v in versions]
            if not live:
                raise RegistryError(
                    SUBJECT_SOFT_DELETED,
                    f"Subject '{subject}' was soft deleted. Set permanent=true to "
                    "delete permanently",
                )
            for version in live:
                self._storage.hide_version(subject, version.version)
            return [v.version for v in live]

    def delete_version(self, subject: str, number: str, *, permanent: bool) -> int:
        """Delete one version, softly or, after that, for good.

        Raises:
            RegistryError: 40401, 40402, 40406, 40407, 42202, 42205.
        """
        with self._storage.change():
            self._refuse_read_only(subject)
            version = self.version(subject, number, deleted=True)
            if permanent:
                if not version.deleted:
                    raise RegistryError(
                        VERSION_NOT_SOFT_DELETED,
                        f"Subject '{subject}' Version {version.version} was not deleted "
                        "first before being permanently deleted",
                    )
                self._storage.remove_version(subject, version.version)
            elif version.deleted:
                raise RegistryError(
                    VERSION_SOFT_DELETED,
                    f"Subject '{subject}' Version {version.version} was soft deleted. Set "
                    "permanent=true to delete permanently",
                )
            else:
                self._storage.hide_version(subject, version.version)
            return version.version

    def check(self, subject: str, text: str, number: str | None) -> list[str]:
        """Why a schema could not be registered now.

        Args:
            subject: its name.
            text: the schema.
            number: compare with this version only; with all that the level asks for if None.

        Raises:
            RegistryError: 42201, and 40401, 40402, 42202 for the version.
        """
        new = schemas.parse(schemas.canonical(text))
        if number is None:
            earlier = [v for v in self._storage.versions(subject) if not v.deleted]
        else:
            earlier = [self.version(subject, number)]
        return compatibility.check(
            self.level(subject), new, [schemas.parse(v.text) for v in earlier]
        )

    def level(self, subject: str = GLOBAL) -> str:
        """Compatibility level that holds for a subject."""
        return (
            self._storage.setting("levels", subject)
            or self._storage.setting("levels", GLOBAL)
            or compatibility.DEFAULT_LEVEL
        )

    def own_level(self, subject: str) -> str:
        """Compatibility level set for this subject itself.

        Raises:
            RegistryError: 40408, it has none.
        """
        found = self._storage.setting("levels", subject)
        if found is None:
            raise RegistryError(
                LEVEL_NOT_SET,
                f"Subject '{subject}' does not have subject-level compatibility configured",
            )
        return found

    def set_level(self, subject: str, level: object) -> str:
        """Set the level of a subject, or of all with GLOBAL.

        Raises:
            RegistryError: 42203.
        """
        name = compatibility.level(level)
        self._storage.put_setting("levels", subject, name)
        return name

    def clear_level(self, subject: str) -> str:
        """Forget the level of a subject and return the one that was set.

        Raises:
            RegistryError: 40408.
        """
        old = self.level() if subject == GLOBAL else self.own_level(subject)
        self._storage.drop_setting("levels", subject)
        return old

    def mode(self, subject: str = GLOBAL) -> str:
        """Mode that holds for a subject."""
        return (
            self._storage.setting("modes", subject)
            or self._storage.setting("modes", GLOBAL)
            or MODES[0]
        )

    def own_mode(self, subject: str) -> str:
        """Mode set for this subject itself.

        Raises:
            RegistryError: 40409.
        """
        found = self._storage.setting("modes", subject)
        if found is None:
            raise RegistryError(
                MODE_NOT_SET, f"Subject '{subject}' does not have subject-level mode configured"
            )
        return found

    def set_mode(self, subject: str, mode: object) -> str:
        """Set the mode of a subject, or of all with GLOBAL.

        Raises:
            RegistryError: 42204 no such mode; 42205 IMPORT, which would let clients choose ids.
        """
        name = str(mode).upper()
        if name not in MODES:
            raise RegistryError(INVALID_MODE, f"Invalid mode. Valid values are {MODES}")
        if name == "IMPORT":
            raise RegistryError(NOT_PERMITTED, "The embedded registry has no mode IMPORT")
        self._storage.put_setting("modes", subject, name)
        return name

    def clear_mode(self, subject: str) -> str:
        """Forget the mode of a subject and return the one that was set.

        Raises:
            RegistryError: 40409.
        """
        old = self.own_mode(subject)
        self._storage.drop_setting("modes", subject)
        return old

    def _refuse_read_only(self, subject: str) -> None:
        if self.mode(subject) == "READONLY":
            raise RegistryError(NOT_PERMITTED, f"Subject {subject or '(all)'} is in read-only mode")

    def _seen(self, subject: str, *, deleted: bool) -> list[Version]:
        seen = [v for v in self._storage.versions(subject) if deleted or not v.deleted]
        if not seen:
            raise _no_subject(subject)
        return seen


def version_number(text: str) -> int | None:
    """A version's number; None for the latest.

    Raises:
        RegistryError: 42202, neither a number from 1 to 2^31 - 1 nor "latest".
    """
    if text in {"latest", "-1"}:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:12]) <= _LAST_VERSION:
        raise RegistryError(
            INVALID_VERSION,
            f"The specified version '{text[:40]}' is not a valid version id. Allowed values are "
            'between [1, 2^31-1] and the string "latest"',
        )
    return int(text)


def refuse_unsupported(schema_type: object, references: object) -> None:
    """Refuse what this registry does not do.

    Args:
        schema_type: of the request; None means Avro.
        references: schemas in other subjects that the schema builds on.

    Raises:
        RegistryError: 42201.
    """
    if schema_type not in {None, "", "AVRO"}:
        raise RegistryError(
            INVALID_SCHEMA, f"The embedded registry knows Avro only, not {schema_type}"
        )
    if references:
        raise RegistryError(INVALID_SCHEMA, "The embedded registry knows no schema references")


def _no_subject(subject: str) -> RegistryError:
    return RegistryError(SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
