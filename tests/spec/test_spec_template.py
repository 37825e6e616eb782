"""Values in arguments: in place, as data, never through a shell."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import scalars, spec
from pydantic import ValidationError

from katib_flow.errors import InvalidSpec
from katib_flow.spec import Experiment
from katib_flow.spec.template import Inactive, TrialTemplate, as_text, placeholders, substitute, substitute_all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--lr=${lr}", "--lr=0.001"),
        ("${lr}${layers}", "0.0013"),
        ("$${lr}", "${lr}"),
        ("$$${lr}", "$${lr}"),
        ("$${lr} ${lr}", "${lr} 0.001"),
        ("${a.b-c}", "dotted"),
        ("$lr {lr} $ {lr}", "$lr {lr} $ {lr}"),
        ("${lr", "${lr"),
        ("", ""),
    ],
)
def test_a_placeholder_is_replaced_where_it_stands(text, expected):
    assert substitute(text, {"lr": 0.001, "layers": 3, "a.b-c": "dotted"}) == expected


@given(st.text(), st.text(), st.text(alphabet=st.characters(exclude_characters="$")))
def test_a_value_stays_one_argument_whatever_it_holds(value, other, around):
    assert substitute_all([f"{around}${{a}}", "${b}"], {"a": value, "b": other}) == [around + value, other]


@given(st.text(alphabet=st.characters(exclude_characters="{}")))
def test_a_doubled_dollar_lets_a_placeholder_stand_for_itself(name):
    assert substitute(f"$${{{name}}}", {name: "value"}) == f"${{{name}}}"


def test_a_value_that_looks_like_a_placeholder_is_not_replaced_again():
    assert substitute("${a}", {"a": "${b}", "b": "no"}) == "${b}"


def test_an_argument_that_names_an_inactive_parameter_is_left_out():
    assert substitute_all(["train", "--momentum=${momentum}", "--lr=${lr}"], {"lr": 1.0}) == ["train", "--lr=1.0"]


def test_a_placeholder_without_a_value_is_named():
    with pytest.raises(Inactive, match="momentum"):
        substitute("${lr} ${momentum}", {"lr": 1.0})


@pytest.mark.parametrize(
    ("value", "text"), [("a b", "a b"), (True, "true"), (None, "null"), (3, "3"), (1e-05, "1e-05"), (0.1, "0.1")]
)
def test_a_value_is_text_as_a_program_in_any_language_reads_it(value, text):
    assert as_text(value) == text


@given(scalars)
def test_a_value_that_is_not_text_reads_back_as_json(value):
    back = as_text(value) if isinstance(value, str) else json.loads(as_text(value))
    assert (type(back), back) == (type(value), value)


def test_placeholders_are_found_with_their_paths_wherever_they_stand():
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"containers": [{"args": ["--lr", "${lr}", "$${no}"]}]},
    }
    template = TrialTemplate.model_validate(
        {"resource": {"manifest": manifest, "success_condition": "${a}", "failure_condition": "x"}}
    )
    assert sorted(placeholders(template)) == [
        ("resource.manifest.spec.containers[0].args[1]", "lr"),
        ("resource.success_condition", "a"),
    ]


KINDS = {
    "function": "module:name",
    "command": ["train"],
    "container": {"image": "i", "command": ["c"]},
    "resource": {"manifest": {"apiVersion": "v1", "kind": "Pod"}, "success_condition": "s", "failure_condition": "f"},
    "template": {"name": "pipeline"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_knows_its_kind(kind):
    assert TrialTemplate.model_validate({kind: KINDS[kind]}).kind == kind


def test_a_resource_without_a_kind_is_told_so() -> None:
    with pytest.raises(ValidationError):
        TrialTemplate.model_validate({"resource": {"manifest": {"kind": "Job"}}})


@pytest.mark.parametrize(("kind", "type_"), [("Job", "Complete"), ("PyTorchJob", "Succeeded")])
def test_conditions_are_those_of_the_kind_where_none_are_given(kind: str, type_: str) -> None:
    made = TrialTemplate.model_validate({"resource": {"manifest": {"apiVersion": "x/v1", "kind": kind}}})
    assert made.resource is not None
    assert made.resource.conditions == (
        f'status.conditions.#(type=="{type_}")#|#(status=="True")#',
        'status.conditions.#(type=="Failed")#|#(status=="True")#',
    )


@pytest.mark.parametrize("package", ["-r evil", "--index-url=x", "", "a b"])
def test_a_package_is_no_option_of_pip(package: str) -> None:
    with pytest.raises(ValidationError):
        TrialTemplate.model_validate({"function": "a:b", "code": "x", "packages": [package]})


def test_code_is_for_functions() -> None:
    with pytest.raises(ValidationError):
        TrialTemplate.model_validate({"command": ["x"], "code": "y"})


@pytest.mark.parametrize(
    ("trial", "where", "need"),
    [
        ({"command": ["p", "a\0b"]}, "trial.command[1]", "text without the character NUL"),
        ({"command": ["p"], "env": {"A=B": "1"}}, "trial.env.A=B", "the name of a variable, without '=' and NUL"),
        ({"command": ["p"], "env": {"": "1"}}, "trial.env.", "the name of a variable, without '=' and NUL"),
        ({"command": ["p"], "env": {"A": "\0"}}, "trial.env.A", "text without the character NUL"),
    ],
)
def test_what_no_program_can_be_started_with_is_told_at_validation(trial: Any, where: str, need: str) -> None:
    with pytest.raises(InvalidSpec) as told:
        Experiment.parse(spec(trial=trial))
    (problem,) = told.value.problems
    assert problem.where == where
    assert problem.need.startswith(need)
