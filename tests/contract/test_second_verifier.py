"""The text suffices: a verifier written from it agrees with ours, step by step."""

import ast
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from tests.contract import mutations as m
from tests.contract import second_verifier
from tests.contract import world as w

from sealtrail import records, validate
from sealtrail.errors import ContractError
from sealtrail.findings import Code
from sealtrail.validate import Refused

CASES = 10_000
PLACE = {"environment": "local", "tenants": ["default", "other"], "topic": w.TOPIC, "partition": 1}
SOURCE = Path(second_verifier.__file__).read_text()


class Verifiers:
    """Ours and theirs, with the same records."""

    def __init__(self) -> None:
        self.ours = records.Directory(w.ROOT)
        values = m.record_values()
        for arrival, value in values:
            try:
                self.ours.add(value, arrival)
            except ContractError:
                continue
        self.theirs = second_verifier.Records(m.roots(), 1, values)

    def judge(self, case: m.Case) -> tuple[object, object]:
        """(ours, theirs), each None or (code, step)."""
        mine = validate.validate(
            case.value, w.PLACE, case.arrival, self.ours, known_at=case.known_at
        )
        ours = (str(mine.code), mine.step) if isinstance(mine, Refused) else None
        theirs = second_verifier.verify(case.value, PLACE, case.arrival, self.theirs, case.known_at)
        return ours, theirs


def test_it_is_short_and_owes_us_nothing() -> None:
    assert len(SOURCE.splitlines()) < 340
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            top = name.split(".")[0]
            assert top == "cryptography" or top in sys.stdlib_module_names


def test_both_agree_on_10_000_mutated_messages() -> None:
    rng, both, seen = Random("sealtrail"), Verifiers(), Counter[object]()
    for number in range(CASES):
        case = m.case(rng)
        ours, theirs = both.judge(case)
        assert ours == theirs, f"case {number}: {case}"
        seen[ours] += 1
    reached = {code for code, _ in (s for s in seen if isinstance(s, tuple))}
    steps = {step for _, step in (s for s in seen if isinstance(s, tuple))}
    assert steps == set(range(1, 10))
    # All codes of steps 1 to 9: the list is closed and each was met.
    assert reached == set(list(Code)[: list(Code).index(Code.ID_COLLISION)]) | {
        Code.UNKNOWN_KEY,
        Code.UNKNOWN_SCHEMA,
    }
    assert seen[None] > CASES // 20


@pytest.mark.parametrize(
    "value",
    [None, b"", bytes(5), bytes(6), bytes(8_388_608), bytes(8_388_609), m.of_size(65_537)],
    ids=["none", "empty", "5", "6", "8 MiB", "more", "65,537 events"],
)
def test_both_agree_on_sizes(value: bytes | None) -> None:
    ours, theirs = Verifiers().judge(m.Case(value, m.ARRIVAL, m.ARRIVAL))
    assert ours == theirs
    assert ours is not None


def test_both_agree_on_noise() -> None:
    rng, both = Random("noise"), Verifiers()
    for _ in range(500):
        value = b"\x00" + rng.randbytes(rng.randrange(100))
        ours, theirs = both.judge(m.Case(value, m.ARRIVAL, m.ARRIVAL))
        assert ours == theirs
