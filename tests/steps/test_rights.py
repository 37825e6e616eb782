"""Each service account has the rights that its steps use, and no other: one is refused what its Role does not give."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_objects import COMPLETE, OWNER, Asked
from test_objects import experiment as object_experiment

from katib_flow.argo.cluster import POD, WORKFLOW, ClusterError, Kind
from katib_flow.argo.install import WATCHED, files
from katib_flow.argo.pods import Accounts
from katib_flow.argo.steps import experiment as step
from katib_flow.argo.steps import objects
from katib_flow.argo.steps.collect import collect_metrics
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.handover import hand_over
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.argo.submit import submit
from katib_flow.history import State
from katib_flow.spec import Experiment
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Change, Status, Store

Right = tuple[str, str, str]
"""API group, resource, verb."""
ACCOUNTS = Accounts()
VERBS = {"find": "list", "log": "get"}  # the method of Cluster -> the verb that the API server asks the Role about
EXECUTOR = {("argoproj.io", "workflowtaskresults", verb) for verb in ("create", "patch")}
"""What Argo's executor does beside each container of a Workflow, from Argo 3.4 on (argo-workflows, "Workflow RBAC")."""


def installed(kind: str) -> list[dict[str, Any]]:
    return [each for text in files().values() for each in yaml.safe_load_all(text) if each["kind"] == kind]


@cache
def granted(account: str) -> frozenset[Right]:
    """What the Role that is installed with an account gives."""
    (role,) = [each for each in installed("Role") if each["metadata"]["name"] == account]
    return frozenset(
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


@dataclass
class Guarded(FakeCluster):
    """A namespace that refuses what an account has no right to, and keeps what it had a right to and used."""

    account: str = ""
    used: set[Right] = field(default_factory=set)

    def _called(self, verb: str, kind: Kind, name: str) -> None:
        super()._called(verb, kind, name)
        if (verb, kind) == ("create", POD):  # by the controller of a Job, which the test stands for
            return
        group = kind[0].rpartition("/")[0]
        resource = "pods/log" if verb == "log" else f"{kind[1].lower()}s"
        right = (group, resource, VERBS.get(verb, verb))
        if right not in granted(self.account):
            raise ClusterError(f"{verb} {kind[1]} {name}: the cluster answers 403 Forbidden", 403)
        self.used.add(right)

    def changes(self, kind: Kind, *arguments: Any, **options: Any) -> Iterator[str]:
        self._called("watch", kind, "")  # as the real client does after the list that it begins with
        return super().changes(kind, *arguments, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


def function_experiment() -> Experiment:
    data: dict[str, Any] = object_experiment().to_dict()
    return Experiment.parse(data | {"trial": {"function": "user_module:train"}, "argo": {"image": "user:1"}})


def watched(store: Store, folder: Path) -> set[Right]:
    """A trial that is a Job from its creation to its end, and the collector that closes another whose pod is gone."""
    context = Context(store, store.create(object_experiment(), key=f"rights-{time.monotonic_ns()}"), 0)
    cluster = Guarded(account=ACCOUNTS.watcher)

    def run() -> None:
        (name,) = cluster.names(("batch/v1", "Job"))
        cluster.add_pod(f"{name}-abcde", {})
        cluster.print_(f"{name}-abcde", "score=0.5", "main")
        cluster.set_status(("batch/v1", "Job"), name, **COMPLETE)

    (trial_id,) = suggest_iteration(context, 1)
    hooks: Any = {"watching": lambda *_: Asked()}
    cluster.on_create.append(lambda made: threading.Timer(0.1, run).start() if made["kind"] == "Job" else None)
    assert objects.run(context, cluster, trial_id, folder / "a" / "trial", OWNER, **hooks) == 0
    suggest_iteration(context, 2)
    collect_metrics(context, lambda: cluster)
    return cluster.used


def submitted(store: Store, folder: Path) -> set[Right]:
    """A step that submits an experiment and follows it, tried twice, and the hand-over to its next Workflow."""
    cluster, experiment = Guarded(account=ACCOUNTS.submitter), function_experiment()
    name = submit(cluster, experiment, f"rights-{time.monotonic_ns()}")
    for _ in range(2):
        hand_over(cluster, workflow=name, run=name, segment=0)
    record = store.create(experiment, key=name)
    store.summarise(record, store.history(record), Status.STOPPED, "it is over")

    def over(_: float) -> None:
        for workflow in (name, f"{name}-s1"):
            cluster.set_status(WORKFLOW, workflow, phase="Succeeded")

    assert step.run(cluster, experiment, name, folder, termination=step.Termination(), sleep=over) == 0
    return cluster.used


def judged(store: Store, folder: Path) -> set[Right]:
    """The collector of trials that are pods of the Workflow: one has recorded no end."""
    name = f"rights-{time.monotonic_ns()}"
    context = Context(store, store.create(function_experiment(), key=name), 0)
    suggest_iteration(context, 1)
    (trial,) = store.history(context.record)
    store.write(context.record, [Change(replace(trial, state=State.RUNNING, started=time.time()))])
    cluster = Guarded(account=ACCOUNTS.submitter)
    submit(cluster, function_experiment(), name)
    cluster.account, cluster.used = ACCOUNTS.reader, set()
    collect_metrics(context, lambda: cluster)
    return cluster.used


@pytest.mark.parametrize(
    ("account", "scenario"),
    [(ACCOUNTS.watcher, watched), (ACCOUNTS.submitter, submitted), (ACCOUNTS.reader, judged)],
)
def test_an_account_has_what_its_steps_use_and_no_more(
    account: str, scenario: Callable[[Store, Path], set[Right]], store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    used = scenario(store, tmp_path)
    kinds = {(group, kind) for group, kinds in WATCHED.items() for kind in kinds} if account == ACCOUNTS.watcher else ()
    alike = {verb for group, resource, verb in used if resource == "jobs"}  # every kind of object is treated alike
    assert EXECUTOR | used | {(group, kind, verb) for group, kind in kinds for verb in alike} == granted(account)


def test_trials_have_no_role_and_the_executor_has_what_argo_asks_for() -> None:
    assert granted(ACCOUNTS.executor) == EXECUTOR
    assert ACCOUNTS.trial not in json.dumps(installed("RoleBinding"))
