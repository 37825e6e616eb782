"""Run an experiment on this machine, or continue one."""

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import cloudpickle

from katib_flow.algorithms import check_algorithm, check_installed
from katib_flow.algorithms.auto import settled
from katib_flow.effects import on_this_machine, out_of_space, tell, without_effect
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError, TrackingError
from katib_flow.local.observer import Progress, Silent
from katib_flow.local.placeholder import BY_HAND, HOW
from katib_flow.local.progress import Guarded
from katib_flow.local.result import Result
from katib_flow.local.scheduler import Scheduler
from katib_flow.local.spool import Spool
from katib_flow.local.worker import Start
from katib_flow.local.workers import Workers
from katib_flow.spaces import check_architecture
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.files import missing
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.rules import broken
from katib_flow.stopping import check_stopping
from katib_flow.tracking import Record, Recorder, Status, Store
from katib_flow.tracking.connect import located
from katib_flow.tracking.lease import Holding
from katib_flow.trial.functions import Function
from katib_flow.trial.table import printable

FUNCTION_FILE = "function.pickle"


def run_experiment(
    experiment: Experiment,
    *,
    function: Function | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
    barrier: bool = False,
    begun: Callable[[Scheduler], None] | None = None,
) -> Result:
    """Run an experiment to its end, or until it is interrupted.

    Args:
        function: the function of a function trial, if it cannot be imported, as in a notebook.
        store: where to record; by default the store at the spec's tracking URI, or the local one.
        barrier: suggest only when no trial is running, as an iteration on Argo does.
        begun: called with the scheduler before the first trial starts, so that another thread can stop it.

    Raises:
        InvalidSpec: the spec has mistakes; nothing was recorded.
        KatibFlowError: the experiment cannot run on this machine.
    """
    check_here(experiment)
    experiment = settled(experiment)
    tell([*without_effect(experiment), *on_this_machine(experiment)])
    spool = Spool.new()
    try:
        spool.lock()
        pickled = _pickled(experiment, function) if function else None
        if pickled:
            spool.keep(FUNCTION_FILE, pickled)
        spool.keep_base(experiment.base)
        uri = store.uri if store else located(experiment.tracking.uri)[0]
        workers = _workers(experiment, pickled, spool, uri)
        try:
            store = store or Store(experiment.tracking.uri, experiment.tracking.experiment)
            _wait_until_one_is_ready(workers)
            record = store.create(experiment, key=spool.key)
            watcher = Guarded(progress or Silent())
            with store.lease(record, watcher.say if progress else _complain).take() as lease:
                for earlier in map(store.find, record.experiment.warm_start):
                    tell(out_of_space(experiment, earlier.name, store.history(earlier).trials))
                return _drive(store, record, lease, workers, spool, watcher, barrier=barrier, begun=begun)
        finally:
            workers.close()
    except SpecError as problem:
        raise InvalidSpec(experiment.name, [problem]) from problem
    finally:
        spool.close()


def resume_experiment(
    store: Store,
    name: str,
    *,
    max_trials: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
    barrier: bool = False,
) -> Result:
    """Continue an experiment that was interrupted, stopped, paused or killed, or give a finished one more trials.

    Args:
        max_trials, timeout: new totals that replace ``limits.max_trials`` and ``limits.timeout`` (seconds).

    Raises:
        NotFound: the store has no such experiment.
        KatibFlowError: the experiment cannot run on this machine, or another process is running it.
    """
    record = store.find(name)
    if record.experiment.trial.function == BY_HAND:
        raise KatibFlowError(f"{record.name}: found an experiment whose trials a program evaluates itself; {HOW}")
    watcher = Guarded(progress or Silent())
    with store.lease(record, watcher.say if progress else _complain).take() as lease:
        spool = Spool(record.key or record.run_id)
        try:
            spool.lock()
            store.go_on(record, max_trials=max_trials, timeout=timeout)
            pickled = spool.kept(FUNCTION_FILE)
            workers = _workers(record.experiment.based_on(spool.base()), pickled, spool, store.uri)
            try:
                _wait_until_one_is_ready(workers)
                lease.confirm()  # two processes may have taken it at the same time
                return _drive(store, record, lease, workers, spool, watcher, barrier=barrier)
            finally:
                workers.close()
        finally:
            spool.close()


def check_here(experiment: Experiment, *, trials: bool = True) -> None:
    """Check, before any worker starts, that an experiment can run on this machine.

    Args:
        trials: whether its trials run here too, and not only its algorithm.

    Raises:
        InvalidSpec: with every mistake.
    """
    rules = (check_architecture, check_algorithm, check_installed, check_stopping, _algorithm_not_here)
    if problems := list(broken(experiment, (*rules, _not_here) if trials else rules)):
        raise InvalidSpec(experiment.name, problems)


def _complain(text: str) -> None:
    """Print a message that matters even if no progress is shown."""
    print(printable(text), file=sys.stderr, flush=True)


def _pickled(experiment: Experiment, function: Function) -> bytes:
    try:
        return cloudpickle.dumps(function)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        need = f"a function that can be pickled, or imported by its name ({what})"
        raise SpecError("trial.function", experiment.trial.function, need) from error


def _not_here(experiment: Experiment) -> list[SpecError]:
    kind, command = experiment.trial.kind, experiment.trial.command
    if kind not in ("function", "command"):
        need = (
            f"a function or a command on this machine. A {kind} runs on a cluster: use katib-flow submit SPEC, or argo "
            "submit with the output of katib-flow compile SPEC; to try it here, name a program on this machine, "
            "trial: {command: [...]}"
        )
        return [SpecError(f"trial.{kind}", f"a {kind} trial", need)]
    if command is not None and (
        problems := list(missing(command, experiment.trial.env, experiment.base, "trial.command"))
    ):
        return problems
    if experiment.metrics.source == "push":
        need = "another source for a trial on this machine, in which kf.report works anywhere"
        return [SpecError("metrics.source", experiment.metrics.source, need)]
    if experiment.metrics.port is not None and experiment.limits.parallel_trials > 1:
        reported = "the trials on this machine would all report to"
        whose = {"prometheus": "the trials on this machine would all serve on", "katib": reported, "custom": reported}
        if why := whose.get(experiment.metrics.source):
            need = f"1, because {why} port {experiment.metrics.port}"
            return [SpecError("limits.parallel_trials", experiment.limits.parallel_trials, need)]
    if experiment.metrics.command is not None:
        return list(missing(experiment.metrics.command, {}, experiment.base, "metrics.command"))
    if experiment.metrics.container is not None:
        need = "the command of a program on this machine as well: a container runs only on a cluster"
        return [SpecError("metrics.command", NOTHING, need)]
    if experiment.metrics.source == "katib" and find_spec("grpc") is None:
        need = "gRPC, which is not installed here (pip install 'katib-flow[katib]'), or another source"
        return [SpecError("metrics.source", "katib", need)]
    return []


def _algorithm_not_here(experiment: Experiment) -> Iterator[SpecError]:
    """Why the algorithm, or the early stopping service, cannot be used from this machine."""
    spec = experiment.algorithm
    if spec.command is not None:
        yield from missing(spec.command, {}, experiment.base, "algorithm.command")
    elif spec.container is not None:
        need = "the command of a program on this machine as well: a container runs only on a cluster"
        yield SpecError("algorithm.command", NOTHING, need)
    stopping = experiment.early_stopping
    for at, service in (("algorithm", spec.service), ("early_stopping", stopping.service if stopping else None)):
        if service is not None and service.address is None:
            need = "the address of the service as well: its image runs only on a cluster"
            yield SpecError(f"{at}.service.address", NOTHING, need)


def _workers(experiment: Experiment, pickled: bytes | None, spool: Spool, uri: str) -> Workers:
    limits = experiment.limits
    size = min(limits.parallel_trials, limits.max_trials or limits.parallel_trials)
    workers = Workers(Start(experiment, pickled, uri), size, (spool.lock_fd,))
    workers.fill()
    return workers


def _wait_until_one_is_ready(workers: Workers) -> None:
    """Raises SpecError or KatibFlowError if no trial of this experiment can run."""
    while not workers.idle():
        workers.fill()
        list(workers.events(1.0))


def _drive(
    store: Store, record: Record, lease: Holding, workers: Workers, spool: Spool, progress: Progress, *, barrier: bool,
    begun: Callable[[Scheduler], None] | None = None,
) -> Result:  # fmt: skip
    with Recorder(store, record, lambda trial: spool.remove(trial.suggestion), lease.confirm) as recorder:
        scheduler = Scheduler(store, record, lease, workers, spool, recorder, progress, barrier)
        scheduler.control = store.control(record)
        if begun is not None:
            begun(scheduler)
        try:
            with scheduler.interruptible():
                scheduler.recover()
                if record.status is not Status.RUNNING:  # resumed: the record shows it as running from now on
                    store.summarise(record, scheduler.history, Status.RUNNING)
                return scheduler.run()
        except TrackingError:
            raise  # nothing can be recorded now; the results of ended trials are on disk, and resume records them
        except KatibFlowError as error:
            scheduler.conclude(Status.FAILED, str(error))
            raise
