"""Call methods of Katib's gRPC API, and serve them."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from katib_flow.katib_api.messages import PACKAGE, message
from katib_flow.wording import counted

Handler = Callable[[Any], Any]
"""Maps a request to its reply."""


class Refusal(Exception):
    """Raised by a handler for an invalid request: the client gets INVALID_ARGUMENT with the text."""


def call(channel: grpc.Channel, service: str, method: str, request: Any, timeout_seconds: float) -> Any:
    """Call a method and return its reply.

    Args:
        service, method: names such as ``Suggestion`` and ``GetSuggestions``.

    Raises:
        grpc.RpcError: the server is unreachable, has no such method, returns an error, or exceeds the timeout.
    """
    ask: Any = channel.unary_unary(
        f"/{PACKAGE}.{service}/{method}",
        request_serializer=_written,
        response_deserializer=message(f"{method}Reply").FromString,
    )
    return ask(request, timeout=timeout_seconds)


def handlers(service: str, methods: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
    """The handlers of a service's methods, by name, to be added to a gRPC server."""
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
    """Parse a message; gRPC's own deserializer would log a traceback and report an internal error."""
    try:
        return message(name).FromString(data)
    except DecodeError:
        raise Refusal(f"found {counted(len(data), 'byte')} of another form, need a {name}") from None


def _written(outgoing: Any) -> bytes:
    return outgoing.SerializeToString()
