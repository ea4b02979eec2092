"""Keys in Google Cloud KMS: algorithm EC_SIGN_ED25519, one crypto key version.

The message goes in whole (field `data`) with its CRC32C, and the answer's are checked, as Google
asks of its clients; credentials are the application's default ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from google.api_core import exceptions as refusals
from google.api_core.client_options import ClientOptions
from google.api_core.retry import Retry, if_exception_type
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import kms_v1

from sealtrail.errors import ConfigurationError, KeyRefusedError, UnavailableError
from sealtrail.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_producer.settings import ProducerSettings
    from sealtrail_producer.signers import KeyUri

ALGORITHM = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_ED25519
TIMEOUT_S = 10.0
LATER = "signing goes on when Cloud KMS does; see its quotas and health if that takes long"
# The library's own goes on for a minute, and who signs waits for it.
RETRY = Retry(
    predicate=if_exception_type(refusals.ServiceUnavailable),
    initial=0.1,
    maximum=2.0,
    timeout=TIMEOUT_S,
)


def connect(uri: KeyUri, settings: ProducerSettings) -> CloudKms:
    """The key version that a URI names."""
    del settings  # Google's libraries have their own
    parts = uri.path.split("/")
    if len(parts) != 10 or parts[0] != "projects" or parts[8] != "cryptoKeyVersions":
        raise ConfigurationError(
            f"gcp-kms:{uri.path} names no key version",
            hint="gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N",
        )
    try:
        client = _client(uri.query.get("endpoint", ""))
    except auth.DefaultCredentialsError:
        raise ConfigurationError(
            "Google Cloud KMS: no credentials",
            hint="give this process a service account, or set GOOGLE_APPLICATION_CREDENTIALS",
        ) from None
    return CloudKms(client, uri.path)


def _client(endpoint: str) -> Any:
    if not endpoint:
        return kms_v1.KeyManagementServiceClient()
    # Somebody else's address gets no credentials of ours.
    return kms_v1.KeyManagementServiceClient(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # the library's own
        client_options=ClientOptions(api_endpoint=endpoint),
        transport="rest",
    )


class CloudKms:
    """One crypto key version."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def public_key(self) -> PublicKey:
        """Its public half."""
        answer = self._ask(self._client.get_public_key, {"name": self._name})
        if answer.algorithm != ALGORITHM:
            raise ConfigurationError(
                f"{self._name} has algorithm {answer.algorithm.name}",
                hint="make one with: gcloud kms keys create NAME --purpose asymmetric-signing "
                "--default-algorithm ec-sign-ed25519",
            )
        if answer.name != self._name or answer.pem_crc32c != _crc(answer.pem.encode()):
            raise UnavailableError("Cloud KMS: the answer was damaged on its way")
        try:
            key = serialization.load_pem_public_key(answer.pem.encode())
        except ValueError as error:
            raise KeyRefusedError(f"Cloud KMS: not a public key: {error}") from None
        return PublicKey.from_der(
            key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is."""
        request = {"name": self._name, "data": message, "data_crc32c": _crc(message)}
        answer = self._ask(self._client.asymmetric_sign, request)
        whole = answer.verified_data_crc32c and answer.name == self._name
        if not whole or answer.signature_crc32c != _crc(answer.signature):
            raise UnavailableError("Cloud KMS: request or answer was damaged on its way")
        return bytes(answer.signature)

    def _ask(self, question: Callable[..., Any], request: dict[str, Any]) -> Any:
        try:
            return question(request=request, timeout=TIMEOUT_S, retry=RETRY)
        except refusals.TooManyRequests:
            raise UnavailableError("Cloud KMS: too many requests", hint=LATER) from None
        except refusals.ClientError as error:
            if "PENDING_GENERATION" in error.message:
                raise UnavailableError(
                    f"Cloud KMS is still making {self._name}", hint="try again in a minute"
                ) from None
            raise ConfigurationError(
                f"Cloud KMS refuses {self._name}: {type(error).__name__}",
                hint="check the key version, its state, and the role cloudkms.signerVerifier",
            ) from None
        except (refusals.GoogleAPICallError, refusals.RetryError) as error:
            raise UnavailableError(f"Cloud KMS: {type(error).__name__}", hint=LATER) from None
        except auth.GoogleAuthError as error:
            raise UnavailableError(f"Cloud KMS: {type(error).__name__}", hint=LATER) from None


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def _crc(data: bytes) -> int:
    """CRC-32C (RFC 9260 appendix A); statements are short enough for a loop."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
