"""Apicurio Registry as the SDK meets it."""

import json
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Stack

from sealtrail.settings import load
from sealtrail_producer.kafka import KafkaRegistry
from sealtrail_producer.settings import ProducerSettings


def test_producers_that_begin_at_the_same_moment(real_stack: Stack):
    settings = load(ProducerSettings, real_stack.env)

    def register(subject: str) -> int:
        registry = KafkaRegistry(settings, "tests")
        try:
            return registry.register(subject, schema, "FULL_TRANSITIVE")
        finally:
            registry.close()

    for number in range(10):
        schema = json.dumps({"type": "enum", "name": f"At{number}", "symbols": ["A"]})
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(register, [f"at-once-{number}"] * 8))
        assert len(set(found)) == 1
