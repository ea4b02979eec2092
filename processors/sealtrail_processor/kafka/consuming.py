"""What becomes of messages that the stream handed over: committed first, acknowledged then.

Without Faust, so that whatever drives it (`app`, a simulation) keeps the one order that loses
nothing: all of it is committed in the store before any of it is acknowledged, in the order of the
log. What was dropped is not acknowledged: Faust counts by offset alone, and would tell the group of
it as soon as the partition is ours again, before it was read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from sealtrail_processor.judging.model import RawMessage


async def settle(
    events: Sequence[Any],
    generation: int,
    raw: Callable[[Any], RawMessage],
    commit: Callable[[Mapping[int, Sequence[RawMessage]]], Awaitable[Collection[int] | None]],
    acknowledge: Callable[[Any], Awaitable[object]],
) -> bool:
    """Commit messages, then acknowledge them.

    Args:
        events: as the stream gives them, each with its `message`.
        generation: of the group: what was fetched before a rebalance is dropped, it is read again.
        raw: a message as a value of ours.
        commit: commits messages by partition; the partitions whose messages are in the store now,
            for some may have been taken away, or None when the process stops before.
        acknowledge: one event.

    Returns:
        Whether to go on; if not, nothing of this was acknowledged.
    """
    ours = [event for event in events if event.message.generation_id == generation]
    groups: dict[int, list[RawMessage]] = {}
    for event in ours:
        groups.setdefault(event.message.partition, []).append(raw(event.message))
    committed = await commit(groups)
    if committed is None:
        return False
    for event in ours:
        if event.message.partition in committed:
            await acknowledge(event)
    return True
