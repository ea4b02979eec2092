"""What waits: each comes out once, when it is due or woken, and nothing of it is left behind."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.contract import world
from tests.processors.pipeline.test_links import edge

from sealtrail import ids
from sealtrail.event import ParentRef
from sealtrail_processor.linking.pending import Pending, Waiting

CHAINS = [world.digest("one"), world.digest("two")]
PAUSES = st.sampled_from([0.0, 0.2, 1.0, 60.0])


class Model(RuleBasedStateMachine):
    """Beside a list of (due at, reference)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.pending = Pending(lambda: self.now)
        self.model: list[tuple[float, Waiting]] = []
        self.woken: set[Waiting] = set()

    @rule(child=st.integers(0, 5), pause=PAUSES)
    def add(self, child: int, pause: float) -> None:
        """Each child names a parent of its own; some name no event."""
        parent = ids.event_id(CHAINS[child % 2], child) if child < 4 else bytes(16)
        made = edge(ParentRef(parent, 1, bytes(32)))._replace(child_seq=child)
        waiting = Waiting(made)
        self.pending.add(waiting, pause)
        if all(known.edge != made for _, known in self.model):
            self.model.append((self.now + pause, waiting))

    @rule(chain=st.sampled_from(CHAINS), next_seq=st.integers(0, 4))
    def wake(self, chain: bytes, next_seq: int) -> None:
        self.pending.wake(ids.chain_prefix(chain), next_seq)
        for entry in list(self.model):
            waiting = entry[1]
            mine = ids.event_id(chain, 0)[:11] == waiting.edge.parent_id[:11]
            below = int.from_bytes(waiting.edge.parent_id[11:], "big") < next_seq
            if mine and below and waiting not in self.woken:
                self.woken.add(waiting)
                self.model.remove(entry)
                self.model.append((self.now, waiting))

    @rule(seconds=st.sampled_from([0.1, 0.2, 5.0]))
    def later(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(0, 3))
    def due(self, limit: int) -> None:
        found = self.pending.due(limit)
        ready = sorted((e for e in self.model if e[0] <= self.now), key=lambda e: e[0])
        # Those that are due at once may come in any order.
        assert [self.when(waiting) for waiting in found] == [at for at, _ in ready[:limit]]
        self.model = [e for e in self.model if e[1] not in found]

    def when(self, waiting: Waiting) -> float:
        return next(at for at, w in self.model if w is waiting)

    @invariant()
    def counted(self) -> None:
        assert len(self.pending) == len(self.model)

    def teardown(self) -> None:
        self.now += 1e6
        self.pending.due(10_000)
        assert len(self.pending) == 0
        assert self.pending._by_chain == {}
        assert self.pending._heap == []


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestPending = Model.TestCase
