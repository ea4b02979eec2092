"""The key services as they are known from recordings of them: HTTP and gRPC on loopback.

recorded/*.json holds one answer per case and says of each where it comes from (README.md there).
A service here answers with those bodies and nothing else; the keys in them are its own, made at run
time, so that it can sign anything, or the recorded ones, for the one message whose signature was
recorded.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail_producer.signers.gcp import _crc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sealtrail.dsse import Signer

TOKEN = "test-token-that-nobody-may-print"
MESSAGE = b"DSSEv1 1 a 3 abc"


def good(signer: Signer) -> None:
    """It signs with its key."""
    signer.public_key.verify(signer.sign(MESSAGE), MESSAGE)
    # Ed25519 itself, not pre-hashed: deterministic (RFC 8032 section 5.1.6).
    assert signer.sign(MESSAGE) == signer.sign(MESSAGE)


@dataclass(frozen=True)
class Answer:
    """One recorded answer.

    message: what was signed, if it is the answer to a request to sign.
    """

    operation: str
    evidence: str
    source: str
    status: int
    body: Any
    message: str = ""
    replaced: str = ""


def recordings(service: str) -> dict[str, Answer]:
    """All answers of a service, by name."""
    text = (Path(__file__).parent / "recorded" / f"{service}.json").read_text()
    return {name: Answer(**found) for name, found in json.loads(text)["answers"].items()}


AWS, GOOGLE, VAULT = (recordings(service) for service in ("aws", "google", "vault"))
ARN = AWS["public-key"].body["KeyId"]
GCP = GOOGLE["public-key"].body["name"]


def der(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@dataclass
class Service:
    """One of them.

    refusal: the recorded answer that every call gets, instead of a good one.
    once: only the next call gets it.
    replays: keys and signature are the recorded ones, too.
    wrong: sign with another key, as if the key had been replaced.
    damage: change what the answer says before it leaves.
    """

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    refusal: Answer | None = None
    once: bool = False
    replays: bool = False
    wrong: bool = False
    damage: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    url: str = ""

    def sign(self, message: bytes) -> bytes:
        key = Ed25519PrivateKey.generate() if self.wrong else self.key
        return key.sign(message)

    def answer(self, path: str, body: Any, headers: Any) -> Any:
        raise NotImplementedError

    def say(self, path: str, body: Any, headers: Any) -> tuple[int, Any]:
        """Status and body for a request."""
        self.asked.append((path, body))
        refusal = self.refusal
        if refusal is not None:
            self.refusal = None if self.once else refusal
            return refusal.status, refusal.body
        return 200, self.answer(path, body, headers)


class Vault(Service):
    def answer(self, path: str, body: Any, headers: Any) -> Any:
        assert headers["X-Vault-Token"] == TOKEN
        signs = path == "/v1/transit/sign/orders"
        assert signs or path == "/v1/transit/keys/orders"
        said = deepcopy(VAULT["sign" if signs else "public-key"].body)
        if self.replays:
            return said
        data = said["data"]
        if signs:
            assert body["key_version"] == data["key_version"]
            made = base64.b64encode(self.sign(base64.b64decode(body["input"]))).decode()
            data["signature"] = f"vault:v1:{made}"
        else:
            data["keys"]["1"]["public_key"] = base64.b64encode(der(self.key)[-32:]).decode()
        data |= self.damage
        return said


class Aws(Service):
    def answer(self, path: str, body: Any, headers: Any) -> Any:
        target = headers["X-Amz-Target"]
        if target == "TrentService.GetPublicKey":
            made = {"PublicKey": base64.b64encode(der(self.key)).decode()}
            return AWS["public-key"].body | ({} if self.replays else made) | self.damage
        assert target == "TrentService.Sign"
        assert (body["MessageType"], body["SigningAlgorithm"]) == ("RAW", "ED25519_SHA_512")
        assert body["KeyId"] == ARN  # not the alias, which may be pointed elsewhere
        signature = self.sign(base64.b64decode(body["Message"]))
        made = {"Signature": base64.b64encode(signature).decode()}
        return AWS["sign"].body | ({} if self.replays else made) | self.damage


class Gcp(Service):
    def answer(self, path: str, body: Any, headers: Any) -> Any:
        if path.startswith(f"/v1/{GCP}/publicKey"):
            pem = _pem(self.key)
            made: dict[str, Any] = {"pem": pem.decode(), "pemCrc32c": str(_crc(pem))}
            return GOOGLE["public-key"].body | ({} if self.replays else made) | self.damage
        assert path.startswith(f"/v1/{GCP}:asymmetricSign"), path
        message = base64.b64decode(body["data"])
        assert int(body["dataCrc32c"]) == _crc(message)
        signature = self.sign(message)
        made = {
            "signature": base64.b64encode(signature).decode(),
            "signatureCrc32c": str(_crc(signature)),
        }
        return GOOGLE["sign"].body | ({} if self.replays else made) | self.damage


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    """A service on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def answered(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            status, said = service.say(self.path, body, self.headers)
            data = json.dumps(said).encode()
            self.send_response(status)
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
