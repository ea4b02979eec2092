"""TLS, names and access lists for a local stack of real servers (`--secure`).

In the state directory:

    certs/    the development CA and what it issued (`sealtrail certs`); in quorum/ the same for the
              brokers' controllers alone
    scram/    a file with the password of each SASL user, by its name

Brokers know two kinds of clients: with a password on one port, with a certificate on another. The
certificate `bootstrap` is the superuser that makes everything else; nobody works under its name.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sealtrail import connections
from sealtrail import settings as common
from sealtrail.errors import UnavailableError
from sealtrail.identity import ADMIN, OPERATOR, WORKER, checked, safe_name
from sealtrail_local import addresses
from sealtrail_local.certs import folder
from sealtrail_local.real import commands
from sealtrail_local.settings import LocalSettings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

BOOTSTRAP: Final = "bootstrap"
# What stands in the certificate of the registry behind the gate, and in that of workers' probes.
REGISTRY: Final = "apicurio"
HEALTH: Final = "health"
# Those of deploy/kafka/access.yaml that are no producers.
ROLES: Final = (ADMIN, OPERATOR, WORKER, "auditor", "siem", "consumer")
_CA_LIFE: Final = timedelta(days=30)
_LIFE: Final = timedelta(hours=24)
# Brokers take them in when they start (ADR 0090): longer than they run without a restart.
QUORUM_LIFE: Final = timedelta(days=90)
QUORUM_CA_LIFE: Final = timedelta(days=3650)
_HOSTS: Final = (addresses.HOST, "localhost")
_ITERATIONS: Final = 8192
_PASSWORD_BYTES: Final = 24
_TIMEOUT_S: Final = 30.0
_TRIES: Final = 5


def certificates(settings: LocalSettings) -> folder.Folder:
    """The CA's folder."""
    return folder.Folder(settings.state_dir.resolve() / "certs")


def prepare_files(settings: LocalSettings) -> None:
    """See that CA, servers and superuser have certificates that last a while."""
    certs, now = certificates(settings), folder.now()
    if not certs.bundle.exists():
        certs.init(now, _CA_LIFE)
    servers = [f"broker-{number}" for number in range(1, settings.local_brokers + 1)]
    for name in (*servers, "registry", "store"):
        _issued(certs, name, _HOSTS)
    for name in (REGISTRY, HEALTH):
        # By its name as well: so it is told from the others of this machine.
        _issued(certs, name, (name, *_HOSTS))
    _issued(certs, BOOTSTRAP)


def controller(settings: LocalSettings, broker: str) -> folder.Folder:
    """The folder of the controllers' CA, with a certificate for a broker that starts now.

    Of the others none is renewed: a file is what its broker has taken in.
    """
    certs, now = certificates(settings).quorum(), folder.now()
    if not certs.bundle.exists():
        certs.init(now, QUORUM_CA_LIFE)
    _issued(certs, broker, _HOSTS, QUORUM_LIFE)
    return certs


def _issued(
    certs: folder.Folder, name: str, hosts: Iterable[str] = (), life: timedelta = _LIFE
) -> None:
    now = folder.now()
    if certs.file(name).exists():
        held = folder.read(certs.file(name)).certificate
        if held.not_valid_after_utc - now > life / 2:
            return
    certs.issue(name, tuple(hosts), now, life)


def transport(settings: LocalSettings) -> dict[str, str]:
    """Settings with which clients find the secured stack, by field."""
    certs = certificates(settings)
    by_name = str(certs.root / "issued" / "{identity}.pem")
    found = {
        "kafka_ca_file": str(certs.bundle),
        "registry_ca_file": str(certs.bundle),
        "registry_cert_file": by_name,
        "store_ca_file": str(certs.bundle),
        "health_cert_file": str(certs.file(HEALTH)),
    }
    if settings.local_client_auth == "mtls":
        return found | {"kafka_security": "SSL", "kafka_cert_file": by_name}
    passwords = settings.state_dir.resolve() / "scram" / "{identity}"
    return found | {"kafka_security": "SASL_SSL", "kafka_password_file": str(passwords)}


def superuser(settings: LocalSettings) -> dict[str, str]:
    """Variables of a command that acts as the superuser."""
    certs = certificates(settings)
    return {
        "SEALTRAIL_KAFKA_BOOTSTRAP": addresses.mutual_bootstrap(settings),
        "SEALTRAIL_KAFKA_SECURITY": "SSL",
        "SEALTRAIL_KAFKA_CA_FILE": str(certs.bundle),
        "SEALTRAIL_KAFKA_CERT_FILE": str(certs.file(BOOTSTRAP)),
    }


def properties(settings: LocalSettings) -> dict[str, str]:
    """Librdkafka's, for the superuser."""
    as_superuser = common.CommonSettings(
        kafka_bootstrap=addresses.mutual_bootstrap(settings),
        kafka_security="SSL",
        kafka_ca_file=certificates(settings).bundle,
        kafka_cert_file=certificates(settings).file(BOOTSTRAP),
    )
    return connections.librdkafka(as_superuser, BOOTSTRAP)


def enrol(settings: LocalSettings, names: Iterable[str]) -> None:
    """Give clients a certificate and a password; who has them keeps them.

    Raises:
        ConfigurationError: it cannot be a name.
        UnavailableError: the brokers do not take a user.
    """
    certs = certificates(settings)
    passwords = {}
    for name in names:
        _issued(certs, checked(name))
        file = settings.state_dir / "scram" / safe_name(name)
        if not file.exists():
            folder.write(file, secrets.token_urlsafe(_PASSWORD_BYTES).encode())
        passwords[name] = file.read_bytes()
    if passwords:
        _users(settings, passwords)


def _users(settings: LocalSettings, passwords: Mapping[str, bytes]) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({**properties(settings), "log_level": 0})
    try:
        # All brokers are known after it.
        client.list_topics(timeout=_TIMEOUT_S)
        upsert(client, passwords)
    except KafkaException as error:
        names = ", ".join(passwords)
        raise UnavailableError(f"the brokers do not take users {names}: {error.args[0]}") from None


def upsert(client: "AdminClient", passwords: Mapping[str, bytes]) -> None:
    """Give users their passwords, or the same once more.

    Args:
        client: the superuser's.
        passwords: by user.

    Raises:
        KafkaException: the brokers do not take them.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import (
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialAlteration,
        UserScramCredentialUpsertion,
    )

    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
    wanted: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(name, how, word) for name, word in passwords.items()
    ]
    for left in reversed(range(_TRIES)):
        try:
            answers = client.alter_user_scram_credentials(wanted, request_timeout=_TIMEOUT_S)
            for done in answers.values():
                done.result()
        except KafkaException as error:
            # A request that waits for the first broker ends so when the client takes the name that
            # the broker gives itself instead of that in the settings.
            if not left or error.args[0].code() != KafkaError._DESTROY_BROKER:  # noqa: SLF001 - its name
                raise
        else:
            return


def access(settings: LocalSettings, environment: Mapping[str, str]) -> str:
    """Make Kafka's access lists, for producers with keys too; the rules of the registry's gate.

    Args:
        settings: of the stack.
        environment: variables of the stack.

    Raises:
        UnavailableError: the brokers do not answer.
    """
    rooted = (settings.state_dir / "trust" / "root.json").exists()
    # Before there is a trust root nobody's key speaks.
    only = [] if rooted else ["--roles"]
    variables = {**environment, **superuser(settings)}
    commands.run(variables, "acls", "apply", *only)
    return commands.run(variables, "acls", "registry", *only)
