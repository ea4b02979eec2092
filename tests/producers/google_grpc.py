"""Google's key service over gRPC, as its clients speak to it when nobody names an endpoint.

It says what `backends.Gcp` says over REST: the same recorded bodies as messages, and errors as
google.rpc.Status with their details.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcTransport,
)
from google.protobuf.json_format import ParseDict
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.producers.backends import Service

SERVICE = "google.cloud.kms.v1.KeyManagementService"
# Details are found by the names of their types: this one must be known.
assert error_details_pb2.PreconditionFailure


# Method: the path that says the same over REST, the request's and the answer's type.
METHODS: dict[str, tuple[str, Any, Any]] = {
    "GetPublicKey": ("/v1/{}/publicKey", kms_v1.GetPublicKeyRequest, kms_v1.PublicKey),
    "AsymmetricSign": (
        "/v1/{}:asymmetricSign",
        kms_v1.AsymmetricSignRequest,
        kms_v1.AsymmetricSignResponse,
    ),
}


def _method(service: Service, path: str, asked: Any, said: Any) -> Any:
    def answer(request: Any, context: Any) -> Any:
        body = json.loads(asked.to_json(request))
        status, found = service.say(path.format(request.name), body, {})
        if status == 200:
            return said.from_json(json.dumps(found))
        error = found["error"]
        wrong = {
            "code": code_pb2.Code.Value(error["status"]),
            "message": error["message"],
            "details": error.get("details", []),
        }
        return context.abort_with_status(
            rpc_status.to_status(ParseDict(wrong, status_pb2.Status()))
        )

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=asked.deserialize, response_serializer=said.serialize
    )


@contextmanager
def client_of(service: Service) -> Iterator[Any]:
    """Google's client, talking gRPC to a service on a free port of loopback."""
    with ThreadPoolExecutor(4) as pool:
        methods = {name: _method(service, *told) for name, told in METHODS.items()}
        server = grpc.server(pool, [grpc.method_handlers_generic_handler(SERVICE, methods)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            transport = KeyManagementServiceGrpcTransport(channel=channel)
            yield kms_v1.KeyManagementServiceClient(transport=transport)
        server.stop(None).wait()
