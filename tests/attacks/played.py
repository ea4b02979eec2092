"""The scene after all attacks were played among honest traffic, and what a user sees then."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
from tests.attacks.play import ATTACKS
from tests.scenarios.conservation import check

from sealtrail_audit.conservation.law import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.fates import Sent
    from tests.scenarios.scene import Scene

ROUNDS = 8
# A busy machine is no reason to fail.
PATIENCE_S = 300
_FOUND = """
    SELECT code, partition, offset, lower(hex(chain_id)) AS chain, batch_seq,
        if(event_id IS NULL, '', UUIDNumToString(assumeNotNull(event_id))) AS event,
        severity, origin, detail, lower(hex(suspect)) AS suspect, estimate_us, tolerance_us
    FROM sealtrail.committed_findings
"""
_FATES = """
    SELECT partition, offset, disposition, code, events, toUnixTimestamp64Micro(arrival) AS arrival,
        time_source, lower(hex(chain_id)) AS chain, batch_seq, branch, from_partition, from_offset
    FROM sealtrail.committed_dispositions
"""


@dataclass
class Played:
    """The scene after it was played, and what a user sees then."""

    scene: Scene
    halfway: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    open: list[dict[str, Any]] = field(default_factory=list)
    fates: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    conservation: Report = field(default_factory=Report)
    # Addresses at which the worker waits for others.
    listening: list[str] = field(default_factory=list)
    stopped: int | None = None
    stop_s: float = 0

    def wrong(self, name: str) -> list[str]:
        """What did not become of an attack's messages as it must, and findings that are not there.

        Args:
            name: of the attack.
        """
        wrong = []
        for message in self.messages(name):
            fate = self.fates[message.partition, message.offset]
            code = "" if message.code is None else message.code.value
            wanted = (message.disposition.value, code, message.events)
            got = (fate["disposition"], fate["code"], int(fate["events"]))
            if got[0] != "accepted":
                wanted = (*wanted[:2], got[2])
            if got != wanted:
                where = f"{message.partition}:{message.offset}"
                wrong.append(f"{where} is {got}, not {wanted}: {fate}")
        keys = {key(f) for f in self.found}
        expected = [e for e in self.scene.expected if e.attack == name]
        return wrong + [f"not found: {e}" for e in expected if e.key not in keys]

    def messages(self, name: str) -> list[Sent]:
        """What an attack sent."""
        return [s for s in self.scene.sent if s.attack == name]

    def flagged_wrongly(self) -> list[str]:
        """Findings that nobody expected, and what was not sent by hand and not accepted."""
        expected = Counter(e.key for e in self.scene.expected)
        found = Counter(key(f) for f in self.found)
        ours = {(s.partition, s.offset) for s in self.scene.sent}
        refused = [
            str(fate)
            for place, fate in self.fates.items()
            if place not in ours
            and (fate["code"] or fate["disposition"] not in ("accepted", "heartbeat", "released"))
        ]
        return [f"{count} too many: {name}" for name, count in (found - expected).items()] + refused

    def told(self, name: str) -> str:
        """What became of an attack's messages, in short."""
        fates = Counter(
            s.code.value if s.code is not None else s.disposition.value for s in self.messages(name)
        )
        codes = Counter(e.code.value for e in self.scene.expected if e.attack == name)
        about = codes - fates
        counted = [f"{count} {fate}" for fate, count in fates.items()]
        counted += [f"{count} found {code}" for code, count in about.items()]
        return f"{name.replace('_', ' ')}: {', '.join(counted)}"


def key(row: dict[str, Any]) -> tuple[str, int, int, str, int, str]:
    names = ("code", "partition", "offset", "chain", "batch_seq", "event")
    code, partition, offset, chain, batch, event = (row[n] for n in names)
    return code, int(partition), int(offset), chain, int(batch), event


def play(scene: Scene) -> None:
    """First parts with traffic between, second ones once windows have passed, floods at last."""
    scene.start_worker()
    scene.open_services()
    later: dict[str, Iterator[None]] = {}
    for name, attack in ATTACKS.items():
        scene.emit(ROUNDS)
        scene.attack = name
        rest = attack(scene)
        if rest is not None:
            next(rest)
            later[name] = rest
        scene.emit(ROUNDS)
    scene.flush()
    played_out(scene)
    scene.kept["halfway"] = scene.sql("SELECT * FROM provenance.open_findings")
    for name, rest in [*later.items()]:
        scene.emit(ROUNDS)
        scene.attack = name
        if next(rest, "ended") == "ended":
            del later[name]
        scene.flush()
    scene.emit(ROUNDS)
    scene.close_services()
    played_out(scene)
    # Floods come last: honest traffic would wait behind them for longer than windows are here.
    for name, rest in later.items():
        scene.attack = name
        assert next(rest, "ended") == "ended"
    scene.flush()
    played_out(scene)


def played_out(scene: Scene) -> None:
    """All is committed, and what time and the linker have to say was said."""
    scene.wait("all committed", scene.drained, PATIENCE_S)
    said(scene)
    # And what should not have been said.
    time.sleep(1.5)


def said(scene: Scene) -> None:
    """What was sent by hand is committed, and what must be found of it was; or time is up."""
    scene.wait("what was sent by hand", scene.caught_up, PATIENCE_S)
    wanted = {e.key for e in scene.expected}
    end = time.monotonic() + PATIENCE_S
    while not wanted <= {key(f) for f in scene.sql(_FOUND)} and time.monotonic() < end:
        time.sleep(1)


def look(scene: Scene) -> Played:
    """Ask what a user would ask, then end the worker."""
    seen = Played(scene, scene.kept.get("halfway", []))
    seen.found = scene.sql(_FOUND)
    seen.open = scene.sql("SELECT * FROM provenance.open_findings")
    rows = scene.sql(_FATES)
    seen.fates = {(int(r["partition"]), int(r["offset"])): r for r in rows}
    scene.settle(seen.fates)
    seen.quarantine = scene.quarantine()
    seen.listening = listening(scene.worker_pid())
    began = time.monotonic()
    seen.stopped = scene.stop_worker()
    seen.stop_s = time.monotonic() - began
    seen.audit = scene.ask("audit", "store", codes=(0, 1), timeout_s=3600)
    seen.conservation = check(scene.folder)
    return seen


def listening(pid: int) -> list[str]:
    """Addresses at which a process listens."""
    found = psutil.Process(pid).net_connections("inet")
    return [f"{c.laddr.ip}" for c in found if c.status == psutil.CONN_LISTEN]
