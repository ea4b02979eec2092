"""A server under TLS, as those see it who shall get nothing: by HTTP, old versions, another CA."""

import socket
import ssl
import warnings
from datetime import timedelta
from pathlib import Path

from sealtrail_local.certs import folder

DAY = timedelta(days=1)
PATIENCE_S = 20.0
# Whether a server shakes hands in a version; if not, with an alert or without: it may close first.
VERSIONS = (
    (ssl.TLSVersion.TLSv1_1, False),
    (ssl.TLSVersion.TLSv1_2, True),
    (ssl.TLSVersion.TLSv1_3, True),
)
REFUSED = r"PROTOCOL_VERSION|EOF|reset"


def authority(place: Path) -> folder.Folder:
    """A CA of its own."""
    made = folder.Folder(place)
    made.init(folder.now(), DAY)
    return made


def trusting(bundle: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Believes the CAs of a bundle and nobody else; speaks one version alone if that is given."""
    context = ssl.create_default_context(cafile=bundle)
    if version is not None:
        # Or this side would not even offer it.
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
    return context


def assert_no_http(place: tuple[str, int], path: str) -> None:
    """Whoever asks without TLS gets nothing."""
    with socket.create_connection(place, timeout=PATIENCE_S) as plain:
        plain.sendall(f"GET {path} HTTP/1.1\r\nHost: {place[0]}\r\n\r\n".encode())
        try:
            said = plain.recv(65_536)
        except ConnectionResetError:
            said = b""
    # At most TLS's own word for it: an alert.
    assert said[:1] in {b"", b"\x15"}
    assert b"HTTP" not in said
