"""Which processes a local stack consists of: embedded ones, or real servers; the store is one."""

import sys
from collections.abc import Iterable, Mapping
from functools import partial

from sealtrail_local import addresses, health
from sealtrail_local.real import commands, gate, kafka, registry, secure
from sealtrail_local.service import Launch, Say, Service
from sealtrail_local.settings import LocalSettings


def services(settings: LocalSettings) -> tuple[Service, ...]:
    """The processes in the order in which they start."""
    real = settings.local_servers == "real"
    front = _real(settings) if real else _embedded(settings)
    return (
        *front,
        _own("store", "local_store_port", addresses.store(settings), health.store, settings),
    )


def admit(settings: LocalSettings, names: Iterable[str], environment: Mapping[str, str]) -> None:
    """Enrol clients of a secured stack, and bring access lists and gate up to date.

    Args:
        settings: of the stack.
        names: of the clients.
        environment: variables of the stack.

    Raises:
        ConfigurationError: a name cannot be that of a client.
        UnavailableError: the servers do not answer.
    """
    secure.enrol(settings, names)
    gate.admit(settings, secure.access(settings, environment))
    # As an operator does: producers may only look them up.
    commands.run(environment, "schemas", "register")


def _embedded(settings: LocalSettings) -> tuple[Service, ...]:
    return (
        _own("broker", "local_kafka_port", addresses.bootstrap(settings), health.broker, settings),
        _own(
            "registry",
            "local_registry_port",
            addresses.registry(settings),
            health.registry,
            settings,
        ),
    )


def _own(
    name: str, port_field: str, address: str, check: health.Check, settings: LocalSettings
) -> Service:
    def launch(settings: LocalSettings, _say: Say) -> Launch:
        if settings.local_secure:
            secure.prepare_files(settings)
        return Launch((sys.executable, "-m", "sealtrail_local", name), {})

    return Service(name, port_field, (getattr(settings, port_field),), address, check, launch)


def _real(settings: LocalSettings) -> tuple[Service, ...]:
    brokers = (
        Service(
            f"broker-{number}",
            "local_kafka_port",
            kafka.ports(settings, number),
            f"{addresses.HOST}:{addresses.broker_port(settings, number)}",
            partial(health.real_broker, number=number),
            partial(kafka.launch, number=number),
        )
        for number in range(1, settings.local_brokers + 1)
    )
    apicurio = Service(
        "registry",
        "local_registry_port",
        (addresses.registry_port(settings),),
        addresses.registry_behind(settings),
        health.registry,
        registry.launch,
    )
    if not settings.local_secure:
        return (*brokers, apicurio)
    proxy = Service(
        gate.NAME,
        "local_registry_port",
        (settings.local_registry_port,),
        addresses.registry(settings),
        health.gate,
        gate.launch,
    )
    return (*brokers, apicurio, proxy)
