"""Points that are tried first, and experiments that one starts from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import experiment, spec

import katib_flow as kf
from katib_flow.errors import InvalidSpec, NotFound
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

SPACE = {
    "lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"},
    "optimizer": {"type": "categorical", "values": ["sgd", "adam"]},
    "momentum": {"type": "float", "min": 0.0, "max": 1.0, "when": {"optimizer": "sgd"}},
}
POINTS = [{"lr": 1, "optimizer": "sgd", "momentum": 0.5}, {"optimizer": "adam"}]
BUDGET = {"parameter": "epochs", "min": 1, "max": 9, "eta": 3}


def search(**sections: Any) -> Experiment:
    return experiment(**{"parameters": SPACE, "initial": POINTS, **sections})


def done(suggestions: list[Suggestion], value: float = 0.5) -> History:
    return History(tuple(Trial(each, State.SUCCEEDED, {"accuracy": value}) for each in suggestions))


@pytest.mark.parametrize("algorithm", ["random", "sobol", "gp", "tpe"])
def test_the_users_points_come_first_then_what_the_algorithm_would_have_begun_with(algorithm: str) -> None:
    made = search(algorithm=algorithm)
    plain = suggest(search(algorithm=algorithm, initial=[]), History(), 3)
    suggestions = suggest(made, History(), 5)
    assert [each.index for each in suggestions] == [0, 1, 2, 3, 4]
    assert suggestions[0].assignment == {"lr": 1.0, "optimizer": "sgd", "momentum": 0.5}
    assert [each.info.get("initial") for each in suggestions] == [0, 1, None, None, None]
    assert [each.assignment for each in suggestions[2:]] == [each.assignment for each in plain]


def test_the_whole_grid_is_tried_after_the_users_points() -> None:
    made = search(parameters={"k": {"type": "int", "min": 0, "max": 2}}, initial=[{"k": 2}], algorithm="grid")
    first = suggest(made, History(), 2)
    rest = suggest(made, done(first), 9)
    assert [each.assignment["k"] for each in [*first, *rest]] == [2, 0, 1, 2]


def test_what_a_point_leaves_open_is_drawn_and_the_same_when_asked_again() -> None:
    first, again = (suggest(search(), History(), 2)[1] for _ in range(2))
    assert first == again
    assert first.assignment["optimizer"] == "adam"
    assert first.assignment in search_space(search())
    other = search(algorithm={"name": "random", "seed": 1})
    assert suggest(other, History(), 2)[1].assignment["lr"] != first.assignment["lr"]


def test_asked_one_by_one_or_at_an_index_the_points_are_the_same() -> None:
    made = search(algorithm="sobol")
    together = suggest(made, History(), 4)
    assert [suggest(made, History(), 1, start=index)[0] for index in range(4)] == together


@pytest.mark.parametrize("algorithm", ["hyperband", "asha"])
def test_with_budgets_the_points_compete_in_the_lowest_rung(algorithm: str) -> None:
    made = search(algorithm=algorithm, budget=BUDGET)
    suggestions = suggest(made, History(), 3)
    assert [each.info.get("initial") for each in suggestions] == [0, 1, None]
    assert {each.budget for each in suggestions} == {1}
    assert suggestions[0].assignment["lr"] == 1.0
    more = suggest(made, History(tuple(Trial(each, State.RUNNING) for each in suggestions)), 2)
    assert all("initial" not in each.info for each in more)


@pytest.mark.parametrize(
    ("point", "where", "need"),
    [
        ({"rate": 0.1}, "initial[0].rate", "the name of a parameter"),
        ({"lr": 2.0}, "initial[0].lr", "a value of lr: 0.0001 to 1"),
        ({"lr": "fast"}, "initial[0].lr", "a value of lr"),
        ({"optimizer": "adamw"}, "initial[0].optimizer", "a value of optimizer: 'sgd', 'adam'"),
        ({"momentum": 0.5}, "initial[0].momentum", "optimizer in ['sgd'] in the same point, or no momentum"),
        ({"optimizer": "adam", "momentum": 0.5}, "initial[0].momentum", "optimizer in ['sgd'] in the same point"),
    ],
)
def test_a_point_outside_the_space_is_told(point: dict[str, Any], where: str, need: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        search(initial=[point])
    (problem,) = caught.value.problems
    assert problem.where == where
    assert need in problem.need


def test_points_survive_the_way_to_mlflow_and_back() -> None:
    made = search()
    assert Experiment.parse(made.to_dict()) == made


# warm start


def parabola(experiment_: Experiment, best: float, count: int) -> History:
    """Trials at even places on the scale, the better the nearer to one of them."""
    units = (np.arange(count) + 0.5) / count
    space = search_space(experiment_)
    trials = (Suggestion(index, space.decode([unit])) for index, unit in enumerate(units))
    return History(
        tuple(
            Trial(each, State.SUCCEEDED, {"accuracy": -((space.encode(each.assignment)[0] - best) ** 2)})
            for each in trials
        )
    )


@pytest.mark.parametrize("algorithm", ["gp", "tpe"])
@pytest.mark.parametrize("best", [0.2, 0.85])
def test_the_first_suggestion_is_near_the_best_of_the_earlier_experiments(algorithm: str, best: float) -> None:
    made = experiment(algorithm=algorithm)
    (first,) = suggest(made, History(), 1, earlier=parabola(made, best, 20))
    assert search_space(made).encode(first.assignment)[0] == pytest.approx(best, abs=0.1)


def test_earlier_trials_of_another_space_or_without_the_metric_teach_nothing() -> None:
    made = experiment(algorithm="gp")
    strange = Trial(Suggestion(0, {"other": 1}), State.SUCCEEDED, {"accuracy": 1.0})
    open_ = Trial(Suggestion(1, {"lr": 0.5}), State.RUNNING)
    assert suggest(made, History(), 3, earlier=History((strange, open_))) == suggest(made, History(), 3)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(f"sqlite:///{tmp_path}/katib_flow.db")


def objective(x: float) -> dict[str, float]:
    return {"loss": (x - 0.3) ** 2}


def test_an_experiment_learns_from_one_of_its_own_name(store: Store) -> None:
    def made(**sections: Any) -> Any:
        return kf.experiment(
            parameters={"x": kf.Float(0, 1)}, minimize="loss", algorithm="gp", max_trials=12, name="twice", **sections
        )(objective)

    first = made().run(store=store)
    second = kf.run(made(limits={"max_trials": 3}), store=store, warm_start="twice")
    assert second.experiment.warm_start == (first.run_id,)  # not itself, the newest of the name from now on
    assert len(second.trials) == 3
    assert second.best is not None
    assert second.best.observations["loss"] < 1e-3
    recorded = store.get(second.run_id).experiment
    assert store.earlier(recorded) == store.history(store.get(first.run_id))


def test_an_earlier_experiment_that_is_not_there_is_told_before_anything_runs(store: Store) -> None:
    with pytest.raises(NotFound, match="nowhere: no such experiment"):
        kf.run(Experiment.parse(spec(warm_start="nowhere", trial={"command": ["true"]})), store=store)
    assert store.records() == []
