"""What every NAS system keeps to, beside what ``test_nas_algorithms`` asks: how it learns, and how it is asked.

A system joins by being a file of ``katib_flow/nas/systems``.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import spec
from test_algorithms import HERE
from test_nas_algorithms import SPACES, ended, search

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import SpecError
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.morphisms import inherited, morphisms
from katib_flow.models.presets import space_of
from katib_flow.nas.settings import SystemSettings
from katib_flow.nas.table import boxes
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

ENTRIES = {name: entry for name, entry in HERE.items() if entry.strategy is not None}
BY_REPORTS = {name for name, entry in ENTRIES.items() if entry.segment or entry.train} | {"envelopenet"}
"""Systems that read what a trial reports beside its objective, and never the objective."""
every_system = pytest.mark.parametrize("name", sorted(ENTRIES))
every_system_of_the_paper = pytest.mark.parametrize(
    "name", sorted(name for name, entry in ENTRIES.items() if entry.propose.__module__.startswith("katib_flow."))
)
MOST, FEW, BATCH = 16, 12, 4
BUDGET = {"parameter": "epochs", "min": 2, "max": 9}
Value = Callable[[Suggestion], float | None]


def reward(suggestion: Suggestion) -> float:
    """A number that follows from the network and, in a hundredth, from the trial."""
    network = Topology.parse(suggestion.topology)
    return int(network.hash[:8], 16) / 16**8 + suggestion.index / 100 / MOST


def evaluated(suggestion: Suggestion, value: float | None) -> Trial:
    return ended(suggestion, 0.0, State.FAILED) if value is None else ended(suggestion, value)


def play(made: Experiment, most: int = MOST, value: Value = reward, history: History | None = None) -> History:
    history = history or History()
    while len(history) < most and (fresh := suggest(made, history, min(BATCH, most - len(history)))):
        history = history.replaced(evaluated(each, value(each)) for each in fresh)
    return history


def plain(suggestions: list[Suggestion]) -> list[dict[str, Any]]:
    """What is suggested, whatever it was derived from."""
    return [replace(suggestion, basis=None).to_dict() for suggestion in suggestions]


def with_rewards_of_others(history: History) -> History:
    """The same trials, each with another's accuracy."""
    order = np.random.default_rng(1).permutation(len(history))
    values = [history[place].observations["accuracy"] for place in order]
    trials = zip(history, values, strict=True)
    return History(
        tuple(replace(each, observations={**each.observations, "accuracy": value}) for each, value in trials)
    )


def with_other_reports(history: History) -> History:
    """The same trials, in each the values of metrics that share the last prefix, such as a slot's, rotated by one.

    The choices of slots are rotated only among those that have as many. What is reported under a prefix of its own is
    taken from the other end of its scale.
    """
    trials: list[Trial] = []
    for trial in history:
        groups: dict[tuple[str, int], list[str]] = {}
        choices = Topology.parse(trial.suggestion.topology).flat.groups
        for name in trial.observations:
            prefix, separator, last = name.rpartition("/")
            if separator:
                groups.setdefault((prefix, len(choices.get(last, ()))), []).append(name)
        rotated = {
            name: trial.observations[other]
            for names in groups.values()
            for name, other in zip(names, names[1:] + names[:1], strict=True)
        }
        rotated |= {names[0]: 1 - trial.observations[names[0]] for names in groups.values() if len(names) == 1}
        trials.append(replace(trial, observations={**trial.observations, **rotated}))
    return History(tuple(trials))


@lru_cache
def played(name: str, seed: int = 0) -> History:
    """A search, once for all tests."""
    return play(search(name, seed))


def going_on(name: str, most: int = MOST) -> tuple[Experiment, History]:
    """A search and a history that it goes on from, of at most so many trials as leave something to suggest."""
    made = search(name)
    history = History(played(name).trials[:most])
    while history and not suggest(made, history, BATCH):
        history = History(history.trials[:-1])
    return made, history


@every_system_of_the_paper
def test_it_stands_where_the_paper_has_it_in_the_table_of_systems(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.scope
    filled = {place: box for place, box in boxes([entry]).items() if name in box.here}
    assert filled.keys() == {(entry.strategy, scope) for scope in entry.scope}
    missing, left = ({other for box in boxes(of).values() for other in box.missing} for of in ([], [entry]))
    assert len(missing - left) == 1  # it is one of the paper's, and missing in none of its boxes


@every_system_of_the_paper
def test_it_has_the_values_of_its_paper_beside_those_that_suit_two_cores(name: str) -> None:
    settings = ENTRIES[name].settings
    assert issubclass(settings, SystemSettings)
    small, paper = settings().model_dump(), settings.model_validate({"preset": "paper"}).model_dump()
    assert {key for key in small if small[key] != paper[key]} == {"preset", *settings.paper}


@every_system
def test_it_learns_from_earlier_experiments_if_it_says_so(name: str) -> None:
    made, history = going_on(name, FEW)
    earlier = played(name, seed=9)
    taught = plain(suggest(made, history, BATCH, earlier=earlier)) != plain(suggest(made, history, BATCH))
    assert taught == ENTRIES[name].earlier


@every_system
def test_its_trials_have_a_budget_if_it_says_that_it_gives_them_one(name: str) -> None:
    given = {each.budget for each in suggest(search(name, budget=BUDGET), History(), BATCH)}
    assert given == ({BUDGET["min"]} if ENTRIES[name].budget else {None})


@every_system
def test_it_learns_from_the_objective_or_from_reports_and_never_from_both(name: str) -> None:
    made, history = going_on(name)
    expected = plain(suggest(made, history, BATCH))
    by_rewards = plain(suggest(made, with_rewards_of_others(history), BATCH)) != expected
    by_reports = plain(suggest(made, with_other_reports(history), BATCH)) != expected
    assert (by_rewards, by_reports) == (name not in BY_REPORTS, name in BY_REPORTS)


@every_system
def test_four_parts_of_a_search_are_the_search_in_one(name: str) -> None:
    straight = played(name)
    parts = History()
    for most in range(BATCH, MOST + 1, BATCH):
        again = Experiment.parse(json.loads(json.dumps(search(name).to_dict())))
        parts = play(again, most, history=History(tuple(reversed(parts.trials))))
    assert plain([trial.suggestion for trial in parts]) == plain([trial.suggestion for trial in straight])


@every_system
def test_a_trial_that_fails_is_survived(name: str) -> None:
    def value(suggestion: Suggestion) -> float | None:
        return None if suggestion.index % 5 == 1 else reward(suggestion)

    made = search(name)
    history = play(made, MOST, value)
    failed = [trial for trial in history if trial.state is State.FAILED]
    assert failed
    assert any(trial.index > failed[0].index and trial.state is State.SUCCEEDED for trial in history)


@every_system
def test_a_space_that_it_cannot_search_is_refused_by_name_and_one_that_it_can_is_named(name: str) -> None:
    refused = {space: refusals(name, space) for space in SPACES}
    able = {space for space, problems in refused.items() if not problems}
    assert able != set(SPACES)
    for space in set(SPACES) - able:
        (problem,) = refused[space]
        assert (problem.where, problem.found) == ("architecture.space", space)
        assert able & set(re.findall(r"[\w-]+", problem.need)), problem


def refusals(name: str, space: str) -> list[SpecError]:
    """What is wrong with a space for a system, at validation."""
    objective = search(name).to_dict()["objective"]
    made = Experiment.parse(spec(architecture=space, parameters={}, objective=objective, algorithm=name))
    return [problem for problem in check_algorithm(made) if problem.where.startswith("architecture")]


@every_system
def test_what_it_suggests_and_what_its_space_draws_builds_and_trains_a_step(name: str) -> None:
    pytest.importorskip("torch")
    made = search(name)
    assert made.architecture is not None
    suggested = [Topology.parse(trial.suggestion.topology) for seed in (0, 9) for trial in played(name, seed)]
    train_a_step({topology.hash: topology for topology in suggested}.values())
    train_draws(made.architecture.model_dump_json())


@lru_cache
def train_draws(architecture: str) -> None:
    """Fifty networks of a space, once for all systems that search it."""
    space, rng = space_of(Architecture.model_validate_json(architecture)), np.random.default_rng(0)
    train_a_step(space.topology(space.draw(rng)) for _ in range(50 if space.slots else 1))


def train_a_step(topologies: Iterable[Topology]) -> None:
    import torch

    from katib_flow.models.build import build

    for topology in topologies:
        network = build(topology, seed=0)
        logits = network(torch.rand(2, *topology.input.shape))
        assert logits.shape == (2, topology.output.classes)
        assert torch.isfinite(logits).all()
        trained = [each for each in network.parameters() if each.requires_grad]
        if logits.requires_grad:  # a network of zeros alone has nothing to train
            logits.square().sum().backward()
            assert any(each.grad is not None and torch.isfinite(each.grad).all() for each in trained)


FRESH = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from test_nas_systems import BATCH, ENTRIES, plain, search, suggest, as_told
told = json.load(sys.stdin)
suggested = {}
for name in sorted(told, key=lambda name: bool(ENTRIES[name].extra)):
    suggested[name] = plain(suggest(search(name), as_told(told[name]), BATCH))
    assert ENTRIES[name].extra or "torch" not in sys.modules, name
print(json.dumps(suggested))
"""


def as_told(trials: list[Any]) -> History:
    """The history of what a program was told: suggestions and observations."""
    return History(tuple(Trial(Suggestion.from_dict(each), State.SUCCEEDED, seen) for each, seen in trials))


def test_a_fresh_process_suggests_the_same_and_without_torch_where_a_system_does_not_say_that_it_needs_it() -> None:
    here = Path(__file__).parent
    histories = {name: going_on(name, FEW)[1] for name in sorted(ENTRIES)}
    told = {
        name: [[each.suggestion.to_dict(), dict(each.observations)] for each in history]
        for name, history in histories.items()
    }
    command = [sys.executable, "-c", FRESH, json.dumps([str(here), str(here.parent)])]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, suggested in json.loads(done.stdout).items():
        assert json.loads(json.dumps(plain(suggest(search(name), histories[name], BATCH)))) == suggested, name


@every_system
def test_a_child_made_by_morphisms_computes_what_its_parent_does(name: str) -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    history = played(name)
    torch.set_num_threads(1)
    checked = 0
    for trial in history:
        child = Topology.parse(trial.suggestion.topology)
        preserving = child.edits and {edit["edit"] for edit in child.edits} <= set(morphisms())
        if trial.suggestion.parent is None or not preserving or checked == 3:
            continue
        parent = build(Topology.parse(history[trial.suggestion.parent].suggestion.topology), seed=1)
        weights = {key: tensor.numpy() for key, tensor in parent.state_dict().items()}
        network = build(child, seed=2)
        network.load_state_dict(
            {key: torch.as_tensor(value) for key, value in inherited(parent.topology, weights, child).items()}
        )
        images = torch.rand(32, *child.input.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before, after = (each.eval()(images).softmax(dim=1) for each in (parent, network))
        assert float((before - after).abs().max()) < 1e-4
        checked += 1
