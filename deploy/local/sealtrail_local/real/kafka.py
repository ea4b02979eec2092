"""Apache Kafka in KRaft mode: how each broker of a local stack is started.

The configuration is `deploy/kafka`, which docker-compose.yml mounts as well; here are only the
variables in which brokers differ.
"""

import base64
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail_local import addresses
from sealtrail_local.real import fetch, java, secure
from sealtrail_local.service import Launch, Say
from sealtrail_local.settings import LocalSettings

_JAVA: Final = 17


def ports(settings: LocalSettings, number: int) -> tuple[int, ...]:
    """Ports of a broker, see `addresses.ports`."""
    return tuple(addresses.ports(addresses.broker_port(settings, number), 1))


def launch(settings: LocalSettings, say: Say, *, number: int) -> Launch:
    """How a broker is started, after fetching it if need be.

    Args:
        settings: ports, folders, number of brokers.
        say: shows a line on what is going on.
        number: of the broker, from 1 on.
    """
    program = java.find(_JAVA, fetch.TITLES["kafka"])
    libraries = fetch.fetched("kafka", settings.cache_dir, say)
    host, count = addresses.HOST, settings.local_brokers
    client, controller, internal = ports(settings, number)[:3]
    voters = (f"{n}@{host}:{ports(settings, n)[1]}" for n in range(1, count + 1))
    inside = f"INTERNAL://{host}:{internal}"
    outside = f"CLIENT://{host}:{client}"
    told = f"CLIENT://{host}:{addresses.advertised_port(settings, number)}"
    folder = _folder(settings)
    variables = {
        "BROKER_ID": str(number),
        "BROKER_CLUSTER": _cluster(settings),
        "BROKER_DATA": str(folder / str(number)),
        "BROKER_VOTERS": ",".join(voters),
        "BROKER_LISTENERS": f"{outside},CONTROLLER://{host}:{controller},{inside}",
        "BROKER_ADVERTISED": f"{told},{inside}",
        "BROKER_REPLICAS": str(count),
        "BROKER_MIN_INSYNC": str(addresses.min_insync(count)),
        "BROKER_SECURITY": "plain",
        "BROKER_MEMORY_MB": str(settings.local_broker_memory_mb),
        "JAVA": str(program),
        "KAFKA_LIBS": str(libraries),
    }
    if settings.local_secure:
        variables |= _secured(settings, number, variables)
    return Launch(("/bin/sh", str(resources.path("kafka", "run.sh"))), variables)


def _secured(settings: LocalSettings, number: int, plain: Mapping[str, str]) -> dict[str, str]:
    """Variables of a broker with TLS, names and access lists."""
    secure.prepare_files(settings)
    broker = f"broker-{number}"
    certs, quorum = secure.certificates(settings), secure.controller(settings, broker)
    mutual = f"MUTUAL://{addresses.HOST}:{addresses.mutual_port(settings, number)}"
    names = [*(f"broker-{n}" for n in range(1, settings.local_brokers + 1)), secure.BOOTSTRAP]
    return {
        "BROKER_SECURITY": "secure",
        "BROKER_LISTENERS": f"{plain['BROKER_LISTENERS']},{mutual}",
        "BROKER_ADVERTISED": f"{plain['BROKER_ADVERTISED']},{mutual}",
        "BROKER_KEYSTORE": str(certs.file(broker)),
        "BROKER_TRUST": str(certs.bundle),
        "BROKER_QUORUM_KEYSTORE": str(quorum.file(broker)),
        "BROKER_QUORUM_TRUST": str(quorum.bundle),
        "BROKER_SUPER_USERS": ";".join(f"User:{name}" for name in names),
    }


def _folder(settings: LocalSettings) -> Path:
    """Where the brokers keep their data, each in a folder with its number."""
    folder = settings.state_dir.resolve() / "kafka"
    folder.mkdir(exist_ok=True, mode=0o700)
    there = sum(data.name.isdigit() for data in folder.iterdir())
    if there not in {0, settings.local_brokers}:
        raise ConfigurationError(
            f"the cluster in {folder} has {there} brokers, not {settings.local_brokers}",
            hint=f"start it with --brokers {there}, or remove that folder with all messages in it",
        )
    return folder


def _cluster(settings: LocalSettings) -> str:
    """Id of the cluster, made once: part of every `log_id`."""
    file = settings.state_dir / "kafka" / "cluster-id"
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.write_text(new_cluster_id(), encoding="ascii")
        fresh.replace(file)
    return file.read_text(encoding="ascii")


def new_cluster_id() -> str:
    """As Kafka makes them: 16 random bytes; it refuses one that looks like an option."""
    while True:
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not made.startswith("-"):
            return made
