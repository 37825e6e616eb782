"""Record the study of another tuner as a finished experiment in MLflow, for ``warm_start`` to name."""

from collections import Counter
from dataclasses import replace

from katib_flow.errors import KatibFlowError
from katib_flow.history import History
from katib_flow.migration.study import Study, fitting
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Change, Record, Status, Store

GROUP = 500  # trials per write


def record_study(study: Study, store: Store) -> tuple[Record, Counter[str]]:
    """Record the trials of a study that fit its space.

    Returns:
        The experiment, and the number of trials that were left out, by reason.

    Raises:
        KatibFlowError: no trial fits.
        InvalidSpec: the study does not give a valid experiment.
    """
    from katib_flow.local.placeholder import BY_HAND

    data = {"name": study.experiment_name, **study.sections(), "algorithm": "random", "trial": {"function": BY_HAND}}
    experiment = Experiment.parse(data | {"limits": {"max_trials": max(1, len(study.trials))}}, study.name)
    fits, reasons = fitting(study, experiment)
    if not fits:
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5)) or "the study has no trials"
        raise KatibFlowError(f"{study.name}: found no usable trial: {why}")
    record = store.create(experiment)
    changes = [Change(trial, metrics) for trial, metrics in fits]
    for first in range(0, len(changes), GROUP):
        store.write(record, changes[first : first + GROUP])
    history = History(tuple(replace(trial, series={}) for trial, _ in fits))
    reason = f"read from {study.tuner}: {len(fits)} of {len(fits) + sum(reasons.values())} trials"
    return store.summarise(record, history, Status.SUCCEEDED, reason), reasons
