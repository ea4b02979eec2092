"""Keys in HashiCorp Vault's (or OpenBao's) transit engine, type ed25519.

`POST MOUNT/sign/KEY` with the whole message; the version is fixed when the key is opened, so that a
rotation in Vault makes another key, which has to be registered, and not another answer.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any

import hvac
import requests
from hvac import exceptions as refusals

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealtrail_producer.settings import ProducerSettings
    from sealtrail_producer.signers import KeyUri

TIMEOUT_S = 10


def connect(uri: KeyUri, settings: ProducerSettings) -> Transit:
    """The key MOUNT/NAME of the Vault that settings (or VAULT_ADDR, VAULT_TOKEN) name."""
    mount, slash, name = uri.path.rpartition("/")
    version = uri.query.get("version", "")
    if not slash or not mount or not name or (version and not version.isdecimal()):
        raise ConfigurationError(
            f"vault:{uri.path} names no key", hint="vault:MOUNT/KEY, such as vault:transit/orders"
        )
    url = settings.vault_url or os.environ.get("VAULT_ADDR", "")
    token = settings.vault_token.get_secret_value() or os.environ.get("VAULT_TOKEN", "")
    if not url or not token:
        raise ConfigurationError(
            "no Vault to ask, or nothing that opens it",
            hint="set SEALTRAIL_VAULT_URL and SEALTRAIL_VAULT_TOKEN (or VAULT_ADDR, VAULT_TOKEN)",
        )
    client = hvac.Client(url=url, token=token, timeout=TIMEOUT_S)
    return Transit(client, mount, name, int(version or 0))


class Transit:
    """One version of one transit key; version 0 is the latest at the time of opening."""

    def __init__(self, client: Any, mount: str, name: str, version: int) -> None:
        self._transit = client.secrets.transit
        self._mount = mount
        self._name = name
        self._version = version

    def public_key(self) -> PublicKey:
        """Its public half."""
        answer = self._ask(lambda: self._transit.read_key(name=self._name, mount_point=self._mount))
        data = answer["data"]
        if data.get("type") != "ed25519":
            raise ConfigurationError(
                f"{self._mount}/{self._name} is of type {data.get('type')!r}",
                hint="vault write -f transit/keys/NAME type=ed25519",
            )
        if data.get("derived"):
            # One key per context: Vault shows no public half, for there is no one of it.
            raise ConfigurationError(
                f"{self._mount}/{self._name} is a derived key: it has no public key of its own",
                hint="vault write -f transit/keys/NAME type=ed25519, without derived",
            )
        self._version = self._version or int(data["latest_version"])
        try:
            entry = data["keys"][str(self._version)]
            raw = base64.b64decode(entry["public_key"], validate=True)
        except (KeyError, TypeError, binascii.Error):
            raise ConfigurationError(
                f"{self._mount}/{self._name} has no version {self._version} with a public key"
            ) from None
        if self._version < int(data.get("min_encryption_version") or 0) or data.get("soft_deleted"):
            raise ConfigurationError(
                f"{self._mount}/{self._name} may not sign with version {self._version} any more",
                hint="name a later version, or lower min_encryption_version (restore a key that "
                "was soft-deleted)",
            )
        return PublicKey.from_raw(raw)

    def sign(self, message: bytes) -> bytes:
        """Sign the message as it is."""
        answer = self._ask(
            lambda: self._transit.sign_data(
                name=self._name,
                mount_point=self._mount,
                hash_input=base64.b64encode(message).decode(),
                key_version=self._version,
            )
        )
        # The answer is vault:vN: and base64.
        text = str(answer["data"]["signature"]).rpartition(":")[2]
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise UnavailableError("Vault's answer holds no signature") from None

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (refusals.Forbidden, refusals.InvalidPath, refusals.InvalidRequest) as error:
            raise ConfigurationError(
                f"Vault refuses {self._mount}/{self._name}: {type(error).__name__}",
                hint="check the key's name, the token and its policy (read keys/NAME, update "
                "sign/NAME)",
            ) from None
        except refusals.InternalServerError:
            # So it answers, too, for a version that may not sign any more.
            raise UnavailableError(
                f"Vault fails to use {self._mount}/{self._name}, version {self._version}",
                hint="see Vault's log; may this version sign (min_encryption_version)?",
            ) from None
        except (refusals.VaultError, requests.RequestException) as error:
            raise UnavailableError(
                f"Vault does not answer: {type(error).__name__}", hint="check SEALTRAIL_VAULT_URL"
            ) from None
