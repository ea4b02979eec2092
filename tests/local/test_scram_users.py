"""Users of the brokers' passwords: a client that changes a broker's name meanwhile asks again."""

from concurrent.futures import Future
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from sealtrail_local.real import secure


class Client:
    """An AdminClient whose first answers are errors."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.taken: list[str] = []

    def alter_user_scram_credentials(self, wanted: Any, **_: Any) -> dict[str, Future[None]]:
        answer: Future[None] = Future()
        if self.errors:
            answer.set_exception(KafkaException(KafkaError(self.errors.pop(0))))
        else:
            self.taken += [one.user for one in wanted]
            answer.set_result(None)
        return {one.user: answer for one in wanted}


PASSWORDS = {"worker": b"a", "auditor": b"b"}


def test_a_request_that_the_client_ended_is_sent_again() -> None:
    client = Client(KafkaError._DESTROY_BROKER, KafkaError._DESTROY_BROKER)
    secure.upsert(cast("Any", client), PASSWORDS)
    assert client.taken == ["worker", "auditor"]


def test_what_the_brokers_refuse_is_an_error_at_once() -> None:
    client = Client(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        secure.upsert(cast("Any", client), PASSWORDS)
    assert client.taken == []


def test_it_does_not_try_for_ever() -> None:
    client = Client(*[KafkaError._DESTROY_BROKER] * 10)
    with pytest.raises(KafkaException):
        secure.upsert(cast("Any", client), PASSWORDS)
    assert len(client.errors) == 10 - secure._TRIES
