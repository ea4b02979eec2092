"""Schemas of nobody, of another subject, not yet in force, and ones that hurt their readers."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from tests.attacks.assets import make
from tests.attacks.key_record import HOUR, fresh_signer
from tests.attacks.registry import attack
from tests.scenarios.chains import TOPIC, now_us

from sealtrail import avro
from sealtrail.errors import MalformedError
from sealtrail.findings import Code
from sealtrail.records import SchemaPin
from sealtrail.validate import event_subject

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene

SUBJECT = event_subject(TOPIC)


def _grown(name: str) -> str:
    """The event's schema with one field more."""
    schema = avro.load_schema("ProvenanceEvent")
    field = {"name": name, "type": "string", "default": ""}
    return json.dumps(schema | {"fields": [*schema["fields"], field]})


def _pin(text: str, subject: str = SUBJECT, valid_from: int = 0) -> SchemaPin:
    try:
        name = avro.fingerprint(avro.parse_json(text))
    except MalformedError:
        # None can be computed of what must not be read; the batch names the same 32 bytes.
        name = sha256(text.encode()).digest()
    return SchemaPin(subject, name, valid_from or now_us() - HOUR, text)


@attack("C1")
def schema_of_nobody(scene: Scene) -> None:
    unknown = sha256(b"a schema that nobody pinned").digest()
    made = scene.chain("orders", 0).make(event_schema=unknown)
    scene.refuse(made.value, 0, Code.UNKNOWN_SCHEMA)


@attack("C1")
def schema_of_another_place(scene: Scene) -> None:
    """Pinned by the operator: under another subject, and from tomorrow on."""
    elsewhere = _pin(_grown("elsewhere"), subject="payments-value")
    tomorrow = _pin(_grown("tomorrow"), valid_from=now_us() + 24 * HOUR)
    for pin in (elsewhere, tomorrow):
        scene.register(pin)
        scene.flush()
        made = scene.chain("orders", 1).make(event_schema=pin.fingerprint)
        scene.refuse(made.value, 1, Code.SCHEMA_NOT_ALLOWED)


@attack("C2")
def schema_pinned_by_a_stranger(scene: Scene) -> None:
    pin = _pin(_grown("stranger"))
    scene.register(pin, fresh_signer())
    scene.flush()
    made = scene.chain("orders", 2).make(event_schema=pin.fingerprint)
    scene.refuse(made.value, 2, Code.UNKNOWN_SCHEMA)


@attack("C2", "C3", "C4", "C5", "C7")
def schema_that_hurts(scene: Scene) -> None:
    """Pinned by the operator, who did not look: such pins do not count, whoever signed them."""
    chain = scene.chain("billing", 1)
    for text in make.schemas().values():
        pin = _pin(text)
        scene.register(pin)
        scene.flush()
        scene.refuse(chain.draft(event_schema=pin.fingerprint).value, 1, Code.UNKNOWN_SCHEMA)
    scene.accept(chain.make())


@attack("C14")
def ids_of_another_registry(scene: Scene) -> None:
    """The registry gives other schemas under ids that messages name: nobody asks it.

    Nor does a batch that swears to such a schema gain by the registry's knowing it.
    """
    subjects = ("provenance.events-value", "poison-value")
    numbers = [scene.register_schema(name, make.POISON) for name in subjects[1:]]
    chain = scene.chain("shipping", 3)
    for number in (*numbers, 0, 1, 2, 2**31 - 1, -1):
        made = chain.make()
        scene.accept(made, value=made.with_envelope(event_schema_id=number))
    made = chain.make()
    poisoned = made.value[:1] + numbers[0].to_bytes(4, "big") + made.value[5:]
    scene.accept(made, value=poisoned)
    poison = avro.fingerprint(avro.parse_json(make.POISON))
    sworn = chain.draft(event_schema=poison).with_envelope(event_schema_id=numbers[0])
    scene.refuse(sworn, 3, Code.UNKNOWN_SCHEMA)
