"""A spec file -> Experiment: every mistake with its line, and never a traceback."""

# ruff: noqa: E501 - a case of the table stands on one line or two

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.algorithms import registered_algorithms
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.loop import load
from katib_flow.spec import Experiment, load_spec, parse_spec

GOOD = """\
name: digits-mlp
objective: {metric: accuracy, direction: maximize}
parameters:
  lr: {type: float, min: 1e-4, max: 1, scale: log}
  act: {type: categorical, values: [relu, tanh]}
  units: {type: int, min: 1, max: 9, when: {act: relu}}
limits: {max_trials: 10}
trial: {command: [train, "--lr=${lr}"]}
"""
LR = "  lr: {type: float, min: 1e-4, max: 1, scale: log}"
BUILTIN = (
    "trial.id, trial.name, trial.namespace, trial.directory, trial.checkpoint_dir, trial.parent_checkpoint_dir, "
    "trial.file, trial.model_dir, trial.run_id, tracking.uri, experiment.name"
)


def refusal(old: str, new: str) -> list[str]:
    assert old in GOOD
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(GOOD.replace(old, new), "f.yaml")
    return str(caught.value).splitlines()


def test_thousands_of_mistakes_each_have_their_line():
    """A pattern for each pair of a mistake and a key took minutes."""
    keys = [f"unknown{number}" for number in range(2_000)]
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(GOOD + "".join(f"{key}: 1\n" for key in keys), "f.yaml")
    first = GOOD.count("\n") + 1
    assert [(each.where, each.line) for each in caught.value.problems] == [
        (key, first + number) for number, key in enumerate(keys)
    ]


def test_a_long_chain_of_conditions_is_no_circle():
    """Its length to the power of three took minutes."""
    links = ["  p0: {type: categorical, values: [a, b]}"]
    links += [f"  p{n}: {{type: categorical, values: [a, b], when: {{p{n - 1}: a}}}}" for n in range(1, 1_500)]
    experiment = parse_spec(GOOD.replace(LR, "\n".join([LR, *links])))
    assert len(experiment.parameters) == 1_503


def test_an_initial_point_that_is_no_float_is_refused():
    data = {**parse_spec(GOOD).to_dict(), "initial": [{"lr": 10**400}, {"lr": -(10**400)}]}
    with pytest.raises(InvalidSpec, match=r"initial\[1\].lr: found .* need a value of lr: "):
        Experiment.parse(data)


def test_a_good_spec_is_an_experiment():
    assert parse_spec(GOOD).name == "digits-mlp"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # keys
        ("limits:", "limts:", "7: limts: found 'limts', need a known key, one of name, description, objective, "
         "additional_metrics, parameters, architecture, initial, warm_start, algorithm, budget, early_stopping, limits, trial, metrics, "
         "tracking, argo; did you mean 'limits'?"),
        ("scale:", "scael:", "4: parameters.lr.scael: found 'scael', need a known key, one of when, scale, min, max, "
         "step, type; did you mean 'scale'?"),
        ("max_trials", "maxtrials", "7: limits.maxtrials: found 'maxtrials', need a known key, one of max_trials, "
         "parallel_trials, max_failed_trials, timeout, trial_timeout, retries; did you mean 'max_trials'?"),
        ("name: digits-mlp\n", "", "1: name: found nothing, need a value; it is required"),
        # names
        ("digits-mlp", "Digits_MLP", "1: name: found 'Digits_MLP', need at most 45 lower-case letters and digits, "
         "with '-' between them, such as digits-mlp"),
        ("digits-mlp", "12", "1: name: found 12, need text (quote it)"),
        ("digits-mlp", "a" * 46, f"1: name: found '{'a' * 46}', need at most 45 lower-case letters and digits, "
         "with '-' between them, such as digits-mlp"),
        ("  units:", "  1st:", "6: parameters.1st: found '1st', need a name of letters, digits, '_', '-' and '.' that starts with a letter or '_'"),
        # objective
        ("{metric: accuracy, direction: maximize}", "accuracy", "2: objective: found 'accuracy', need a metric and a direction, "
         "such as {metric: accuracy, direction: maximize}, or a list"),
        ("{metric: accuracy, direction: maximize}", "[]", "2: objective: found [], need 1 or more items"),
        ("maximize}", "maximise}", "2: objective.direction: found 'maximise', need 'maximize' or 'minimize'; "
         "did you mean 'maximize'?"),
        ("maximize}", "maximize, goal: .inf}", "2: objective.goal: found inf, need a finite number"),
        # parameters
        ("type: float", "type: flaot", "4: parameters.lr.type: found 'flaot', need one of 'float', 'int', 'categorical', "
         "'ordinal'; did you mean 'float'?"),
        ("type: float, ", "", "4: parameters.lr.type: found nothing, need one of float, int, categorical, ordinal"),
        (LR, "  lr:", "4: parameters.lr: found nothing, need a mapping of keys to values"),
        ("max: 1,", "max: 1e-5,", "4: parameters.lr.min: found 0.0001, need a number no greater than max, 1e-05"),
        ("min: 1e-4", "min: 0", "4: parameters.lr.min: found 0, need a number above 0, because scale is log"),
        ("scale: log", "scale: log, step: 0", "4: parameters.lr.step: found 0, need a "
         "number above 0"),
        ("scale: log", "scale: logit", "4: parameters.lr.max: found 1, need a number strictly between 0 and 1, because "
         "scale is logit"),
        ("min: 1e-4, max: 1, scale: log", "min: 0, max: 0.5, scale: logit", "4: parameters.lr.min: found 0, need a number "
         "strictly between 0 and 1, because scale is logit"),
        ("scale: log", "scale: exp", "4: parameters.lr.scale: found 'exp', need 'linear', 'log', 'logit', 'normal' or "
         "'lognormal'"),
        ("min: 1e-4", "min: low", "4: parameters.lr.min: found 'low', need a number"),
        ("min: 1e-4", "min: .nan", "4: parameters.lr.min: found nan, need a finite number"),
        ("min: 1e-4", "min: true", "4: parameters.lr.min: found True, need a number"),
        ("max: 1,", "max: 1e301,", "4: parameters.lr.max: found 1e+301, need a number between -1e+300 and 1e+300"),
        ("scale: log", "scale: log, step: 1e-20", "4: parameters.lr.step: found 1e-20, need a larger step, because this "
         "grid has too many values to count"),
        ("min: 1, max: 9", "min: 1.5, max: 9", "6: parameters.units.min: found 1.5, need a whole number"),
        ("min: 1, max: 9", "min: 1, max: 1" + "0" * 16, "6: parameters.units.max: found 1" + "0" * 16
         + ", need a number of at most 9007199254740992"),
        ("max: 9", "max: 9, scale: logit", "6: parameters.units.scale: found 'logit', need 'linear', 'log', 'normal' or "
         "'lognormal'; did you mean 'log'?"),
        ("max: 9", "max: 9, step: 0", "6: parameters.units.step: found 0, need a number of at least 1"),
        ("values: [relu, tanh]", "values: []", "5: parameters.act.values: found [], need 1 or more items"),
        ("values: [relu, tanh]", "values: relu", "5: parameters.act.values: found 'relu', need a list"),
        ("values: [relu, tanh]", "values: [relu, [tanh]]", "5: parameters.act.values[1]: found ['tanh'], need text, a finite "
         "number, true, false or null"),
        ("values: [relu, tanh]", "values: [relu, 1, 1.0, 1]", "5: parameters.act.values: found 1, need each value only once"),
        # conditions
        ("act: relu", "atc: relu", "6: parameters.units.when.atc: found 'atc', need the name of another parameter; "
         "did you mean 'act'?"),
        ("act: relu", "units: 1", "6: parameters.units.when.units: found 'units', need the name of another parameter"),
        ("act: relu", "lr: 1.0", "6: parameters.units.when.lr: found 'lr', need a parent with countable values (a float "
         "needs a step)"),
        ("act: relu", "act: gelu", "6: parameters.units.when.act: found 'gelu', need a value of act: 'relu', 'tanh'"),
        ("act: relu", "act: []", "6: parameters.units.when.act: found [], need 1 or more items"),
        ("tanh]", "tanh], when: {units: 1}", "3: parameters: found 'act and units depending on each other', need conditions without cycles"),
        # limits
        ("max_trials: 10", "max_trials: 0", "7: limits.max_trials: found 0, need a number of at least 1"),
        ("max_trials: 10", "timeout: 10 parsecs", "7: limits.timeout: found '10 parsecs', need a number of seconds, or a "
         "duration such as 90s, 10m, 2h or 1h30m"),
        # the trial
        ('trial: {command: [train, "--lr=${lr}"]}\n', "", "1: trial: found nothing, need a value; it is required"),
        ("trial: {", "trial: {function: 'a:b', ", "8: trial: found 'function and command', need exactly one of function, "
         "command, container, resource, template"),
        ('{command: [train, "--lr=${lr}"]}', "{}", "8: trial: found nothing, need exactly one of function, command, "
         "container, resource, template"),
        ("command: [", "function: [", "8: trial.function: found ['train', '--lr=${lr}'], need text (quote it)"),
        ('command: [train, "--lr=${lr}"]', "function: digits.train", "8: trial.function: found 'digits.train', need a function "
         "as module:name"),
        ('[train, "--lr=${lr}"]', "train --lr", "8: trial.command: found 'train --lr', need a list"),
        ("[train,", "[train, 3,", "8: trial.command[1]: found 3, need text (quote it)"),
        ("${lr}", "${l}", f"8: trial.command[1]: found '${{l}}', need one of lr, act, units, {BUILTIN}; did you mean 'lr'? "
         "(write $${l} for the literal text)"),
        ("trial: {", "trial: {env: {HOME: '${home}'}, ", f"8: trial.env.HOME: found '${{home}}', need one of lr, act, units, "
         f"{BUILTIN} (write $${{home}} for the literal text)"),
        ('{command: [train, "--lr=${lr}"]}', "{template: {name: t}, env: {A: b}}", "8: trial.env: found {'A': 'b'}, need "
         "no trial.env, which only function and command trials take"),
        # other sections
        ("limits:", "additional_metrics: [loss, loss]\nlimits:", "7: additional_metrics: found 'loss', need each metric only once"),
        ("limits:", "additional_metrics: [accuracy]\nlimits:", "7: additional_metrics: found 'accuracy', need each metric only once"),
        ("limits:", "metrics: {strategy: {acuracy: max}}\nlimits:", "7: metrics.strategy.acuracy: found 'acuracy', need a "
         "metric of the objective or of additional_metrics; did you mean 'accuracy'?"),
        ("limits:", "metrics: {source: file}\nlimits:", "7: metrics.path: found nothing, need the path that the trial writes to, "
         "because source is file"),
        ("limits:", "metrics: {source: prometheus}\nlimits:", "7: metrics.port: found nothing, need the port that the trial serves "
         "metrics on, because source is prometheus"),
        ("limits:", "metrics: {filter: '(a'}\nlimits:", "7: metrics.filter: found '(a', need a regular expression (missing ), "
         "unterminated subpattern at position 0)"),
        ("limits:", "metrics: {filter: 'a{99999999999}'}\nlimits:", "7: metrics.filter: found 'a{99999999999}', need a regular "
         "expression (the repetition number is too large)"),
        ("limits:", "metrics: {filter: '(a)='}\nlimits:", "7: metrics.filter: found '(a)=', need a regular expression with two "
         "groups, the name and the value"),
        ("limits:", "metrics: {filter: '(a)(b)', format: json}\nlimits:", "7: metrics.filter: found '(a)(b)', need no filter, "
         "because format is json"),
        ("limits:", "budget: {parameter: lr, max: 9}\nlimits:", "7: budget.parameter: found 'lr', need a name that is not in "
         "parameters, because the algorithm sets the budget"),
        ("limits:", "budget: {parameter: epochs, min: 9, max: 3}\nlimits:", "7: budget.min: found 9, need a number no greater "
         "than max, 3"),
        ("limits:", "algorithm: {seed: -1}\nlimits:", "7: algorithm.seed: found -1, need a number of at least 0"),
        ("limits:", "argo: {mode: lane}\nlimits:", "7: argo.mode: found 'lane', need 'barrier' or 'lanes'; did you mean 'lanes'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_with_its_line(old, new, message):
    assert refusal(old, new) == [f"f.yaml:{message}"]


@pytest.mark.parametrize("duration", ["-3", "0", "0s", "-1h", "1h2h", "90s90s", "30m1h", "''", "[1]", "true", ".inf", ".nan",
                                      "'90'", "1e400", "1h30", "h", "1.h", "1 y", '"1h\\n"'])  # fmt: skip
def test_a_bad_duration_is_refused(duration):
    (message,) = refusal("max_trials: 10", f"max_trials: 10, trial_timeout: {duration}")
    assert message.startswith("f.yaml:7: limits.trial_timeout: found ")


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        *[("90", 90), ("0.5", 0.5), ("1e3", 1000), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)],
        *[("1h30m", 5400), ("1h 30m", 5400), ("1.5h", 5400), ("1d2h3m4s", 93784), ("0h90m", 5400)],
    ],
)
def test_a_duration_is_seconds_with_or_without_units(duration, seconds):
    made = parse_spec(GOOD.replace("max_trials: 10", f"timeout: {duration}"))
    assert made.limits.timeout == seconds


def test_four_mistakes_are_four_messages():
    text = (
        GOOD.replace("min: 1e-4", "min: 0")
        .replace("act: relu}", "atc: relu}")
        .replace("max_trials: 10", "max_trials: 0")
    )
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(text.replace("name: digits-mlp", "name: digits_mlp"), "f.yaml")
    wheres = [(problem.line, problem.where) for problem in caught.value.problems]
    assert wheres == [(1, "name"), (4, "parameters.lr.min"), (6, "parameters.units.when.atc"), (7, "limits.max_trials")]


def test_a_mistake_in_one_section_hides_none_between_the_others():
    text = GOOD.replace("max_trials: 10", "max_trials: 0").replace("${lr}", "${l}").replace("act: relu}", "act: gelu}")
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(text + "metrics: {strategy: {loss: min}}\n")
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres == ["parameters.units.when.act", "limits.max_trials", "trial.command[1]", "metrics.strategy.loss"]


def test_a_section_that_is_wrong_is_not_missed_in_another(tmp_path):
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(GOOD.replace("min: 1e-4", "min: 0"))  # lr, which the command names, could not be read
    assert [problem.where for problem in caught.value.problems] == ["parameters.lr.min"]


def test_further_rules_are_asked_and_get_their_lines():
    def rule(experiment):
        yield SpecError("limits.max_trials", experiment.limits.max_trials, "more patience")

    with pytest.raises(InvalidSpec) as caught:
        parse_spec(GOOD.replace("name: digits-mlp", "name: Digits"), "f.yaml", [rule])
    assert str(caught.value).splitlines()[1:] == ["f.yaml:7: limits.max_trials: found 10, need more patience"]


def file(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return path


def test_load_names_an_unknown_algorithm_beside_the_other_mistakes(tmp_path):
    path = file(tmp_path, GOOD.replace("max_trials: 10", "retries: -1") + "algorithm: sobel\n")
    known = ", ".join(registered_algorithms())
    with pytest.raises(InvalidSpec) as caught:
        load(path)
    assert str(caught.value).splitlines() == [
        f"{path}:7: limits.retries: found -1, need a number of at least 0",
        f"{path}:9: algorithm.name: found 'sobel', need an algorithm: {known}; did you mean 'sobol'?",
    ]


def test_load_checks_the_settings_of_the_algorithm(tmp_path):
    path = file(tmp_path, GOOD + "algorithm:\n  name: grid\n  settings:\n    points: 1\n    steps: 3\n")
    with pytest.raises(InvalidSpec) as caught:
        load(path)
    assert str(caught.value).splitlines() == [
        f"{path}:12: algorithm.settings.points: found 1, need a number of at least 2",
        f"{path}:13: algorithm.settings.steps: found 'steps', need a known key, one of points",
    ]


def test_load_asks_what_ends_an_experiment_that_could_go_on_for_ever(tmp_path):
    path = file(tmp_path, GOOD.replace("limits: {max_trials: 10}\n", ""))
    with pytest.raises(InvalidSpec) as caught:
        load(path)
    need = "a condition that ends the experiment: max_trials, a timeout, or a goal in objective"
    assert str(caught.value) == f"{path}:1: limits: found nothing, need {need}"


@pytest.mark.parametrize("when", ["{units: 1}", "{lr: 1.0}", "{nobody: 1}"])
def test_load_asks_nothing_about_a_space_whose_conditions_are_wrong(tmp_path, when):
    text = GOOD.replace("limits: {max_trials: 10}\n", "").replace("tanh]}", f"tanh], when: {when}}}")
    with pytest.raises(InvalidSpec) as caught:
        load(file(tmp_path, text))
    assert {problem.where.split(".")[0] for problem in caught.value.problems} == {"parameters"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_trials: 10", "timeout: 1h"),
        ("maximize}", "maximize, goal: 0.9}"),
        (LR, "  lr: {type: float, min: 0, max: 1, step: 0.1}"),
        ("limits: {max_trials: 10}", "algorithm: {name: grid, settings: {points: 3}}"),
    ],
)
def test_load_is_content_with_anything_that_ends(tmp_path, old, new):
    text = GOOD.replace(old, new)
    assert load(file(tmp_path, text if "max_trials" in old else text.replace("limits: {max_trials: 10}\n", "")))


@pytest.mark.parametrize(
    ("text", "found"), [("- a\n", "['a']"), ("hello", "'hello'"), ("3", "3"), ("~", "nothing"), ("---\n", "nothing")]
)
def test_what_is_no_mapping_is_refused(text, found):
    with pytest.raises(KatibFlowError, match="need a mapping with the keys of a spec") as caught:
        parse_spec(text, "f.yaml")
    assert f": found {found}, " in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_may_be_in_utf_8_or_utf_16(encoding, tmp_path):
    path, text = tmp_path / "spec.yaml", GOOD.replace("\n", "\r\n")
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes((mark + text).encode(encoding))
    assert load_spec(path) == parse_spec(GOOD).based_on(tmp_path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(KatibFlowError, match=r"spec.yaml: cannot be read: No such file or directory"):
        load_spec(tmp_path / "spec.yaml")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(KatibFlowError, match="cannot be read: Is a directory"):
        load_spec(tmp_path)


def test_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(KatibFlowError, match="cannot be read"):
        load_spec("a\0b")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    with pytest.raises(KatibFlowError, match=r"bytes\.yaml"):
        load_spec(path)
