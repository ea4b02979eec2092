"""librdkafka's own broker, on a port of our choice.

confluent-kafka bundles librdkafka, and librdkafka carries a small Kafka broker for its own tests
(`rdkafka_mock.h`). It is fast and needs nothing installed, but always listens on a random port.
Three steps, all on its public interface but the last, give it what an embedded stack needs:

1. It listens on a random port. We bind the wanted one and `dup2` our socket over its listening
   descriptor: the broker keeps its number and accepts on our address. `dup2` is atomic, so there
       is no
   moment without a listener.
2. `rd_kafka_mock_broker_set_host_port` makes it advertise the address that clients can reach.
3. Its cluster id is an address of the heap, which two runs may share. A `log_id` that comes again
   would let new messages pass for redeliveries, so a random one is written over it. The id is the
   first field of the structure; we check that it is the text we expect there before touching it.
"""

import ctypes
import os
import re
import secrets
import socket
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sealtrail.errors import ConfigurationError, UnavailableError

_PRODUCER: Final = 0
_CLUSTER_ID_BYTES: Final = 32
_ERROR_BYTES: Final = 512
_MOCK_ID: Final = re.compile(rb"mockCluster[0-9a-f]+\Z")
_ID_ALPHABET: Final = string.ascii_letters + string.digits
_BROKER_ID: Final = 1


def _bundled_library() -> ctypes.CDLL:
    """The very librdkafka that confluent-kafka has loaded into this process."""
    import confluent_kafka  # noqa: F401 - loads the library whose path is then looked up

    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "librdkafka" in line}
    if not paths:
        raise UnavailableError(
            "confluent-kafka was loaded without a librdkafka library of its own",
            hint="install the wheel of confluent-kafka, not a build of your own",
        )
    library = ctypes.CDLL(min(paths))
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", integer, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [integer, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_err2str", text, [integer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, integer]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_broker_set_host_port", None, [pointer, ctypes.c_int32, text, integer]),
        ("rd_kafka_mock_broker_set_rtt", integer, [pointer, ctypes.c_int32, integer]),
        ("rd_kafka_mock_topic_create", integer, [pointer, text, integer, integer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _listening_socket(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A restart must not wait for the connections of the last run to leave TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="set SEALTRAIL_LOCAL_KAFKA_PORT to a free port, or stop what uses this one",
        ) from error
    listener.listen(socket.SOMAXCONN)
    return listener


def _descriptor_listening_on(port: int) -> int:
    """The descriptor of this process that listens on a loopback port."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
        except FileNotFoundError:
            continue  # the descriptor of this listing, closed by now
        number = int(entry.name)
        # A duplicate: closing it leaves the broker's own descriptor open.
        with socket.socket(fileno=os.dup(number)) as candidate:
            if candidate.family == socket.AF_INET and candidate.getsockname()[1] == port:
                return number
    raise UnavailableError(f"the embedded broker does not listen on its own port {port}")


class MockCluster:
    """One broker of librdkafka, listening on `host:port` until `close`.

    Args:
        host: address to bind and to advertise.
        port: port to bind and to advertise; must be free.
        topics: numbers of partitions by name.

    Raises:
        ConfigurationError: the port is taken.
        UnavailableError: librdkafka is not as this module expects it, or refuses a topic.
    """

    def __init__(self, host: str, port: int, topics: Mapping[str, int]) -> None:
        self._library = _bundled_library()
        listener = _listening_socket(host, port)
        self._handle = self._new_handle()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            raise UnavailableError("librdkafka could not start its broker")
        # Its default of 3 s makes each first join of a group that much slower.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)
        for name, partitions in topics.items():
            self._create_topic(name, partitions)
        self.cluster_id = self._randomise_cluster_id()
        # Last: whoever gets through must find a complete broker. Until now connections wait.
        self._listen_at(listener, host, port)

    def _listen_at(self, listener: socket.socket, host: str, port: int) -> None:
        bootstraps: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        target = _descriptor_listening_on(int(bootstraps.rsplit(b":", 1)[1]))
        self._library.rd_kafka_mock_broker_set_host_port(
            self._cluster, _BROKER_ID, host.encode(), port
        )
        with listener:
            os.set_blocking(listener.fileno(), os.get_blocking(target))
            os.dup2(listener.fileno(), target, inheritable=False)
        # Its thread still polls the socket that was there before; any command wakes it.
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, _BROKER_ID, 0)

    def _new_handle(self) -> int:
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        configuration = self._library.rd_kafka_conf_new()
        # The handle itself never connects anywhere; the broker only borrows its threads.
        self._library.rd_kafka_conf_set(
            configuration, b"client.id", b"sealtrail-broker", error, _ERROR_BYTES
        )
        handle = self._library.rd_kafka_new(_PRODUCER, configuration, error, _ERROR_BYTES)
        if not handle:
            raise UnavailableError(f"librdkafka did not start: {error.value.decode()}")
        return int(handle)

    def _randomise_cluster_id(self) -> str:
        field = (ctypes.c_char * _CLUSTER_ID_BYTES).from_address(self._cluster)
        if not _MOCK_ID.match(field.value):
            raise UnavailableError(
                "this librdkafka keeps the broker's cluster id elsewhere",
                hint="use the version of confluent-kafka that Sealtrail pins",
            )
        # 22 characters, as Kafka's own ids have.
        cluster_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(22))
        field.value = cluster_id.encode()
        return cluster_id

    def _create_topic(self, name: str, partitions: int) -> None:
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            reason = self._library.rd_kafka_err2str(code).decode()
            raise UnavailableError(f"topic {name} was not created: {reason}")

    def close(self) -> None:
        """Stop the broker; all that it held is gone."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)
