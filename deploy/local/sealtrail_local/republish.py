"""Key and schema records, published again to a broker that has forgotten them.

The embedded broker is memory only. What must not be lost with it, the records that say whose keys
are whose, is kept in the store as the raw bytes that were published; a worker reads them from the
topic as if nothing had happened. They are signed, so publishing them again can change nothing.
"""

import base64
import json
from pathlib import Path
from typing import Final

from sealtrail.errors import UnavailableError
from sealtrail_local import health
from sealtrail_local.settings import LocalSettings

_TABLE: Final = "key_records"
_QUERY: Final = """
SELECT base64Encode(any(record_key)) AS key, base64Encode(record_value) AS value
FROM {table}
GROUP BY record_value
ORDER BY min((arrival, `offset`)), record_value
FORMAT JSONCompactEachRow
"""
_QUERY_TIMEOUT_S: Final = 60.0
_SEND_TIMEOUT_S: Final = 30.0
# Above what the broker keeps of a partition: anything that it once took, it takes again.
_LARGEST_BYTES: Final = 10 << 20


def republish(settings: LocalSettings) -> int:
    """Publish the stored records to the broker, unless this broker has had them.

    Args:
        settings: of the running stack.

    Returns:
        How many were published now.

    Raises:
        UnavailableError: store or broker do not answer.
    """
    done = settings.state_dir / "run" / "republished"
    cluster = health.cluster_id(settings)
    if done.exists() and done.read_text(encoding="utf-8") == cluster:
        return 0
    records = _stored(settings)
    if records:
        _publish(settings, records)
    _mark(done, cluster)
    return len(records)


def _stored(settings: LocalSettings) -> list[tuple[bytes, bytes]]:
    table = f"`{settings.store_database}`.`{_TABLE}`"
    if health.ask_store(settings, f"EXISTS TABLE {table}", _QUERY_TIMEOUT_S).strip() != "1":
        return []
    answer = health.ask_store(settings, _QUERY.format(table=table), _QUERY_TIMEOUT_S)
    rows = (json.loads(line) for line in answer.splitlines())
    return [(base64.b64decode(key), base64.b64decode(value)) for key, value in rows]


def _publish(settings: LocalSettings, records: list[tuple[bytes, bytes]]) -> None:
    from confluent_kafka import Producer

    failed: list[str] = []

    def delivered(error: object, message: object) -> None:
        del message
        if error is not None:
            failed.append(str(error))

    producer = Producer(
        {
            **health.administrator(settings),
            "acks": "all",
            "enable.idempotence": True,  # keeps the order of arrival over retries
            "message.max.bytes": _LARGEST_BYTES,
            "message.timeout.ms": int(_SEND_TIMEOUT_S * 1000),
        }
    )
    for key, value in records:
        producer.produce(
            settings.keys_topic, value=value, key=key or None, partition=0, on_delivery=delivered
        )
        producer.poll(0)
    left = producer.flush(_SEND_TIMEOUT_S)
    if left or failed:
        reason = failed[0] if failed else "time is up"
        raise UnavailableError(
            f"{left + len(failed)} key records were not published again: {reason}",
            hint="`sealtrail local up` tries again",
        )


def _mark(path: Path, cluster: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(cluster, encoding="utf-8")
    fresh.replace(path)
