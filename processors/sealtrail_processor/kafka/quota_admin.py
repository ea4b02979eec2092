"""What operators ask of Kafka about client quotas, and change there.

librdkafka has no such request. aiokafka has the connection, the question (KIP-546's
DescribeClientQuotas) and the types of the protocol; the request that changes them stands here.
What is to be done is decided in `quotas`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, for_code
from aiokafka.protocol.admin import DescribeClientQuotasRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from sealtrail import connections
from sealtrail.errors import UnavailableError
from sealtrail_processor.kafka.client import ADMIN_ROLE, LOOK_AT_SETTINGS
from sealtrail_processor.kafka.quotas import Quota

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.settings import CommonSettings
    from sealtrail_processor.kafka.quotas import QuotaChange

TIMEOUT_S = 15.0
_USER, _CLIENT = "user", "client-id"
# DescribeClientQuotas: any entity that has a name of that type.
_ANY = 2
_ENTITY = Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))


class AlterClientQuotasResponse_v0(Response):  # type: ignore[misc] # noqa: N801 - untyped; named as aiokafka's are
    """KIP-546: one error for each entity."""

    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "entries",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("entity", _ENTITY),
            ),
        ),
    )


class AlterClientQuotasRequest_v0(RequestStruct):  # type: ignore[misc] # noqa: N801 - as above
    """KIP-546: values to set or to remove, by entity."""

    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = AlterClientQuotasResponse_v0
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", _ENTITY),
                ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class AlterClientQuotasRequest(Request[AlterClientQuotasRequest_v0]):  # type: ignore[misc] # as above
    """Set or remove quotas of users.

    Args:
        changes: of a plan, without what it refuses.
    """

    API_KEY: ClassVar[int] = 49

    def __init__(self, changes: Sequence[QuotaChange]) -> None:
        self._changes = changes

    def build(
        self, request_struct_class: type[AlterClientQuotasRequest_v0]
    ) -> AlterClientQuotasRequest_v0:
        """The request as it goes over the wire."""
        # One entry for each user: of two, Kafka takes the first.
        values: dict[str, list[tuple[str, float, bool]]] = {}
        for change in self._changes:
            quota = change.quota
            value = (quota.name, quota.value, change.act == "remove")
            values.setdefault(quota.principal, []).append(value)
        entries = [([(_USER, who)], values[who]) for who in values]
        return request_struct_class(entries, False)  # noqa: FBT003 - validate_only


class QuotaAdmin:
    """An operator's connection.

    Args:
        settings: where the brokers are.
        identity: the name under which it comes.
    """

    def __init__(self, settings: CommonSettings, identity: str) -> None:
        self._settings, self._identity = settings, identity

    def found(self) -> list[Quota]:
        """All quotas of users that the cluster has.

        Raises:
            UnavailableError: the cluster does not say, or not to us.
        """
        # Strict would leave out those of a single client id.
        question = DescribeClientQuotasRequest([(_USER, _ANY, None)], strict=False)
        response = self._ask(question)
        # With an error come no entries, not even an empty list of them.
        _check(response.error_code, response.error_message)
        quotas = []
        for entry in response.to_object()["entries"]:
            # A name is null where the quota is the default of all.
            names = {part["entity_type"]: part["entity_name"] or "" for part in entry["entity"]}
            quotas += [
                Quota(names[_USER], value["name"], value["value"], names.get(_CLIENT, ""))
                for value in entry["values"]
            ]
        return quotas

    def change(self, changes: Sequence[QuotaChange]) -> None:
        """Do what a plan says, except for what it refuses.

        Raises:
            UnavailableError: the cluster does not do it.
        """
        todo = [change for change in changes if change.act != "refuse"]
        if todo:
            for entry in self._ask(AlterClientQuotasRequest(todo)).to_object()["entries"]:
                _check(entry["error_code"], entry["error_message"])

    def _ask(self, request: Request[Any]) -> Any:
        try:
            return asyncio.run(asyncio.wait_for(self._answer(request), TIMEOUT_S))
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnavailableError(
                f"Kafka does not answer about quotas: {str(error) or type(error).__name__}",
                hint=LOOK_AT_SETTINGS,
            ) from None

    async def _answer(self, request: Request[Any]) -> Any:
        settings, tls = self._settings, connections.kafka_context(self._settings, self._identity)
        sasl: dict[str, Any] = {}
        if settings.kafka_security.startswith("SASL"):
            sasl = {
                "sasl_mechanism": settings.kafka_sasl,
                "sasl_plain_username": connections.username(settings, self._identity),
                "sasl_plain_password": connections.password(settings, self._identity),
            }
        client = AIOKafkaClient(
            bootstrap_servers=settings.kafka_bootstrap,
            security_protocol=settings.kafka_security,
            ssl_context=tls,
            **sasl,
        )
        try:
            await client.bootstrap()
            return await client.send(client.get_random_node(), request)
        finally:
            await client.close()


def _check(code: int, message: str | None) -> None:
    if code == 0:
        return
    error = for_code(code)
    denied = error is ClusterAuthorizationFailedError
    raise UnavailableError(
        f"Kafka: quotas: {message or error.__name__}",
        hint=ADMIN_ROLE if denied else "",
    )
