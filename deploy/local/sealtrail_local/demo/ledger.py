"""What the store says: every number of the demo comes from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx

from sealtrail.errors import UnavailableError
from sealtrail_local.demo.wire import Raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_local.settings import LocalSettings

ASK_S = 60.0


@dataclass(frozen=True, slots=True)
class Links:
    """Edges to parents by what the linker said of them."""

    verified: int
    others: dict[str, int]

    @property
    def unresolved(self) -> int:
        """Edges that are not VERIFIED."""
        return sum(self.others.values())


class Ledger:
    """Questions to the store over HTTP: as the analyst, and once as one who may write.

    Args:
        settings: where it is and who we are.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._http = httpx.Client(base_url=settings.store_url, timeout=ASK_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def rows(self, sql: str, **parameters: str | int) -> list[list[Any]]:
        """The rows of an answer.

        Args:
            sql: the question, with {name:Type} for parameters.
            parameters: their values.
        """
        user = self._settings.analyst_user
        password = self._settings.analyst_password.get_secret_value()
        answer = self._send(f"{sql} FORMAT JSONCompact", user, password, parameters)
        found: list[list[Any]] = answer.json()["data"]
        return found

    def number(self, sql: str, **parameters: str | int) -> int:
        """The one number of an answer."""
        return int(self.rows(sql, **parameters)[0][0])

    def tamper(self, sql: str, **parameters: str | int) -> None:
        """Change rows behind the pipeline's back, as somebody with the writer's password could."""
        password = self._settings.store_password.get_secret_value()
        self._send(sql, self._settings.store_user, password, parameters)

    def events(self) -> int:
        """Events that readers see."""
        return self.number("SELECT count() FROM provenance.events")

    def events_of(self, producer: str) -> int:
        """Events of one producer that readers see."""
        return self.number(
            "SELECT count() FROM provenance.events WHERE producer = {p:String}", p=producer
        )

    def links(self) -> Links:
        """Edges to parents by verdict."""
        rows = self.rows(
            "SELECT toString(verdict), count() FROM provenance.lineage_edges GROUP BY verdict"
        )
        counts = {str(verdict): int(count) for verdict, count in rows}
        return Links(counts.pop("VERIFIED", 0), counts)

    def dispositions(self) -> dict[str, int]:
        """Messages by what became of them."""
        rows = self.rows(
            "SELECT toString(disposition), count() FROM sealtrail.dispositions FINAL"
            " GROUP BY disposition"
        )
        return {str(name): int(count) for name, count in rows}

    def findings(self) -> dict[str, int]:
        """Findings by kind."""
        rows = self.rows(
            "SELECT toString(code), uniqExact(finding_id) FROM sealtrail.findings"
            " GROUP BY code ORDER BY code"
        )
        return {str(code): int(count) for code, count in rows}

    def messages(self, producer: str, limit: int) -> list[Raw]:
        """The last accepted messages of a producer, byte for byte, the last one first."""
        rows = self.rows(
            "SELECT partition, hex(key), hex(value),"
            " arrayMap(h -> (h.1, hex(h.2)), headers)"
            " FROM sealtrail.payloads AS p INNER JOIN (SELECT log_id, topic, partition, offset,"
            " batch_seq, chain_id FROM sealtrail.batches FINAL WHERE producer = {p:String}"
            " AND count > 0) AS b USING (log_id, topic, partition, offset)"
            " ORDER BY b.batch_seq DESC LIMIT {n:UInt32}",
            p=producer,
            n=limit,
        )
        return [_raw(row) for row in rows]

    def _send(
        self, sql: str, user: str, password: str, parameters: dict[str, str | int]
    ) -> httpx.Response:
        try:
            answer = self._http.post(
                "/",
                params={f"param_{name}": str(value) for name, value in parameters.items()}
                | {"database": self._settings.store_database},
                headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password},
                content=sql.encode(),
            )
        except httpx.HTTPError as error:
            raise UnavailableError(f"the store does not answer: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise UnavailableError(f"the store refused a question: {answer.text.strip()[:500]}")
        return answer


def _raw(row: Sequence[Any]) -> Raw:
    partition, key, value, headers = row
    return Raw(
        int(partition),
        bytes.fromhex(key),
        bytes.fromhex(value),
        tuple((str(name), bytes.fromhex(text)) for name, text in headers),
    )
