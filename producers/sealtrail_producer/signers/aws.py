"""Keys in AWS KMS: key spec ECC_NIST_EDWARDS25519, algorithm ED25519_SHA_512 over the raw message.

Credentials and region come from where boto3 looks for them. KMS signs raw messages of at most 4,096
bytes: batches and key records fit (unless names are very long), schema pins of operators do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_producer.settings import ProducerSettings
    from sealtrail_producer.signers import KeyUri

KEY_SPEC = "ECC_NIST_EDWARDS25519"
ALGORITHM = "ED25519_SHA_512"
MAX_MESSAGE = 4096
LATER = "signing goes on when KMS does; see its request quotas and health if that takes long"
# Waiting mends these; all else that KMS answers is about the key or the caller.
TRANSIENT = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "ThrottlingException",
        "RequestTimeout",
        "ServiceUnavailable",
        "InternalFailure",
    }
)


def connect(uri: KeyUri, settings: ProducerSettings) -> Kms:
    """The key that a URI names."""
    del settings  # boto3 has its own
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
    try:
        client = boto3.client(
            "kms",
            region_name=uri.query.get("region") or None,
            endpoint_url=uri.query.get("endpoint") or None,
            config=config,
        )
    except (NoRegionError, ValueError) as error:
        raise ConfigurationError(
            f"AWS KMS: {error}", hint="set AWS_REGION, or write aws-kms:KEY?region=eu-central-1"
        ) from None
    return Kms(client, uri.path)


class Kms:
    """One KMS key."""

    def __init__(self, client: Any, key_id: str) -> None:
        self._client = client
        self._key_id = key_id

    def public_key(self) -> PublicKey:
        """Its public half."""
        answer = self._ask(lambda: self._client.get_public_key(KeyId=self._key_id))
        spec, usage = answer.get("KeySpec"), answer.get("KeyUsage")
        if spec != KEY_SPEC or usage != "SIGN_VERIFY":
            raise ConfigurationError(
                f"KMS key {self._key_id} has spec {spec} and usage {usage}",
                hint=f"make one with: aws kms create-key --key-spec {KEY_SPEC} "
                "--key-usage SIGN_VERIFY",
            )
        # By its ARN from now on: an alias may be pointed at another key.
        self._key_id = str(answer["KeyId"])
        return PublicKey.from_der(bytes(answer["PublicKey"]))

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is."""
        if len(message) > MAX_MESSAGE:
            raise ConfigurationError(
                f"KMS signs {MAX_MESSAGE} bytes at most, this statement has {len(message)}",
                hint="shorten names, or sign with a key elsewhere",
            )
        answer = self._ask(
            lambda: self._client.sign(
                KeyId=self._key_id,
                Message=message,
                MessageType="RAW",
                SigningAlgorithm=ALGORITHM,
            )
        )
        return bytes(answer["Signature"])

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code in TRANSIENT or status >= 500:
                raise UnavailableError(f"AWS KMS: {code}", hint=LATER) from None
            raise ConfigurationError(
                f"AWS KMS refuses key {self._key_id}: {code}",
                hint="check the key, its state, and kms:Sign and kms:GetPublicKey of this identity",
            ) from None
        except NoCredentialsError:
            raise ConfigurationError(
                "AWS KMS: no credentials", hint="give this process a role, or set AWS_PROFILE"
            ) from None
        except BotoCoreError as error:
            raise UnavailableError(f"AWS KMS: {type(error).__name__}", hint=LATER) from None
