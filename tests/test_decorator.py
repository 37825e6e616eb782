"""An experiment around a function, and what is said where it is written wrong."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import functools
import pickle
import re
from pathlib import Path

import pytest

import katib_flow as kf
from katib_flow.decorator import FunctionExperiment
from katib_flow.errors import InvalidSpec
from katib_flow.spec import parse_spec
from katib_flow.tracking import Store

LR = {"lr": kf.Float(1e-4, 1, scale="log")}


def train(lr):
    """Train a model."""
    return lr


def refusal(*, of=train, **arguments) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        kf.experiment(**{"parameters": LR, "maximize": "accuracy", "max_trials": 3, **arguments})(of)
    return str(caught.value).splitlines()


def decorated(function=train, **arguments) -> FunctionExperiment:
    return kf.experiment(**{"parameters": LR, "maximize": "accuracy", "max_trials": 3, **arguments})(function)


# parameters


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (lambda: kf.Float(0, 1), "{type: float, min: 0, max: 1}"),
        (lambda: kf.Float(0.1, 1, step=0.1, scale="log"), "{type: float, min: 0.1, max: 1, step: 0.1, scale: log}"),
        (lambda: kf.Int(1, 9, step=2), "{type: int, min: 1, max: 9, step: 2}"),
        (lambda: kf.Categorical(["a", 1, None, True]), "{type: categorical, values: [a, 1, null, true]}"),
        (lambda: kf.Ordinal(("s", "m")), "{type: ordinal, values: [s, m]}"),
    ],
)
def test_a_parameter_equals_what_yaml_says(made, written):
    text = f"name: x\nobjective: {{metric: a, direction: maximize}}\nparameters: {{p: {written}}}\ntrial: {{function: 'a:b'}}"
    assert made() == parse_spec(text).parameters["p"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kf.Float(1, 0), "kf.Float: min: found 1, need a number no greater than max, 0"),
        (lambda: kf.Float(0, 1, scale="log"), "kf.Float: min: found 0, need a number above 0, because scale is log"),
        (lambda: kf.Float(0, 1, scale="exp"), "kf.Float: scale: found 'exp', need 'linear', 'log', 'logit', 'normal' or 'lognormal'"),
        (lambda: kf.Float("low", 1), "kf.Float: min: found 'low', need a number"),
        (lambda: kf.Float(0, float("nan")), "kf.Float: max: found nan, need a finite number"),
        (lambda: kf.Float(0, 1, step=0), "kf.Float: step: found 0, need a number above 0"),
        (lambda: kf.Int(1.5, 2), "kf.Int: min: found 1.5, need a whole number"),
        (lambda: kf.Int(1, 2, scale="logit"), "kf.Int: scale: found 'logit', need 'linear', 'log', 'normal' or 'lognormal'; "
         "did you mean 'log'?"),
        (lambda: kf.Categorical([]), "kf.Categorical: values: found [], need 1 or more items"),
        (lambda: kf.Categorical("abc"), "kf.Categorical: values: found 'abc', need a list"),
        (lambda: kf.Categorical([[1]]), "kf.Categorical: values[0]: found [1], need text, a finite number, true, false or null"),
        (lambda: kf.Ordinal([1, 1]), "kf.Ordinal: values: found 1, need each value only once"),
        (lambda: kf.Float(0, 1, when="act"), "kf.Float: when: found 'act', need a mapping of keys to values"),
        (lambda: kf.Float(0, 1, when={"act": []}), "kf.Float: when.act: found [], need 1 or more items"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_wrong_says_so_where_it_is_made(make, message):
    with pytest.raises(InvalidSpec) as caught:
        make()
    assert str(caught.value) == message


# the experiment


def test_a_decorated_function_is_still_that_function():
    made = decorated()
    assert (made(0.5), made.__name__, made.__doc__, made.__wrapped__) == (0.5, "train", "Train a model.", train)


def test_an_experiment_is_named_after_its_function():
    def _Train_the_Model(lr): ...

    assert (decorated(_Train_the_Model).spec.name, decorated(name="mine").spec.name) == ("train-the-model", "mine")


def test_the_trial_is_the_function_by_its_name():
    assert decorated().spec.trial.function == f"{__name__}:train"


def test_every_argument_has_its_place_in_the_spec():
    made = decorated(
        goal=0.9, algorithm="sobol", seed=7, max_trials=40, parallel_trials=2, limits={"timeout": "1h"},
        additional_metrics=["loss"], trial={"env": {"A": "b"}},
    ).spec  # fmt: skip
    assert (made.objective[0].metric, made.objective[0].direction, made.objective[0].goal) == (
        "accuracy",
        "maximize",
        0.9,
    )
    assert (made.algorithm.name, made.algorithm.seed) == ("sobol", 7)
    assert (made.limits.max_trials, made.limits.parallel_trials, made.limits.timeout) == (40, 2, 3600)
    assert (made.additional_metrics, made.trial.env, made.trial.kind) == (("loss",), {"A": "b"}, "function")


def test_an_algorithm_may_have_settings():
    assert decorated(algorithm={"name": "grid", "settings": {"points": 3}}, seed=2).spec.algorithm.settings == {
        "points": 3
    }


@pytest.mark.parametrize("goal", [0, 0.0, -1])
def test_a_goal_of_nothing_is_a_goal(goal):
    assert decorated(goal=goal).spec.objective[0].goal == goal


def test_several_metrics_are_several_objectives():
    made = decorated(maximize=["accuracy", "recall"], minimize="latency").spec
    assert [(each.metric, each.direction) for each in made.objective] == [
        ("accuracy", "maximize"),
        ("recall", "maximize"),
        ("latency", "minimize"),
    ]


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ({"maximize": ()}, ["objective: found nothing, need the name of a metric in maximize or minimize"]),
        ({"maximize": 3}, ["maximize: found 3, need the name of a metric, or a list of names"]),
        ({"maximize": [3]}, ["train: objective.metric: found 3, need text (quote it)"]),
        ({"objective": {"metric": "a"}}, ["objective: found {'metric': 'a'}, need the name of a metric in maximize or minimize"]),
        ({"parameters": None}, ["train: parameters: found nothing, need a mapping of keys to values"]),
        ({"parameters": ["lr"]}, ["train: parameters: found ['lr'], need a mapping of keys to values"]),
        ({"parameters": {}}, ["train: parameters: found nothing, need at least one parameter, or an architecture to search"]),
        ({"parameters": {"lr": 0.1}}, ["train: parameters.lr: found 0.1, need a mapping of keys to values"]),
        ({"goal": "high"}, ["train: objective.goal: found 'high', need a number"]),
        ({"algorithm": 3}, ["algorithm: found 3, need a mapping of keys to values"]),
        ({"limits": 3}, ["limits: found 3, need a mapping of keys to values"]),
        ({"max_trials": 0}, ["train: limits.max_trials: found 0, need a number of at least 1"]),
        ({"parallel_trials": "two"}, ["train: limits.parallel_trials: found 'two', need a whole number"]),
        ({"seed": -1}, ["train: algorithm.seed: found -1, need a number of at least 0"]),
        ({"name": "My search"}, ["train: name: found 'My search', need at most 45 lower-case letters and digits, with '-' between "
          "them, such as digits-mlp"]),
        ({"max_trails": 3}, ["train: max_trails: found 'max_trails', need a known key, one of name, description, objective, "
          "additional_metrics, parameters, architecture, initial, warm_start, algorithm, budget, early_stopping, limits, trial, metrics, tracking, argo"]),
        ({"max_trials": 0, "goal": "x"}, ["train: objective.goal: found 'x', need a number",
          "train: limits.max_trials: found 0, need a number of at least 1"]),
    ],
)  # fmt: skip
def test_an_argument_that_is_wrong_is_named(arguments, messages):
    assert refusal(**arguments) == messages


@pytest.mark.parametrize("thing", [functools.partial(train, lr=1), "train", None, 3])
def test_what_is_no_function_is_refused(thing):
    (message,) = refusal(of=thing)
    assert message.startswith("the decorated object: found ")
    assert message.endswith("need a function defined with def")


def test_a_lambda_has_no_name_to_go_by():
    assert [line.split(": ")[1] for line in refusal(of=lambda lr: lr)] == ["name", "trial.function"]


def test_a_decorated_function_may_be_decorated_again():
    assert decorated(decorated()).spec.trial.function == f"{__name__}:train"


def test_the_spec_of_a_decorated_function_survives_the_way_to_another_process():
    made = decorated().spec
    assert pickle.loads(pickle.dumps(made)) == made


def test_an_image_for_argo_changes_the_workflow_and_not_the_experiment():
    made = decorated(tracking={"uri": "http://mlflow:5000"})
    manifest = made.to_workflow(image="example/train:1").to_yaml()
    assert "example/train:1" in manifest
    assert made.spec.argo.image is None


@pytest.mark.parametrize("what", [train, "spec.yaml", None])
def test_what_is_no_experiment_is_not_run(what):
    with pytest.raises(
        InvalidSpec, match=r"^kf\.run: what: found .*, need an experiment: a function decorated with @kf\.experiment"
    ):
        kf.run(what)


@pytest.mark.parametrize("called", ["kf.run", "kf.start", "kf.ask_and_tell"])
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"store": "sqlite:///x.db"}, "store: found 'sqlite:///x.db', need a katib_flow.tracking.Store"),
        ({"tracking_uri": Path("x.db")}, "need the address of an MLflow store, such as sqlite:///katib_flow.db"),
        ({"store": Store, "tracking_uri": "sqlite:///x.db"}, "store: found <class"),
    ],
)
def test_a_wrong_store_is_refused_before_anything_runs(called, arguments, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = {"kf.run": kf.run, "kf.start": kf.start, "kf.ask_and_tell": kf.ask_and_tell}[called]
    with pytest.raises(InvalidSpec, match="^" + re.escape(called)) as caught:
        function(decorated(), **arguments)
    assert problem in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", [kf.run, kf.start, kf.ask_and_tell])
def test_a_store_and_an_address_are_not_both_taken(function, tmp_path):
    store = Store(f"sqlite:///{tmp_path}/one.db")
    with pytest.raises(InvalidSpec, match=r"tracking_uri: found .*two\.db', need no address, because a store is given"):
        function(decorated(), store=store, tracking_uri=f"sqlite:///{tmp_path}/two.db")
