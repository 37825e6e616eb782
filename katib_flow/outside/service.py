"""Ask a service that speaks Katib's gRPC API for suggestions. Each question carries all trials, as Katib's do, so a
service that has lost its memory answers as well."""

import os
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.outside.process import MOST_BYTES, MayPass

SERVICE_VARIABLE = "KATIB_FLOW_ALGORITHM_SERVICE"
"""Names the address of a service, in a pod whose suggest step has one beside it."""
BESIDE_SECONDS = 300.0  # for one beside us to start: its image may still have to be pulled
ELSEWHERE_SECONDS = 15.0


def address_of(configured: str | None) -> str:
    """Where the service is.

    Raises:
        KatibFlowError: it runs on a cluster only.
    """
    address = os.environ.get(SERVICE_VARIABLE) or configured
    if not address:
        raise KatibFlowError("runs on a cluster only; give algorithm.service.address for this machine")
    return address


def ask(address: str, method: str, request: Any, timeout_seconds: float) -> Any:
    """The reply of a method of the service ``Suggestion``; None where the service has no such method.

    Raises:
        MayPass: it cannot be reached, or took too long.
        KatibFlowError: it refused, or failed.
    """
    import grpc  # an extra of katib-flow

    from katib_flow.katib_api.calls import call

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", MOST_BYTES)]
    patience = BESIDE_SECONDS if SERVICE_VARIABLE in os.environ else ELSEWHERE_SECONDS
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=patience)
        except grpc.FutureTimeoutError:
            raise MayPass(f"cannot be reached within {patience:g} s") from None
        try:
            return call(channel, "Suggestion", method, request, timeout_seconds)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()  # type: ignore[attr-defined]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return None
        said = f"{method}: {code.name}" + (f": {details}" if details else "")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise MayPass(f"gave no answer within algorithm.timeout ({timeout_seconds:g} s)")
        if code is grpc.StatusCode.UNAVAILABLE:
            raise MayPass(f"went away: {said}")
        raise KatibFlowError(f"refused {said}")
