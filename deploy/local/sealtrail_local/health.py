"""Whether a process of the stack answers, and what it says of itself."""

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import httpx

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_local import addresses
from sealtrail_local.broker import topics
from sealtrail_local.real import secure
from sealtrail_local.settings import LocalSettings

_TIMEOUT_S: Final = 5.0  # a busy machine is no reason to call a server dead
_AUTHENTICATION_FAILED: Final = "516"

Check = Callable[[LocalSettings], str]


def cluster_id(settings: LocalSettings) -> str:
    """Id of the running brokers; each start of the embedded one has another.

    Raises:
        UnavailableError: it does not answer.
    """
    return _metadata(settings)[0]


def broker(settings: LocalSettings) -> str:
    """Ask the embedded broker for its topics.

    Raises:
        UnavailableError: no answer.
        ConfigurationError: other topics than the settings say.
    """
    identity, answer = _metadata(settings)
    found = {name: len(topic.partitions) for name, topic in answer.topics.items()}
    wrong = [name for name, count in topics(settings).items() if found.get(name) != count]
    if wrong:
        raise ConfigurationError(
            f"the running broker has other topics than the settings say: {', '.join(wrong)}",
            hint="`sealtrail local down`, then `up`, makes them anew",
        )
    return f"cluster {identity}, {len(topics(settings))} topics"


def real_broker(settings: LocalSettings, *, number: int) -> str:
    """Ask one of the real brokers who belongs to its cluster.

    Raises:
        UnavailableError: no answer, or the cluster does not know it yet.
    """
    ports = addresses.mutual_port if settings.local_secure else addresses.broker_port
    port = ports(settings, number)
    # librdkafka would try for seconds what a refused connection says at once.
    try:
        socket.create_connection((addresses.HOST, port), _TIMEOUT_S).close()
    except OSError as error:
        raise UnavailableError(f"broker {number} does not answer: {error.strerror}") from error
    identity, answer = _metadata(settings, f"{addresses.HOST}:{port}")
    if number not in answer.brokers:
        raise UnavailableError(f"broker {number} is not in its cluster yet")
    return f"cluster {identity}, broker {number} of {len(answer.brokers)}"


def administrator(settings: LocalSettings) -> dict[str, str]:
    """Librdkafka's properties of whoever may do everything on the stack's brokers."""
    if settings.local_secure:
        return secure.properties(settings)
    return {"bootstrap.servers": addresses.bootstrap(settings)}


def _metadata(settings: LocalSettings, bootstrap: str | None = None) -> tuple[str, Any]:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # Kept in a name: one that is collected takes its answer along.
    # A broker that is not up yet is no news.
    config: dict[str, Any] = {**administrator(settings), "log_level": 0}
    client = AdminClient(config | ({"bootstrap.servers": bootstrap} if bootstrap else {}))
    try:
        answer = client.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise UnavailableError(f"the broker does not answer: {error}") from error
    return str(answer.cluster_id), answer


def registry(settings: LocalSettings) -> str:
    """Ask the registry for its subjects.

    Raises:
        UnavailableError: no answer.
    """
    url = f"{addresses.registry_behind(settings)}/subjects"
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S, verify=_trusting(settings))
        subjects = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(f"the registry does not answer: {error}") from error
    return f"{len(subjects)} subjects"


def gate(settings: LocalSettings) -> str:
    """Ask the registry's gate, as nobody: it must answer, and must not let anybody in.

    Raises:
        UnavailableError: no answer.
        ConfigurationError: it lets strangers in.
    """
    url = f"{addresses.registry(settings)}/subjects"
    try:
        code = httpx.get(url, timeout=_TIMEOUT_S, verify=_trusting(settings)).status_code
    except httpx.HTTPError as error:
        raise UnavailableError(f"the registry's gate does not answer: {error}") from error
    if code != httpx.codes.UNAUTHORIZED:
        raise ConfigurationError(f"the registry's gate answers a stranger with {code}, not 401")
    return "strangers are refused"


def worker(settings: LocalSettings, port: int) -> bool:
    """Whether the worker whose probes listen there is ready."""
    scheme = "https" if settings.local_secure else "http"
    url = f"{scheme}://{addresses.HOST}:{port}/readyz"
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S, verify=_trusting(settings), trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def _trusting(settings: LocalSettings) -> ssl.SSLContext:
    """Of the stack's CA, which the settings need not name yet: local.env is written by `up`."""
    bundle = secure.certificates(settings).bundle if settings.local_secure else None
    return ssl.create_default_context(cafile=bundle)


def store(settings: LocalSettings) -> str:
    """Ask the store, as its writer, for its version.

    Raises:
        UnavailableError: no answer.
        ConfigurationError: it has another password.
    """
    return "ClickHouse " + ask_store(settings, "SELECT version()", timeout_s=_TIMEOUT_S).strip()


def ask_store(settings: LocalSettings, sql: str, timeout_s: float) -> str:
    """Run one query on the store as its writer.

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
    url = f"{addresses.store(settings)}/?wait_end_of_query=1"
    try:
        answer = httpx.post(
            url,
            content=sql.encode(),
            headers=headers,
            timeout=timeout_s,
            verify=_trusting(settings),
        )
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
