"""What happens in the demo, in order. Each step asks the store before it says anything."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealtrail.errors import UnavailableError
from sealtrail_local.demo import attacks, wire
from sealtrail_local.demo.stage import wait_until
from sealtrail_local.demo.verdict import Outcome, problems

if TYPE_CHECKING:
    from sealtrail_local.demo.ledger import Ledger
    from sealtrail_local.demo.report import Report
    from sealtrail_local.demo.repository import History
    from sealtrail_local.demo.stage import Stage
    from sealtrail_local.settings import LocalSettings

IMPORTER, ORDERS, BILLING = "git-import", "orders", "billing"
ORDER_COUNT = 300
CLOCK_OFFSET_S = 90.0
# How many of each producer's messages are sent a second time.
TWICE = 3
STILL_S = 60.0
QUESTION = (
    "SELECT name AS file, uniqExact(e.actor_id) AS people, count() AS versions"
    " FROM provenance.entity_history AS h INNER JOIN provenance.events AS e USING (event_id)"
    " WHERE h.direction = 'output' AND e.producer = 'git-import'"
    " GROUP BY name ORDER BY people DESC, name LIMIT 5"
)


@dataclass(slots=True)
class Story:
    """One run of the demo over a stage whose stack is up.

    Args:
        stage: processes.
        ledger: questions to the store.
        settings: of the stack.
        report: what is shown.
        history: what is imported.
    """

    stage: Stage
    ledger: Ledger
    settings: LocalSettings
    report: Report
    history: History
    outcome: Outcome = field(default_factory=Outcome)
    imported: dict[str, Any] = field(default_factory=dict)
    invoices: int = 0
    early: list[str] = field(default_factory=list)

    def play(self) -> Outcome:
        """All of it, from the first event to the verdict."""
        self.outcome.clock_offset = CLOCK_OFFSET_S
        self.record()
        self.send_twice()
        self.settle()
        self.show_numbers()
        self.show_clocks()
        self.ask()
        self.attack()
        self.outcome.problems = problems(
            self.outcome,
            invoices=self.invoices,
            truth=self.history.causality,
            early=self.early,
        )
        return self.outcome

    # -- events come in -------------------------------------------------------

    def record(self) -> None:
        """History is imported while two live services work."""
        self.report.step("Record: real history, and two services at work")
        began = time.monotonic()
        orders, billing = self._start_services()
        importing = self.stage.start(
            "import", "import", "git", self.history.argument, *self._limit(), "--json",
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self._watch(importing)
        out, _ = importing.communicate()
        if importing.returncode:
            self.stage.check()
        self.imported = json.loads(out)
        self.report.command("import", "git", self.history.argument)
        self.report.say(
            f"{self.imported['commits']:,} commits became {self.imported['events']:,} signed events"
            f" with {self.imported['links']:,} links to their parents."
        )
        answer, _ = billing.communicate(timeout=STILL_S)
        orders.wait(STILL_S)
        self.stage.check()
        self.invoices = int(json.loads(answer)["events"])
        self.report.command(
            "service", "orders", "--clock-offset", f"{CLOCK_OFFSET_S:.0f}", "|", "…"
        )
        self.report.say(
            f"{ORDER_COUNT} orders were taken by a service whose clock is {CLOCK_OFFSET_S:.0f} s"
            f" ahead; {self.invoices} of them were billed by an honest one."
        )
        o = self.outcome
        o.events_sent = int(self.imported["events"]) + ORDER_COUNT + self.invoices
        o.links_sent = int(self.imported["links"]) + self.invoices
        self._wait_for_events()
        o.seconds = round(time.monotonic() - began, 3)
        o.events_per_second = round(o.events_sent / o.seconds, 1)

    def _start_services(self) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        orders = self.stage.start(
            ORDERS, "service", ORDERS, "--count", str(ORDER_COUNT),
            "--clock-offset", str(CLOCK_OFFSET_S), stdout=subprocess.PIPE,
        )  # fmt: skip
        billing = self.stage.start(
            BILLING, "service", BILLING, "--json", stdin=orders.stdout, stdout=subprocess.PIPE
        )
        # Ours must close, or orders never learns when billing has gone.
        if orders.stdout is not None:
            orders.stdout.close()
        return orders, billing

    def _limit(self) -> tuple[str, ...]:
        limited = self.history.argument.startswith("sample:") and self.history.causality is None
        return ("--limit", str(self.history.commits)) if limited else ()

    def _watch(self, importing: subprocess.Popen[bytes]) -> None:
        with self.report.progress() as bar:
            task = bar.add_task("events stored", total=self.history.commits)
            while importing.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    importing.wait(0.5)
                self.stage.check()
                bar.update(task, completed=min(self.ledger.progress(), self.history.commits))

    def _wait_for_events(self) -> None:
        o = self.outcome
        seen = -1

        def all_there() -> bool:
            nonlocal seen
            links = self.ledger.links()
            o.events_stored, o.links_resolved = self.ledger.events(), links.verified
            o.links_unresolved = links.unresolved
            seen = o.events_stored + o.links_resolved
            return o.events_stored >= o.events_sent and o.links_resolved >= o.links_sent

        # As long as something moves there is no hurry.
        before = -2
        while seen != before:
            before = seen
            if wait_until(all_there, self.stage.check, STILL_S):
                return

    # -- the same again -------------------------------------------------------

    def send_twice(self) -> None:
        """What networks do: some messages arrive a second time."""
        messages = [
            raw
            for producer in (IMPORTER, ORDERS, BILLING)
            for raw in self.ledger.messages(producer, TWICE)
        ]
        wire.publish(self.settings, IMPORTER, messages)
        self.outcome.duplicates_sent = len(messages)

    def settle(self) -> None:
        """Wait until the duplicates were judged; then the numbers stand still."""
        o = self.outcome

        def judged() -> bool:
            o.duplicates_found = self.ledger.dispositions().get("duplicate", 0)
            return o.duplicates_found >= o.duplicates_sent

        wait_until(judged, self.stage.check, STILL_S)
        links = self.ledger.links()
        o.events_stored = self.ledger.events()
        o.links_resolved, o.links_unresolved = links.verified, links.unresolved
        o.gaps = self.ledger.gaps()
        o.history_commits = int(self.imported["commits"])
        o.history_rows = self.ledger.commits_once(IMPORTER)

    # -- what is there --------------------------------------------------------

    def show_numbers(self) -> None:
        """Counts, as the store has them."""
        self.report.step("Account: everything once, everything linked")
        o = self.outcome
        sent_twice = f"of {o.duplicates_sent} signed batches that were sent a second time"
        self.report.numbers(
            [
                ("events in", f"{o.events_sent:,}", "as the producers count"),
                ("verified and stored", f"{o.events_stored:,}", "signature, root, chain, schema"),
                ("links verified", f"{o.links_resolved:,}", f"of {o.links_sent:,}, by parent hash"),
                ("links unresolved", f"{o.links_unresolved:,}", "pending, orphaned or mismatched"),
                ("duplicates dropped", f"{o.duplicates_found:,}", sent_twice),
                ("gaps", f"{o.gaps:,}", "batches missing from a chain"),
                ("pace", f"{o.events_per_second:,.0f}/s", f"{o.seconds:.1f} s, producers to links"),
            ]
        )

    def show_clocks(self) -> None:
        """Wrong clocks: in the history, and of the live service."""
        self.report.step("Clocks: who is wrong, and by how much")
        o = self.outcome
        o.history_edges_back = len(self.ledger.edges_back(IMPORTER))

        def judged() -> bool:
            # Suspects are named once the parents are known: a little later than the events.
            o.history_causality = len(self.ledger.causality(IMPORTER))
            o.live_causality = len(self.ledger.causality(BILLING))
            o.suspects = self.ledger.suspects(BILLING)
            history = o.history_causality >= o.history_edges_back
            return history and o.live_causality >= self.invoices and bool(o.suspects)

        wait_until(judged, self.stage.check, STILL_S / 2)
        o.findings = self.ledger.findings()
        found = self.ledger.causality(IMPORTER)
        self.early = [f.commit for f in found]
        count = f"{o.history_causality:,}" if o.history_causality else "none"
        self.report.say(
            f"Imported commits that say they were made before a parent (tolerance 0 s): {count}"
        )
        if found:
            shown = [(f.commit[:12], f.event_id, f"{f.seconds:,.0f} s") for f in found[:6]]
            self.report.table(("commit", "event", "before its parent"), shown)
        o.skew_seconds = self.ledger.skew(ORDERS)
        self.report.say(
            f"{o.live_causality} invoices seem older than their orders. Suspect: "
            f"{', '.join(o.suspects) or 'nobody'}, whose clock runs {o.skew_seconds:+.1f} s against"
            " arrival."
        )
        self.report.command(
            "sql", "SELECT code, severity, findings, ... FROM provenance.open_findings"
        )
        self.report.table(("finding", "severity", "count", "latest"), self.ledger.open_findings())

    def ask(self) -> None:
        """A question in SQL, and a tree."""
        self.report.step("Ask: SQL for questions, trees for origins")
        self.report.command("sql", QUESTION)
        self.report.output(self.stage.run("sql", QUESTION).out)
        entity = "shop/invoices/R-00042"
        self.report.command("lineage", entity, "--up")
        self.report.output(self.stage.run("lineage", entity, "--up").out)
        version = self.ledger.deep_entity(IMPORTER)
        if version is not None:
            words = ("lineage", version, "--up", "--depth", "3", "--max-events", "8")
            self.report.command(*words)
            self.report.output(self.stage.run(*words).out)

    # -- somebody cheats ------------------------------------------------------

    def attack(self) -> None:
        """A forged message, and a row that was rewritten behind everybody's back."""
        self.report.step("Attack 1: forged messages on the topic")
        attacks.forge(self.stage, self.ledger, self.settings, self.report, self.outcome)
        self.report.step("Attack 2: a row rewritten in the store")
        attacks.rewrite(self.stage, self.ledger, self.report, self.outcome)
        self.outcome.findings = self.ledger.findings()
        if self.ledger.events() != self.outcome.events_stored:
            raise UnavailableError("the number of events changed while nobody sent any")
