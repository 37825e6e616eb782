"""An algorithm as a service that implements Katib's suggestion API (gRPC): an image of Katib's, or one of the user's.

The service gets ``algorithm.name`` and ``algorithm.settings``. Its replies are validated. A service that cannot be
reached, or exceeds its time limit, is asked again, up to two times.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from katib_flow.algorithms.learning import Answer
from katib_flow.algorithms.program import kept_state, state_of
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Learnt, Suggestion, Value
from katib_flow.outside import protocol
from katib_flow.outside import service as outside
from katib_flow.outside.service import lists
from katib_flow.plugins import AnySettings
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.sections import SERVICE


def _check(experiment: Experiment, settings: AnySettings) -> Iterator[SpecError]:
    from katib_flow.katib_api.suggestion import inexpressible  # protobuf is slow to import

    if experiment.algorithm.service is None:
        yield SpecError("algorithm.service", NOTHING, "the address of a service, or its image on a cluster")
    else:
        yield from inexpressible(experiment, search_space(experiment))
    yield from lists("algorithm", experiment.algorithm.settings)


@algorithm(SERVICE, settings=AnySettings, check=_check, extra="katib", stateful=True)
def asked_service(ask: Ask[AnySettings], kept: Iterable[Learnt]) -> Answer:
    """The suggestions of the service, and the settings that it wants to get from now on."""
    spec = ask.experiment.algorithm
    assert spec.service is not None
    state = state_of(ask.experiment, ask.indices, kept)
    changed = state if isinstance(state, Mapping) else {}

    def questions(service: outside.Ask) -> tuple[Any, list[Suggestion]]:
        reply = _reply(ask, service, {**spec.settings, **changed})
        return reply, _suggestions(ask, reply)

    reply, suggestions = outside.asked(outside.SUGGESTION, spec.service, spec.answer_seconds, questions)
    settings = {setting.name: setting.value for setting in reply.algorithm.algorithm_settings}
    return Answer(suggestions, kept_state(ask.experiment, ask.indices, {**changed, **settings} or None))


def _reply(ask: Ask[AnySettings], service: outside.Ask, settings: Mapping[str, Value]) -> Any:
    from katib_flow.katib_api.messages import message
    from katib_flow.katib_api.suggestion import experiment_message, trial_message

    described = experiment_message(ask.experiment, ask.space, settings)
    if not ask.history:
        service("ValidateAlgorithmSettings", message("ValidateAlgorithmSettingsRequest")(experiment=described))
    asked = message("GetSuggestionsRequest")(
        experiment=described,
        trials=[trial_message(ask.experiment, trial) for trial in ask.history],
        current_request_number=len(ask.indices),
        total_request_number=ask.indices.stop,
    )
    return outside.required(outside.SUGGESTION, "GetSuggestions", service("GetSuggestions", asked))


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
