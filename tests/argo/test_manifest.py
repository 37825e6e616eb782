"""The YAML that Argo gets: read as meant, the same every time, small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from specs import HOSTILE, SPECS, experiment, spec
from yaml11 import ambiguous, scalars

from katib_flow.argo import compile_experiment, to_yaml
from katib_flow.argo.manifest import write_yaml
from katib_flow.argo.spec_text import decode_spec, encode_spec
from katib_flow.errors import KatibFlowError
from katib_flow.spec import Experiment

GOLDEN = Path(__file__).parents[1] / "golden" / "argo"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(HOSTILE)


@pytest.mark.parametrize("name", ["function", "container", "lanes", "nas"])
def test_a_spec_compiles_to_its_golden_workflow(name: str) -> None:
    file, text = GOLDEN / f"{name}.yaml", to_yaml(compile_experiment(experiment(name)))
    if os.environ.get("KATIB_FLOW_GOLDEN"):  # `make golden`
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("name", SPECS)
def test_every_plain_scalar_is_one_thing_to_every_reader(name: str) -> None:
    text = to_yaml(compile_experiment(experiment(name)))
    assert ambiguous(text) == []
    assert text.isascii()


@pytest.mark.parametrize("name", SPECS)
def test_what_is_read_back_is_what_was_compiled(name: str) -> None:
    workflow = compile_experiment(experiment(name))
    assert yaml.safe_load(to_yaml(workflow)) == workflow.to_dict()


@given(st.recursive(TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_any_text_reads_back_as_itself(data: object) -> None:
    text = write_yaml({"data": data})
    assert yaml.safe_load(text) == {"data": data}
    assert ambiguous(text) == []


def test_the_strict_reader_finds_what_argo_reads_as_something_else() -> None:
    text = "[n, 1e-3, 1E3, 0o7, 1e22, word]"
    assert sorted(ambiguous(text)) == sorted(["n", "1e-3", "1E3", "0o7", "1e22"])
    assert len(scalars(text)) == 6


@given(st.lists(TEXT, min_size=1, max_size=5, unique=True))
def test_the_spec_passes_argo_and_kubernetes_unchanged(values: list[str]) -> None:
    data = spec(parameters={"y": {"type": "categorical", "values": values}})
    text = encode_spec(Experiment.parse(data))
    assert "{{" not in text
    assert "$" not in text
    assert text.isascii()
    assert decode_spec(text, "spec") == Experiment.parse(data)


def test_a_spec_that_does_not_fit_is_refused_with_what_to_do() -> None:
    data = spec(description="x" * 120_001)
    message = r"the spec is 12\d kB as JSON, but a Workflow holds at most 120 kB; .* into an image"
    with pytest.raises(KatibFlowError, match=message):
        compile_experiment(Experiment.parse(data))


def test_the_manifest_says_the_same_in_every_process() -> None:
    program = (
        "import sys; sys.path.insert(0, 'tests/argo'); from specs import *; from katib_flow.argo import *;"
        "print(to_yaml(compile_experiment(experiment('hostile'))), end='')"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_ten_thousand_trials_make_no_larger_a_manifest_than_ten() -> None:
    def compiled(trials: int) -> str:
        return to_yaml(compile_experiment(Experiment.parse(spec(limits={"max_trials": trials, "parallel_trials": 4}))))

    many = compiled(10_000)
    assert len(many) < 100_000
    assert len(many) - len(compiled(10)) == len("10000") - len("10")


def test_the_workflow_writes_the_same_yaml_by_itself() -> None:
    workflow = compile_experiment(experiment("hostile"))
    assert workflow.to_yaml() == to_yaml(workflow)


def test_importing_the_package_loads_neither_hera_nor_mlflow_nor_kubernetes() -> None:
    program = "import sys, katib_flow.argo; print([m for m in ('hera', 'mlflow', 'kubernetes') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == []
