"""train for any image: ``prepare`` puts a static busybox and two scripts beside it, ``collect`` reads what it prints.

The containers share one directory:

    busybox, wrap.sh, run.sh   written by prepare; wrap.sh is the user's container's command
    final                      the exit code of a trial that had ended before this pod was there
    await                      written by prepare where the trial waits for collect to listen; ready: it does
    out, rc                    written by wrap.sh: what the trial printed, and its exit code
    gone                       written by wrap.sh in the place of rc: the exit code of a trial whose pod goes
    stop, done                 written by collect: end the trial; the exit code for the user's container
"""

import contextlib
import math
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

from katib_flow.argo.steps import checkpoints
from katib_flow.argo.steps.context import Context, write_output
from katib_flow.argo.steps.keeper import Keeper
from katib_flow.argo.steps.pushed import pushed_to, source
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
from katib_flow.trial.protocol import USER_FAILURE, TrialDirectory, model_files, substitutions, trial_name
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
n=0; while [ $n -lt 6 ] || {{ [ ! -f $d/done ] && [ $n -lt 150 ]; }}; do $b sleep 0.2; n=$((n + 1)); done
kill $shown
[ -f $d/done ] && exit "$($b cat $d/done)"
if [ $rc = 0 ] || [ $stopped != 0 ]; then exit 0; else exit {failure}; fi
"""
START_SECONDS = 300  # for which a trial waits until what it reports to is there: its image may have to be pulled
GOING_SECONDS = 15.0  # for a trial to end that is told to go with its pod: half of the grace that a pod has
_SHELL_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def prepare(context: Context, trial_id: str, directory: Path) -> None:
    """Write what the user's container is run with.

    Args:
        directory: the trial's own, in the directory that the containers share.
    """
    shared = directory.parent
    shared.mkdir(parents=True, exist_ok=True)
    put_busybox(shared)
    words = {"shared": shlex.quote(str(shared)), "failure": USER_FAILURE, "patience": 5 * START_SECONDS}
    write_output(shared, "wrap.sh", WRAP.format(**words))
    trial = find_trial(context, trial_id)
    if trial.state.final:
        write_output(shared, "final", str(exit_code(trial.state)))
        return
    here = checkpoints.place(context, trial, directory)
    here.create(context.experiment, trial.suggestion)
    if context.experiment.architecture is not None:
        prepare_model(context.experiment, trial.suggestion, here)
    if context.experiment.metrics.source == "katib":
        write_output(shared, "await", "")
    write_output(shared, "run.sh", run_script(context, trial, here))
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
    given = substitute_env(container.env, values)
    paths = {"KATIB_FLOW_TRIAL_FILE": str(place.trial_file), "KATIB_FLOW_REPORT_FILE": str(place.report_file)}
    reporting = {}
    if experiment.metrics.source == "katib":
        reporting = katib.reporting_to(trial_name(experiment, suggestion), experiment.metrics.port or katib.PORT)
    variables = ours | pushed_to(context, trial) | reporting | given | paths
    argv = substitute_all([*container.command, *container.args], values)
    plain = {name: value for name, value in variables.items() if _SHELL_NAME.fullmatch(name)}
    odd = [f"{name}={value}" for name, value in variables.items() if name not in plain]  # Kubernetes takes my.name too
    words = [str(place.path.parent / "busybox"), "env", *odd, *argv] if odd else argv
    if any("\0" in text for text in [*words, *variables.values()]):
        raise KatibFlowError(f"{suggestion.id}: a value holds a NUL byte, which no program's argument can")
    exports = [f"export {name}={shlex.quote(value)}" for name, value in plain.items()]
    return "\n".join([*exports, f"exec {shlex.join(words)}", ""])


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
    name = trial_name(context.experiment, trial.suggestion)
    with (
        katib.reports_of(context.experiment, name, katib.PORT) or contextlib.nullcontext() as reports,
        BoundedLog(place.log) as log,
        Recorder(context.store, context.record) as recorder,
        Keeper(context, trial, place, recorder) as keeper,
    ):
        write_output(shared, "ready", "")
        heard = taken(trial, watch, recorder)
        reader = Reader(context.experiment, place, log, heard, reports or source(context, trial), earlier)
        ending = _follow(shared, reader, watch, context.experiment.limits.trial_timeout)
        keeper.end(whole=(ending.exit_code if ending else _exit_code(shared / "gone")) == 0)
    watch.end()
    files = model_files(place.model)
    if ending is None:
        context.store.write(context.record, [Change(trial, artifacts=files)] if files else [])
        return
    outcome = conclude(context.experiment, place, ending, reader, trial.started or time.time())
    context.store.write(context.record, [Change(outcome.applied_to(trial), (), place.log, files)])
    write_output(shared, "done", str(exit_code(outcome.state)))


def _follow(shared: Path, reader: Reader, watch: Watch, timeout: float | None) -> Ending | None:
    """Read until the trial has ended; None where this pod was told to go away before."""
    printed, due, going = Tail(shared / "out"), math.inf, math.inf
    request, timed_out = None, False
    while True:
        exit_code, gone = _exit_code(shared / "rc"), (shared / "gone").exists()
        for data in printed.portions():
            reader.printed(data)
        reader.read_on(end=exit_code is not None)
        if exit_code is not None:
            reader.printed(b"", end=True)
            return Ending(exit_code, request, timed_out)
        if watch.terminated:
            going = min(going, time.monotonic() + GOING_SECONDS)
        if gone or time.monotonic() > going:
            return None
        if due == math.inf and timeout is not None and printed.path.exists():
            due = time.monotonic() + timeout  # its time runs from its start, not from that of the pod
        if request is None and not timed_out and not watch.terminated:
            request = watch()
            timed_out = request is None and time.monotonic() > due
            if request or timed_out:
                write_output(shared, "stop", "")
        time.sleep(POLL_SECONDS)


def _exit_code(file: Path) -> int | None:
    """The trial's exit code, negative for a signal, which a shell tells as 128 and more; None while it runs."""
    try:
        code = int(file.read_text())
    except (OSError, ValueError):
        return None
    return 128 - code if code - 128 in signal.valid_signals() else code
