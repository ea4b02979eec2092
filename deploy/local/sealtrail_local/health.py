"""Whether a process of the stack answers, and what it says of itself."""

from collections.abc import Callable
from typing import Final

import httpx

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_local.broker import topics
from sealtrail_local.settings import LocalSettings

_TIMEOUT_S: Final = 5.0  # a busy machine is no reason to call a server dead
_AUTHENTICATION_FAILED: Final = "516"

Check = Callable[[LocalSettings], str]


def cluster_id(settings: LocalSettings) -> str:
    """Id of the running broker; each start has another.

    Raises:
        UnavailableError: it does not answer.
    """
    return _metadata(settings)[0]


def broker(settings: LocalSettings) -> str:
    """Ask the broker for its topics.

    Raises:
        UnavailableError: no answer.
        ConfigurationError: other topics than the settings say.
    """
    identity, found = _metadata(settings)
    wanted = topics(settings)
    wrong = [name for name, count in wanted.items() if found.get(name) != count]
    if wrong:
        raise ConfigurationError(
            f"the running broker has other topics than the settings say: {', '.join(wrong)}",
            hint="`sealtrail local down`, then `up`, makes them anew",
        )
    return f"cluster {identity}, {len(wanted)} topics"


def _metadata(settings: LocalSettings) -> tuple[str, dict[str, int]]:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient(
        {
            "bootstrap.servers": f"127.0.0.1:{settings.local_kafka_port}",
            "log_level": 0,  # a broker that is not up yet is no news
        }
    )
    try:
        answer = client.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise UnavailableError(f"the broker does not answer: {error}") from error
    found = {name: len(topic.partitions) for name, topic in answer.topics.items()}
    return str(answer.cluster_id), found


def registry(settings: LocalSettings) -> str:
    """Ask the registry for its subjects.

    Raises:
        UnavailableError: no answer.
    """
    url = f"http://127.0.0.1:{settings.local_registry_port}/subjects"
    try:
        subjects = httpx.get(url, timeout=_TIMEOUT_S).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(f"the registry does not answer: {error}") from error
    return f"{len(subjects)} subjects"


def store(settings: LocalSettings) -> str:
    """Ask the store, as its writer, for its version.

    Raises:
        UnavailableError: no answer.
        ConfigurationError: it has another password.
    """
    return "ClickHouse " + ask_store(settings, "SELECT version()", timeout_s=_TIMEOUT_S).strip()


def ask_store(settings: LocalSettings, sql: str, timeout_s: float) -> str:
    """Run one query on the embedded store as its writer.

    Args:
        settings: with the writer's password.
        sql: the query.
        timeout_s: seconds to wait.

    Raises:
        UnavailableError: no answer, or an error.
        ConfigurationError: it has another password.
    """
    headers = {
        "X-ClickHouse-User": settings.store_user,
        "X-ClickHouse-Key": settings.store_password.get_secret_value(),
    }
    url = f"http://127.0.0.1:{settings.local_store_port}/?wait_end_of_query=1"
    try:
        answer = httpx.post(url, content=sql.encode(), headers=headers, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise UnavailableError(f"the store does not answer: {error}") from error
    if answer.headers.get("X-ClickHouse-Exception-Code") == _AUTHENTICATION_FAILED:
        raise ConfigurationError(
            f"the running store has another password for {settings.store_user}",
            hint="`sealtrail local down`, then `up`, starts it with the one of local.env",
        )
    if answer.is_error:
        raise UnavailableError(f"the store refuses: {answer.text.strip()[:500]}")
    return answer.text
