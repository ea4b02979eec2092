"""What the store says: every number of the demo comes from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx

from sealtrail import connections
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


@dataclass(frozen=True, slots=True)
class Early:
    """An event that says it happened before its parent."""

    commit: str
    event_id: str
    seconds: float


class Ledger:
    """Questions to the store over HTTP: as the analyst, and once as one who may write.

    Args:
        settings: where it is and who we are.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._http = httpx.Client(
            base_url=settings.store_url,
            timeout=ASK_S,
            trust_env=False,
            verify=connections.store_context(settings),
        )

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

    def progress(self) -> int:
        """Events in completed flushes: cheap enough to be asked again and again."""
        return self.number("SELECT sum(rows) FROM sealtrail.commits")

    def events_of(self, producer: str) -> int:
        """Events of one producer that readers see."""
        return self.number(
            "SELECT count() FROM provenance.events WHERE producer = {p:String}", p=producer
        )

    def commits_once(self, producer: str) -> int:
        """Commits that have exactly one row; parts of large ones aside."""
        return self.number(
            "SELECT countIf(n = 1) FROM (SELECT count() AS n FROM provenance.events"
            " WHERE producer = {p:String} AND NOT endsWith(activity, '.part')"
            " GROUP BY attributes['git.commit'])",
            p=producer,
        )

    def links(self) -> Links:
        """Edges to parents by verdict."""
        rows = self.rows("SELECT verdict, count() FROM provenance.links GROUP BY verdict")
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

    def gaps(self) -> int:
        """Ranges of batches that are missing from chains."""
        return self.number("SELECT sum(gaps) FROM provenance.chain_status")

    def open_findings(self) -> list[list[Any]]:
        """Findings by kind: code, severity, count, what the latest says."""
        return self.rows(
            "SELECT code, any(severity), sum(findings), argMax(latest_detail, last_found)"
            " FROM provenance.open_findings GROUP BY code ORDER BY code"
        )

    def causality(self, producer: str) -> list[Early]:
        """Events of a producer that were found to be before a parent, the worst first."""
        rows = self.rows(
            "SELECT e.attributes['git.commit'], UUIDNumToString(e.event_id),"
            " max(f.estimate_us) / 1e6"
            " FROM sealtrail.findings AS f INNER JOIN (SELECT * FROM sealtrail.events FINAL"
            " WHERE producer = {p:String}) AS e ON e.event_id = assumeNotNull(f.event_id)"
            " WHERE f.code = 'CAUSALITY' AND isNotNull(f.event_id)"
            " GROUP BY 1, 2 ORDER BY 3 DESC, 1",
            p=producer,
        )
        return [Early(str(c), str(e), float(s)) for c, e, s in rows]

    def edges_back(self, producer: str) -> list[str]:
        """Events of a producer that name a parent of a later time, by a question of our own."""
        rows = self.rows(
            "SELECT DISTINCT child_id FROM provenance.lineage_edges"
            " WHERE child_occurred_at < parent_occurred_at AND child_chain IN"
            " (SELECT DISTINCT chain_id FROM provenance.events WHERE producer = {p:String})",
            p=producer,
        )
        return [str(row[0]) for row in rows]

    def suspects(self, producer: str) -> list[str]:
        """Producers that are held to be wrong where events of a producer precede their parents."""
        rows = self.rows(
            "SELECT DISTINCT s.producer FROM sealtrail.findings AS f"
            " INNER JOIN (SELECT DISTINCT chain_id, producer FROM sealtrail.batches) AS c"
            " ON c.chain_id = f.chain_id"
            " INNER JOIN (SELECT DISTINCT chain_id, producer FROM sealtrail.batches) AS s"
            " ON s.chain_id = assumeNotNull(f.suspect)"
            " WHERE f.code = 'CAUSALITY' AND c.producer = {p:String} AND isNotNull(f.suspect)"
            " ORDER BY 1",
            p=producer,
        )
        return [str(row[0]) for row in rows]

    def skew(self, producer: str) -> float:
        """How far a producer's clock runs ahead of arrival, seconds, at its quickest batch."""
        # Every delay on the way makes a clock look slower: the largest offset is the nearest.
        rows = self.rows(
            "SELECT max(max_s) FROM provenance.clock_offsets WHERE producer = {p:String}",
            p=producer,
        )
        return float(rows[0][0])

    def quarantined(self, topic: str, places: Sequence[tuple[int, int]]) -> int:
        """How many of some messages are in quarantine, by (partition, offset)."""
        rows = self.rows(
            "SELECT partition, offset FROM provenance.quarantined WHERE topic = {t:String}", t=topic
        )
        return len(set(places) & {(int(p), int(o)) for p, o in rows})

    def quarantine(self) -> list[list[Any]]:
        """What is in quarantine: partition, offset, code, step, detail."""
        return self.rows(
            "SELECT partition, offset, code, step, detail FROM provenance.quarantined"
            " ORDER BY arrival, offset"
        )

    def some_event(self, producer: str) -> tuple[str, int, str, str]:
        """An event from the middle of a producer's: chain in hex, sequence, id, actor."""
        chain, seq, event_id, actor = self.rows(
            "SELECT chain_id, seq, event_id, actor_id FROM provenance.events"
            " WHERE producer = {p:String} ORDER BY chain_id, seq"
            " LIMIT 1 OFFSET {n:UInt64}",
            p=producer,
            n=self.events_of(producer) // 2,
        )[0]
        return str(chain), int(seq), str(event_id), str(actor)

    def actor(self, event_id: str) -> str:
        """Who did it, as readers see it."""
        rows = self.rows(
            "SELECT actor_id FROM provenance.events WHERE event_id = {e:String}", e=event_id
        )
        return str(rows[0][0])

    def deep_entity(self, producer: str) -> str | None:
        """A version of a file that a merge made of several others: namespace/name@version."""
        rows = self.rows(
            "SELECT o.namespace, o.name, o.version FROM (SELECT outputs[1] AS o"
            " FROM provenance.events WHERE producer = {p:String} AND event_type = 'AGGREGATE'"
            " AND length(outputs) = 1 AND length(inputs) > 1 ORDER BY occurred_at DESC LIMIT 1)",
            p=producer,
        )
        if not rows:
            return None
        namespace, name, version = rows[0]
        return f"{namespace}/{name}@{version}"

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
