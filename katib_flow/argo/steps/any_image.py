"""train for any image: ``prepare`` puts a static busybox and two scripts beside it, ``collect`` reads what it prints.

The containers share one directory:

    busybox, wrap.sh, run.sh   written by prepare; wrap.sh is the user's container's command
    final                      the exit code of a trial that had ended before this pod was there
    await                      written by prepare where the trial waits for collect to listen; ready: it does
    out, rc                    written by wrap.sh: what the trial printed, and its exit code
    gone                       written by wrap.sh in the place of rc: the exit code of a trial whose pod goes
    collect.sh                 written by prepare: the command of the user's own collector, where there is one
    collected, collector.out   written by collect.sh: the exit code of that program, and what it printed
    stop, done                 written by collect: end the trial; the exit code for the user's container
"""

import contextlib
import math
import shlex
import shutil
import signal
import time
from pathlib import Path

from katib_flow.argo.steps import checkpoints
from katib_flow.argo.steps.collector import Collector, collect_script
from katib_flow.argo.steps.context import Context, write_output
from katib_flow.argo.steps.keeper import Keeper
from katib_flow.argo.steps.pushed import pushed_to, source
from katib_flow.argo.steps.script import as_words
from katib_flow.argo.steps.train import begin, exit_code, find_trial, taken
from katib_flow.argo.steps.watch import Watch
from katib_flow.errors import KatibFlowError
from katib_flow.history import Trial
from katib_flow.metrics import katib
from katib_flow.metrics.lines import Tail
from katib_flow.spec.template import substitute_all, substitute_env
from katib_flow.tracking import Change, Recorder
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.outcome import Ending, conclude
from katib_flow.trial.protocol import (
    COLLECT_SECONDS,
    REPORT_FILE,
    TRIAL_FILE,
    USER_FAILURE,
    TrialDirectory,
    model_files,
    substitutions,
    trial_name,
)
from katib_flow.trial.reader import Reader
from katib_flow.trial.runner import POLL_SECONDS, prepare_model

WRAP = """\
# katib-flow: runs run.sh, ends it when asked. Exit code: the collector's, else 0 or {failure}; 143 when the pod goes.
b={shared}/busybox d={shared}
[ -f $d/final ] && exit "$($b cat $d/final)"
n=0; while [ -f $d/await ] && [ ! -f $d/ready ] && [ $n -lt {patience} ]; do $b sleep 0.2; n=$((n + 1)); done
: > $d/out
$b tail -f $d/out & shown=$!
$b setsid $b sh $d/run.sh > $d/out 2>&1 < /dev/null & child=$!
trap 'kill -TERM -$child; wait $child; echo $? > $d/gone.part; $b mv $d/gone.part $d/gone; kill $shown; exit 143' TERM
stopped=0
while kill -0 $child 2> /dev/null; do
  if [ -f $d/stop ]; then
    [ $stopped = 0 ] && kill -TERM -$child
    stopped=$((stopped + 1))
    [ $stopped = 50 ] && kill -KILL -$child
  fi
  $b sleep 0.2
done
wait $child; rc=$?
echo $rc > $d/rc.part; $b mv $d/rc.part $d/rc
# for the collector; and for tail, which looks once a second, to show the last that was printed
n=0; while [ $n -lt 6 ] || {{ [ ! -f $d/done ] && [ $n -lt {closing} ]; }}; do $b sleep 0.2; n=$((n + 1)); done
kill $shown
[ -f $d/done ] && exit "$($b cat $d/done)"
if [ $rc = 0 ] || [ $stopped != 0 ]; then exit 0; else exit {failure}; fi
"""
START_SECONDS = 300  # for which a trial waits until what it reports to is there: its image may have to be pulled
CLOSING_SECONDS = 30  # for which it waits, when it has ended, until that is recorded
GOING_SECONDS = 15.0  # for a trial to end that is told to go with its pod: half of the grace that a pod has


def prepare(context: Context, trial_id: str, directory: Path) -> None:
    """Write what the user's container is run with.

    Args:
        directory: the trial's own, in the directory that the containers share.
    """
    shared = directory.parent
    shared.mkdir(parents=True, exist_ok=True)
    put_busybox(shared)
    closing = CLOSING_SECONDS + (COLLECT_SECONDS if context.experiment.metrics.container else 0)
    words = {"shared": shlex.quote(str(shared)), "failure": USER_FAILURE}
    times = {"patience": 5 * START_SECONDS, "closing": round(5 * closing)}  # it looks five times a second
    write_output(shared, "wrap.sh", WRAP.format(**words, **times))
    trial = find_trial(context, trial_id)
    if trial.state.final:
        write_output(shared, "final", str(exit_code(trial.state)))
        return
    here = checkpoints.place(context, trial, directory)
    here.create(context.experiment, trial.suggestion)
    if context.experiment.architecture is not None:
        prepare_model(context.experiment, trial.suggestion, here)
    if context.experiment.metrics.source in ("katib", "custom"):
        write_output(shared, "await", "")
    write_output(shared, "run.sh", run_script(context, trial, here))
    if script := collect_script(context, trial, here):
        write_output(shared, "collect.sh", script)
    begin(context, trial)


def put_busybox(shared: Path) -> None:
    """Put a static busybox where another container of the pod finds it.

    Raises:
        KatibFlowError: there is none here.
    """
    source = shutil.which("busybox")
    if source is None:
        raise KatibFlowError("busybox: found nothing, need a static one in this image; katib-flow's own image has it")
    part = shared / ".busybox.part"
    shutil.copy(source, part)
    part.chmod(0o755)
    part.replace(shared / "busybox")


def run_script(context: Context, trial: Trial, place: TrialDirectory) -> str:
    """A script that becomes the user's program, every value one quoted word that no shell looks into.

    Raises:
        KatibFlowError: a value cannot be in an argument at all.
    """
    experiment, suggestion = context.experiment, trial.suggestion
    container = experiment.trial.container
    assert container is not None
    values = substitutions(experiment, suggestion, place, run_id=trial.run_id, uri=context.store.uri)
    ours = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108 - an emptyDir of the pod
    paths = {TRIAL_FILE: str(place.trial_file), REPORT_FILE: str(place.report_file)}
    reporting = {}
    if experiment.metrics.source == "katib":
        reporting = katib.reporting_to(trial_name(experiment, suggestion), experiment.metrics.port or katib.PORT)
    variables = ours | pushed_to(context, trial) | reporting | substitute_env(container.env, values) | paths
    argv = substitute_all([*container.command, *container.args], values)
    exports, words = as_words(suggestion.id, variables, argv, place.path.parent)
    return "\n".join([*exports, f"exec {words}", ""])


def collect(context: Context, trial_id: str, directory: Path, *, watch: Watch | None = None) -> None:
    """Read a trial while it runs, record it, tell its container how to exit; record nothing where the pod goes."""
    shared = directory.parent
    trial = find_trial(context, trial_id)
    if trial.state.final:
        return
    if not directory.is_dir():
        raise KatibFlowError(f"{directory}: found no directory; prepare makes it before a trial's container starts")
    place, watch = TrialDirectory(directory), watch or Watch(context, trial)
    earlier = checkpoints.earlier(context, trial, place)
    watch.hear(earlier)
    reports, problem = _endpoint(context, trial)
    with (
        reports or contextlib.nullcontext(),
        BoundedLog(place.log) as log,
        Recorder(context.store, context.record) as recorder,
        Keeper(context, trial, place, recorder) as keeper,
    ):
        write_output(shared, "ready", "")
        heard = taken(trial, watch, recorder)
        reader = Reader(context.experiment, place, log, heard, reports or source(context, trial), earlier)
        reader.failure = problem
        theirs = Collector.of(context.experiment, shared, reader)
        ending = _follow(shared, reader, watch, context.experiment.limits.trial_timeout, theirs)
        keeper.end(whole=(ending.exit_code if ending else _exit_code(shared / "gone")) == 0)
    watch.end()
    files = model_files(place.model)
    if ending is None:
        context.store.write(context.record, [Change(trial, artifacts=files)] if files else [])
        return
    outcome = conclude(context.experiment, place, ending, reader, trial.started or time.time())
    context.store.write(context.record, [Change(outcome.applied_to(trial), (), place.log, files)])
    write_output(shared, "done", str(exit_code(outcome.state)))


def _endpoint(context: Context, trial: Trial) -> tuple[katib.KatibReports | None, str]:
    """Where the trial or its collector reports as to Katib, if one does; and why there is none, if one should."""
    name = trial_name(context.experiment, trial.suggestion)
    try:
        return katib.reports_of(context.experiment, name, katib.PORT), ""
    except KatibFlowError as error:
        return None, str(error)


def _follow(
    shared: Path, reader: Reader, watch: Watch, timeout: float | None, theirs: Collector | None
) -> Ending | None:
    """Read until the trial has ended, and the user's own collector; None where this pod was told to go away before."""
    printed, due, going = Tail(shared / "out"), math.inf, math.inf
    request, timed_out = None, False
    while True:
        exit_code, gone = _exit_code(shared / "rc"), (shared / "gone").exists()
        for data in printed.portions():
            reader.printed(data)
        ending = None if exit_code is None else Ending(exit_code, request, timed_out)
        over = ending is not None and not (theirs and theirs.busy(ending))
        reader.read_on(end=over)
        if over:
            reader.printed(b"", end=True)
            return ending
        if watch.terminated:
            going = min(going, time.monotonic() + GOING_SECONDS)
        if gone or time.monotonic() > going:
            return None
        if due == math.inf and timeout is not None and printed.path.exists():
            due = time.monotonic() + timeout  # its time runs from its start, not from that of the pod
        if request is None and not timed_out and not watch.terminated:
            request = watch()
            timed_out = request is None and exit_code is None and time.monotonic() > due
            if request or timed_out or reader.failure:
                write_output(shared, "stop", "")
        time.sleep(POLL_SECONDS)


def _exit_code(file: Path) -> int | None:
    """The trial's exit code, negative for a signal, which a shell tells as 128 and more; None while it runs."""
    try:
        code = int(file.read_text())
    except (OSError, ValueError):
        return None
    return 128 - code if code - 128 in signal.valid_signals() else code
