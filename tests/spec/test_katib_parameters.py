"""Katib's parameters -> ours: the same values, drawn alike. What is expected is worked out from what Katib does."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from katib_manifests import Data, mistakes, notes, parameter, parsed, with_spec
from scipy import stats

from katib_flow.spec.parameters import Parameter

QUANTILES = np.linspace(0.001, 0.999, 41)


def made(kind: str, **space: Any) -> Parameter:
    """What becomes of a parameter."""
    data = with_spec(parameters=[parameter("lr", kind, **space)])
    return parsed(data).experiment.parameters["lr"]


def grid(low: str, high: str, step: str) -> list[float]:
    """min, min + step, ... up to max, in decimal, as numpy.arange has it in Katib but for rounding."""
    count = int((Decimal(high) - Decimal(low)) / Decimal(step)) + 1
    return [float(Decimal(low) + position * Decimal(step)) for position in range(count)]


@pytest.mark.parametrize(
    ("kind", "low", "high", "step"),
    [("double", "0.01", "0.05", "0.005"), ("double", "0.5", "0.9", "0.1"), ("double", "-1", "1", "0.3"), ("int", "50", "150", "10"),
     ("int", "1", "6", "2"), ("double", "1e-4", "0.02", "1e-4")],
)  # fmt: skip
def test_a_step_gives_katibs_grid(kind: str, low: str, high: str, step: str):
    values = list(made(kind, min=low, max=high, step=step).values())
    assert values == grid(low, high, step)
    assert all(type(value) is (int if kind == "int" else float) for value in values)


def test_an_int_without_a_step_has_every_whole_number():
    assert list(made("int", min="-2", max="3").values()) == [-2, -1, 0, 1, 2, 3]


def truncated(low: float, high: float) -> Any:
    """The normal distribution that Katib's hyperopt service makes of two bounds, cut off at them."""
    return stats.truncnorm(-3, 3, loc=(low + high) / 2, scale=(high - low) / 6)


@pytest.mark.parametrize(
    ("distribution", "quantile"),
    [
        ({}, stats.uniform(0.001, 0.999).ppf),
        ({"distribution": "uniform"}, stats.uniform(0.001, 0.999).ppf),
        ({"distribution": "unknown"}, stats.uniform(0.001, 0.999).ppf),
        ({"distribution": "logUniform"}, stats.loguniform(0.001, 1).ppf),
        ({"distribution": "normal"}, truncated(0.001, 1).ppf),
        ({"distribution": "logNormal"}, lambda q: np.exp(truncated(math.log(0.001), 0).ppf(q))),
    ],
)  # fmt: skip
def test_a_double_is_drawn_from_katibs_distribution(distribution: Data, quantile: Any):
    ours = made("double", min="0.001", max="1", **distribution)
    assert [ours.at(each) for each in QUANTILES] == pytest.approx(list(quantile(QUANTILES)), rel=1e-9)


def test_an_int_on_a_log_scale_is_drawn_evenly_in_its_logarithm():
    ours = made("int", min="10", max="1000", distribution="logUniform")
    drawn = np.array([ours.at(each) for each in np.random.default_rng(0).random(4000)])
    assert np.mean(drawn < 100) == pytest.approx(0.5, abs=6 * 0.5 / math.sqrt(4000))  # six standard errors


def test_categories_stay_the_text_that_they_are():
    assert list(made("categorical", list=["sgd", "32", "true", "1e-3"]).values()) == ["sgd", "32", "true", "1e-3"]


def test_discrete_numbers_have_their_order_and_type():
    data = with_spec(parameters=[parameter("lr", "discrete", list=["64", "16", "0.5"])])
    read = parsed(data)
    assert list(read.experiment.parameters["lr"].values()) == [0.5, 16, 64]
    assert read.data["parameters"]["lr"]["type"] == "ordinal"
    assert notes(read) == ["parameters.lr: sorted here; not in ascending order in the manifest"]


def test_discrete_text_keeps_its_order():
    assert list(made("discrete", list=["small", "big"]).values()) == ["small", "big"]


def test_numbers_without_quotes_are_read_too():
    assert made("double", min=0.01, max=1) == made("double", min="0.01", max="1")
    assert made("discrete", list=[1, 2]) == made("discrete", list=["1", "2"])


def test_an_empty_step_is_none():
    assert made("double", min="0", max="1", step="").size is None


def test_a_name_that_is_none_here_is_changed_everywhere():
    data = with_spec(
        parameters=[parameter("--lr", "double", min="0", max="1"), parameter("lr", "int", min="0", max="1")]
    )
    template = data["spec"]["trialTemplate"]
    template["trialParameters"] = [{"name": "a", "reference": "--lr"}, {"name": "b", "reference": "lr"}]
    template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"] = [
        "--lr=${trialParameters.a}", "--n=${trialParameters.b}"
    ]  # fmt: skip
    read = parsed(data)
    assert list(read.experiment.parameters) == ["lr", "lr_1"]
    assert read.data["trial"]["container"]["command"] == ["--lr=${lr}", "--n=${lr_1}"]
    assert notes(read) == [
        "parameters.lr: called '--lr' in Katib, which is not a valid name here",
        "parameters.lr_1: called 'lr' in Katib, which is not a valid name here",
    ]


@pytest.mark.parametrize(
    ("kind", "space", "message"),
    [
        ("int", {"min": "1", "max": "2.5"}, "max: found '2.5', need a whole number as text, because it is an int"),
        ("int", {"min": "1", "max": "3", "step": "0"}, "step: found 0, need a number of at least 1"),
        ("double", {"min": "1", "max": "inf"}, "max: found 'inf', need a number as text, because it is a double"),
        ("double", {"min": "0", "max": "1", "distribution": "logUniform"},
         "min: found 0.0, need a number above 0, because scale is log"),
        ("double", {"min": "0", "max": "1", "distribution": "gamma"}, "distribution: found 'gamma', need 'uniform', "
         "'logUniform', 'normal', 'logNormal', 'unknown' or ''"),
        ("double", {"min": "0", "max": "1", "list": ["1"]}, "list: found ['1'], need min and max, because it is a double"),
        ("categorical", {}, "list: found [], need a list of values, because it is a categorical"),
        ("categorical", {"list": ["a", "a"]}, "list: found 'a', need each value only once"),
        ("categorical", {"list": ["a"], "min": "1"}, "min: found '1', need only a list, because it is a categorical"),
        ("discrete", {"list": ["1", True]}, "list[1]: found True, need text (quote it)"),
        ("double", {"mim": "0", "max": "1"}, "mim: found 'mim', need a known key, one of max, min, step, list, distribution; "
         "did you mean 'min'?"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_space_is_told(kind: str, space: Data, message: str):
    (told,) = mistakes(with_spec(parameters=[parameter("lr", kind, **space)]))
    assert told == f"spec.parameters[0].feasibleSpace.{message}"


def test_a_parameter_that_stands_twice_is_told():
    twice = [parameter("lr", "int", min="0", max="1")] * 2
    assert mistakes(with_spec(parameters=twice)) == [
        "spec.parameters[1].name: found 'lr', need each parameter only once"
    ]


def test_no_parameters_are_told():
    data = with_spec(parameters=[])
    data["spec"]["trialTemplate"]["trialParameters"] = []
    data["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"] = ["train"]
    assert mistakes(data) == [
        "spec.parameters: found nothing, need at least one parameter, or an architecture to search"
    ]
