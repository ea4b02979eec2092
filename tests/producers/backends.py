"""The key services that cannot be had here, as their documents describe them: HTTP on loopback.

Each holds one Ed25519 key per version and answers what the vendor's reference says (Vault: transit
secrets engine API; AWS: KMS API reference, JSON 1.1 protocol; Google: Cloud KMS v1 REST). They are
checked against nothing of the vendors'.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail_producer.signers.gcp import _crc

if TYPE_CHECKING:
    from collections.abc import Iterator

ARN = "arn:aws:kms:eu-central-1:000000000000:key/1234"
GCP = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
TOKEN = "test-token-that-nobody-may-print"


def der(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@dataclass
class Service:
    """One of them.

    status: what every call is answered with, when it is not 200.
    code: the vendor's name of that error.
    wrong: sign with another key, as if the key had been replaced.
    damage: change what the answer says before it leaves.
    """

    keys: list[Ed25519PrivateKey] = field(default_factory=lambda: [Ed25519PrivateKey.generate()])
    status: int = 200
    code: str = ""
    wrong: bool = False
    damage: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    url: str = ""

    def sign(self, message: bytes, version: int = 1) -> bytes:
        key = Ed25519PrivateKey.generate() if self.wrong else self.keys[version - 1]
        return key.sign(message)

    def answer(self, path: str, body: Any, headers: Any) -> Any:
        raise NotImplementedError

    def error(self) -> Any:
        return {}


class Vault(Service):
    def answer(self, path: str, body: Any, headers: Any) -> Any:
        assert headers["X-Vault-Token"] == TOKEN
        if path == "/v1/transit/keys/orders":
            keys = {
                str(n): {"public_key": base64.b64encode(der(k)[-32:]).decode()}
                for n, k in enumerate(self.keys, 1)
            }
            data = {"type": "ed25519", "latest_version": len(self.keys), "keys": keys}
            return {"data": data | self.damage}
        assert path == "/v1/transit/sign/orders", path
        version = body["key_version"]
        made = base64.b64encode(self.sign(base64.b64decode(body["input"]), version)).decode()
        return {"data": {"signature": f"vault:v{version}:{made}"} | self.damage}

    def error(self) -> Any:
        return {"errors": [self.code]}


class Aws(Service):
    def answer(self, path: str, body: Any, headers: Any) -> Any:
        target = headers["X-Amz-Target"]
        if target == "TrentService.GetPublicKey":
            return {
                "KeyId": ARN,
                "PublicKey": base64.b64encode(der(self.keys[0])).decode(),
                "KeySpec": "ECC_NIST_EDWARDS25519",
                "KeyUsage": "SIGN_VERIFY",
                "SigningAlgorithms": ["ED25519_SHA_512", "ED25519_PH_SHA_512"],
            } | self.damage
        assert target == "TrentService.Sign"
        assert (body["MessageType"], body["SigningAlgorithm"]) == ("RAW", "ED25519_SHA_512")
        assert body["KeyId"] == ARN  # not the alias, which may be pointed elsewhere
        made = self.sign(base64.b64decode(body["Message"]))
        return {"KeyId": ARN, "Signature": base64.b64encode(made).decode()} | self.damage

    def error(self) -> Any:
        return {"__type": self.code, "message": "no"}


class Gcp(Service):
    def answer(self, path: str, body: Any, headers: Any) -> Any:
        if path.startswith(f"/v1/{GCP}/publicKey"):
            pem = (
                self.keys[0]
                .public_key()
                .public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                .decode()
            )
            return {
                "name": GCP,
                "pem": pem,
                "pemCrc32c": str(_crc(pem.encode())),
                "algorithm": "EC_SIGN_ED25519",
            } | self.damage
        assert path.startswith(f"/v1/{GCP}:asymmetricSign"), path
        message = base64.b64decode(body["data"])
        assert int(body["dataCrc32c"]) == _crc(message)
        made = self.sign(message)
        return {
            "name": GCP,
            "signature": base64.b64encode(made).decode(),
            "signatureCrc32c": str(_crc(made)),
            "verifiedDataCrc32c": True,
        } | self.damage

    def error(self) -> Any:
        return {"error": {"code": self.status, "status": self.code, "message": "no"}}


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    """A service on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def answered(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            service.asked.append((self.path, body))
            good = service.status == 200
            said = service.answer(self.path, body, self.headers) if good else service.error()
            data = json.dumps(said).encode()
            self.send_response(service.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answered  # noqa: N815 - the library's names

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
