"""A Katib manifest -> the plain data of a spec, with notes for people and the way back for errors."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from katib_flow.errors import InvalidSpec
from katib_flow.spec.config_maps import ConfigMaps, nobody
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.katib import algorithms, config_map, manifest, sections, trial
from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.katib.nas import architecture
from katib_flow.spec.katib.substitution import SPEC
from katib_flow.spec.load import Parsed
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
    """The experiment that a Katib manifest describes.

    Args:
        further: rules that it must keep beside those of the spec.
        line: of a path in the manifest.
        config_maps: who is asked for the ConfigMap that holds the trials' template, where one does.

    Raises:
        InvalidSpec: with every mistake that was found, by its path in the manifest, in the order of the lines.
    """
    draft = Draft()
    whole = draft.read(manifest.Manifest, data, unsound=())
    if whole is None:
        raise InvalidSpec(source, draft.problems)
    _fill(draft, whole, config_maps)
    spec = {key: draft.data[key] for key in ORDER if key in draft.data}
    found = draft.problems
    experiment = None
    try:
        experiment = Experiment.parse(spec, source, further)
    except InvalidSpec as invalid:
        found = draft.told(invalid.problems)
    if found or experiment is None:
        raise InvalidSpec(source, sorted(found, key=lambda each: line(each.where)))
    return Parsed(experiment, spec, tuple(draft.notes), katib=True, manifest=data)


def _fill(draft: Draft, whole: manifest.Manifest, config_maps: ConfigMaps) -> None:
    _metadata(draft, whole.metadata)
    spec = draft.read(manifest.Spec, whole.spec, "spec", unsound=["limits"])
    part = {key: whole.spec.get(key) for key in ("parameters", "objective", "algorithm", "earlyStopping", "nasConfig")}
    names = sections.parameters(draft, part["parameters"])
    sections.objective(draft, part["objective"])
    read = algorithms.algorithm(draft, part["algorithm"], names)
    algorithms.early_stopping(draft, part["earlyStopping"])
    if spec is not None:
        sections.limits(draft, spec)
    collector = sections.metrics(draft, whole.spec.get("metricsCollectorSpec"))
    meanings = {name: f"${{{native}}}" for name, native in names.items()}
    meanings |= architecture(draft, part["nasConfig"], read)
    template = config_map.resolved(draft, whole.spec.get("trialTemplate"), config_maps)
    trial.fill(draft, template.data, meanings, collector, algorithms.checkpoints(read))
    draft.moved(SPEC, template.where)
    if not template.known:
        draft.notes = [note for note in draft.notes if not note.where.startswith("trial.")]  # on what is none of theirs
    if not draft.data.get("parameters"):
        draft.data.pop("parameters", None)


def _metadata(draft: Draft, data: Mapping[str, Any]) -> None:
    read = draft.read(manifest.Metadata, data, "metadata", unsound=["name", "argo"])
    draft.came("name", "metadata.name")
    if read is None:
        return
    name = read.name or (read.generate_name or "").rstrip("-.")
    if not name:
        draft.wrong("metadata.name", NOTHING, "a value here, it is required", unsound=["name"])
    draft.data["name"] = name
    argo = {"namespace": read.namespace, "labels": read.labels}
    if said := {key: value for key, value in argo.items() if value}:
        draft.data["argo"] = said
    draft.came("argo.namespace", "metadata.namespace")
    draft.came("argo.labels", "metadata.labels", below=True)
