"""A Workflow and a process elsewhere do not run one experiment both."""

import time
from pathlib import Path

import pytest

from katib_flow.argo.steps.collect import finish
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.argo.steps.watch import Watch
from katib_flow.local import resume_experiment
from katib_flow.tracking import Store
from katib_flow.tracking.lease import Held
from tests.kit import experiment


@pytest.fixture
def context(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.chdir(tmp_path)
    store = Store(uri)
    return Context(store, store.create(experiment(), key=f"lease-{time.monotonic_ns()}"), 0)


def test_a_local_run_beside_a_workflow_is_refused_until_that_has_finished(context: Context) -> None:
    context.hold()
    context.hold()  # the next pod
    with pytest.raises(
        Held, match=f"another process is running this experiment: Workflow {context.record.key} on a cluster"
    ):
        resume_experiment(context.store, context.record.run_id)
    finish(context, "Succeeded", "")
    with context.store.lease(context.record, print).take():
        pass


def test_a_workflow_beside_a_local_run_is_refused(context: Context) -> None:
    with context.store.lease(context.record, print).take(), pytest.raises(Held):
        context.hold()
    context.hold()


def test_a_trial_of_a_workflow_that_was_taken_over_from_ends_and_stays_open(context: Context) -> None:
    context.hold()
    suggest_iteration(context, 1)
    trial = context.store.history(context.record)[0]
    watch = Watch(context, trial, seconds=3600)
    watch.look()
    assert watch() is None
    context.release()
    with context.store.lease(context.record, print).take():
        watch.look()
    watch.end()
    assert watch.terminated
    assert context.store.trial(context.record, trial.id) == trial


def test_pods_renew_the_lease_of_their_workflow(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    context.hold()
    first = context.store.get(context.record.run_id).lease
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    context.hold()
    lease = context.store.get(context.record.run_id).lease
    assert first is not None
    assert lease is not None
    assert (lease.owner, lease.since, round(lease.beat - now)) == (first.owner, first.since, 60)
