"""A Katib manifest -> the plain data of a spec, with notes for people, and mistakes by their paths in the manifest."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec.config_maps import ConfigMaps, nobody
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.katib import algorithms, config_map, manifest, sections, trial
from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.katib.nas import architecture
from katib_flow.spec.katib.substitution import SPEC
from katib_flow.spec.load import Parsed
from katib_flow.spec.mending import agreed
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.rules import Rule

ORDER = (
    *("name", "objective", "additional_metrics", "parameters", "architecture", "algorithm", "budget"),
    *("early_stopping", "limits", "trial", "metrics", "argo"),
)


def convert(
    data: Mapping[str, Any],
    source: str = "",
    further: Iterable[Rule] = (),
    line: Callable[[str], int] = lambda path: 0,
    config_maps: ConfigMaps = nobody,
) -> Parsed:
    """Convert a Katib manifest to an experiment.

    Args:
        source: the name of the manifest in messages, such as the path of its file.
        further: rules to check in addition to those of the spec.
        line: returns the line of a path in the manifest.
        config_maps: looks up the ConfigMap with the trial template, if the manifest names one.

    Raises:
        InvalidSpec: with every mistake by its path in the manifest, in the order of the lines.
    """
    if str(data.get("apiVersion")).startswith("kubeflow.org/v1alpha"):
        need = f"'{manifest.API_VERSION}'; convert the manifest first, its goTemplate becomes a trialSpec"
        raise InvalidSpec(source, [SpecError("apiVersion", data["apiVersion"], need)])
    rules = tuple(further)
    read, problems = _read(data, source, rules, config_maps, 0)
    if read is None or problems:
        problems = agreed(problems, _read(data, source, rules, config_maps, 1)[1])
        raise InvalidSpec(source, sorted(problems, key=lambda problem: line(problem.where)))
    return read


def _read(
    data: Mapping[str, Any], source: str, rules: Iterable[Rule], config_maps: ConfigMaps, variant: int
) -> tuple[Parsed | None, list[SpecError]]:
    """Read a manifest, or list the mistakes in it.

    Args:
        variant: which stand-ins to use in place of mistakes, 0 or 1.
    """
    draft = Draft(variant=variant)
    whole = draft.read(manifest.Manifest, data, unsound=())
    if whole is None or any(draft.has_mended(key) for key in ("apiVersion", "kind", "spec")):
        return None, draft.problems
    _fill(draft, whole, config_maps)
    spec = {key: draft.data[key] for key in ORDER if key in draft.data}
    try:
        experiment = Experiment.parse(spec, source, rules)
    except InvalidSpec as invalid:
        return None, draft.all_problems(invalid.problems)
    return Parsed(experiment, spec, tuple(draft.notes), katib=True, manifest=data), draft.problems


def _fill(draft: Draft, whole: manifest.Manifest, config_maps: ConfigMaps) -> None:
    _metadata(draft, whole.metadata)
    spec = draft.read(manifest.Spec, whole.spec, "spec", unsound=["limits"])
    if spec is None:
        return
    names = sections.parameters(draft, spec.parameters)
    sections.objective(draft, spec.objective)
    read = algorithms.algorithm(draft, spec.algorithm, names)
    algorithms.early_stopping(draft, spec.early_stopping)
    sections.limits(draft, spec)
    collector = sections.metrics(draft, spec.metrics_collector_spec)
    meanings = {name: f"${{{native}}}" for name, native in names.items()}
    meanings |= architecture(draft, spec.nas_config, read)
    template = config_map.resolved(draft, spec.trial_template, config_maps)
    trial.fill(draft, template.data, meanings, collector, algorithms.checkpoints(read))
    draft.moved(SPEC, template.where)
    if not template.known:
        draft.notes = [note for note in draft.notes if not note.where.startswith("trial.")]  # about the stand-in
    if not draft.data.get("parameters"):
        draft.data.pop("parameters", None)


def _metadata(draft: Draft, data: Mapping[str, Any]) -> None:
    read = draft.read(manifest.Metadata, data, "metadata", unsound=["name", "argo"])
    draft.came("name", "metadata.name")
    if read is None:
        return
    name = read.name or (read.generate_name or "").rstrip("-.")
    if not name:
        draft.wrong("metadata.name", NOTHING, "a value; it is required", unsound=["name"])
    draft.data["name"] = name
    argo = {"namespace": read.namespace, "labels": read.labels}
    if section := {key: value for key, value in argo.items() if value}:
        draft.data["argo"] = section
    draft.came("argo.namespace", "metadata.namespace")
    draft.came("argo.labels", "metadata.labels", below=True)
