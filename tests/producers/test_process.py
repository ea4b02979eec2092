"""Real processes: SIGKILL in the middle of emitting, forks, and an exit without close()."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from sealtrail.batch import SignedBatch, unframe
from sealtrail.statement import BatchStatement
from sealtrail_producer.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

# The trail of these children: files for brokers, so that the parent sees what was sent.
CHILD = """
import os, sys
from pathlib import Path
from sealtrail_producer import CREATE, Ports, Trail
from sealtrail_producer.fakes import FakeBroker, FakeRegistry
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signing import load, new_file

state = Path(sys.argv[1])
settings = ProducerSettings(state_dir=state, instance="host", batch_ms=5, batch_events=20)
key = state / "key.pem"
signer = load(key, b"p") if key.exists() else new_file(key, "p")
broker, registry = FakeBroker(), FakeRegistry()
broker.down = "--down" in sys.argv

def trail():
    return Trail("orders", settings, [signer], Ports(broker.connect, lambda: registry))
"""


def child(tmp_path: Path, body: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            CHILD + body,
            str(tmp_path),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def spooled(folder: Path) -> list[tuple[BatchStatement, bytes]]:
    spool = Spool(folder, max_bytes=10**9)
    found, at = [], 0
    while (record := spool.get(at)) is not None:
        value = record.message.value
        body = unframe(value)[1] if record.framed else value
        found.append((BatchStatement.decode(SignedBatch.decode(body).statement), value))
        at = record.index + 1
    spool.close()
    return found


def test_sigkill_while_emitting_leaves_a_chain_without_holes_and_all_durable_events(tmp_path: Path):
    body = """
t = trail()
n = 0
while True:
    receipt = t.emit("x", event_type=CREATE, durable=n % 10 == 9)
    n += 1
    if n % 10 == 0:
        print(n, flush=True)
"""
    process = child(tmp_path, body, "--down")
    durable = 0
    began = time.monotonic()
    for line in process.stdout:
        durable = int(line)
        if time.monotonic() - began > 1.5 and durable > 100:
            process.send_signal(signal.SIGKILL)
            break
    durable = max([durable, *(int(n) for n in process.stdout if n.endswith("\n"))])
    process.wait()
    process.stdout.close()
    folder = tmp_path / "spool" / "orders" / "host"
    statements = spooled(folder)
    assert sum(s.count for s, _ in statements) >= durable
    for before, after in pairwise(statements):
        assert after[0].first_seq == before[0].first_seq + before[0].count
        assert after[0].batch_seq == before[0].batch_seq + 1
    again = """
t = trail()
t.emit("y", event_type=CREATE)
assert t.close(30)
for m in broker.messages():
    print(m.value.hex())
"""
    second = child(tmp_path, again)
    sent, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    values = [bytes.fromhex(line) for line in sent.split()]
    # What was spooled before the ids were known gets them now: hints that nobody signs.
    envelopes = [SignedBatch.decode(unframe(v)[1]) for v in values]
    kept = [SignedBatch.decode(unframe(v)[1] if v[0] == 0 else v) for _, v in statements]
    assert [e.statement for e in envelopes[:-1]] == [e.statement for e in kept]
    assert [e.events for e in envelopes[:-1]] == [e.events for e in kept]
    framed = [
        (sent, value) for sent, (_, value) in zip(values, statements, strict=False) if value[0] == 0
    ]
    assert len(framed) > 5
    assert all(sent == value for sent, value in framed)
    last = BatchStatement.decode(envelopes[-1].statement)
    assert last.genesis.continues.chain_id == statements[-1][0].chain_id
    assert last.genesis.continues.batch_seq == statements[-1][0].batch_seq


def test_a_forked_child_gets_a_chain_of_its_own(tmp_path: Path):
    body = """
t = trail()
first = t.emit("parent", event_type=CREATE)
pid = os.fork()
if pid == 0:
    mine = t.emit("child", event_type=CREATE, parents=[first])
    assert mine.event_id[:10] != first.event_id[:10]
    assert t.instance == "host.1"
    assert t.close(30)
    assert len(broker.messages()) == 1
    os._exit(7)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 7
t.emit("parent again", event_type=CREATE)
assert t.instance == "host"
assert t.close(30)
print(sum(1 for _ in broker.messages()))
"""
    process = child(tmp_path, body)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert int(out) >= 1
    for name, count in (("host", 2), ("host.1", 1)):
        statements = spooled(tmp_path / "spool" / "orders" / name)
        assert sum(s.count for s, _ in statements) <= count
        assert statements[-1][0].closes


def test_a_process_that_forgets_to_close_is_closed_at_exit(tmp_path: Path):
    body = """
trail().emit("x", event_type=CREATE)
import atexit
"""
    process = child(tmp_path, body)
    process.communicate(timeout=60)
    assert process.returncode == 0
    ((statement, _),) = spooled(tmp_path / "spool" / "orders" / "host")
    assert statement.closes
    assert statement.count == 1


def test_salts_differ_between_parent_and_child(tmp_path: Path):
    body = """
t = trail()
t.emit("a", event_type=CREATE)
pid = os.fork()
salt = t._salt()
if pid == 0:
    Path(sys.argv[1], "salt").write_bytes(salt)
    os._exit(0)
os.waitpid(pid, 0)
assert Path(sys.argv[1], "salt").read_bytes() != salt
t.close(30)
"""
    process = child(tmp_path, body)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "salt").exists()
