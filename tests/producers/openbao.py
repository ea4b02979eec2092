"""OpenBao, the free fork of Vault: the server itself, in memory, on a free port of loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from pydantic import SecretStr

from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
storage "inmem" {}
listener "tcp" {
  address = "127.0.0.1:0"
  tls_disable = true
}
disable_clustering = true
"""
POLICY = """
path "transit/keys/orders" { capabilities = ["read"] }
path "transit/sign/orders" { capabilities = ["update"] }
"""


class OpenBao:
    """A server with a transit engine and a token that may use its key `orders`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{_port(process)}"
        self._root = ""
        shares = {"secret_shares": 1, "secret_threshold": 1}
        made = self.ask("PUT", "sys/init", shares).json()
        self._unseal_key = made["keys_base64"][0]
        self._root = made["root_token"]
        self.unseal()
        self.ask("POST", "sys/mounts/transit", {"type": "transit"}).raise_for_status()
        self.ask("PUT", "sys/policies/acl/signer", {"policy": POLICY}).raise_for_status()
        self.ask("POST", "transit/keys/orders", {"type": "ed25519"}).raise_for_status()
        self.token = self.new_token()

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> httpx.Response:
        """One request; as root, unless a token is given."""
        headers = {"X-Vault-Token": token or self._root}
        return httpx.request(method, f"{self.url}/v1/{path}", json=body, headers=headers)

    def new_token(self) -> str:
        """A token that may read the key `orders` and sign with it, and nothing else."""
        asked = {"policies": ["signer"], "no_default_policy": True}
        made = self.ask("POST", "auth/token/create", asked)
        return str(made.json()["auth"]["client_token"])

    def seal(self) -> None:
        self.ask("PUT", "sys/seal").raise_for_status()

    def unseal(self) -> None:
        self.ask("PUT", "sys/unseal", {"key": self._unseal_key}).raise_for_status()
        # It is the active node a moment after it was unsealed.
        while self.ask("GET", "sys/health").status_code != 200:
            time.sleep(0.05)

    def settings(self, token: str = "") -> ProducerSettings:
        return ProducerSettings(vault_url=self.url, vault_token=SecretStr(token or self.token))


def _port(process: subprocess.Popen[bytes]) -> int:
    """Where it listens; it chose a free one."""
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        listening = psutil.Process(process.pid).net_connections("tcp")
        ports = [at.laddr.port for at in listening if at.status == psutil.CONN_LISTEN]
        if ports:
            return int(ports[0])
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


@contextmanager
def running(folder: Path) -> Iterator[OpenBao]:
    """A server until the end of the block."""
    (folder / "bao.hcl").write_text(CONFIG)
    program = Path(sys.executable).with_name("bao")
    process = subprocess.Popen(
        [program, "server", "-config=bao.hcl", "-log-level=error"],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield OpenBao(process)
    finally:
        process.terminate()
        process.wait(30)
