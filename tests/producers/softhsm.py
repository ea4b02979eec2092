"""SoftHSM 2 (Debian's softhsm2): tokens in files behind PKCS#11, as a real HSM is."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signers import token

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = "pkcs11:token=a%20token;object=orders"
# Keys are made by another process: a login counts for all sessions of a process.
MAKE = """
import sys, pkcs11
module, pin, *labels = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label="a token")
with token.open(rw=True, user_pin=pin) as session:
    for label in labels:
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS,
            {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06032b6570")},  # 1.3.101.112, RFC 8410
            local=True,
        )
        mechanism = pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN
        curve.generate_keypair(mechanism=mechanism, label=label, store=True)
"""


class Hsm:
    """SoftHSM with two tokens; one has the Ed25519 key pairs orders and orders-2."""

    def __init__(self, folder: Path) -> None:
        self.pin = secrets.token_hex(4)
        self.folder = folder
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {folder}/tokens\n"
            "objectstore.backend = file\nlog.level = ERROR\n"
        )
        self.env = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
        pins = ["--so-pin", self.pin, "--pin", self.pin]
        for label in ("a token", "locked"):
            self.run("softhsm2-util", "--init-token", "--free", "--label", label, *pins)
        self.run(sys.executable, "-c", MAKE, token.DEFAULT_MODULE, self.pin, "orders", "orders-2")

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, env=os.environ | self.env)

    def settings(self, **changes: Any) -> ProducerSettings:
        given: dict[str, Any] = {"state_dir": self.folder, "pkcs11_pin": SecretStr(self.pin)}
        return ProducerSettings(**(given | changes))
