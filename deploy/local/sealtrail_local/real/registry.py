"""Apicurio Registry: how it is started, with the configuration that docker-compose.yml mounts."""

from typing import Final

from sealtrail import resources
from sealtrail_local import addresses
from sealtrail_local.real import fetch, java, secure
from sealtrail_local.service import Launch, Say
from sealtrail_local.settings import LocalSettings

_JAVA: Final = 21
_MEMORY_MB: Final = 512


def launch(settings: LocalSettings, say: Say) -> Launch:
    """How the registry is started, after fetching it if need be.

    Args:
        settings: port and folders.
        say: shows a line on what is going on.
    """
    program = java.find(_JAVA, fetch.TITLES["registry"])
    files = fetch.fetched("registry", settings.cache_dir, say)
    data = settings.state_dir.resolve() / "apicurio"
    temporary = data / "tmp"
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = (
        str(program),
        f"-Xmx{_MEMORY_MB}m",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={temporary}",
        "-jar",
        str(files / "quarkus-run.jar"),
    )
    configuration = [resources.path("registry", "application.properties")]
    variables = {
        "REGISTRY_HOST": addresses.HOST,
        "REGISTRY_PORT": str(addresses.registry_port(settings)),
        "REGISTRY_MANAGEMENT_PORT": "0",
        "REGISTRY_DATA": str(data),
    }
    if settings.local_secure:
        secure.prepare_files(settings)
        configuration.append(resources.path("registry", "tls.properties"))
        variables["REGISTRY_CERTIFICATE"] = str(secure.certificates(settings).file(secure.REGISTRY))
    variables["QUARKUS_CONFIG_LOCATIONS"] = ",".join(map(str, configuration))
    return Launch(command, variables)
