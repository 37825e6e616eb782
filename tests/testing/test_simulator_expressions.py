"""The three languages of Argo, by what its documentation and its source say of them."""

import json

import pytest

from katib_flow.testing.argo import ExpressionError, Rejected, Unsupported
from katib_flow.testing.argo.depends import dependencies, holds
from katib_flow.testing.argo.expr import evaluate, names
from katib_flow.testing.argo.substitution import expanded, placeholders, substitute
from katib_flow.testing.argo.when import should_execute


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 ** 3 ** 2", 512.0),
        ("-2 + 5", 3),
        ("7 % 3", 1),
        ("7 / 2", 3.5),
        ("\"a\" + 'b'", "ab"),
        ("`a\\n`", "a\\n"),
        ('"a\\n"', "a\n"),
        ("1 < 2 && 2 <= 2 and not (3 > 4)", True),
        ("!true || false", False),
        ("1 == 1.0", True),
        ("true ? 'y' : 'n'", "y"),
        ("nil ?? 3", 3),
        ("outputs.missing ?? 'none'", "none"),
        ("k == '4'", True),
        ("int(k) + 1", 5),
        ("string(int(k) + 1)", "5"),
        ("string(1.5)", "1.5"),
        ("float('2.5') * 2", 5.0),
        ("[1, 2, 3][1]", 2),
        ("'b' in ['a', 'b']", True),
        ("inputs.parameters['spec-uri']", "x://y"),
        ("fromJSON('{\"a\": [1, 2]}').a[1]", 2),
        ("toJson({{}})".replace("{{}}", "[1, 'a']"), '[1,"a"]'),
        ("jsonpath('{\"a\": {\"b\": [5]}}', '$.a.b[0]')", 5),
        ("'OOMKilled (exit code 137)' matches 'OOMKilled|specified deadline'", True),
        ("'abc' startsWith 'a' && 'abc' endsWith 'c' && 'abc' contains 'b'", True),
        ("len('abc')", 3),
    ],
)
def test_expr_gives(source: str, value: object) -> None:
    env = {"k": "4", "inputs": {"parameters": {"spec-uri": "x://y"}}, "outputs": {}}
    found = evaluate(source, env)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("source", ["k == 4", "k < 5", "k + 1", "nope", "int('x')", "1 +", "(1", "1 2", "k && true"])
def test_expr_refuses_what_expr_refuses(source: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(source, {"k": "4"})


@pytest.mark.parametrize(
    "source", ["sprig.trim('a')", "all([1], # > 0)", "a?.b", "map([1], {# + 1})", "1 | 2", "date('x')"]
)
def test_expr_names_what_it_does_not_know(source: str) -> None:
    with pytest.raises((Unsupported, ExpressionError)):
        evaluate(source, {"a": {}})


def test_the_names_that_an_expression_reads() -> None:
    assert names("string(int(inputs.parameters.k) + 1) == lastRetry['exitCode']") == {
        "inputs.parameters.k",
        "lastRetry.exitCode",
    }


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ("", True),
        ("true == true", True),
        ("false == true && 1 < 2", False),
        ("3 < 10", True),
        ("'3' < '10'", False),
        ("3 == '3'", False),
        ("a == a", True),
        ("a != b || a == b", True),
        ("!(a == b)", True),
        ("a in (a, b)", True),
        ("'c' in ('a', 'b')", False),
        ("abc =~ b", True),
        ("abc !~ b", False),
        ("-1 < 0", True),
        ("1.5 >= 1.5", True),
        ("true", True),
        ('"a b" == "a b"', True),
    ],
)
def test_when_gives(when: str, runs: bool) -> None:
    assert should_execute(when) is runs


@pytest.mark.parametrize(
    "when", [" == true", "1e3 < 2", "a b == c", "a-b == a", "a", "1 < a", "{{x}} == true", "a.b == c", "1."]
)
def test_when_fails_on_what_does_not_parse_or_compare(when: str) -> None:
    with pytest.raises(ExpressionError):
        should_execute(when)


def test_when_refuses_to_guess_at_texts_that_are_times() -> None:
    with pytest.raises(Unsupported, match="looks like a time"):
        should_execute("'2024-01-02' == '2024-01-02'")


def results(**phases: str) -> object:
    every = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")
    return lambda name: {each: phases[name.replace("-", "_")] == each for each in every}


@pytest.mark.parametrize(
    ("depends", "phase", "runs"),
    [
        ("a-b", "Succeeded", True),
        ("a-b", "Skipped", True),
        ("a-b", "Omitted", False),
        ("a-b", "Failed", False),
        ("a-b.Succeeded", "Skipped", False),
        ("a-b.Succeeded || a-b.Failed || a-b.Errored", "Errored", True),
        ("!a-b.Succeeded", "Failed", True),
        ("a-b && (a-b.Failed || a-b)", "Succeeded", True),
    ],
)
def test_depends(depends: str, phase: str, runs: bool) -> None:
    assert dependencies(depends) == ("a-b",)
    assert holds(depends, results(a_b=phase)) is runs  # type: ignore[arg-type]


def test_depends_on_a_result_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Rejected, match="task result 'Finished'"):
        dependencies("a.Finished")


def test_placeholders_are_replaced_wherever_a_text_is() -> None:
    scope = {"inputs.parameters.k": "2", "item": "k", "quoted": 'a "b"\n{{item}}'}
    manifest = {"{{item}}": ["{{ inputs.parameters.k }}", 3, {"x": "{{inputs.parameters.{{item}}}}"}], "y": "{{z}}"}
    once = substitute(manifest, scope)
    assert once == {"k": ["2", 3, {"x": "{{inputs.parameters.k}}"}], "y": "{{z}}"}
    assert substitute(once, scope)["k"][2] == {"x": "2"}
    assert substitute("{{quoted}}", scope) == 'a "b"\n{{item}}'  # not again in the same pass
    with pytest.raises(Rejected, match="cannot find end tag"):
        substitute("{{x", scope)
    assert placeholders(manifest) == ["item", " inputs.parameters.k ", "inputs.parameters.{{item", "z"]


def test_expressions_in_texts_wait_for_what_they_read() -> None:
    scope = {"inputs.parameters.k": "41", "x": json.dumps({"a": 1})}
    assert substitute("{{=string(int(inputs.parameters.k) + 1)}}", scope) == "42"
    assert substitute("{{=int(inputs.parameters.k) + 1}}", scope) == "42"
    assert substitute("{{=fromJSON(x)}}", scope) == '{"a":1}'
    for late in ("{{=item + 'a'}}", "{{=string(int(retries) + 1)}}", "{{=workflow.status}}", "{{=tasks.a.outputs.b}}"):
        assert substitute(late, scope) == late
    assert expanded({"a.b": "1", "a.c.d": "2", "a.c": "3"}) == {"a": {"b": "1", "c": {"d": "2"}}}
