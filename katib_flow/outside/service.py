"""Ask a service with Katib's gRPC API. As in Katib, each request has all trials, so a service may lose its state."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.outside.process import MOST_BYTES, MayPass, with_retries
from katib_flow.spec.sections import Service

BESIDE_SECONDS = 300.0  # for a sidecar to start: its image may still have to be pulled
ELSEWHERE_SECONDS = 15.0


@dataclass(frozen=True)
class Kind:
    """A service of Katib's API.

    Attributes:
        name: its name in the API.
        at: the path of its section in a spec.
        variable: the environment variable with its address, in a pod that runs it as a sidecar.
    """

    name: str
    at: str
    variable: str


SUGGESTION = Kind("Suggestion", "algorithm", "KATIB_FLOW_ALGORITHM_SERVICE")
EARLY_STOPPING = Kind("EarlyStopping", "early_stopping", "KATIB_FLOW_STOPPING_SERVICE")
Ask = Callable[[str, Any], Any]
"""Maps the name of a method and a request to the reply; None if the service has no such method."""


def asked(kind: Kind, spec: Service, timeout_seconds: float, questions: Callable[[Ask], Any]) -> Any:
    """Send requests to a service, up to three times in all if one fails in a way that may pass.

    Args:
        timeout_seconds: seconds to wait for one reply.
        questions: sends the requests with the function that it is passed; its result is returned.

    Raises:
        KatibFlowError: the service is unreachable, returned an error or an invalid reply, or exceeded the timeout.
    """
    try:
        address = _address(kind, spec)
    except KatibFlowError as error:
        raise KatibFlowError(f"{kind.at}.service: {spec.image} {error}") from None

    def ask(method: str, request: Any) -> Any:
        return _ask(kind, address, method, request, timeout_seconds)

    try:
        return with_retries(questions, ask)
    except KatibFlowError as error:
        raise KatibFlowError(f"{kind.at}.service: {address} {error}") from None


def _address(kind: Kind, spec: Service) -> str:
    address = os.environ.get(kind.variable) or spec.address
    if not address:
        raise KatibFlowError(f"runs only on a cluster; on this machine, set {kind.at}.service.address")
    return address


def _ask(kind: Kind, address: str, method: str, request: Any, timeout_seconds: float) -> Any:
    try:
        import grpc  # an extra of katib-flow

        from katib_flow.katib_api.calls import call
    except ImportError:
        raise KatibFlowError("needs gRPC, which is not installed here: pip install 'katib-flow[katib]'") from None

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", MOST_BYTES)]
    patience = BESIDE_SECONDS if kind.variable in os.environ else ELSEWHERE_SECONDS
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=patience)
        except grpc.FutureTimeoutError:
            raise MayPass(f"could not be reached within {patience:g} s") from None
        try:
            return call(channel, kind.name, method, request, timeout_seconds)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()  # type: ignore[attr-defined]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return None
        status = f"{method}: {code.name}" + (f": {details}" if details else "")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise MayPass(f"did not answer within {kind.at}.timeout ({timeout_seconds:g} s)")
        if code is grpc.StatusCode.UNAVAILABLE:
            raise MayPass(f"became unavailable: {status}")
        raise KatibFlowError(f"returned an error for {status}")


def lists(at: str, settings: Mapping[str, Any]) -> Iterator[SpecError]:
    """Mistakes for settings that are lists or mappings, which Katib's API cannot express."""
    for name, value in settings.items():
        if isinstance(value, list | dict):
            yield SpecError(f"{at}.settings.{name}", value, "a single value, because Katib's API has no lists here")


def required(kind: Kind, method: str, reply: Any) -> Any:
    """The reply of a method that the service must have.

    Raises:
        KatibFlowError: the reply is None, because the service has no such method.
    """
    if reply is None:
        name = f"api.v1.beta1.{kind.name}"
        raise KatibFlowError(f"has no method {method} of {name}; check that it is a service with Katib's API")
    return reply
