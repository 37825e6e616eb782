"""The spec as a whole: every section of the schema, and the ways to write it."""

import copy
import json
import math
import pickle
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment, parameter_sets, spec, typed

from katib_flow.cli.output import to_json
from katib_flow.errors import InvalidSpec
from katib_flow.history import State, Suggestion, Trial
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment, dump_yaml, load_yaml, parse_spec

WHOLE = """\
name: digits-mlp
description: everything there is
objective:
  - {metric: accuracy, direction: maximize, goal: 0.985}
  - {metric: latency, direction: minimize}
additional_metrics: [loss]
parameters:
  lr: {type: float, min: 1.0e-4, max: 1.0, scale: log}
  dropout: {type: float, min: 0.1, max: 0.5, step: 0.1}
  layers: {type: int, min: 1, max: 3, step: 1}
  activation: {type: categorical, values: [relu, tanh, null, 1, 1.0, true]}
  size: {type: ordinal, values: [small, large]}
  momentum: {type: float, min: 0, max: 0.99, when: {activation: relu, layers: [1, 2]}}
architecture: {space: cell, settings: {cells: 3}}
algorithm: {name: gp, seed: 7, settings: {}}
budget: {parameter: epochs, min: 1, max: 27, eta: 3}
early_stopping: {name: median, settings: {min_trials: 3, start_step: 4}}
limits: {max_trials: 60, parallel_trials: 4, max_failed_trials: 3, timeout: 2h, trial_timeout: 10m, retries: 2}
trial:
  container:
    image: example/train:1
    command: [train, "--lr=${lr}", "--epochs=${epochs}", "--in=${trial.checkpoint_dir}"]
    args: ["--momentum=${momentum}"]
    env: {SIZE: "${size}"}
    resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1.5}}
metrics: {source: file, path: out/metrics.jsonl, format: json, strategy: {accuracy: max, loss: min, latency: latest}}
tracking: {uri: "http://mlflow:5000", experiment: digits, register_model: digits}
argo: {namespace: ml, service_account: katib-flow, image: "example/train:1", mode: lanes}
"""


def test_every_section_is_read():
    made = parse_spec(WHOLE)
    assert [objective.goal for objective in made.objective] == [0.985, None]
    assert made.metric_names == ("accuracy", "latency", "loss")
    assert (made.limits.timeout, made.limits.trial_timeout) == (7200, 600)
    assert made.parameters["momentum"].when == {"activation": ("relu",), "layers": (1, 2)}
    assert (made.trial.kind, made.algorithm.seed, made.argo.mode) == ("container", 7, "lanes")
    assert made.budget is not None
    assert made.budget.max == 27


@pytest.mark.parametrize("section", ["name", "objective", "trial"])
def test_three_sections_are_required(section):
    data = {name: value for name, value in spec().items() if name != section}
    with pytest.raises(InvalidSpec, match=f"^{section}: found nothing"):
        Experiment.parse(data)


def test_all_other_sections_may_be_left_out_where_there_is_something_to_search():
    data = {name: spec()[name] for name in ("name", "objective", "trial")}
    assert Experiment.parse({**data, "architecture": "cell"})
    with pytest.raises(InvalidSpec, match=r"^parameters: found nothing, need at least one parameter"):
        Experiment.parse(data)


@pytest.mark.parametrize(
    "trial",
    [
        {"function": "examples.digits:train", "env": {"A": "b"}},
        {"function": "__main__:Search.train"},
        {"command": ["train"], "env": {"LR": "${lr}"}},
        {"container": {"image": "i", "command": ["c"]}},
        {
            "resource": {
                "manifest": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"args": ["${lr}"]}},
                "success_condition": 'status.conditions.#(type=="Complete")#',
                "failure_condition": "status.failed",
                "primary_pod_labels": {"a": "b"},
                "primary_container": "main",
            }
        },
        {"template": {"name": "pipeline", "cluster_scope": True, "arguments": {"lr": "${lr}"}}},
    ],
    ids=lambda trial: next(iter(trial)),
)
def test_every_kind_of_trial_survives_the_round_trip(trial):
    made = experiment(trial=trial)
    assert Experiment.parse(made.to_dict()) == made


def test_the_whole_schema_survives_the_round_trip_through_yaml():
    made = parse_spec(WHOLE)
    assert parse_spec(dump_yaml(made.to_dict())) == made


def test_the_round_trip_keeps_the_type_of_each_value():
    made = parse_spec(dump_yaml(parse_spec(WHOLE).to_dict()))
    values = made.parameters["activation"].values()
    assert [repr(value) for value in values] == ["'relu'", "'tanh'", "None", "1", "1.0", "True"]


@given(parameter_sets(), st.integers(0, 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_parameters_survive_the_round_trip_through_yaml(parameters, seed, goal, text):
    objective = {"metric": "m" + text, "direction": "minimize", "goal": goal}
    made = experiment(parameters=parameters, objective=objective, description=text, algorithm={"seed": seed})
    back = Experiment.parse(load_yaml(dump_yaml(made.to_dict())).data)
    assert back == made
    assert [typed({"": value}) for each in back.parameters.values() for value in each.when.values()] == [
        typed({"": value}) for each in made.parameters.values() for value in each.when.values()
    ]


@given(parameter_sets())
def test_parameters_survive_the_round_trip_through_json(parameters):
    made = experiment(parameters=parameters)
    assert Experiment.parse(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made


@given(parameter_sets())
def test_the_round_trip_changes_nothing_more(parameters):
    once = experiment(parameters=parameters).to_dict()
    assert Experiment.parse(once).to_dict() == once


def test_defaults_are_left_out_of_the_plain_data():
    assert experiment().to_dict() == {
        "name": "digits-mlp",
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "parameters": {"lr": {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}},
        "limits": {"max_trials": 10},
        "trial": {"function": "examples.digits:train"},
    }


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"algorithm": "sobol"}, {"algorithm": {"name": "sobol"}}),
        ({"early_stopping": "median"}, {"early_stopping": {"name": "median"}}),
        ({"architecture": "cell"}, {"architecture": {"space": "cell"}}),
        (
            {"objective": {"metric": "a", "direction": "minimize"}},
            {"objective": [{"metric": "a", "direction": "minimize"}]},
        ),
    ],
    ids=lambda section: next(iter(section)),
)
def test_a_section_may_be_written_short(short, long):
    assert experiment(**short) == experiment(**long)


def test_a_condition_on_one_value_needs_no_list():
    parent = {"type": "categorical", "values": ["a", "b"]}
    one, listed = (
        {"p": parent, "c": {"type": "int", "min": 1, "max": 2, "when": {"p": when}}} for when in ("a", ["a"])
    )
    assert experiment(parameters=one) == experiment(parameters=listed)


def test_a_condition_on_a_float_may_be_written_as_a_whole_number():
    parameters = {
        "rate": {"type": "float", "min": 0, "max": 1, "step": 0.5},
        "depth": {"type": "int", "min": 1, "max": 2, "when": {"rate": 1}},
    }
    assert search_space(experiment(parameters=parameters)).size == 2 + 2


def test_an_experiment_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        experiment().name = "other"


@pytest.mark.parametrize("through", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_an_experiment_that_has_been_used_survives_the_way_to_another_process(through):
    made = parse_spec(WHOLE)
    search_space(made).decode([0.5] * len(search_space(made)))
    assert through(made) == made


def test_an_experiment_of_an_architecture_alone_needs_no_parameters():
    assert search_space(experiment(parameters={}, architecture="cell")).size == 4**6


def done(index: int, state: State = State.SUCCEEDED, **observations: float) -> Trial:
    return Trial(Suggestion(index, {"lr": 0.1}), state, observations)


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 1)])
def test_the_best_trial_follows_the_direction(direction, best):
    made = experiment(objective={"metric": "a", "direction": direction})
    chosen = made.best([done(0, a=0.5), done(1, a=0.1), done(2, a=0.9)])
    assert chosen is not None
    assert chosen.index == best


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_never_best(value):
    chosen = experiment().best([done(0, accuracy=value), done(1, accuracy=-1e300)])
    assert chosen is not None
    assert chosen.index == 1


@pytest.mark.parametrize("state", [state for state in State if state not in (State.SUCCEEDED, State.EARLY_STOPPED)])
def test_a_trial_that_did_not_end_well_is_never_best(state):
    assert experiment().best([done(0, state, accuracy=1.0), done(1, loss=1.0)]) is None


def test_the_earliest_of_equals_is_best():
    chosen = experiment().best([done(2, accuracy=1.0), done(1, accuracy=1.0)])
    assert chosen is not None
    assert chosen.index == 1


# the JSON schema

SCHEMA = Experiment.model_json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def test_the_json_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_json_schema_takes_the_examples(path):
    VALIDATOR.validate(load_yaml(path.read_text()).data)


def test_the_json_schema_takes_the_whole_schema():
    VALIDATOR.validate(load_yaml(WHOLE).data)


@pytest.mark.parametrize("sections", [{"algorithm": "sobol"}, {"architecture": "cell"}, {"early_stopping": "median"}])
def test_the_json_schema_takes_what_is_written_short(sections):
    VALIDATOR.validate(spec(**sections))


@given(parameter_sets())
def test_the_json_schema_takes_every_experiment(parameters):
    VALIDATOR.validate(experiment(parameters=parameters).to_dict())


@pytest.mark.parametrize(
    "sections",
    [
        {"limts": {}},
        {"name": 3},
        {"parameters": {"lr": {"type": "float", "min": 0, "max": 1, "scael": "log"}}},
        {"parameters": {"lr": {"type": "flaot", "min": 0, "max": 1}}},
        {"limits": {"max_trials": 0}},
        {"objective": "accuracy"},
        {"trial": {"command": "train"}},
    ],
)
def test_the_json_schema_refuses_what_the_spec_refuses(sections):
    assert not VALIDATOR.is_valid(spec(**sections))
    with pytest.raises(InvalidSpec):
        experiment(**sections)


def test_the_json_schema_is_printed_as_json():
    assert json.loads(to_json(SCHEMA)) == SCHEMA
