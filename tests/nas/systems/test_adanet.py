"""AdaNet: what is added to an ensemble and when it ends, members that stay bit for bit, a bound that falls."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec, KatibFlowError
from katib_flow.history import History, Kind, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.manager import build_model
from katib_flow.models.spaces.ensemble import Ensemble, ensemble_network
from katib_flow.nas.systems.adanet import OBJECTIVE, AdaNetSettings, candidates
from katib_flow.spec import Experiment
from katib_flow.training import Data, load_data, split
from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory

SMALL: dict[str, Any] = {"shape": [1, 1, 2], "classes": 2, "units": 4}


def search(**settings: Any) -> Experiment:
    algorithm = {"name": "adanet", "settings": settings}
    space = {"space": "ensemble", "settings": SMALL}
    return Experiment.parse(spec(architecture=space, parameters={}, algorithm=algorithm))


def ended(suggestion: Suggestion, value: float | None, state: State = State.SUCCEEDED) -> Trial:
    observations = {"accuracy": 0.5} | ({} if value is None else {OBJECTIVE: value})
    return Trial(suggestion, state, observations if state is State.SUCCEEDED else {})


def depths(suggestion: Suggestion) -> list[int]:
    assert suggestion.topology is not None
    return Topology.parse(suggestion.topology).meta["depths"]


def play(made: Experiment, values: list[float | None], batch: int = 2) -> tuple[History, list[list[int]]]:
    """Suggestions in order, with what each trial comes to; None fails."""
    history, told = History(), list[list[int]]()
    while len(history) < len(values) and (fresh := suggest(made, history, batch)):
        told += [depths(each) for each in fresh]
        states = [State.SUCCEEDED if values[each.index] is not None else State.FAILED for each in fresh]
        history = history.replaced(ended(e, values[e.index], state) for e, state in zip(fresh, states, strict=True))
    return history, told


def clusters(kind: str = "xor", seed: int = 0, count: int = 120) -> Data:
    """Points about the corners of a square: two classes that a line parts, or that none does."""
    rng = np.random.default_rng(seed)
    corners = rng.choice([-1, 1], (2 * count, 2))
    labels = corners[:, 0] > 0 if kind == "linear" else corners[:, 0] * corners[:, 1] > 0
    points = corners + 0.2 * rng.normal(size=corners.shape)
    return split(points.reshape(-1, 1, 1, 2), labels.astype(int), valid=count // 2, test=count // 2)


def test_a_round_has_a_candidate_as_deep_as_the_ensemble_and_one_deeper_and_the_one_of_the_lower_bound_stays():
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.55]
    history, told = play(search(rounds=4), values)
    assert told == [[1], [2], [2, 2], [2, 3], [2, 3, 3], [2, 3, 4]]
    assert [trial.suggestion.parent for trial in history] == [None, None, 1, 1, 3, 3]
    assert [trial.suggestion.origin.kind for trial in history][2:] == [Kind.MODIFY] * 4
    assert [depths(each) for each in suggest(search(rounds=4), history, 2)] == [[2, 3, 3, 3], [2, 3, 3, 4]]


def test_it_ends_after_its_rounds_or_where_the_bound_does_not_fall():
    _, told = play(search(rounds=2), [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert len(told) == 4
    _, told = play(search(), [1 / (1 + index) for index in range(40)])
    assert len(told) == 2 * AdaNetSettings().rounds == 16
    for worse in (0.8, 0.8 - 5e-6, 0.9):
        _, told = play(search(), [0.9, 0.8, worse, worse + 0.1, 0.1, 0.1])
        assert len(told) == 4
    _, told = play(search(), [0.9, 0.8, 0.8 - 1.5e-5, 0.9, 0.1, 0.1])
    assert len(told) == 6


def test_accuracies_of_others_change_nothing_but_bounds_of_others_do():
    history, _ = play(search(), [0.9, 0.8, 0.7, 0.6])
    expected = suggest(search(), history, 2)
    accuracies = history.replaced(
        Trial(t.suggestion, t.state, {**t.observations, "accuracy": 1 / (1 + t.index)}) for t in history
    )
    assert suggest(search(), accuracies, 2) == expected
    bounds = history.replaced(ended(t.suggestion, (0.8, 0.9, 0.6, 0.7)[t.index]) for t in history)
    assert suggest(search(), bounds, 2) != expected


def test_one_at_a_time_it_comes_to_the_same_ensembles():
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.55]
    assert play(search(), values, batch=1)[1] == play(search(), values, batch=2)[1]


def test_nobody_is_asked_again_while_a_candidate_is_trained():
    first = suggest(search(), History(), 2)
    for states in ((State.RUNNING, State.SUCCEEDED), (State.PENDING, State.FAILED)):
        trials = [Trial(each, state, {OBJECTIVE: 0.5}) for each, state in zip(first, states, strict=True)]
        assert suggest(search(), History(tuple(trials)), 2) == []


def test_a_candidate_that_failed_is_left_aside_and_both_are_tried_again_where_both_did():
    assert play(search(), [None, 0.8, 0.7, 0.6])[1] == [[1], [2], [2, 2], [2, 3]]
    assert play(search(), [None, None, 0.9, None, 0.7, 0.6])[1] == [[1], [2], [1], [2], [1, 1], [1, 2]]
    assert play(search(), [None, None, 0.9, None, 0.7, 0.6], batch=1)[1][:4] == [[1], [2], [1], [1, 1]]


def test_one_that_was_killed_is_tried_again():
    first = suggest(search(), History(), 2)
    history = History((ended(first[0], 0.5), Trial(first[1], State.KILLED)))
    assert [depths(each) for each in suggest(search(), history, 2)] == [[2]]


def test_a_trial_that_tells_no_bound_is_told_what_it_needs():
    history = History(tuple(ended(each, None) for each in suggest(search(), History(), 2)))
    with pytest.raises(
        KatibFlowError, match="t00000: ensemble/objective was not reported; the trial function must train"
    ):
        suggest(search(), history, 2)


def test_what_it_would_not_read_is_refused():
    made = spec(architecture="ensemble", parameters={}, algorithm="adanet")
    with pytest.raises(InvalidSpec, match=r"trial\.arguments\.epochs: found 'epochs', need one of data, train_size"):
        suggest(Experiment.parse({**made, "trial": {"arguments": {"epochs": 9}}}), History(), 1)
    with pytest.raises(InvalidSpec, match=r"architecture\.space: found 'chain', need the space ensemble"):
        suggest(Experiment.parse({**made, "architecture": "chain"}), History(), 1)


def test_what_its_trainer_reads_may_be_given():
    made = spec(architecture="ensemble", parameters={}, algorithm="adanet")
    arguments = {"data": "digits", "train_size": 64, "seed": 3, "threads": 1}
    assert not list(check_algorithm(Experiment.parse({**made, "trial": {"arguments": arguments}})))


def test_a_penalty_grows_with_the_square_root_of_the_depth():
    settings = AdaNetSettings(complexity=0.1, penalty=0.01)
    np.testing.assert_allclose(settings.penalties([1, 4, 9]), [0.11, 0.21, 0.31])


def test_layers_of_a_subnetwork_read_those_below_in_all_before_it():
    """By hand: 2 features, 4 units, 2 classes; of three subnetworks 1, 3 and 2 deep."""
    topology = Topology.parse(ensemble_network(Ensemble.model_validate(SMALL), (1, 3, 2)))
    linear, hidden = 2 * 2 + 2, 2 * 4 + 4
    second = hidden + (4 * 4 + 4) + (4 * 2 + 2)
    third = hidden + (8 * 2 + 2)  # its last layer reads its own hidden layer and the first of the second subnetwork
    assert topology.parameters == linear + second + third + 3
    sources = {edge.src for edge in topology.flat.edges if edge.dst == "3.2.in"}
    assert sources == {"3.1", "2.1"}


class Trials:
    """The trials of a search, trained one after the other as a trial's process does it, with their models as files."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch, made: Experiment, data: Data) -> None:
        self.place, self.patch, self.made, self.data = place, patch, made, data
        self.history = History()

    def directory(self, index: int) -> TrialDirectory:
        return TrialDirectory(self.place / str(index))

    def train(self, suggestion: Suggestion) -> Trial:
        from katib_flow.nas import train

        here = self.directory(suggestion.index)
        here.path.mkdir(exist_ok=True)
        here.create(self.made, suggestion)
        parent = None if suggestion.parent is None else self.directory(suggestion.parent).model
        build_model(None, here.model, topology=suggestion.topology, decisions={}, parent=parent)
        self.patch.setenv(TRIAL_FILE, str(here.trial_file))
        self.patch.setattr("katib_flow.nas.trainer.load_data", lambda name, size: self.data)
        reports = list(train())
        assert [report["step"] for report in reports] == list(range(1, len(reports) + 1))
        observations: dict[str, Any] = {name: value for report in reports for name, value in report.items()}
        observations.pop("step")
        return Trial(suggestion, State.SUCCEEDED, observations)

    def run(self) -> History:
        while fresh := suggest(self.made, self.history, 2):
            self.history = self.history.replaced([self.train(each) for each in fresh])
        return self.history

    def weights(self, index: int) -> dict[str, Any]:
        from katib_flow.models.manager import load_model

        return dict(load_model(self.directory(index).model).weights)

    def line(self) -> list[Trial]:
        """The winners of the rounds, the first one first."""
        rounds: dict[object, list[Trial]] = {}
        for trial in self.history:
            rounds.setdefault(trial.suggestion.info["round"], []).append(trial)
        return [min(members, key=lambda trial: trial.observations[OBJECTIVE]) for members in rounds.values()]


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    pytest.importorskip("torch")
    made = search(rounds=3, epochs=2, complexity=1e-3, lr=0.1)
    trials = Trials(tmp_path, monkeypatch, made, clusters())
    trials.run()
    return trials


def test_members_stay_bit_for_bit_and_the_bound_falls_with_every_round(grown: Trials) -> None:
    line = grown.line()
    assert len(line) == 3
    values = [trial.observations[OBJECTIVE] for trial in line]
    assert values[0] > values[1] > values[2]
    for trial in grown.history:
        if trial.suggestion.parent is None:
            continue
        before, after = grown.weights(trial.suggestion.parent), grown.weights(trial.index)
        shared = [name for name in before if "mix" not in name]
        assert any("running_mean" in name for name in shared)  # no statistic of theirs changes either
        for name in shared:
            assert np.array_equal(before[name], after[name]), name
        mine = f"operations.{len(depths(trial.suggestion))}·"
        assert any(name.startswith(mine) for name in after)
        assert not any(name.startswith(mine) for name in before)


def test_the_bound_is_that_of_the_network_on_the_training_images(grown: Trials) -> None:
    """By the definition, from the logits of the stored network and its weights."""
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import load_network

    trial, data = grown.line()[-1], grown.data.train
    network = load_network(grown.directory(trial.index).model).eval()
    logits, labels = network(torch.from_numpy(data.images)), torch.from_numpy(data.labels)
    loss = float(torch.nn.functional.cross_entropy(logits, labels).detach())
    members = depths(trial.suggestion)
    weights = [trial.observations[f"mixture/{number}"] for number in range(1, len(members) + 1)]
    stored = [float(grown.weights(trial.index)[f"operations.{n}·mix.0.weight"]) for n in range(1, len(members) + 1)]
    assert weights == pytest.approx(stored)
    penalty = sum(1e-3 * depth**0.5 * abs(weight) for depth, weight in zip(members, weights, strict=True))
    assert trial.observations[OBJECTIVE] == pytest.approx(loss + penalty, abs=1e-5)


def test_the_settings_that_suit_two_cores_tell_digits_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear classifier of 300 images is at .91 to .93, a subnetwork more at .92 to .94."""
    pytest.importorskip("torch")
    algorithm = {"name": "adanet", "settings": {"rounds": 2}}
    made = Experiment.parse(spec(architecture="ensemble", parameters={}, algorithm=algorithm))
    trials = Trials(tmp_path, monkeypatch, made, load_data("digits"))
    trials.run()
    first, second = trials.line()
    assert second.observations["accuracy"] > 0.9
    assert second.observations[OBJECTIVE] < first.observations[OBJECTIVE] < 0.1


def test_a_candidate_that_was_stopped_and_goes_on_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from katib_flow.nas import train

    made = search(epochs=3)
    trials = Trials(tmp_path, monkeypatch, made, clusters())
    first, second = suggest(made, History(), 2)
    straight = trials.train(second)
    expected = trials.weights(second.index)
    again = Suggestion(7, second.assignment, topology=second.topology, info=second.info)
    here = trials.directory(7)
    here.path.mkdir()
    here.create(made, again)
    build_model(None, here.model, topology=again.topology, decisions={})
    monkeypatch.setenv(TRIAL_FILE, str(here.trial_file))
    cut = train()
    next(cut)
    next(cut)
    (here.model / "weights.safetensors").unlink(missing_ok=True)
    rest = list(train())  # from the checkpoint of the first epoch
    assert [metrics["step"] for metrics in rest] == [2, 3, 4]
    told: dict[str, Any] = {name: value for metrics in rest for name, value in metrics.items()}
    assert told[OBJECTIVE] == straight.observations[OBJECTIVE]
    assert all(np.array_equal(value, expected[name]) for name, value in trials.weights(7).items())
    assert json.dumps(first.topology) != json.dumps(second.topology)


def deepest(kind: str, complexity: float, tmp_path: Path, patch: pytest.MonkeyPatch) -> int:
    """Of the first subnetwork, which is linear or has a hidden layer."""
    made = search(rounds=1, epochs=8, complexity=complexity, lr=0.1, weight_decay=1e-3)
    place = tmp_path / f"{kind}{complexity}"
    place.mkdir()
    trials = Trials(place, patch, made, clusters(kind))
    trials.run()
    best = min(trials.history, key=lambda trial: trial.observations[OBJECTIVE])
    return max(depths(best.suggestion))


def test_a_larger_weight_of_complexity_lowers_the_depth_unless_the_data_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    weighed = (0.0, 0.1, 0.3)
    parted = [deepest("linear", each, tmp_path, monkeypatch) for each in weighed]
    assert parted == sorted(parted, reverse=True)
    assert (parted[0], parted[-1]) == (2, 1)
    assert all(deepest("xor", each, tmp_path, monkeypatch) > 1 for each in weighed)


def test_the_settings_of_the_paper():
    """Cortes et al., section 6: 30 rounds, 10,000 steps of 100 images (of 10,000), lambda from 0 to 1e-6."""
    paper = AdaNetSettings.model_validate({"preset": "paper"})
    assert (paper.rounds, paper.batch, paper.epochs * 10_000 // paper.batch) == (30, 100, 10_000)
    assert 0 < paper.complexity <= 1e-6
    assert paper.penalty == paper.weight_decay == 0


def test_the_first_round_has_a_linear_classifier_and_one_with_a_hidden_layer():
    assert candidates(()) == [(1,), (2,)]
    assert candidates((2, 1)) == [(2, 1, 2), (2, 1, 3)]


def test_it_ends_without_a_limit():
    data = spec(architecture="ensemble", parameters={}, algorithm="adanet", limits={})
    assert not list(check_algorithm(Experiment.parse(data)))
