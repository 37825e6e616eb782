"""The entry point of the ask-and-tell interface: ``kf.ask_and_tell``."""

import sys
from collections.abc import Mapping
from typing import Any

from katib_flow.algorithms.auto import settled
from katib_flow.decorator import FunctionExperiment, check_store, experiment
from katib_flow.errors import InvalidSpec, NoStore, SpecError
from katib_flow.local.by_hand import Search
from katib_flow.local.kept import Kept
from katib_flow.local.placeholder import by_the_asking_program
from katib_flow.local.run import check_here
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Store, located
from katib_flow.trial.table import printable


def ask_and_tell(
    what: "FunctionExperiment | Experiment | str | None" = None,
    /,
    *,
    store: Store | None = None,
    tracking_uri: str | None = None,
    record: bool = True,
    max_trials: int | None = None,
    timeout: float | None = None,
    **described: Any,
) -> Search:
    """Start a search that this program drives: ``ask`` returns a trial to evaluate, ``tell`` takes its result.

    Args:
        what: an experiment, whose own trial is ignored, or the name or run id of a recorded one to continue. Without
            it, the other arguments describe an experiment as those of ``kf.experiment`` do: ``parameters``,
            ``minimize`` ...
        store, tracking_uri: where to record it; by default the experiment's own tracking URI, or
            ``sqlite:///katib_flow.db`` in this directory.
        record: if False, the search is kept only in memory.
        max_trials, timeout: total limits; for a recorded experiment, they replace its own.

    Raises:
        InvalidSpec: with every mistake.
        NotFound: the store has no experiment of this name.
        KatibFlowError: the search cannot run on this machine, or another process is running it.
    """
    if described and what is not None:
        need = "no argument that describes an experiment, because one is given"
        raise InvalidSpec("kf.ask_and_tell", [SpecError(name, value, need) for name, value in described.items()])
    check_store("kf.ask_and_tell", store, tracking_uri)
    if isinstance(what, str):
        if not record:
            raise InvalidSpec("kf.ask_and_tell", [SpecError("record", False, "True to continue a recorded experiment")])
        kept = Kept.resumed(store or _existing(tracking_uri), what, _say, max_trials=max_trials, timeout=timeout)
        return _with(kept.record.experiment, kept)
    spec = _limited(_described(what, described), max_trials, timeout)
    check_here(spec, trials=False)
    spec = settled(spec)
    if not record:
        return Search(spec, None)
    store = store or Store(tracking_uri or spec.tracking.uri, spec.tracking.experiment)
    return _with(spec, Kept.begun(store, spec, _say))


def _existing(uri: str | None) -> Store:
    """Open an existing store; looking for an experiment does not create one."""
    address, path = located(uri)
    if path is not None and not path.exists():
        raise NoStore(f"{path}: there is no store, and so no experiment to continue")
    return Store(address)


def _with(spec: Experiment, kept: Kept) -> Search:
    try:
        return Search(spec, kept)
    except BaseException:
        kept.close()
        raise


def _described(what: object, described: Mapping[str, Any]) -> Experiment:
    if what is None:
        fields: Any = {"name": "search", "parameters": {}, **described}
        return experiment(**fields)(by_the_asking_program).spec
    if isinstance(what, FunctionExperiment):
        return what.spec
    if not isinstance(what, Experiment):
        need = "an experiment, the name of a recorded one, or keyword arguments such as parameters=..."
        raise InvalidSpec("kf.ask_and_tell", [SpecError("what", what, need)])
    return what


def _limited(spec: Experiment, max_trials: int | None, timeout: float | None) -> Experiment:
    asked = {"max_trials": max_trials, "timeout": timeout}
    given = {name: value for name, value in asked.items() if value is not None}
    if not given:
        return spec
    data = spec.to_dict()
    return Experiment.parse(data | {"limits": {**data.get("limits", {}), **given}}, spec.name).based_on(spec.base)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
