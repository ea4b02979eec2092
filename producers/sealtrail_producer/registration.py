"""Registers the two schemas and remembers their ids on disk, for when the registry is down.

The ids are hints for ordinary Avro tools (nothing of ours trusts them), so an id that was
remembered from before the registry lost its data does no harm.
"""

from __future__ import annotations

import json
import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import avro
from sealtrail.errors import MISSHAPEN, UnavailableError
from sealtrail.validate import event_subject
from sealtrail_producer.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sealtrail_producer.ports import Registry

log = logging.getLogger(__name__)

COMPATIBILITY = "FULL_TRANSITIVE"
_MOST = 2**31 - 1
# What a file may raise that a failing disk has changed.
_UNREADABLE = (OSError, *MISSHAPEN)


@dataclass(frozen=True, slots=True)
class SchemaIds:
    """Registry ids of the envelope and of the event record."""

    batch: int
    event: int

    def __post_init__(self) -> None:
        # As messages hold them: ids of Avro's int, and a registry may answer anything.
        if not all(0 <= number <= _MOST for number in (self.batch, self.event)):
            raise UnavailableError(
                f"schema registry: ids {self.batch} and {self.event}, which no message can hold",
                hint="ids are 0 to 2147483647: is SEALTRAIL_REGISTRY_URL that of a registry?",
            )


class Registration:
    """Gets the ids once.

    Args:
        connect: opens the registry's client.
        topic: names the subjects: TOPIC-value, and `validate.event_subject` of it.
        cache: file of the ids.
        registry_name: tells registries apart in the cache, such as the URL.
    """

    def __init__(
        self, connect: Callable[[], Registry], topic: str, cache: Path, registry_name: str
    ) -> None:
        self._connect = connect
        self._topic = topic
        self._cache = cache
        self._key = " ".join(
            (registry_name, topic, *(avro.codec(n).fingerprint.hex() for n in _RECORDS))
        )
        self._confirmed = False
        self.ids = self._read()

    def ensure(self) -> SchemaIds:
        """The ids: from the registry, or from disk while it cannot be reached.

        Raises:
            UnavailableError: it cannot be reached and nothing is remembered.
            ConfigurationError: it refuses a schema.
        """
        if self._confirmed and self.ids is not None:
            return self.ids
        try:
            ids = self.ask()
        except UnavailableError as error:
            if self.ids is None:
                raise
            log.warning("%s; going on with remembered schema ids", error.message)
            self._confirmed = True
            return self.ids
        if ids != self.ids:
            # On disk before the first message that holds them: after a crash the bytes are the
            # same.
            self._write(ids)
        self.ids = ids
        self._confirmed = True
        return ids

    def ask(self) -> SchemaIds:
        """The ids that the registry says, registered there if need be.

        Raises:
            UnavailableError: it cannot be reached, or denies this client something.
            ConfigurationError: it refuses a schema.
        """
        subjects = (f"{self._topic}-value", event_subject(self._topic))
        with closing(self._connect()) as registry:
            batch, event = (
                registry.register(subject, json.dumps(avro.load_schema(name)), COMPATIBILITY)
                for subject, name in zip(subjects, _RECORDS, strict=True)
            )
        return SchemaIds(batch, event)

    def _read(self) -> SchemaIds | None:
        try:
            value = json.loads(self._cache.read_bytes())[self._key]
            return SchemaIds(int(value["batch"]), int(value["event"]))
        except (*_UNREADABLE, UnavailableError):
            return None

    def _write(self, ids: SchemaIds) -> None:
        try:
            known = json.loads(self._cache.read_bytes())
        except _UNREADABLE:
            known = {}
        known = known if isinstance(known, dict) else {}
        known[self._key] = {"batch": ids.batch, "event": ids.event}
        try:
            write_private(self._cache, json.dumps(known, indent=1, sort_keys=True).encode())
        except OSError as error:
            log.warning("cannot remember schema ids in %s: %s", self._cache, error)


_RECORDS = ("SignedBatch", "ProvenanceEvent")
