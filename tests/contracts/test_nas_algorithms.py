"""What every algorithm that searches architectures keeps to. A new one joins by being registered.

Where one cannot search a space, its ``check`` says so; it is tried on the presets until one fits.
"""

import json
import random
from typing import Any

import pytest
from kit import spec
from test_algorithms import ARCHITECTURES, HERE

from katib_flow.algorithms import check_algorithm, registered_algorithms
from katib_flow.errors import InvalidSpec
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.choices import PROGRESS, choice_metrics
from katib_flow.models.presets import presets
from katib_flow.spaces import architectures, search_space
from katib_flow.spec import Experiment

SPACES = ("cell", *(name for name in presets.all() if name not in ("cell", "katib")))
TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "latency", "direction": "minimize"}]
LIGHT: dict[str, dict[str, Any]] = {
    "amoebanet": {"population": 6, "sample": 4},
    "blockqnn": {"batch": 2, "schedule": [[1.0, 7], [0.0, 1]], "replay": 8},
    "eas": {"batch": 2, "stage": 2, "lr": 0.05},
    "hierarchical": {"population": 4, "mutations": 20, "tournament": 0.5},
    "large-scale-evolution": {"population": 8},
    "nao": {"initial": 4, "batch": 2, "training_steps": 10, "hidden": 16, "embedding": 4, "lr": 0.02},
    "nasbot": {"initial": 4, "candidates": 12, "mutants": 8},
    "nash": {"children": 5, "morphisms": 2},
    "network-morphism": {"lowest_temperature": 0.5, "neighbours": 4},
    "renas": {"batch": 2, "population": 4, "sample": 3, "lr": 0.05},
}
"""Settings with which a dozen trials show what a system does; it needs none to join."""
every_system = pytest.mark.parametrize("name", ARCHITECTURES)


def search(name: str, seed: int = 0, **sections: Any) -> Experiment:
    """An experiment for an algorithm, in the first space that it searches."""
    for space in SPACES:
        data = spec(
            architecture=space, algorithm={"name": name, "seed": seed, "settings": LIGHT.get(name, {})}, **sections
        )
        made = Experiment.parse(data)
        if any(problem.where == "objective" for problem in check_algorithm(made)):
            made = Experiment.parse({**data, "objective": TWO})
        if not [problem for problem in check_algorithm(made) if problem.where.startswith("architecture")]:
            return made
    raise AssertionError(f"{name} searches none of {SPACES}")


def ended(suggestion: Suggestion, value: float = 0.5, state: State = State.SUCCEEDED) -> Trial:
    """A trial that reported what systems read: its objective, a statistic of every edge, the choices of a supernet."""
    assert suggestion.topology is not None
    topology = Topology.parse(suggestion.topology)
    rng = random.Random(suggestion.index)
    observations = {
        "accuracy": value,
        "latency": 1 + rng.random(),
        "ensemble/objective": 1 / (2 + suggestion.index),
        **{f"variance/{edge.key}": rng.random() for edge in topology.flat.edges},
    }
    if groups := topology.flat.groups:  # a supernet, of which the first segment is not all
        positions = {slot: number % len(names) for number, (slot, names) in enumerate(groups.items())}
        observations |= choice_metrics([positions])
        observations |= {PROGRESS: (suggestion.index + 1) / 3}
    return Trial(suggestion, state, observations if state is State.SUCCEEDED else {})


def play(made: Experiment, most: int = 6, batch: int = 2) -> History:
    history = History()
    while len(history) < most and (fresh := suggest(made, history, batch)):
        history = history.replaced(ended(each, each.index % 7 / 7) for each in fresh)
    return history


@every_system
def test_every_suggestion_has_a_sound_topology_and_lies_in_the_space(name):
    made = search(name)
    history = play(made)
    assert len(history)
    for trial in history:
        assert Topology.parse(trial.suggestion.topology)
        assert trial.assignment in search_space(made)
        assert trial.suggestion.parent is None or trial.suggestion.parent < trial.index


@every_system
def test_the_same_history_gives_the_same_suggestions(name):
    made = search(name)
    history = play(made, 4)
    again = Experiment.parse(json.loads(json.dumps(made.to_dict())))
    expected = [each.to_dict() for each in suggest(made, history, 2)]
    assert [each.to_dict() for each in suggest(again, History(tuple(reversed(history.trials))), 2)] == expected


@every_system
def test_a_suggestion_survives_json(name):
    for suggestion in suggest(search(name), play(search(name), 4), 2):
        assert Suggestion.from_dict(json.loads(json.dumps(suggestion.to_dict(), allow_nan=False))) == suggestion


@every_system
@pytest.mark.parametrize("state", State)
def test_trials_in_any_state_do_no_harm(name, state):
    made = search(name)
    first = suggest(made, History(), 2)
    for suggestion in suggest(made, History(tuple(ended(each, state=state) for each in first)), 2):
        assert Topology.parse(suggestion.topology)


@every_system
def test_it_searches_recurrent_cells_or_says_what_it_needs_instead(name):
    cells = {"space": "tree", "settings": {"tokens": 3, "features": 2}}
    data = spec(architecture=cells, algorithm={"name": name, "settings": LIGHT.get(name, {})})
    made = Experiment.parse(data)
    if any(problem.where == "objective" for problem in check_algorithm(made)):
        made = Experiment.parse({**data, "objective": TWO})
    if problems := list(check_algorithm(made)):
        assert {problem.where for problem in problems} == {"architecture.space"}
        return
    history = play(made, 4)
    assert len(history) == 4
    for trial in history:
        topology = Topology.parse(trial.suggestion.topology)
        assert (topology.input.tokens, topology.output.classes) == (3, 3)
        assert trial.assignment in search_space(made)
    again = suggest(made, History(tuple(reversed(history.trials))), 2)
    assert [each.to_dict() for each in again] == [each.to_dict() for each in suggest(made, history, 2)]


@every_system
def test_without_an_architecture_it_says_what_it_needs(name):
    with pytest.raises(InvalidSpec, match="architecture: found nothing, need"):
        suggest(Experiment.parse(spec(algorithm=name)), History(), 1)


@every_system
def test_it_says_in_a_line_what_it_is(name):
    assert registered_algorithms()[name].summary.endswith(".")


@pytest.mark.parametrize(
    "name", [name for name in ("random", "sobol", "tpe", "gp", "nsga2", "amoebanet", "nas-rl") if name in HERE]
)
def test_no_network_is_tried_twice_whatever_decides_on_it(name):
    cell = {"space": "cell", "settings": {"nodes": 3, "operations": ["none", "skip", "conv3"]}}
    made = Experiment.parse(spec(parameters={}, architecture=cell, algorithm={"name": name, "seed": 1}))
    assert architectures(made) is not None
    networks = {architectures(made).identity(each) for each in search_space(made).enumerate()}
    assert len(networks) < search_space(made).size == 27
    tried = [Topology.parse(trial.suggestion.topology).hash for trial in play(made, most=27, batch=3)]
    assert len(tried) == len(set(tried))
    assert set(tried) == networks  # all of them, and then it ends
