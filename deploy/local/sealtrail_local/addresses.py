"""Where the servers of a local stack are found, as their clients write it."""

from typing import Final

from sealtrail_local.settings import LocalSettings

HOST: Final = "127.0.0.1"
_STEP: Final = 10
# Of each: for clients, for the controllers, for the brokers among themselves, and (secured) for
# clients that show a certificate.
_KINDS: Final = 4
_MUTUAL: Final = 3
# Apicurio speaks Confluent's protocol below a path of its own.
_CCOMPAT: Final = "/apis/ccompat/v7"


def brokers(settings: LocalSettings) -> int:
    """How many brokers there are."""
    return settings.local_brokers if settings.local_servers == "real" else 1


def min_insync(brokers: int) -> int:
    """How many of them must have a message before it counts: one may be away."""
    return 2 if brokers > 1 else 1


def ports(first: int, brokers: int) -> list[int]:
    """All ports that real brokers take, from the first one on."""
    return [first + _STEP * number + kind for number in range(brokers) for kind in range(_KINDS)]


def broker_port(settings: LocalSettings, number: int) -> int:
    """The port of a broker (from 1 on) for clients; a real one takes the next three as well."""
    return settings.local_kafka_port + _STEP * (number - 1)


def advertised_port(settings: LocalSettings, number: int) -> int:
    """The port at which a real broker (from 1 on) says that it is found."""
    told = settings.local_kafka_advertised_port
    return told + _STEP * (number - 1) if told else broker_port(settings, number)


def bootstrap(settings: LocalSettings) -> str:
    """All brokers, where clients reach them."""
    by_certificate = settings.local_secure and settings.local_client_auth == "mtls"
    return _all(settings, _MUTUAL if by_certificate else 0)


def mutual_bootstrap(settings: LocalSettings) -> str:
    """All secured brokers, where clients show a certificate."""
    return _all(settings, _MUTUAL)


def mutual_port(settings: LocalSettings, number: int) -> int:
    """The port of a secured broker for clients that show a certificate."""
    return broker_port(settings, number) + _MUTUAL


def _all(settings: LocalSettings, above: int) -> str:
    numbers = range(1, brokers(settings) + 1)
    return ",".join(f"{HOST}:{broker_port(settings, number) + above}" for number in numbers)


def registry(settings: LocalSettings) -> str:
    """The registry's URL for clients of Confluent's."""
    scheme = "https" if settings.local_secure else "http"
    return f"{scheme}://{HOST}:{settings.local_registry_port}{_path(settings)}"


def registry_port(settings: LocalSettings) -> int:
    """Where the registry itself listens: a secured one behind its gate."""
    return settings.local_registry_port + settings.local_secure


def registry_behind(settings: LocalSettings) -> str:
    """The registry's URL without a gate between."""
    scheme = "https" if settings.local_secure else "http"
    return f"{scheme}://{HOST}:{registry_port(settings)}{_path(settings)}"


def _path(settings: LocalSettings) -> str:
    return _CCOMPAT if settings.local_servers == "real" else ""


def store(settings: LocalSettings) -> str:
    """The store's URL."""
    scheme = "https" if settings.local_secure else "http"
    return f"{scheme}://{HOST}:{settings.local_store_port}"
