"""Ask a service that speaks Katib's gRPC API. Each question carries all trials, as Katib's do, so a service that has
lost its memory answers as well."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.outside.process import MOST_BYTES, MayPass, asked_again
from katib_flow.spec.sections import Service

BESIDE_SECONDS = 300.0  # for one beside us to start: its image may still have to be pulled
ELSEWHERE_SECONDS = 15.0


@dataclass(frozen=True)
class Kind:
    """A service of Katib's API.

    Attributes:
        name: in the API.
        at: the path of its section in a spec.
        variable: names its address, in a pod that has one beside our own container.
    """

    name: str
    at: str
    variable: str


SUGGESTION = Kind("Suggestion", "algorithm", "KATIB_FLOW_ALGORITHM_SERVICE")
EARLY_STOPPING = Kind("EarlyStopping", "early_stopping", "KATIB_FLOW_STOPPING_SERVICE")
Ask = Callable[[str, Any], Any]
"""From the name of a method and its request to the reply; None where the service has no such method."""


def asked(kind: Kind, spec: Service, timeout_seconds: float, questions: Callable[[Ask], Any]) -> Any:
    """What some questions to a service come to; all of them are asked again, twice, where what failed may pass.

    Args:
        timeout_seconds: for which one answer is waited for.
        questions: is given a function that asks.

    Raises:
        KatibFlowError: the service cannot be reached, refused, failed or took too long, or the answer is unsound.
    """
    try:
        address = _address(kind, spec)
    except KatibFlowError as error:
        raise KatibFlowError(f"{kind.at}.service: {spec.image} {error}") from None

    def ask(method: str, request: Any) -> Any:
        return _ask(kind, address, method, request, timeout_seconds)

    try:
        return asked_again(questions, ask)
    except KatibFlowError as error:
        raise KatibFlowError(f"{kind.at}.service: {address} {error}") from None


def _address(kind: Kind, spec: Service) -> str:
    address = os.environ.get(kind.variable) or spec.address
    if not address:
        raise KatibFlowError(f"runs on a cluster only; give {kind.at}.service.address for this machine")
    return address


def _ask(kind: Kind, address: str, method: str, request: Any, timeout_seconds: float) -> Any:
    try:
        import grpc  # an extra of katib-flow

        from katib_flow.katib_api.calls import call
    except ImportError:
        raise KatibFlowError("needs gRPC to be asked: pip install 'katib-flow[katib]'") from None

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", MOST_BYTES)]
    patience = BESIDE_SECONDS if kind.variable in os.environ else ELSEWHERE_SECONDS
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=patience)
        except grpc.FutureTimeoutError:
            raise MayPass(f"cannot be reached within {patience:g} s") from None
        try:
            return call(channel, kind.name, method, request, timeout_seconds)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()  # type: ignore[attr-defined]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return None
        said = f"{method}: {code.name}" + (f": {details}" if details else "")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise MayPass(f"gave no answer within {kind.at}.timeout ({timeout_seconds:g} s)")
        if code is grpc.StatusCode.UNAVAILABLE:
            raise MayPass(f"went away: {said}")
        raise KatibFlowError(f"refused {said}")


def lists(at: str, settings: Mapping[str, Any]) -> Iterator[SpecError]:
    """Settings that Katib's API has no words for."""
    for name, value in settings.items():
        if isinstance(value, list | dict):
            yield SpecError(f"{at}.settings.{name}", value, "one value: Katib's API has no lists here")


def required(kind: Kind, method: str, reply: Any) -> Any:
    """A reply that there must be.

    Raises:
        KatibFlowError: the service has no such method.
    """
    if reply is None:
        name = f"api.v1.beta1.{kind.name}"
        raise KatibFlowError(f"has no method {method} of {name}: is it a service of Katib's API?")
    return reply
