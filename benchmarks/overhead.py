"""No-op trials per second: katib-flow and Optuna, both on SQLite, in one run.

python benchmarks/overhead.py [--trials N] [--repeats K]. Both draw two floats at random and take their sum. Run by two
workers, Optuna is measured with two threads and with two processes; the faster of the two counts. In a loop of its own,
a program asks either library for one trial at a time, evaluates it, and tells its result.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import optuna

import katib_flow as kf
from katib_flow.tracking import Store


def no_op(a: float, b: float) -> float:
    """The objective."""
    return a + b


def ours(trials: int, folder: Path) -> float:
    """Trials per second of katib-flow."""
    decorated = kf.experiment(
        parameters={"a": kf.Float(0, 1), "b": kf.Float(0, 1)},
        minimize="value",
        algorithm="random",
        max_trials=trials,
        parallel_trials=2,
    )(no_op)
    store = Store(f"sqlite:///{folder}/ours.db")
    begun = time.perf_counter()
    result = decorated.run(store=store)
    seconds = time.perf_counter() - begun
    assert len(store.history(store.get(result.run_id)).completed("value")) == trials
    return trials / seconds


def _optimize(url: str, trials: int, jobs: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="s", storage=url, sampler=optuna.samplers.RandomSampler())
    study.optimize(
        lambda trial: no_op(trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)), trials, n_jobs=jobs
    )


def theirs(trials: int, folder: Path, *, processes: bool) -> float:
    """Trials per second of Optuna, with two processes or two threads."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{folder}/optuna-{processes}.db"
    study = optuna.create_study(study_name="s", storage=url)
    begun = time.perf_counter()
    if processes:
        workers = [multiprocessing.Process(target=_optimize, args=(url, trials // 2, 1)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    else:
        _optimize(url, trials, 2)
    seconds = time.perf_counter() - begun
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == trials
    return trials / seconds


def our_loop(trials: int, folder: Path) -> float:
    """Trials per second of a loop around katib-flow's ask and tell."""
    begun = time.perf_counter()
    with kf.ask_and_tell(
        parameters={"a": kf.Float(0, 1), "b": kf.Float(0, 1)},
        minimize="value",
        algorithm="random",
        max_trials=trials,
        tracking_uri=f"sqlite:///{folder}/our-loop.db",
    ) as search:
        for trial in search:
            search.tell(trial, no_op(**search.parameters(trial)))
    assert len(search.history.completed("value")) == trials
    return trials / (time.perf_counter() - begun)


def their_loop(trials: int, folder: Path) -> float:
    """Trials per second of a loop around Optuna's ask and tell."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    begun = time.perf_counter()
    study = optuna.create_study(storage=f"sqlite:///{folder}/their-loop.db", sampler=optuna.samplers.RandomSampler())
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, no_op(trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)))
    return trials / (time.perf_counter() - begun)


def main() -> None:
    """Print the ratios of each repetition, and their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ratios: list[float] = []
    loops: list[float] = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            mine = ours(options.trials, folder)
            threads, processes = (
                theirs(options.trials, folder, processes=False),
                theirs(options.trials, folder, processes=True),
            )
            ratios.append(mine / max(threads, processes))
            peer = f"Optuna {threads:.0f}/s (threads) {processes:.0f}/s (processes)"
            print(f"two workers: katib-flow {mine:.0f}/s, {peer}: ratio {ratios[-1]:.2f}", flush=True)
            mine, other = our_loop(options.trials, folder), their_loop(options.trials, folder)
            loops.append(mine / other)
            print(f"own loop: katib-flow {mine:.0f}/s, Optuna {other:.0f}/s: ratio {loops[-1]:.2f}", flush=True)
    print(
        f"median ratios: {statistics.median(ratios):.2f} with two workers, {statistics.median(loops):.2f} in own loop"
    )


if __name__ == "__main__":
    main()
