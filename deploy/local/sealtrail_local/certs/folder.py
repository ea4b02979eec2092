"""The CA's folder: STATE_DIR/certs.

    ca.pem              the CAs that are trusted now, newest first: what everybody is given
    ca/ID.pem           a CA with its key; the newest one signs. ID.until: when the last certificate
                        that it signed ends
    issued/NAME.pem     a key with its certificate, in one file, so that both change in one step
    quorum/             the same once more, for the brokers' controllers among themselves

Rules of a rotation without downtime:
- a file is replaced, never changed; who uses it notices (`sealtrail.connections.Watched`, brokers
  by `reload`);
- a new CA is trusted before it signs anything that is used (`trust`, then `renew`);
- an old CA is trusted until the last certificate that it signed has ended (`forget`).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509 as asn1
from cryptography.hazmat.primitives import serialization

from sealtrail import identity
from sealtrail.errors import ConfigurationError
from sealtrail_local.certs import x509
from sealtrail_local.certs.x509 import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_TRIAL: Final = timedelta(minutes=5)
HINT = "make one with: sealtrail certs init"


@dataclass(frozen=True)
class Issued:
    """A certificate in the folder.

    Attributes:
        file: where it lies, with its key.
        name: whose it is.
        certificate: what it says.
        problem: why it is of no use; empty when there is nothing to say.
    """

    file: Path
    name: str
    certificate: asn1.Certificate
    problem: str = ""


class Folder:
    """A CA and what it issued.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bundle = root / "ca.pem"

    def quorum(self) -> Folder:
        """The CA of the brokers' controllers, with what it issued; nobody else trusts it."""
        return Folder(self.root / "quorum")

    # -- CAs ----------------------------------------------------------------------------------

    def init(self, now: datetime, life: timedelta) -> Pair:
        """Make the first CA.

        Raises:
            ConfigurationError: there is one already.
        """
        if self.bundle.exists():
            raise ConfigurationError(
                f"{self.bundle} exists already", hint="replace it with: sealtrail certs rotate --ca"
            )
        return self._new_ca(now, life)

    def trust(self, now: datetime, life: timedelta) -> Pair:
        """Make another CA and trust it beside those before.

        Raises:
            ConfigurationError: there is none yet.
        """
        self.signing()
        return self._new_ca(now, life)

    def _new_ca(self, now: datetime, life: timedelta) -> Pair:
        ca = x509.authority(f"Sealtrail development CA {now:%Y-%m-%d %H:%M:%S}", now, life)
        name = f"{now:%Y%m%dT%H%M%S}-{ca.certificate.serial_number:x}"[:24]
        write(self.root / "ca" / f"{name}.pem", ca.key_pem + ca.certificate_pem)
        self._write_bundle()
        return ca

    def _write_bundle(self) -> None:
        trusted = [read(file).certificate_pem for file in reversed(self._cas())]
        write(self.bundle, b"".join(trusted), 0o644)

    def _cas(self) -> list[Path]:
        return sorted((self.root / "ca").glob("*.pem"))

    def signing(self) -> Pair:
        """The CA that signs.

        Raises:
            ConfigurationError: there is none.
        """
        files = self._cas()
        if not files:
            raise ConfigurationError(f"there is no CA in {self.root}", hint=HINT)
        return read(files[-1])

    def trusted(self) -> list[asn1.Certificate]:
        """The CAs that are trusted, newest first.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            return asn1.load_pem_x509_certificates(self.bundle.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"no CA in {self.bundle}: {error}", hint=HINT) from None

    def forget(self, now: datetime) -> list[str]:
        """Trust no CA any more whose last certificate has ended; the names of those."""
        gone = []
        for file in self._cas()[:-1]:
            until = file.with_suffix(".until")
            if not until.exists() or datetime.fromisoformat(until.read_text()) <= now:
                gone.append(file.stem)
                file.unlink()
                until.unlink(missing_ok=True)
        if gone:
            self._write_bundle()
        return gone

    # -- certificates ---------------------------------------------------------------------------

    def file(self, name: str) -> Path:
        """Where the certificate of a name lies."""
        return self.root / "issued" / f"{identity.safe_name(name)}.pem"

    def issue(self, name: str, hosts: Sequence[str], now: datetime, life: timedelta) -> Issued:
        """Make a key and a certificate, in place of those that a name has.

        Raises:
            ConfigurationError: there is no CA, or it cannot be a name.
        """
        identity.checked(name)
        ca = self.signing()
        pair = x509.issue(ca, name, hosts, now, life)
        self._noted(pair.certificate.not_valid_after_utc)
        write(self.file(name), pair.key_pem + pair.certificate_pem)
        return Issued(self.file(name), name, pair.certificate)

    def _noted(self, end: datetime) -> None:
        # Before the certificate is there: a CA is never forgotten too early.
        file = self._cas()[-1].with_suffix(".until")
        if not file.exists() or datetime.fromisoformat(file.read_text()) < end:
            write(file, end.isoformat().encode())

    @contextmanager
    def trial(self, now: datetime) -> Iterator[Path]:
        """A certificate of the newest CA that nobody is given: to see who trusts it."""
        pair = x509.issue(self.signing(), "trial", [], now, _TRIAL)
        file = self.root / ".trial.pem"
        write(file, pair.key_pem + pair.certificate_pem)
        try:
            yield file
        finally:
            file.unlink()

    def renew(self, issued: Issued, now: datetime) -> Issued:
        """Another key and certificate for the same name and hosts, for as long as before."""
        hosts = x509.hosts_of(issued.certificate)
        return self.issue(issued.name, hosts, now, x509.life_of(issued.certificate))

    def issued(self, now: datetime) -> list[Issued]:
        """All certificates, each with what is wrong with it."""
        trusted = self.trusted()
        found = []
        for file in sorted((self.root / "issued").glob("*.pem")):
            pair = read(file)
            name = identity.in_certificate(pair.certificate)
            found.append(Issued(file, name, pair.certificate, _problem(file, pair, trusted, now)))
        return found


def _problem(file: Path, pair: Pair, trusted: Sequence[asn1.Certificate], now: datetime) -> str:
    certificate = pair.certificate
    name = identity.in_certificate(certificate)
    signed = any(x509.signed_by(certificate, ca) for ca in trusted)
    problems = (
        (certificate.not_valid_after_utc <= now, "it has ended"),
        (certificate.not_valid_before_utc > now, "it is not valid yet"),
        (certificate.public_key() != pair.key.public_key(), "the key beside it is another one's"),
        (not signed, "no CA of ca.pem has signed it"),
        (file.name != f"{identity.safe_name(name)}.pem", "the file has another's name"),
        (bool(file.stat().st_mode & 0o077), "others may read its key"),
    )
    return ", ".join(problem for wrong, problem in problems if wrong)


def read(file: Path) -> Pair:
    """A key and its certificate from one file.

    Raises:
        ConfigurationError: it holds something else.
    """
    try:
        data = file.read_bytes()
        key = serialization.load_pem_private_key(data, None)
        certificate = asn1.load_pem_x509_certificates(data)[0]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"no key and certificate in {file}: {error}") from None
    return Pair(certificate, key)  # type: ignore[arg-type]  # the folder holds P-256 keys alone


def write(file: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    fresh.replace(file)


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)
