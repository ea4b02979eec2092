"""One bit flipped at each position of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import bare_event

from sealtrail.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.chains import Made
    from tests.scenarios.scene import Scene

ANY = frozenset({Code.MALFORMED, Code.UNKNOWN_PAYLOAD_TYPE, Code.BAD_SIGNATURE, Code.BAD_ROOT})
STATEMENT = frozenset({Code.BAD_SIGNATURE, Code.UNKNOWN_KEY, Code.MALFORMED})
# A registry's ids: hints that nobody signed.
HINT = frozenset({None, Code.MALFORMED})


@attack("A1")
def every_bit_of_a_message(scene: Scene) -> Iterator[None]:
    """Refused at each position, but for the registry's ids, without which it is a duplicate."""
    made = scene.chain("orders", 2).make([bare_event()])
    scene.accept(made)
    yield
    yield
    for value, allowed in flips(made):
        scene.refuse_somehow(value, 2, allowed)


def flips(made: Made) -> Iterator[tuple[bytes, frozenset[Code | None]]]:
    """A message with each of its bits flipped, and what may be said of it."""
    for at, allowed in _positions(made):
        for bit in range(8):
            flipped = bytearray(made.value)
            flipped[at] ^= 1 << bit
            yield bytes(flipped), allowed


def _positions(made: Made) -> Iterator[tuple[int, frozenset[Code | None]]]:
    """Each byte of a message, and what may be said when one of its bits is flipped."""
    envelope, value = made.envelope, made.value
    parts: list[tuple[bytes, frozenset[Code | None]]] = [
        (envelope.statement, STATEMENT),
        (envelope.signatures[0], frozenset({Code.BAD_SIGNATURE})),
        (envelope.events[0], frozenset({Code.BAD_ROOT})),
    ]
    said: dict[int, frozenset[Code | None]] = dict.fromkeys(range(len(value)), ANY)
    for part, allowed in parts:
        begin = value.index(part)
        said |= dict.fromkeys(range(begin, begin + len(part)), allowed)
    # After the magic byte of the framing; and after the end of the signatures.
    hints = [*range(1, 5), value.index(envelope.signatures[0]) + len(envelope.signatures[0]) + 1]
    said |= dict.fromkeys(hints, HINT)
    return iter(said.items())
