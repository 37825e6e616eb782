"""The simulator against what a real controller did with the two shapes, and with every fault (Argo 4.1 and 3.7)."""

import itertools
import json
import random
from typing import Any

import pytest
from shapes import K, Scripts, barrier, dag, lanes, phases, pod, retry, run, task, three_iterations, workflow

from katib_flow.testing.argo import (
    ByTemplate,
    Costs,
    Fault,
    Phase,
    Pod,
    Program,
    Rejected,
    Result,
    Scripted,
    Simulator,
    Workflow,
)

PAST_DEADLINE = "Pod was active on the node longer than the specified deadline"
TRIAL = ".train[0].trial(0:1-a)"


def test_an_iteration_calls_itself_until_it_is_told_to_stop() -> None:
    simulator, done = run(barrier(), three_iterations())
    assert (done.phase, done.message) == ("Succeeded", "")
    assert simulator.machine.started == {
        **{"suggest": 3, "build-model": 3, "trial": 9, "collect-metrics": 3, "finish": 1},
    }
    found = phases(done)
    assert found[""] == found[".again.again"] == "Succeeded"
    assert (found[".again.again.again"], found[".again.again.handover"]) == ("Skipped", "Skipped")
    assert (
        found[f".again{TRIAL.replace('1-a', '2-a')}"] == found[f".again{TRIAL.replace('1-a', '2-a')}(0)"] == "Succeeded"
    )
    assert done.deepest == 5  # iteration, again, again, train, trial


def test_a_workflow_of_300_trials_is_as_large_as_it_was_on_the_real_controller() -> None:
    """Measured there: 613 nodes, 366 kB of JSON, 1.2 kB a trial, 140 B a trial compressed."""
    ids = {"ids": json.dumps([f"0-1-{number:03}" for number in range(300)])}
    programs = Scripts({"suggest": ids, "collect-metrics": {"go": "false"}}, lambda pod: 20.0)
    _, done = run(barrier(parallelism=24), programs, costs=Costs())
    assert len(done.nodes) == 613
    assert done.largest_bytes == pytest.approx(366_000, rel=0.1)


def test_a_fan_out_runs_no_more_side_by_side_than_it_may() -> None:
    at_once: list[int] = []

    def trial(pod: Pod) -> Result:
        at_once.append(sum(each.template == "trial" for each in simulator.machine.pods(pod.workflow)))
        return Result()

    ids = {"ids": json.dumps([str(number) for number in range(10)])}
    scripts = Scripts({"suggest": ids, "collect-metrics": {"go": "false"}, "trial": trial}, lambda pod: 5.0)
    simulator = Simulator(scripts)
    simulator.submit(barrier(parallelism=4))
    simulator.run()
    assert len(at_once) == 10
    assert max(at_once) == 4


def test_lanes_go_on_by_themselves() -> None:
    def suggest(pod: Pod) -> dict[str, str]:
        return {"id": f"{pod.inputs['lane']}-{pod.inputs['k']}", "go": str(pod.inputs["lane"] != "1").lower()}

    seconds = {"0": 5.0, "2": 50.0}
    programs = Scripts(
        {"suggest": suggest, "collect-metrics": {"go": "false"}},
        lambda pod: seconds[pod.inputs["id"][0]] if pod.template == "trial" else 1.0,
    )
    simulator, done = run(lanes(), programs)
    assert done.phase == "Succeeded"
    assert simulator.machine.started["trial"] == 6
    assert [inputs["id"] for template, inputs in programs.ran if template == "trial"] == [
        *("0-1", "0-2", "0-3", "2-1", "2-2", "2-3")
    ]
    assert phases(done)[".lane(1:1).train"] == "Skipped"
    assert phases(done)[".lane(1:1).again"] == "Omitted"
    assert phases(done)[".lane"] == "Succeeded"


EVENTS: list[tuple[str, Any, Fault | None, list[str], str]] = [
    ("exit 42", 42, None, ["Failed main: Error (exit code 42)"], "not tried again"),
    ("another exit code", 7, None, ["Failed main: Error (exit code 7)"] * 4, "tried to the limit"),
    ("out of memory", 0, Fault.MEMORY, ["Failed main: OOMKilled (exit code 137)"], "not tried again"),
    ("deleted", 0, Fault.DELETED, ["Error pod deleted", "Succeeded "], "tried again"),
    ("evicted", 0, Fault.EVICTED, ["Failed main: Error (exit code 143)", "Succeeded "], "tried again"),
    (
        "deadline",
        0,
        Fault.DEADLINE,
        [f"Failed {PAST_DEADLINE}"],
        "not tried again",
    ),
    ("prepare", 0, Fault.INIT, ["Failed prepare: Error (exit code 1)", "Succeeded "], "tried again"),
    ("collector", 0, Fault.SIDECAR, ["Failed collector: Error (exit code 3)", "Succeeded "], "a good trial lost"),
]


@pytest.mark.parametrize(("event", "answer", "fault", "attempts", "why"), EVENTS, ids=[each[0] for each in EVENTS])
def test_what_becomes_of_a_trial(event: str, answer: Any, fault: Fault | None, attempts: list[str], why: str) -> None:
    programs = three_iterations(trial=lambda pod: answer if pod.inputs["id"] == "1-a" else 0)
    programs.seconds = lambda pod: 20.0
    faults = Scripted({f"{TRIAL}(0)": fault} if fault else {})
    _, done = run(barrier(), programs, faults=faults, costs=Costs())
    nodes = done.nodes.attempts(done.nodes[f"{done.name}{TRIAL}"])
    assert [f"{node.phase} {node.message}" for node in nodes] == attempts
    assert done.phase == "Succeeded"  # whatever became of it, the iteration goes on
    assert phases(done)[".train"] == "Succeeded"


def test_a_trial_whose_retries_are_used_up_says_so() -> None:
    _, done = run(barrier(), three_iterations(trial=lambda pod: 7 if pod.inputs["id"] == "1-a" else 0))
    node = done.nodes[f"{done.name}{TRIAL}"]
    assert (node.phase, node.message) == (Phase.FAILED, "No more retries left")
    _, done = run(barrier(), three_iterations(trial=lambda pod: 42 if pod.inputs["id"] == "1-a" else 0))
    assert done.nodes[f"{done.name}{TRIAL}"].message == "retryStrategy.expression evaluated to false"


def test_retries_wait_longer_and_longer() -> None:
    _, done = run(barrier(), three_iterations(trial=lambda pod: 7 if pod.inputs["id"] == "1-a" else 0))
    starts = [node.started for node in done.nodes.attempts(done.nodes[f"{done.name}{TRIAL}"])]
    waits = [later - earlier - 1.0 for earlier, later in itertools.pairwise(starts)]
    assert waits == [2.0, 4.0, 8.0]


def test_a_required_output_that_is_missing_is_an_error_and_an_optional_one_is_not() -> None:
    one = dag(
        "main", task("a", given={"k": "1"}), task("b", given={"k": "{{tasks.a.outputs.parameters.x}}"}, depends="a")
    )
    a = {"inputs": ("k",), "retryStrategy": retry(1)}
    _, done = run(workflow("main", one, pod("a", outputs={"x": {}}, **a), pod("b", inputs=("k",))))
    node = done.nodes[f"{done.name}.a(0)"]
    assert (node.phase, node.message) == (
        Phase.ERROR,
        "wait: Error (exit code 64): open /kf/x: no such file or directory",
    )
    assert (len(done.nodes.attempts(done.nodes[f"{done.name}.a"])), done.phase) == (2, "Error")
    programs = Scripts()
    _, done = run(
        workflow("main", one, pod("a", outputs={"x": {"default": "d"}}, **a), pod("b", inputs=("k",))), programs
    )
    assert (done.phase, programs.ran[-1]) == ("Succeeded", ("b", {"k": "d"}))


def test_argo_stop_ends_pods_and_runs_the_exit_handler_which_can_tell_it_from_a_failure() -> None:
    manifest = barrier()
    finish = next(each for each in manifest["spec"]["templates"] if each["name"] == "finish")
    finish["container"]["args"] = ["{{workflow.status}}", "{{workflow.failures}}"]
    programs = three_iterations()
    programs.seconds = lambda pod: 100.0 if pod.template == "trial" else 1.0
    simulator = Simulator(programs)
    name = simulator.submit(manifest)
    simulator.run(until=simulator.now + 60)
    simulator.stop(name)
    simulator.run()
    done = simulator[name]
    assert (done.phase, done.message) == ("Failed", "Stopped with strategy 'Stop'")
    node = done.nodes[f"{name}{TRIAL}(0)"]
    assert (node.phase, node.message) == (Phase.FAILED, "workflow shutdown with strategy:  Stop")
    assert len(done.nodes.attempts(done.nodes[f"{name}{TRIAL}"])) == 1
    status, failures = simulator.machine.history[-1].command()[1:]
    assert status == "Failed"
    assert any("shutdown with strategy" in node["message"] for node in json.loads(json.loads(failures)))


def test_argo_terminate_runs_no_exit_handler() -> None:
    simulator = Simulator(three_iterations())
    name = simulator.submit(barrier())
    simulator.run(until=simulator.now + 15)
    simulator.stop(name, "Terminate")
    simulator.run()
    assert simulator[name].phase == "Failed"
    assert simulator.machine.started["finish"] == 0


def test_a_workflows_deadline_ends_pods_and_spares_the_exit_handler() -> None:
    programs = three_iterations()
    programs.seconds = lambda pod: 1000.0 if pod.template == "trial" else 100.0 if pod.template == "finish" else 1.0
    manifest = barrier(activeDeadlineSeconds="5000")
    manifest["spec"]["activeDeadlineSeconds"] = 200
    simulator, done = run(manifest, programs, costs=Costs())
    assert done.phase == "Failed"
    assert done.nodes[f"{done.name}{TRIAL}(0)"].message in ("Step exceeded its deadline", PAST_DEADLINE)
    assert phases(done)[".collect-metrics(0)"] == "Failed"
    assert len(done.nodes.attempts(done.nodes[f"{done.name}{TRIAL}"])) == 1
    assert simulator.machine.started["trial"] == 3
    assert phases(done)[".onExit"] == "Succeeded"


def test_suspend_starts_nothing_new_and_lets_pods_end() -> None:
    simulator = Simulator(three_iterations())
    name = simulator.submit(barrier())
    simulator.run(until=simulator.now + 15)
    started = dict(simulator.machine.started)
    simulator.suspend(name)
    simulator.run()
    assert simulator.machine.started == started
    assert all(node.phase.fulfilled for node in simulator[name].nodes if node.kind == "Pod")
    simulator.suspend(name, on=False)
    simulator.run()
    assert simulator[name].phase == "Succeeded"


def test_an_exit_handler_that_fails_spoils_a_success() -> None:
    _, done = run(barrier(), three_iterations(finish=1))
    assert (done.phase, done.message) == ("Failed", "No more retries left")


def outcome(done: Workflow) -> Any:
    return done.phase, [
        (node.name, node.kind, node.phase, node.message, node.outputs, node.children) for node in done.nodes
    ]


def test_a_controller_that_restarts_before_every_look_changes_nothing() -> None:
    def restart(simulator: Simulator, name: str) -> None:
        simulator.restart_controller()

    faults = {f"{TRIAL}(0)": Fault.DELETED, ".again.suggest(0)": Fault.OUTPUT}
    settings: dict[str, Any] = {"costs": Costs()}
    simulator, straight = run(barrier(), three_iterations(), faults=Scripted(faults), **settings)
    again, restarted = run(barrier(), three_iterations(), faults=Scripted(faults), before_each=[restart], **settings)
    assert outcome(restarted) == outcome(straight)
    assert again.machine.started == simulator.machine.started
    assert restarted.save() == Workflow.load(restarted.save()).save()


def test_a_look_at_any_moment_any_number_of_times_changes_nothing() -> None:
    def look(simulator: Simulator, name: str) -> None:
        for _ in range(3):
            simulator.look(name, whole=True)

    simulator, straight = run(barrier(), three_iterations())
    again, looked = run(barrier(), three_iterations(), before_each=[look])
    assert outcome(looked) == outcome(straight)
    assert again.machine.started == simulator.machine.started


@pytest.mark.parametrize(("retries", "ran"), [(False, 98), (True, 98)])
def test_a_recursion_of_one_level_an_iteration_runs_98_times(retries: bool, ran: int) -> None:
    """On the real controller it ran 98 times and ended in Error, with no message on the Workflow."""
    loop = dag(
        "loop",
        task("work", given={"k": K}),
        task("again", "loop", given={"k": "{{=string(int(inputs.parameters.k) + 1)}}"}, depends="work"),
        inputs=("k",),
    )
    programs = Scripts()
    work = pod("work", inputs=("k",), **({"retryStrategy": retry()} if retries else {}))
    _, done = run(workflow("loop", loop, work, given={"k": "1"}), programs)
    assert len(programs.ran) == ran
    assert (done.phase, done.message) == ("Error", "")
    assert done.deepest == 100


def test_a_step_costs_ten_seconds_and_an_iteration_forty() -> None:
    _, done = run(barrier(), three_iterations(), costs=Costs())
    assert done.finished is not None
    assert done.started is not None
    assert done.finished - done.started == pytest.approx(3 * 40 + 10, abs=10)


def test_a_workflow_that_outgrows_what_kubernetes_stores_is_an_error() -> None:
    ids = {"ids": json.dumps([f"{number:03}-{'x' * 40}" for number in range(300)])}

    def noise(pod: Pod) -> Result:
        return Result(files={"/kf/y": random.Random(pod.name).randbytes(9000).hex()})

    manifest = barrier(parallelism=300, outputs={"y": {}})
    programs = ByTemplate(
        {
            "suggest": Program(lambda pod: Result(files={"/kf/ids": ids["ids"]})),
            "build-model": Program(lambda pod: Result()),
            "trial": Program(noise),
            "collect-metrics": Program(lambda pod: Result(files={"/kf/go": "false"})),
            "finish": Program(lambda pod: Result()),
        }
    )
    with pytest.raises(Rejected, match="longer than maximum allowed size"):
        run(manifest, programs)
