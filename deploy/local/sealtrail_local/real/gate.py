"""The registry's gate: nginx with the configuration that docker-compose.yml mounts as well.

It takes the registry's port; Apicurio listens on the next one, on loopback.
"""

import base64
import hashlib
import os
import pwd
import secrets as random
import shutil
import signal
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from sealtrail import resources
from sealtrail.errors import UnavailableError
from sealtrail_local import addresses
from sealtrail_local.certs import folder
from sealtrail_local.processes import read_pid_file
from sealtrail_local.real import secure
from sealtrail_local.service import Launch, Say
from sealtrail_local.settings import LocalSettings

NAME: Final = "registry-gate"
# Debian has it where ordinary users' PATH does not look.
_PLACES: Final = os.pathsep.join(("/usr/sbin", "/usr/local/sbin"))
_CLOSED: Final = 'map "" $gate_allows {\n    default 0;\n}\n'


def launch(settings: LocalSettings, say: Say) -> Launch:
    """How the gate is started; closed until there are rules.

    Raises:
        UnavailableError: there is no nginx.
    """
    del say
    program = shutil.which("nginx") or shutil.which("nginx", path=_PLACES)
    if program is None:
        raise UnavailableError(
            "nginx is not installed: it guards the registry of a secured stack",
            hint="install the package nginx-light (or nginx)",
        )
    secure.prepare_files(settings)
    place, certs = _folder(settings), secure.certificates(settings)
    _write_users(settings)
    if not (place / "rules.conf").exists():
        folder.write(place / "rules.conf", _CLOSED.encode())
    values = {
        "GATE_FOLDER": str(place),
        "GATE_LISTEN": f"{addresses.HOST}:{settings.local_registry_port}",
        "GATE_CERTIFICATE": str(certs.file("registry")),
        "GATE_TRUST": str(certs.bundle),
        "GATE_USERS": str(place / "users"),
        "GATE_RULES": str(place / "rules.conf"),
        "GATE_UPSTREAM": f"{addresses.HOST}:{addresses.registry_port(settings)}",
        "GATE_UPSTREAM_NAME": secure.REGISTRY,
    }
    for name in ("nginx.conf", "gate.conf"):
        text = resources.path("registry", f"{name}.template").read_text(encoding="utf-8")
        for variable, value in values.items():
            text = text.replace(f"${{{variable}}}", value)
        folder.write(place / name, text.encode())
    command = [program, "-p", str(place), "-c", str(place / "nginx.conf"), "-e", "stderr"]
    if os.geteuid() == 0:
        # Its worker would become somebody who may not read the files here.
        command += ["-g", f"user {pwd.getpwuid(0).pw_name};"]
    return Launch(command, {})


def admit(settings: LocalSettings, rules: str) -> None:
    """Take other rules and users.

    Args:
        settings: of the stack.
        rules: what `sealtrail acls registry` prints.
    """
    folder.write(_folder(settings) / "rules.conf", rules.encode())
    _write_users(settings)
    reload(settings)


def reload(settings: LocalSettings) -> bool:
    """Have a running gate read its files again; whether one runs."""
    process = read_pid_file(settings.state_dir / "run" / f"{NAME}.json")
    return process is not None and process.alive() and process.signal(signal.SIGHUP)


def _folder(settings: LocalSettings) -> Path:
    place = settings.state_dir.resolve() / NAME
    place.mkdir(exist_ok=True, mode=0o700)
    return place


def _write_users(settings: LocalSettings) -> None:
    """The passwords of Kafka's users, salted and hashed as nginx reads them (RFC 2307, SSHA)."""
    lines = []
    for file in sorted((settings.state_dir / "scram").glob("*")):
        salt = random.token_bytes(16)
        digest = hashlib.sha1(file.read_bytes() + salt).digest()  # noqa: S324 - 24 random bytes
        name = unquote(file.name)
        # A SPIFFE id cannot be the user of HTTP basic (RFC 7617): it shows its certificate.
        if ":" not in name:
            lines.append(f"{name}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n")
    folder.write(_folder(settings) / "users", "".join(lines).encode())
