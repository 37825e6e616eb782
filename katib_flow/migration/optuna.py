"""Read an Optuna study, by means of Optuna itself, from a database or a journal file.

Both contain JSON, so nothing is unpickled. The storage is not modified.
"""

import logging
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.history import Metric, State
from katib_flow.migration.study import Fields, Past, Study, conditions, renamed, safe_names
from katib_flow.spec.load import Note
from katib_flow.wording import did_you_mean

SCALARS = (bool, int, float, str, type(None))
_LARGEST_STEP = 2**63 - 1
_ENDED = {"COMPLETE": State.SUCCEEDED, "PRUNED": State.EARLY_STOPPED, "FAIL": State.FAILED}


@dataclass(frozen=True)
class Mapped:
    """A parameter as data of a spec, or the reason why a spec cannot express it."""

    fields: Fields
    why_not: str = ""


def read_optuna(storage: str, name: str | None = None) -> Study:
    """Read a study from a storage.

    Args:
        storage: a URL for Optuna, such as ``sqlite:///study.db``; or the path of a SQLite file or a journal.
        name: name of the study; not needed if the storage has only one.

    Raises:
        KatibFlowError: Optuna is not installed, the storage cannot be read, or it has no such study.
    """
    try:
        optuna: Any = import_module("optuna")
    except ImportError:
        raise KatibFlowError(
            "reading an Optuna study needs Optuna, which is not installed here: pip install optuna"
        ) from None
    before = optuna.logging.get_verbosity()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optuna.logging.set_verbosity(logging.ERROR)
            opened = _open(optuna, storage)
            name = _chosen(storage, name, optuna.get_all_study_names(opened))
            return _study(optuna.load_study(study_name=name, storage=opened))
    except KatibFlowError:
        raise
    except Exception as error:  # anything that Optuna, SQLAlchemy or a driver raises for a broken storage
        reason = str(error).splitlines()[0] if str(error) else ""
        raise KatibFlowError(
            f"{_shown(storage)}: Optuna failed to read it: {type(error).__name__}: {reason}"
        ) from error
    finally:
        optuna.logging.set_verbosity(before)


def _chosen(storage: str, name: str | None, names: Sequence[str]) -> str:
    """The name of the study to read.

    Raises:
        KatibFlowError: no study has this name, or a name is needed because there are several.
    """
    if name in names or (name is None and len(names) == 1):
        return name or names[0]
    if not names:
        raise KatibFlowError(f"{_shown(storage)}: found no studies, need an Optuna storage with a study")
    there = ", ".join(names[:10])
    if name is None:
        raise KatibFlowError(f"{_shown(storage)}: found {len(names)} studies, need --study with one of them: {there}")
    near = did_you_mean(name, names)
    raise KatibFlowError(f"--study: found {name!r}, need the name of a study in {_shown(storage)}: {there}{near}")


def _shown(storage: str) -> str:
    """The address of a storage without its password."""
    scheme, separator, rest = storage.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator and "@" in rest else storage


def is_sqlite(path: Path) -> bool:
    """True if a file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _open(optuna: Any, storage: str) -> Any:
    if "://" not in storage:
        path = Path(storage)
        if not is_sqlite(path):
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        storage = f"sqlite:///{path.resolve()}"
    if storage.startswith("sqlite:///"):
        _check_is_optunas(Path(storage.removeprefix("sqlite:///").partition("?")[0]))
    return optuna.storages.RDBStorage(storage, skip_table_creation=True)


def _check_is_optunas(path: Path) -> None:
    """Refuse a missing file and another program's database, which Optuna would turn into a storage.

    Raises:
        KatibFlowError: the file is missing, or lacks the tables of Optuna.
    """
    if not path.is_file():
        raise KatibFlowError(f"{path}: found no such file, need an Optuna database")
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError:
            tables = set[str]()
    if not {"studies", "trials", "version_info"} <= tables:
        raise KatibFlowError(f"{path}: found no Optuna tables, need a database with an Optuna study")


def _study(study: Any) -> Study:
    metrics = _unique(study.metric_names or _metric_names(len(study.directions)))
    directions = ["maximize" if direction.name == "MAXIMIZE" else "minimize" for direction in study.directions]
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state.name in _ENDED]
    mapped = _parameters(ended)
    names = safe_names(name for name, parameter in mapped.items() if parameter.fields)
    parameters = {names[name]: parameter.fields for name, parameter in mapped.items() if parameter.fields}
    pasts = [_past(trial, metrics, names) for trial in ended]
    when = conditions([past.assignment for past in pasts if past.state is not State.FAILED], parameters)
    inferred = "inferred from the trials, because Optuna does not record it"
    notes = [Note(f"parameters.{name}.when", inferred) for name in when]
    for name, parameter in mapped.items():
        if parameter.why_not:
            notes.append(Note("parameters", f"left out {name}, because {parameter.why_not}"))
    return Study(
        name=study.study_name,
        tuner="Optuna",
        objectives=tuple(zip(metrics, directions, strict=True)),
        parameters={
            name: fields | ({"when": when[name]} if name in when else {}) for name, fields in parameters.items()
        },
        trials=pasts,
        left_out=Counter(f"it is {trial.state.name.lower()}" for trial in trials if trial.state.name not in _ENDED),
        notes=[*renamed(names), *notes],
    )


def _metric_names(count: int) -> list[str]:
    return ["value"] if count == 1 else [f"value_{number}" for number in range(count)]


def _unique(names: Sequence[str]) -> list[str]:
    return [name if list(names).count(name) == 1 else f"{name}_{position}" for position, name in enumerate(names)]


def _parameters(trials: Sequence[Any]) -> dict[str, Mapped]:
    """Every parameter of the trials; if its range changed between them, the smallest range that contains all."""
    mapped: dict[str, Mapped] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            parameter = _mapped(distribution)
            mapped[name] = _joined(mapped[name], parameter) if name in mapped else parameter
    return mapped


def _mapped(distribution: Any) -> Mapped:
    kind = type(distribution).__name__
    if kind == "CategoricalDistribution":
        plain = [value for value in distribution.choices if isinstance(value, SCALARS) and _writable(value)]
        if plain:
            return Mapped({"type": "categorical", "values": plain})
        return Mapped({}, "none of its choices is a text, a number, true, false or null")
    if kind not in ("FloatDistribution", "IntDistribution"):
        return Mapped({}, f"a spec has no counterpart of {kind}")
    whole = kind == "IntDistribution"
    fields: Fields = {"type": "int" if whole else "float", "min": distribution.low, "max": distribution.high}
    fields |= {"scale": "log"} if distribution.log else {}
    fields |= {"step": distribution.step} if distribution.step is not None and distribution.step != whole else {}
    return Mapped(fields)


def _writable(value: Any) -> bool:
    return not isinstance(value, float) or isfinite(value)


def _joined(one: Mapped, other: Mapped) -> Mapped:
    first, second = one.fields, other.fields
    if one.why_not or first == second:
        return one
    alike = all(first.get(key) == second.get(key) for key in ("type", "scale", "step"))
    if not second or not alike or first["type"] == "categorical":
        return Mapped({}, "its distribution changed between trials")
    return Mapped({**first, "min": min(first["min"], second["min"]), "max": max(first["max"], second["max"])})


def _past(trial: Any, metrics: Sequence[str], names: Mapping[str, str]) -> Past:
    """Convert a trial.

    Args:
        names: names of parameters in the spec by their names in Optuna; other parameters are left out.
    """
    state = _ENDED[trial.state.name]
    steps = list(_steps(trial.intermediate_values, trial.datetime_start, metrics[0]))
    values: Mapping[str, float] = {}
    if trial.values is not None:
        values = dict(zip(metrics, trial.values, strict=True))
    elif steps and state is State.EARLY_STOPPED:
        values = {metrics[0]: float(steps[-1].value)}  # type: ignore[arg-type]
    ended = _milliseconds(trial.datetime_complete)
    last = {metrics[0]: steps[-1].value} if steps else {}
    step = steps[-1].step + 1 if steps else 0
    final = [Metric(name, value, step, ended) for name, value in values.items() if last.get(name) != value]
    return Past(
        label=str(trial.number),
        assignment={names[name]: value for name, value in trial.params.items() if name in names},
        state=state,
        observations=values,
        metrics=(*steps, *final),
        message="failed in Optuna"
        if state is State.FAILED
        else "pruned by Optuna"
        if state is State.EARLY_STOPPED
        else "",
        started=_seconds(trial.datetime_start),
        ended=_seconds(trial.datetime_complete),
    )


def _steps(values: Mapping[int, float], started: datetime | None, name: str) -> Iterator[Metric]:
    """Intermediate values in the order of their steps, with the start of the trial as their time."""
    for step, value in sorted(values.items()):
        if 0 <= step < _LARGEST_STEP:
            yield Metric(name, float(value), step, _milliseconds(started))


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _milliseconds(time: datetime | None) -> int:
    return 0 if time is None else int(time.timestamp() * 1000)
