"""An algorithm as a program of the user's, in any language: ``algorithm.command`` or ``algorithm.container``.

The program is started once per request, and reads and writes JSON as described in ``katib_flow.outside.protocol``. Its
reply is validated. A program that is killed or exceeds its time limit is asked again, up to two times; one that fails,
or gives an invalid reply, ends the experiment with a message that says what it did.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from katib_flow.algorithms.learning import Answer
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import Learnt
from katib_flow.outside import mailbox, process, protocol
from katib_flow.plugins import AnySettings
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.files import located
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.sections import PROGRAM


def _check(experiment: Experiment, settings: AnySettings) -> Iterator[SpecError]:
    spec = experiment.algorithm
    if spec.command is None and spec.container is None:
        need = "a program: algorithm: {command: [...]} on this machine, or {container: {image, command}} on a cluster"
        yield SpecError("algorithm.command", NOTHING, need)


@algorithm(PROGRAM, settings=AnySettings, check=_check, several=True, earlier=True, budget=True, stateful=True)
def program(ask: Ask[AnySettings], kept: Iterable[Learnt]) -> Answer:
    """The suggestions of the program, and the state that it wants to keep."""
    experiment = ask.experiment
    try:
        asked = protocol.request(
            experiment, ask.space, ask.history, ask.indices, ask.earlier, state_of(experiment, ask.indices, kept)
        )
        reply = protocol.read_reply(_answer(experiment, asked))
        suggestions = protocol.suggestions(reply.suggestions, ask.space, ask.history, ask.indices)
    except KatibFlowError as error:
        raise KatibFlowError(f"{_shown(experiment)} {error}") from None
    return Answer(suggestions, kept_state(experiment, ask.indices, reply.state))


def state_of(experiment: Experiment, indices: range, kept: Iterable[Learnt]) -> Any:
    """The state of the last request for earlier trials; None before the first.

    A request that is repeated, because the process that made it was killed, gets the same state again.
    """
    digest = _digest(experiment)
    for learnt in kept:
        if learnt.digest == digest and learnt.lessons <= indices.start:
            try:
                return json.loads(learnt.content)
            except (ValueError, RecursionError):  # another program wrote it
                continue
    return None


def kept_state(experiment: Experiment, indices: range, state: Any) -> Learnt | None:
    """A state in the form in which it is kept; None for the state None, which is not kept."""
    return None if state is None else Learnt(indices.stop, _digest(experiment), json.dumps(state).encode())


def _digest(experiment: Experiment) -> str:
    return hashlib.sha256(json.dumps(["state", experiment.to_dict()], sort_keys=True).encode()).hexdigest()


def _answer(experiment: Experiment, asked: bytes) -> bytes:
    """The reply of the program: in the container next to this one if there is one, else on this machine."""
    spec, beside = experiment.algorithm, os.environ.get(mailbox.VARIABLE)
    if beside:
        return process.with_retries(mailbox.ask, Path(beside), asked, spec.answer_seconds)
    if spec.command is None:
        raise KatibFlowError("runs only on a cluster; set algorithm.command to run on this machine")
    command = located(spec.command, experiment.base)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return process.with_retries(process.run, command, asked, spec.answer_seconds, environment)


def _shown(experiment: Experiment) -> str:
    spec = experiment.algorithm
    if os.environ.get(mailbox.VARIABLE) or spec.command is None:
        assert spec.container is not None
        return f"algorithm.container: {spec.container.image}"
    return f"algorithm.command: {' '.join(spec.command)}"
