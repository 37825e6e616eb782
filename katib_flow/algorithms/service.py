"""A service that suggests over Katib's gRPC API: an existing suggestion image of Katib's, or one of the user's own.

``algorithm.name`` and ``settings`` are what the service is asked for. Nothing that it answers is trusted. One that
cannot be reached or takes too long is asked again, twice.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from katib_flow.algorithms.learning import Answer
from katib_flow.algorithms.program import TRIES, AnySettings, kept_state, state_of
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import Learnt, Suggestion, Value
from katib_flow.outside import protocol, service
from katib_flow.outside.process import MayPass
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.sections import SERVICE


def _check(experiment: Experiment, settings: AnySettings) -> Iterator[SpecError]:
    from katib_flow.katib_api.suggestion import cannot_say  # protobuf is slow to import

    if experiment.algorithm.service is None:
        yield SpecError("algorithm.service", NOTHING, "the address of a service, or its image on a cluster")
    else:
        yield from cannot_say(experiment, search_space(experiment))
    for name, value in experiment.algorithm.settings.items():
        if isinstance(value, list | dict):
            yield SpecError(f"algorithm.settings.{name}", value, "one value: Katib's API has no lists here")


@algorithm(SERVICE, settings=AnySettings, check=_check, extra="katib", stateful=True)
def asked_service(ask: Ask[AnySettings], kept: Iterable[Learnt]) -> Answer:
    """What the service suggests, and the settings that it wants to be asked with from now on."""
    spec = ask.experiment.algorithm
    assert spec.service is not None
    state = state_of(ask.experiment, ask.indices, kept)
    changed = state if isinstance(state, Mapping) else {}
    try:
        address = service.address_of(spec.service.address)
    except KatibFlowError as error:
        raise KatibFlowError(f"algorithm.service: {spec.service.image} {error}") from None
    attempts = Retrying(retry=retry_if_exception_type(MayPass), stop=stop_after_attempt(TRIES), reraise=True)
    try:
        reply = attempts(_reply, ask, address, {**spec.settings, **changed})
        suggestions = _suggestions(ask, reply)
    except MayPass as error:
        raise KatibFlowError(f"algorithm.service: {address} {error}; it was asked {TRIES} times") from None
    except KatibFlowError as error:
        raise KatibFlowError(f"algorithm.service: {address} {error}") from None
    settings = {setting.name: setting.value for setting in reply.algorithm.algorithm_settings}
    return Answer(suggestions, kept_state(ask.experiment, ask.indices, {**changed, **settings} or None))


def _reply(ask: Ask[AnySettings], address: str, settings: Mapping[str, Value]) -> Any:
    from katib_flow.katib_api.messages import message
    from katib_flow.katib_api.suggestion import experiment_message, trial_message

    said, timeout = experiment_message(ask.experiment, ask.space, settings), ask.experiment.algorithm.timeout
    if not ask.history:
        check = message("ValidateAlgorithmSettingsRequest")(experiment=said)
        service.ask(address, "ValidateAlgorithmSettings", check, timeout)
    asked = message("GetSuggestionsRequest")(
        experiment=said,
        trials=[trial_message(ask.experiment, trial) for trial in ask.history],
        current_request_number=len(ask.indices),
        total_request_number=ask.indices.stop,
    )
    reply = service.ask(address, "GetSuggestions", asked, timeout)
    if reply is None:
        raise KatibFlowError("has no method GetSuggestions of api.v1.beta1.Suggestion: is it a service of Katib's API?")
    return reply


def _suggestions(ask: Ask[AnySettings], reply: Any) -> list[Suggestion]:
    from katib_flow.katib_api.suggestion import LABELS, NAME, assignment_of

    answers = list(reply.parameter_assignments)
    assignments = [assignment_of(answer.assignments, ask.space) for answer in answers]
    proposals = [protocol.Proposed(assignment=assignment, budget=None, parent=None) for assignment in assignments]
    suggestions = protocol.suggestions(proposals, ask.space, ask.history, ask.indices)
    notes = [
        ({NAME: answer.trial_name} if answer.trial_name else {})
        | ({LABELS: dict(answer.labels)} if answer.labels else {})
        for answer in answers
    ]
    return [replace(suggestion, info=info) for suggestion, info in zip(suggestions, notes, strict=True)]
