"""A study of Optuna, made by Optuna, as an experiment to start from."""

from pathlib import Path
from typing import Any

import pytest
from kit import experiment as spec_of

import katib_flow as kf
from katib_flow.errors import KatibFlowError
from katib_flow.history import State
from katib_flow.migration.optuna import read_optuna
from katib_flow.migration.recorded import record_study
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store

optuna = pytest.importorskip("optuna", reason="needs Optuna, which is not installed here")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial: Any) -> float:
    """Two kernels, one with a parameter of its own; some trials are pruned, one fails."""
    c = trial.suggest_float("C", 1e-3, 1e3, log=True)
    kernel = trial.suggest_categorical("kernel", ["linear", "rbf"])
    gamma = trial.suggest_float("gamma", 0.1, 0.9, step=0.1) if kernel == "rbf" else 0.0
    depth = trial.suggest_int("n layers", 1, 8)
    for step in range(3):
        trial.report(c + step, step)
        if trial.number in (2, 5) and step == 1:
            raise optuna.TrialPruned
    if trial.number == 3:
        raise RuntimeError("out of memory")
    return abs(c - 1) + gamma + depth + 0.01


def study_in(storage: Any, name: str = "svm", trials: int = 24, function: Any = objective) -> Any:
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, study_name=name, sampler=sampler)
    study.optimize(function, n_trials=trials, catch=(RuntimeError,))
    return study


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/katib_flow.db")


def test_the_distributions_become_parameters(url: str) -> None:
    study_in(url)
    read = read_optuna(url)
    assert read.parameters == {
        "C": {"type": "float", "min": 1e-3, "max": 1e3, "scale": "log"},
        "kernel": {"type": "categorical", "values": ["linear", "rbf"]},
        "gamma": {"type": "float", "min": 0.1, "max": 0.9, "step": 0.1, "when": {"kernel": ["rbf"]}},
        "n_layers": {"type": "int", "min": 1, "max": 8},
    }
    assert [(note.where, note.text) for note in read.notes] == [
        ("parameters.n_layers", "called 'n layers' before, which is not a valid name here"),
        ("parameters.gamma.when", "inferred from the trials, because Optuna does not record it"),
    ]


def _rounded(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value


def test_every_trial_is_recorded_as_it_ended(url: str, store: Store) -> None:
    study = study_in(url)
    record, reasons = record_study(read_optuna(url), store)
    history = store.history(record, series=True)
    assert (record.status, record.name, len(history), reasons.total()) == (Status.SUCCEEDED, "svm", 24, 0)
    states = {"COMPLETE": State.SUCCEEDED, "PRUNED": State.EARLY_STOPPED, "FAIL": State.FAILED}
    for theirs, ours in zip(study.trials, history, strict=True):
        assert ours.state is states[theirs.state.name]
        expected = {name.replace(" ", "_"): value for name, value in theirs.params.items()}
        assert {name: _rounded(value) for name, value in ours.assignment.items()} == {
            name: _rounded(value) for name, value in expected.items()
        }
        assert ours.observations == ({} if theirs.value is None else {"value": theirs.value})
        steps = {point.step: point.value for point in ours.series["value"]}
        final = {3: theirs.value} if theirs.state.name == "COMPLETE" else {}
        assert steps == theirs.intermediate_values | final
        assert ours.started == pytest.approx(theirs.datetime_start.timestamp(), abs=0.01)
    assert history[5].message == "pruned by Optuna"


def test_an_experiment_learns_from_it(url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study_in(url)
    read = read_optuna(url)
    record_study(read, store)
    spec = Experiment.parse(read.spec())
    assert spec.warm_start == ("svm",)
    assert len(store.earlier(spec).completed("value")) == 23  # but for the one that failed
    with kf.ask_and_tell(Experiment.parse(read.spec() | {"algorithm": "tpe"}), store=store) as search:
        assert search.ask().assignment.keys() >= {"C", "kernel", "n_layers"}


def test_a_journal_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    study_in(optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path))), trials=4)
    read = read_optuna(str(path))
    assert (read.name, len(read.trials)) == ("svm", 4)


def test_several_objectives_keep_their_names_and_directions(url: str, store: Store) -> None:
    study = optuna.create_study(storage=url, study_name="two", directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "accuracy"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0.5), n_trials=2)
    read = read_optuna(url)
    assert read.objectives == (("loss", "minimize"), ("accuracy", "maximize"))
    record, _ = record_study(read, store)
    assert [set(trial.observations) for trial in store.history(record)] == [{"loss", "accuracy"}] * 2


def test_ranges_that_changed_hold_all_trials(url: str) -> None:
    study_in(url, trials=3, function=lambda trial: trial.suggest_float("x", -trial.number, 1 + trial.number))
    assert read_optuna(url).parameters == {"x": {"type": "float", "min": -2.0, "max": 3.0}}


def test_trials_that_do_not_fit_are_counted_with_their_reason(url: str, store: Store) -> None:
    def partly(trial: Any) -> float:
        y = trial.suggest_int("y", 0, 3) if trial.number % 4 else 0  # a condition on nothing that was searched
        return trial.suggest_float("x", 0, 1) + y

    study = study_in(url, trials=8, function=partly)
    study.ask()
    record, reasons = record_study(read_optuna(url), store)
    assert reasons == {"y has no value": 2, "it is running": 1}
    assert record.reason == "read from Optuna: 6 of 9 trials"


def test_choices_that_are_no_scalars_are_left_out(url: str) -> None:
    def tuples(trial: Any) -> float:
        trial.suggest_categorical("shape", [(1, 2), (3, 4)])
        return trial.suggest_float("x", 0, 1)

    study_in(url, trials=2, function=tuples)
    read = read_optuna(url)
    assert set(read.parameters) == {"x"}
    text = "left out shape, because none of its choices is a text, a number, true, false or null"
    assert [note.text for note in read.notes] == [text]
    assert all(set(trial.assignment) == {"x"} for trial in read.trials)


def test_one_of_several_studies_must_be_named(url: str) -> None:
    study_in(url, "first", 1)
    study_in(url, "second", 1)
    with pytest.raises(KatibFlowError, match="found 2 studies, need --study with one of them: first, second"):
        read_optuna(url)
    with pytest.raises(KatibFlowError, match=r"--study: found 'secnd', .* did you mean 'second'"):
        read_optuna(url, "secnd")
    assert read_optuna(url, "second").name == "second"


def test_a_file_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, store: Store) -> None:
    store.create(spec_of())
    path = tmp_path / "katib_flow.db"
    before = path.read_bytes()
    with pytest.raises(KatibFlowError, match="found no Optuna tables"):
        read_optuna(f"sqlite:///{path}")
    assert path.read_bytes() == before
    with pytest.raises(KatibFlowError, match="found no such file"):
        read_optuna(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_damaged_journal_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_text('{"op_code": 0, "worker_id": "x"}\n{"op_code": 99}\n')
    with pytest.raises(KatibFlowError, match="Optuna failed to read it: KeyError"):
        read_optuna(str(path))


def test_a_password_is_not_printed() -> None:
    with pytest.raises(KatibFlowError) as refused:
        read_optuna("nosuchdatabase://user:secret@localhost/db")
    assert "secret" not in str(refused.value)
