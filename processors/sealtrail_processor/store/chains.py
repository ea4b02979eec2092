"""Chains in the store: which there are, and what a worker needs to hold one as if it always had.

A worker holds a part of its partitions' chains (docs/limits.md) and reads others when a message
names them. What it reads then is what it would have held: batches of the lives of the log that it
took over, as far as they were committed by then, and of its own life those below its cursor. One
that was replaced and goes on for a while does not see what its heir has committed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealtrail import ids
from sealtrail.chain import Link
from sealtrail.statement import Continues, Identity
from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.ports import History, Life, Stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sealtrail_processor.store.port import Row, Store

# Rows, and chains, of one question: what is in hand at a time is bounded, whatever a chain has, and
# a thousand ids stay far below ClickHouse's 256 KiB of SQL.
ROWS, CHAINS, RANGES = 20_000, 1_000, 100

_LIVES = """
    SELECT log_id, committed + 1 FROM committed
    WHERE topic = {topic:String} AND partition = {partition:UInt16}
"""
# Whether time may still find something: a gap that nobody told of, or that an open chain which
# promised heartbeats has fallen silent. Rows that are not committed do no harm: what they belong to
# is looked for in vain. Read in the order of the table, so that memory does not grow with chains.
_NEWEST = """
    SELECT chain_id, count(),
        uniqExact(batch_seq) <= max(batch_seq) AND chain_id NOT IN (
            SELECT chain_id FROM findings
            WHERE code = 'GAP'
                AND topic = {topic:String} AND partition = {partition:UInt16}
        ) OR max(closes) = 0 AND max(heartbeat_s) > 0 AND (chain_id, max(batch_seq) + 1) NOT IN (
            SELECT chain_id, batch_seq FROM findings
            WHERE code = 'STALLED_CHAIN'
                AND topic = {topic:String} AND partition = {partition:UInt16}
        ) AND chain_id NOT IN (
            SELECT continues_chain FROM batches
            WHERE continues_batch >= 0
                AND topic = {topic:String} AND partition = {partition:UInt16}
        ) AS watched
    FROM batches
    WHERE topic = {topic:String} AND partition = {partition:UInt16}
    GROUP BY chain_id
    ORDER BY watched DESC, max(arrival) DESC, chain_id
    LIMIT {most:UInt64}
    SETTINGS optimize_aggregation_in_order = 1
"""
_OF_LIVES = """
    topic = {topic:String} AND partition = {partition:UInt16}
        AND offset < {ends:Array(UInt64)}[indexOf({logs:Array(String)}, log_id)]
"""
# A life of the log begins with the earliest arrival of a message that was not released: a released
# one stands late in its log, with the arrival of its first try.
_BORN = f"""
    SELECT log_id,
        minOrNull(if(time_source = 'ORIGINAL', NULL, toUnixTimestamp64Micro(arrival)))
    FROM batches
    WHERE {_OF_LIVES}
    GROUP BY log_id
"""  # noqa: S608 - our own text
# In place of $chains stand ids in hex; parameters are part of an address, which is shorter.
_IDS = "SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '$chains'))), 32)"
_LINKS = f"""
    SELECT chain_id, batch_seq, branch, first_seq, count, statement_hash, previous,
        toUnixTimestamp64Micro(signed_at), toUnixTimestamp64Micro(arrival), closes,
        environment, tenant, topic, partition, producer, instance,
        heartbeat_s, continues_chain, continues_batch, continues_head,
        indexOf({{logs:Array(String)}}, log_id) AS life, offset
    FROM batches FINAL
    WHERE chain_id IN ({_IDS}) AND {_OF_LIVES}
        AND (life, offset) > ({{life:UInt64}}, {{offset:Int64}})
    ORDER BY life, offset
    LIMIT {{rows:UInt64}}
"""  # noqa: S608 - our own text
_CONTINUED = f"""
    SELECT continues_chain, chain_id, continues_batch, continues_head
    FROM batches
    WHERE continues_chain IN ({_IDS}) AND continues_batch >= 0 AND {_OF_LIVES}
    ORDER BY indexOf({{logs:Array(String)}}, log_id), offset
    LIMIT 1 BY continues_chain
"""  # noqa: S608 - our own text
# Chains and numbers as two lists: pairs that nobody asked for are left out afterwards.
_HASHES = f"""
    SELECT chain_id, batch_seq, statement_hash, branch
    FROM batches FINAL
    WHERE chain_id IN (SELECT toFixedString(unhex(arrayJoin({{chains:Array(String)}})), 32))
        AND batch_seq IN {{numbers:Array(UInt64)}} AND {_OF_LIVES}
    ORDER BY branch
"""  # noqa: S608 - our own text
_NAMESAKES = f"SELECT DISTINCT chain_id FROM batches WHERE {_OF_LIVES} AND"  # noqa: S608 - our own text
_RANGE = "chain_id BETWEEN unhex({{low{n}:String}}) AND unhex({{high{n}:String}})"


def lives(store: Store, topic: str, partition: int) -> list[Life]:
    """Lives of a partition's log as far as they are committed, in the order of their beginnings."""
    rows = store.query(_LIVES, {"topic": topic, "partition": partition})
    found = sorted(Life(*row) for row in rows)
    if len(found) > 1:
        born: dict[str, int | None] = dict(
            store.query(_BORN, _where(Log("", topic, partition), found))
        )
        # One without batches has no place, and needs none.
        found.sort(key=lambda life: (born.get(life.log_id) is None, born.get(life.log_id)))
    return found


def newest(store: Store, topic: str, partition: int, most: int) -> list[Stored]:
    """At most so many chains of a partition: watched ones first, then those heard last."""
    where = {"topic": topic, "partition": partition, "most": most}
    return [Stored(bytes(row[0]), row[1], bool(row[2])) for row in store.query(_NEWEST, where)]


def history(
    store: Store, place: Log, lives_: Sequence[Life], chain_ids: Collection[bytes]
) -> History:
    """Batches of some chains, read as they are asked for, and who continues these chains."""
    parts = list(_parts(chain_ids, CHAINS))
    where = _where(place, lives_)
    continued = {}
    for part in parts:
        for chain_id, by, batch_seq, head in store.query(_named(_CONTINUED, part), where):
            point = Continues(bytes(chain_id), batch_seq, bytes(head))
            continued[bytes(chain_id)] = (bytes(by), point)
    links = (link for part in parts for link in _links(store, _named(_LINKS, part), where))
    return History(links, continued)


def namesakes(
    store: Store, place: Log, lives_: Sequence[Life], chain_ids: Collection[bytes]
) -> set[bytes]:
    """Chains whose ids begin with the 82 bits of one of these, which event ids are made of."""
    found: set[bytes] = set()
    for part in _parts(chain_ids, RANGES):
        ranges, where = [], _where(place, lives_)
        for n, chain_id in enumerate(part):
            low, high = ids.chain_range(ids.chain_prefix(bytes.fromhex(chain_id)))
            ranges.append(_RANGE.format(n=n))
            where |= {f"low{n}": low.hex(), f"high{n}": high.hex()}
        rows = store.query(f"{_NAMESAKES} ({' OR '.join(ranges)})", where)
        found.update(bytes(row[0]) for row in rows)
    return found


def hashes(
    store: Store, place: Log, lives_: Sequence[Life], keys: Collection[tuple[bytes, int]]
) -> dict[tuple[bytes, int], list[tuple[bytes, int]]]:
    """(chain_id, batch_seq) -> [(statement_hash, branch)], of those keys that are stored."""
    wanted = {
        "chains": sorted({chain_id.hex() for chain_id, _ in keys}),
        "numbers": sorted({number for _, number in keys}),
    }
    found: dict[tuple[bytes, int], list[tuple[bytes, int]]] = {}
    rows = store.query(_HASHES, _where(place, lives_) | wanted) if keys else []
    for chain_id, batch_seq, digest, branch in rows:
        if (bytes(chain_id), batch_seq) in keys:
            found.setdefault((bytes(chain_id), batch_seq), []).append((bytes(digest), branch))
    return found


def _named(question: str, chain_ids: Sequence[str]) -> str:
    return question.replace("$chains", ",".join(chain_ids))


def _links(store: Store, question: str, where: Mapping[str, Any]) -> Iterator[Link]:
    life, offset = 0, -1
    while True:
        at = {"life": life, "offset": offset, "rows": ROWS}
        rows = store.query(question, {**where, **at})
        for row in rows:
            yield _link(row)
        if len(rows) < ROWS:
            return
        life, offset = rows[-1][-2:]


def _link(row: Row) -> Link:
    heartbeat_s, continues_chain, continues_batch, continues_head = row[16:20]
    continues = None
    if continues_batch >= 0:
        continues = Continues(continues_chain, continues_batch, continues_head)
    return Link(
        chain_id=row[0],
        batch_seq=row[1],
        branch=row[2],
        first_seq=row[3],
        count=row[4],
        statement_hash=row[5],
        previous=row[6],
        signed_at=row[7],
        arrival=row[8],
        closes=row[9],
        identity=Identity(*row[10:16]),
        heartbeat_s=heartbeat_s,
        continues=continues,
    )


def _parts(chain_ids: Collection[bytes], size: int) -> Iterator[list[str]]:
    wanted = sorted(chain_id.hex() for chain_id in chain_ids)
    return (wanted[at : at + size] for at in range(0, len(wanted), size))


def _where(place: Log, lives_: Sequence[Life]) -> dict[str, Any]:
    return {
        "topic": place.topic,
        "partition": place.partition,
        "logs": [life.log_id for life in lives_],
        "ends": [life.end for life in lives_],
    }
