"""What the store says after a campaign, against what the ledgers say; nothing is taken on trust.

1. Events: of each process run's chain one run of sequence numbers from 0, each once, that reaches
   what was promised and not beyond what was emitted.
2. Messages sent by hand: each has met its fate; all others were accepted, or are duplicates or
   heartbeats.
3. Findings: those that attacks and set clocks must bring about, each once, and no other.
4. Links of honest events: all verified.
5. The conservation law, and `audit store`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.crash.harness import PRODUCER
from tests.faults import ledger

from sealtrail.findings import Code

if TYPE_CHECKING:
    from tests.faults.field import Field

FINDINGS = """
    SELECT code, partition, offset, lower(hex(chain_id)) AS chain, batch_seq,
        if(event_id IS NULL, '', UUIDNumToString(assumeNotNull(event_id))) AS event, detail
    FROM committed_findings
"""
# Of a chain whose clock was set: what each setting brings about once, and what it may bring about.
ONCE = (Code.REGRESSION.value, Code.CAUSALITY.value)
HONEST = {"accepted", "duplicate", "heartbeat"}
# A suspect is added to a finding, an orphan's window passes, a link is asked for again.
SETTLE_S = 180.0


@dataclass
class Verdict:
    """Figures, and what is wrong."""

    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def must(self, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(problem)


def reach(where: Field) -> Verdict:
    """Everything; call it when all is committed."""
    said = Verdict()
    _settle(where)
    events(where, said)
    _messages(where, said)
    _findings(where, said)
    links(where, said)
    _law(where, said)
    _audit(where, said)
    return said


def _settle(where: Field) -> None:
    """Wait for the findings that time makes, and for the verdicts on the last links."""
    end = time.monotonic() + SETTLE_S
    wanted = {e.key for e in where.forger.scene.expected}
    while time.monotonic() < end:
        missing = wanted - set(_found(where))
        if not missing and not _unverified(where):
            return
        time.sleep(3)


def _key(row: dict[str, Any]) -> tuple[str, int, int, str, int, str]:
    names = ("code", "partition", "offset", "chain", "batch_seq", "event")
    code, partition, offset, chain, batch, event = (row[name] for name in names)
    return code, int(partition), int(offset), chain, int(batch), event


def _found(where: Field) -> Counter[tuple[str, int, int, str, int, str]]:
    return Counter(_key(row) for row in where.sql(FINDINGS))


def events(where: Field, said: Verdict) -> None:
    rows = where.sql(
        "SELECT chain_id, count() AS n, uniqExact(seq) AS distinct_seq, max(seq) AS last"
        f" FROM provenance.events WHERE producer = '{PRODUCER}' GROUP BY chain_id"
    )
    stored = {row["chain_id"]: row for row in rows}
    runs = ledger.runs(where.folder / "ledger")
    lost = doubled = invented = visible = 0
    for run in runs:
        row = stored.pop(run.chain_id, {"n": 0, "distinct_seq": 0, "last": -1})
        reached, distinct = int(row["last"]) + 1, int(row["distinct_seq"])
        lost += max(run.promised, reached) - distinct
        doubled += int(row["n"]) - distinct
        invented += max(0, reached - run.emitted)
        visible += distinct
    emitted, promised = sum(r.emitted for r in runs), sum(r.promised for r in runs)
    said.figures |= {
        "process_runs": len(runs),
        "events_emitted": emitted,
        "events_promised": promised,
        "events_visible": visible,
        # In memory when their process was killed: never promised to anybody.
        "events_unpromised_gone": emitted - visible,
        "lost": lost,
        "doubled": doubled,
    }
    said.must(not lost, f"{lost} promised events are not in the store")
    said.must(not doubled, f"{doubled} events stand twice")
    said.must(not invented, f"{invented} events that nobody emitted")
    said.must(not stored, f"chains that no process run has written: {sorted(stored)[:5]}")


def _messages(where: Field, said: Verdict) -> None:
    rows = where.sql(
        "SELECT partition, offset, disposition, code FROM committed_dispositions"
        " WHERE topic = 'provenance.events'"
    )
    fates = {(int(r["partition"]), int(r["offset"])): r for r in rows}
    said.must(len(fates) == len(rows), "offsets of more than one log: figures by offset are void")
    sent = where.forger.scene.sent
    missed = []
    for message in sent:
        fate = fates.pop((message.partition, message.offset), None)
        code = "" if message.code is None else message.code.value
        if fate is None or (fate["disposition"], fate["code"]) != (message.disposition.value, code):
            missed.append((message.attack, message.partition, message.offset, code, fate))
    wrong = [f for f in fates.values() if f["disposition"] not in HONEST or f["code"]]
    bad = [m for m in sent if m.code is not None]
    said.figures |= {
        "messages": len(rows),
        "messages_by_hand": len(sent),
        "attacks": dict(sorted(where.forger.played.items())),
        "bad_sent": len(bad),
        "bad_found": len(bad) - sum(1 for m in missed if m[3]),
        "honest_duplicates": sum(f["disposition"] == "duplicate" for f in fates.values()),
    }
    said.must(not missed, f"{len(missed)} messages met another fate: {missed[:5]}")
    said.must(not wrong, f"{len(wrong)} honest messages were refused: {wrong[:5]}")


def _findings(where: Field, said: Verdict) -> None:
    found, by_key = Counter[Any](), {}
    for row in where.sql(FINDINGS):
        found[_key(row)] += 1
        by_key[_key(row)] = row
    expected = Counter(e.key for e in where.forger.scene.expected)
    missing, rest = expected - found, found - expected
    jumped = Counter(chain for chain, _ in where.clock_jumps)
    forward = {chain for chain, jump in where.clock_jumps if jump > 0}
    of_clocks: Counter[tuple[str, str]] = Counter()
    for key in list(rest):
        code, chain = key[0], key[3]
        if (chain in jumped and code in ONCE) or (chain in forward and code == Code.AHEAD.value):
            of_clocks[code, chain] += rest.pop(key)
    for chain, times in jumped.items():
        for code in ONCE:
            got = of_clocks[code, chain]
            said.must(got == times, f"clock of {chain[:12]} set {times} times: {got} {code}")
    for chain in forward:
        said.must(of_clocks[Code.AHEAD.value, chain] > 0, f"clock of {chain[:12]}: no AHEAD")
    alarms = [by_key[key] for key in rest]
    said.figures |= {
        "findings_expected": expected.total() + 2 * len(where.clock_jumps) + len(forward),
        "findings_made": dict(sorted(Counter(key[0] for key in found.elements()).items())),
        "findings_missing": missing.total(),
        "clock_jumps": len(where.clock_jumps),
        "false_alarms": rest.total(),
    }
    said.must(not missing, f"{missing.total()} findings were not made: {list(missing)[:5]}")
    said.must(not alarms, f"{len(alarms)} false alarms: {alarms[:5]}")


def _unverified(where: Field) -> int:
    return where.number(
        "SELECT count() FROM provenance.links WHERE verdict != 'VERIFIED' AND child_chain IN"
        f" (SELECT DISTINCT lower(hex(chain_id)) FROM batches WHERE producer = '{PRODUCER}')"
    )


def links(where: Field, said: Verdict) -> None:
    left = _unverified(where)
    said.figures["links"] = where.number("SELECT count() FROM provenance.links")
    said.figures["honest_links_unverified"] = left
    said.must(not left, f"{left} links of honest events are not verified")


def _asked(where: Field, said: Verdict, *command: str) -> dict[str, Any]:
    """What an audit prints as JSON, whatever it has found; how long it took is a figure."""
    began = time.monotonic()
    done = where.ask("audit", *command, "--json")
    said.figures[f"audit_{command[0]}_seconds"] = round(time.monotonic() - began, 1)
    if done.returncode not in {0, 1}:
        said.problems.append(f"audit {command[0]}: exit {done.returncode}: {done.stderr[-1000:]}")
        return {}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _law(where: Field, said: Verdict) -> None:
    law = _asked(where, said, "conservation", "--drained")
    differences = law.get("differences", ["not asked"])
    said.figures |= {
        "dispositions": law.get("dispositions"),
        "conservation_differences": len(differences),
    }
    said.problems += [f"conservation: {difference}" for difference in differences[:10]]


def _audit(where: Field, said: Verdict) -> None:
    answer = _asked(where, said, "store")
    said.figures["audit_clean"] = clean = bool(answer.get("clean"))
    said.must(clean, f"audit store is not clean: {str(answer.get('findings'))[:1000]}")
