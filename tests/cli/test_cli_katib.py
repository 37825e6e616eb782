"""A Katib manifest on the command line: taken as it is, or imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from katib_flow.cli import main
from katib_flow.loop import load

MANIFEST = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: digits, namespace: ml}
spec:
  objective: {type: minimize, objectiveMetricName: loss}
  algorithm: {algorithmName: random}
  maxTrialCount: 4
  maxFailedTrialCount: 1
  resumePolicy: LongRunning
  parameters:
    - {name: lr, parameterType: double, feasibleSpace: {min: "0.01", max: "0.05"}}
  trialTemplate:
    primaryContainerName: training
    trialParameters:
      - {name: learningRate, reference: lr}
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            containers:
              - {name: training, image: "train:1", command: [train, "--lr=${trialParameters.learningRate}"]}
            restartPolicy: Never
"""
NOTE = "resumePolicy LongRunning: here any experiment can be resumed, with katib-flow resume NAME"


@pytest.fixture(autouse=True)
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "katib.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["katib-flow", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


def test_import_writes_a_spec_that_is_the_same_experiment(call, manifest: Path):
    assert call("import", "katib.yaml", "-o", "spec.yaml") == (0, "", "")
    text = Path("spec.yaml").read_text()
    assert load("spec.yaml") == load(manifest)
    assert text.startswith("# The Katib experiment katib.yaml as a katib-flow spec.\nname: digits\n")
    assert f"# {NOTE}\nlimits:" in text


def test_import_prints_where_no_file_is_named(call, manifest: Path):
    code, out, _ = call("import", "katib.yaml")
    Path("spec.yaml").write_text(out)
    assert code == 0
    assert load("spec.yaml") == load(manifest)


def test_import_does_not_write_over_the_manifest(call, manifest: Path):
    code, _, error = call("import", "katib.yaml", "-o", "katib.yaml")
    assert (code, manifest.read_text()) == (2, MANIFEST)
    assert error == "error: --out: found katib.yaml, need another file, because this is the manifest\n"


def test_import_takes_manifests_only(call):
    call("import", "katib.yaml", "-o", "spec.yaml")
    code, _, error = call("import", "spec.yaml")
    assert (code, error) == (
        2,
        "error: spec.yaml: found a katib-flow spec, need a Katib manifest\n",
    )


def test_a_manifest_is_validated_with_what_there_is_to_tell(call):
    assert call("validate", "katib.yaml") == (
        0,
        "katib.yaml: valid; 1 parameter, infinitely many points, algorithm random\n",
        f"note: limits: {NOTE}\n",
    )


def test_mistakes_are_told_by_their_line_in_the_manifest(call, manifest: Path):
    manifest.write_text(MANIFEST.replace("minimize", "minimal").replace('max: "0.05"', 'max: "0,05"'))
    code, out, error = call("validate", "katib.yaml")
    assert (code, out) == (2, "")
    assert [line.split(": found")[0] for line in error.splitlines()] == [
        "katib.yaml:5: spec.objective.type",
        "katib.yaml:11: spec.parameters[0].feasibleSpace.max",
    ]


def test_a_manifest_compiles_to_a_workflow_and_nothing_else_on_stdout(call):
    code, out, error = call("compile", "katib.yaml")
    workflow = yaml.safe_load(out)
    assert (code, workflow["kind"], workflow["metadata"]["namespace"]) == (0, "Workflow", "ml")
    assert error == f"note: limits: {NOTE}\n"


def test_a_container_is_not_run_here_and_the_user_told_what_to_do(call):
    code, out, error = call("run", "katib.yaml")
    assert (code, out) == (2, "")
    assert "trial.container: found 'a container trial', need a function or a command on this machine. " in error
    assert "katib-flow submit SPEC, or argo submit with the output of katib-flow compile SPEC" in error
    assert "trial: {command: [...]}" in error


def test_a_native_spec_does_not_load_katibs_side():
    program = "import sys; from katib_flow.spec import load; print('katib_flow.spec.katib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out == "False\n"


NAS = """\
  nasConfig:
    graphConfig: {numLayers: 2, inputSizes: [8, 8, 1], outputSizes: [10]}
    operations:
      - operationType: convolution
        parameters: [{name: filter_size, parameterType: categorical, feasibleSpace: {list: ["3"]}}]
  trialTemplate:
"""


def test_own_nas_writes_a_spec_that_is_good_and_tells_what_was_left_behind(call, manifest: Path) -> None:
    text = MANIFEST.replace("{algorithmName: random}", "{algorithmName: enas}").replace("  trialTemplate:\n", NAS)
    manifest.write_text(text)
    code, out, err = call("import", "--own-nas", "katib.yaml", "-o", "own.yaml")
    assert (code, out) == (0, "")
    assert "note: limits: left out maxTrialCount 4" in err
    spec = yaml.safe_load(Path("own.yaml").read_text())
    assert (spec["algorithm"], spec["architecture"]["space"]) == ("enas", "macro")
    assert "# left out maxTrialCount 4" in Path("own.yaml").read_text()
    assert load("own.yaml").trial.function == "katib_flow.nas:train"
    before = call("import", "katib.yaml")
    assert "architecture:" not in before[1]


def test_own_nas_needs_an_architecture_to_search(call) -> None:
    code, out, err = call("import", "--own-nas", "katib.yaml", "-o", "own.yaml")
    assert (code, out, Path("own.yaml").exists()) == (2, "", False)
    assert err.startswith("error: katib.yaml: spec.nasConfig: found nothing, need an architecture to search")
