"""train for any image: ``prepare`` adds a static busybox and scripts to the pod, ``collect`` reads the trial's output.

The containers share one directory:

    busybox, wrap.sh, run.sh   written by prepare; wrap.sh is the command of the user's container
    final                      written by prepare if the trial has already ended: the container's exit code
    await                      written by prepare if the trial must wait until collect listens
    ready                      written by collect when it listens
    out, rc                    written by wrap.sh: the trial's output and exit code
    gone                       written by wrap.sh instead of rc if the pod is terminated: the trial's exit code
    collect.sh                 written by prepare if there is a custom collector: its command
    collected, collector.out   written by collect.sh: the collector's exit code and output
    stop                       written by collect to end the trial
    done                       written by collect: the exit code for the user's container
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
from katib_flow.argo.steps.train import begin, exit_code, find_trial, metrics_handler
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
# katib-flow: runs run.sh and ends it on request. Exit code: that in done, else 0 or {failure}; 143 on SIGTERM.
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
# wait for the collector, and for tail, which reads once a second, to print the last lines
n=0; while [ $n -lt 6 ] || {{ [ ! -f $d/done ] && [ $n -lt {closing} ]; }}; do $b sleep 0.2; n=$((n + 1)); done
kill $shown
[ -f $d/done ] && exit "$($b cat $d/done)"
if [ $rc = 0 ] || [ $stopped != 0 ]; then exit 0; else exit {failure}; fi
"""
START_SECONDS = 300  # how long a trial waits for collect to listen, whose image may have to be pulled
CLOSING_SECONDS = 30  # how long an ended trial's container waits until the end is recorded
GOING_SECONDS = 15.0  # how long a trial may take to end after SIGTERM: half of a pod's grace period


def prepare(context: Context, trial_id: str, directory: Path) -> None:
    """Write the files with which the user's container runs.

    Args:
        context: the experiment.
        trial_id: id of the trial.
        directory: the trial's directory, inside the directory that the containers share.

    Raises:
        KatibFlowError: this image has no busybox, or a value cannot be an argument.
    """
    shared = directory.parent
    shared.mkdir(parents=True, exist_ok=True)
    copy_busybox(shared)
    closing = CLOSING_SECONDS + (COLLECT_SECONDS if context.experiment.metrics.container else 0)
    words = {"shared": shlex.quote(str(shared)), "failure": USER_FAILURE}
    times = {"patience": 5 * START_SECONDS, "closing": round(5 * closing)}  # the script polls five times a second
    write_output(shared, "wrap.sh", WRAP.format(**words, **times))
    trial = find_trial(context, trial_id)
    if trial.state.final:
        write_output(shared, "final", str(exit_code(trial.state)))
        return
    files = checkpoints.prepared(context, trial, directory)
    files.create(context.experiment, trial.suggestion)
    if context.experiment.architecture is not None:
        prepare_model(context.experiment, trial.suggestion, files)
    if context.experiment.metrics.source in ("katib", "custom"):
        write_output(shared, "await", "")
    write_output(shared, "run.sh", run_script(context, trial, files))
    if script := collect_script(context, trial, files):
        write_output(shared, "collect.sh", script)
    begin(context, trial)


def copy_busybox(shared: Path) -> None:
    """Copy a static busybox to the directory that the containers share.

    Raises:
        KatibFlowError: this image has no busybox.
    """
    source = shutil.which("busybox")
    if source is None:
        raise KatibFlowError("busybox: not found, need a static busybox in this image, as katib-flow's own image has")
    part = shared / ".busybox.part"
    shutil.copy(source, part)
    part.chmod(0o755)
    part.replace(shared / "busybox")


def run_script(context: Context, trial: Trial, files: TrialDirectory) -> str:
    """Return a script that executes the user's program, with every value quoted as one word.

    Raises:
        KatibFlowError: a value cannot be an argument, because it holds a NUL byte.
    """
    experiment, suggestion = context.experiment, trial.suggestion
    container = experiment.trial.container
    assert container is not None
    values = substitutions(experiment, suggestion, files, run_id=trial.run_id, uri=context.store.uri)
    defaults = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108 - an emptyDir of the pod
    paths = {TRIAL_FILE: str(files.trial_file), REPORT_FILE: str(files.report_file)}
    reporting = {}
    if experiment.metrics.source == "katib":
        reporting = katib.reporting_to(trial_name(experiment, suggestion), experiment.metrics.port or katib.PORT)
    variables = defaults | pushed_to(context, trial) | reporting | substitute_env(container.env, values) | paths
    argv = substitute_all([*container.command, *container.args], values)
    exports, words = as_words(suggestion.id, variables, argv, files.path.parent)
    return "\n".join([*exports, f"exec {words}", ""])


def collect(context: Context, trial_id: str, directory: Path, *, watch: Watch | None = None) -> None:
    """Read a trial while it runs, record its result and write its container's exit code.

    If the pod is terminated first, no result is recorded.

    Raises:
        KatibFlowError: ``prepare`` has not made the trial's directory.
    """
    shared = directory.parent
    trial = find_trial(context, trial_id)
    if trial.state.final:
        return
    if not directory.is_dir():
        raise KatibFlowError(f"{directory}: not found, need the directory that prepare creates for a trial")
    files, watch = TrialDirectory(directory), watch or Watch(context, trial)
    earlier = checkpoints.earlier(context, trial, files)
    watch.hear(earlier)
    reports, problem = _endpoint(context, trial)
    with (
        reports or contextlib.nullcontext(),
        BoundedLog(files.log) as log,
        Recorder(context.store, context.record) as recorder,
        Keeper(context, trial, files, recorder) as keeper,
    ):
        write_output(shared, "ready", "")
        on_metrics = metrics_handler(trial, watch, recorder)
        reader = Reader(context.experiment, files, log, on_metrics, reports or source(context, trial), earlier)
        reader.failure = problem
        collector = Collector.of(context.experiment, shared, reader)
        ending = _follow(shared, reader, watch, context.experiment.limits.trial_timeout, collector)
        keeper.end(whole=(ending.exit_code if ending else _exit_code(shared / "gone")) == 0)
    watch.end()
    model = model_files(files.model)
    if ending is None:
        context.store.write(context.record, [Change(trial, artifacts=model)] if model else [])
        return
    outcome = conclude(context.experiment, files, ending, reader, trial.started or time.time())
    context.store.write(context.record, [Change(outcome.applied_to(trial), (), files.log, model)])
    write_output(shared, "done", str(exit_code(outcome.state)))


def _endpoint(context: Context, trial: Trial) -> tuple[katib.KatibReports | None, str]:
    """Return the endpoint to which the trial or its collector reports as to Katib, and why it cannot be opened."""
    name = trial_name(context.experiment, trial.suggestion)
    try:
        return katib.reports_of(context.experiment, name, katib.PORT), ""
    except KatibFlowError as error:
        return None, str(error)


def _follow(
    shared: Path, reader: Reader, watch: Watch, timeout: float | None, collector: Collector | None
) -> Ending | None:
    """Read until the trial and a custom collector have ended; return None if the pod is terminated before.

    Args:
        timeout: the trial's time limit in seconds, from the start of its program.
    """
    output, due, deadline = Tail(shared / "out"), math.inf, math.inf
    request, timed_out = None, False
    while True:
        exit_code, gone = _exit_code(shared / "rc"), (shared / "gone").exists()
        for data in output.portions():
            reader.printed(data)
        ending = None if exit_code is None else Ending(exit_code, request, timed_out)
        over = ending is not None and not (collector and collector.busy(ending))
        reader.read_on(end=over)
        if over:
            reader.printed(b"", end=True)
            return ending
        if watch.terminated:
            deadline = min(deadline, time.monotonic() + GOING_SECONDS)
        if gone or time.monotonic() > deadline:
            return None
        if due == math.inf and timeout is not None and output.path.exists():
            due = time.monotonic() + timeout  # counted from the start of the program, not of the pod
        if request is None and not timed_out and not watch.terminated:
            request = watch()
            timed_out = request is None and exit_code is None and time.monotonic() > due
            if request or timed_out or reader.failure:
                write_output(shared, "stop", "")
        time.sleep(POLL_SECONDS)


def _exit_code(file: Path) -> int | None:
    """Read the trial's exit code, negative for a signal, which a shell adds to 128; None while the trial runs."""
    try:
        code = int(file.read_text())
    except (OSError, ValueError):
        return None
    return 128 - code if code - 128 in signal.valid_signals() else code
