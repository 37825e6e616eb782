"""Names are there, and what is not used is not loaded."""

import json
import subprocess
import sys

import pytest

import katib_flow

HEAVY = {"torch", "mlflow", "hera", "scipy", "pandas", "kubernetes", "sklearn"}


def loaded_by(program: str) -> set[str]:
    """The packages that a fresh process has loaded at the end of a program."""
    code = (
        f"import json, sys\n{program}\nprint(json.dumps([name.split('.')[0] for name in sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("name", katib_flow.__all__)
def test_every_name_a_user_imports_is_there(name):
    assert getattr(katib_flow, name) is not None


def test_the_names_are_listed_for_completion():
    assert set(katib_flow.__all__) <= set(dir(katib_flow))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'run_everything'"):
        katib_flow.run_everything  # noqa: B018


def test_importing_the_package_loads_none_of_what_it_may_need():
    assert not loaded_by("import katib_flow") & (HEAVY | {"numpy", "pydantic", "yaml", "typer", "rich"})


def test_reporting_a_metric_loads_nothing_heavy():
    assert not loaded_by("import katib_flow as kf\nkf.report(accuracy=1.0)") & HEAVY


def test_declaring_an_experiment_loads_nothing_heavy():
    program = "import katib_flow as kf\nkf.experiment(parameters={'x': kf.Float(0, 1)}, minimize='y', max_trials=1)"
    assert not loaded_by(program) & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["algorithms", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments):
    program = f"sys.argv = {['katib-flow', *arguments]!r}\ntry: main()\nexcept SystemExit: pass"
    assert not loaded_by(f"from katib_flow.cli import main\n{program}") & (HEAVY | {"numpy"})


@pytest.mark.parametrize("step", ["suggest", "collect", "train", "any_image", "objects"])
def test_what_a_step_begins_with_is_nothing_heavy(step):
    assert not loaded_by(f"import katib_flow.argo.steps.{step}") & (HEAVY | {"numpy", "urllib3", "requests"})


def test_a_suggestion_by_tpe_needs_no_scipy():
    assert not loaded_by("import katib_flow.algorithms.tpe") & HEAVY


def test_what_the_reading_commands_share_is_nothing_heavy():
    assert not loaded_by("import katib_flow.cli.records") & (HEAVY | {"numpy"})


def test_reading_a_spec_loads_nothing_heavy():
    sections = "objective: {metric: a, direction: maximize}, parameters: {x: {type: float, min: 0, max: 1}}"
    program = f"parse_spec('{{name: x, {sections}, trial: {{function: \"a:b\"}}}}')"
    assert not loaded_by(f"from katib_flow.spec import parse_spec\n{program}") & HEAVY
