"""Calls of Katib's gRPC services: what a client sends, and what a server of ours answers with."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from katib_flow.katib_api.messages import PACKAGE, message

Handler = Callable[[Any], Any]
"""From a request to its reply."""


class Refusal(Exception):
    """Raised by a handler whose request is wrong: the client gets INVALID_ARGUMENT, and the text.

    So it does where its bytes are no message.
    """


def call(channel: grpc.Channel, service: str, method: str, request: Any, timeout_seconds: float) -> Any:
    """Call a method and return its reply.

    Args:
        service, method: such as ``Suggestion`` and ``GetSuggestions``.

    Raises:
        grpc.RpcError: the server cannot be reached, has no such method, refuses, or takes too long.
    """
    ask: Any = channel.unary_unary(
        f"/{PACKAGE}.{service}/{method}",
        request_serializer=_written,
        response_deserializer=message(f"{method}Reply").FromString,
    )
    return ask(request, timeout=timeout_seconds)


def handlers(service: str, methods: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
    """The methods of a service, by name, to be added to a server."""
    return grpc.method_handlers_generic_handler(
        f"{PACKAGE}.{service}", {name: _handler(name, handler) for name, handler in methods.items()}
    )


def _handler(name: str, handler: Handler) -> Any:
    def answer(data: bytes, context: grpc.ServicerContext) -> Any:
        try:
            return handler(_read(f"{name}Request", data))
        except Refusal as refusal:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refusal))

    return grpc.unary_unary_rpc_method_handler(answer, response_serializer=_written)


def _read(name: str, data: bytes) -> Any:
    """The message that bytes are. gRPC's own deserializer would log a traceback, and blame us."""
    try:
        return message(name).FromString(data)
    except DecodeError:
        raise Refusal(f"found {len(data)} bytes that are none, need a {name}") from None


def _written(sent: Any) -> bytes:
    return sent.SerializeToString()
