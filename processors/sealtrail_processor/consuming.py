"""What becomes of messages that the stream handed over: committed first, acknowledged then.

Without Faust, so that whatever drives it (`app`, a simulation) keeps the one order that loses
nothing: all of it is committed in the store before any of it is acknowledged, in the order of the
log; and where reading begins when a partition is taken over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sealtrail_processor.model import RawMessage


async def settle(
    events: Sequence[Any],
    generation: int,
    raw: Callable[[Any], RawMessage],
    commit: Callable[[Mapping[int, Sequence[RawMessage]]], Awaitable[bool]],
    acknowledge: Callable[[Any], Awaitable[object]],
) -> bool:
    """Commit messages, then acknowledge them.

    Args:
        events: as the stream gives them, each with its `message`.
        generation: of the group: what was fetched before a rebalance is dropped, it is read again.
        raw: a message as a value of ours.
        commit: commits messages by partition; False when the process stops before.
        acknowledge: one event.

    Returns:
        Whether to go on; if not, nothing of this was acknowledged.
    """
    groups: dict[int, list[RawMessage]] = {}
    for event in events:
        message = event.message
        if message.generation_id == generation:
            groups.setdefault(message.partition, []).append(raw(message))
    if not await commit(groups):
        return False
    for event in events:
        await acknowledge(event)
    return True


def begin(cursor: int, start: int, group: int | None) -> int:
    """Where to read on in a partition that was taken over.

    Behind what is committed in the store, whatever the group's own offset says. But a worker that
    died between commit and acknowledgement leaves the group behind, and it would stay there until
    another message comes: for ever, when producers wait for the group before they send more
    (SEALTRAIL_PACE_BYTES). So the last committed message is read once more then: it is skipped,
    and acknowledged.

    The worker does not do so yet: on real Faust it stood still after such a start (crash test of
    25 November 2026). The simulation does, for it drives no Faust.

    Args:
        cursor: next offset after the store's commits.
        start: first offset that the log still has.
        group: the group's committed offset, None while it has none.
    """
    behind = group is None or group < cursor
    return max(cursor - 1, start) if behind and cursor > start else cursor
