"""The product's conservation check (`sealtrail audit conservation`) for a stack on this machine."""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sealtrail import connections
from sealtrail.settings import load
from sealtrail_audit.conservation.kafka import KafkaBroker
from sealtrail_audit.conservation.questions import Questions
from sealtrail_audit.conservation.run import Check, Rules
from sealtrail_audit.reader import connect
from sealtrail_audit.settings import AuditSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sealtrail_audit.conservation.law import Report

TIMEOUT_S = 600


def variables(state_dir: Path) -> dict[str, str]:
    """What `local up` wrote for clients."""
    lines = (state_dir / "local.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip("'\"") for name, value in pairs}


def query(settings: Mapping[str, str], sql: str) -> list[dict[str, Any]]:
    """Rows of the store, asked over HTTP as its writer; the database is the tables'."""
    numbers = "output_format_json_quote_64bit_integers=0"
    url = f"{settings['SEALTRAIL_STORE_URL']}/?database=sealtrail&{numbers}"
    headers = {
        "X-ClickHouse-User": settings["SEALTRAIL_STORE_USER"],
        "X-ClickHouse-Key": settings["SEALTRAIL_STORE_PASSWORD"],
    }
    request = urllib.request.Request(  # noqa: S310 - loopback, from local.env
        url, data=f"{sql} FORMAT JSONEachRow".encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - see above
        return [json.loads(line) for line in reply.read().splitlines()]


def check(state_dir: Path, *, drained: bool = True, settle_s: float = 120) -> Report:
    """Count everything, as `sealtrail audit conservation --drained` does.

    Args:
        state_dir: folder of a stack that runs; its local.env says where everything is.
        drained: whether all that is in the log must be committed by now.
        settle_s: gaps may be unnamed so long.
    """
    settings = load(AuditSettings, {"SEALTRAIL_STATE_DIR": str(state_dir)})
    config = connections.librdkafka(settings, "auditor")
    settled = time.time_ns() // 1000 - round(settle_s * 1e6)
    with (
        closing(connect(settings)) as reader,
        closing(KafkaBroker(config, settings.group)) as broker,
    ):
        questions = Questions(reader, settings.topic)
        return Check(questions, broker, {}, Rules(settled, drained)).run(settings.topic)


def behind(state_dir: Path) -> dict[int, int]:
    """How many messages of each partition are not committed yet; only those that have some."""
    settings = load(AuditSettings, {"SEALTRAIL_STATE_DIR": str(state_dir)})
    config = connections.librdkafka(settings, "auditor")
    with closing(KafkaBroker(config, settings.group)) as broker:
        sides = broker.sides(settings.topic)
    with closing(connect(settings)) as reader:
        ends = Questions(reader, settings.topic).ends()
    left = {side.place.partition: side.end - ends.get(side.place, -1) - 1 for side in sides}
    return {number: count for number, count in left.items() if count > 0}
