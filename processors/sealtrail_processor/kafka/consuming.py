"""What becomes of messages that the stream handed over: committed first, acknowledged then.

Without Faust, so that whatever drives it (`app`, a simulation) keeps the one order that loses
nothing: all of it is committed in the store before any of it is acknowledged, in the order of the
log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sealtrail_processor.judging.model import RawMessage


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
