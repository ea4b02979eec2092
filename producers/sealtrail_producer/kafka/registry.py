"""Schemas at the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from sealtrail import connections
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_producer.kafka.clients import METADATA_S

if TYPE_CHECKING:
    from sealtrail_producer.settings import ProducerSettings


class KafkaRegistry:
    """Confluent's schema registry client."""

    def __init__(self, settings: ProducerSettings, identity: str) -> None:
        found = connections.registry(settings, identity)
        try:
            self._client = SchemaRegistryClient({**found, "timeout": METADATA_S, "max.retries": 0})
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"schema registry client: {error}", hint="check SEALTRAIL_REGISTRY_*"
            ) from None

    def register(self, subject: str, schema: str, compatibility: str) -> int:
        """Id of a schema under a subject.

        Who finds it there needs no right to register; else the subject's compatibility comes first.
        """
        wanted = Schema(schema, "AVRO")
        try:
            try:
                return self._register(subject, wanted, compatibility)
            except SchemaRegistryError as error:
                if error.http_status_code != 409:
                    raise
                # Of two that begin at the same moment Apicurio refuses one. It finds all in place
                # now; a schema that does not fit is refused again.
                return self._register(subject, wanted, compatibility)
        except SchemaRegistryError as error:
            if error.http_status_code in (409, 422):
                raise ConfigurationError(
                    f"schema registry refuses {subject}: {error.error_message}",
                    hint="another version of Sealtrail may have registered there",
                ) from None
            if error.http_status_code in (401, 403):
                # Not final: batches wait in the spool until somebody has mended it.
                raise UnavailableError(
                    f"schema registry denies {subject} to this client ({error.http_status_code})",
                    hint="an operator registers schemas with: sealtrail schemas register; else"
                    " check SEALTRAIL_REGISTRY_* and deploy/kafka/access.yaml",
                ) from None
            raise UnavailableError(f"schema registry: {error.error_message}") from None
        except Exception as error:  # noqa: BLE001 - the client lets its HTTP library's errors through
            raise UnavailableError(
                f"schema registry cannot be reached: {type(error).__name__}",
                hint="check SEALTRAIL_REGISTRY_URL; `sealtrail local up` starts the embedded stack",
            ) from None

    def _register(self, subject: str, schema: Schema, compatibility: str) -> int:
        found = self._held(subject, schema)
        if found is not None:
            return found
        self._client.set_compatibility(subject_name=subject, level=compatibility)
        return int(self._client.register_schema(subject, schema))

    def _held(self, subject: str, schema: Schema) -> int | None:
        try:
            found = self._client.lookup_schema(subject, schema)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise
        return None if found.schema_id is None else int(found.schema_id)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
