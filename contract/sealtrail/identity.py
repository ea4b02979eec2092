"""Who a client is to Kafka and to the registry: one name, in its certificate or as its SASL user.

A producer comes under its own name (docs/security.md): the name that its keys speak for is then the
principal of its access list, and whoever has got hold of only one of the two is noticed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryptography import x509
from cryptography.x509.oid import NameOID

from sealtrail.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

# The names of those who are no producers (deploy/kafka/access.yaml).
WORKER, OPERATOR, ADMIN = "worker", "operator", "admin"

# What passes through a distinguished name, a principal and a proxy's configuration as it is; 64 is
# the most that X.509 allows for a common name (RFC 5280, ub-common-name).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}")


def checked(name: str) -> str:
    """The name, if it can be that of a client.

    Raises:
        ConfigurationError: it has characters that do not survive, or is too long.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"{name!r} cannot be the name of a client",
            hint="1 to 64 letters, digits and . _ : / @ -, as a service name or SPIFFE id has them",
        )
    return name


def safe_name(name: str) -> str:
    """A name (a SPIFFE id has slashes) as one path component; different ones stay different."""
    quoted = quote(name, safe="")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def of_certificate(file: Path) -> str:
    """The name in a client's certificate: its SPIFFE id if it has one, else its common name.

    Args:
        file: PEM; the first certificate counts.

    Raises:
        ConfigurationError: there is no certificate in it, or none with a name.
    """
    try:
        certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
        return in_certificate(certificate)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no client certificate in {file}: {error}") from None


def in_certificate(certificate: x509.Certificate) -> str:
    """The name in a certificate.

    Raises:
        ValueError: there is none.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            if uri.startswith("spiffe://"):
                return uri
    except x509.ExtensionNotFound:
        pass
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not common:
        raise ValueError("its subject has no common name")
    return str(common[0].value)
