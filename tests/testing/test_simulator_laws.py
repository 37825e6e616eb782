"""Laws of the operate loop, on Workflows drawn at random: it may be called at any time, and be cut off at any time."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import Scripts, dag, pod, retry, run, steps, task, workflow

from katib_flow.testing.argo import INFRASTRUCTURE, Costs, Pod, Random, Simulator, Workflow

RESULTS = ("", ".Succeeded", ".Failed", ".Skipped", ".Omitted", ".Errored", ".AnySucceeded", ".AllFailed")
ANY_END = "{0}.Succeeded || {0}.Failed || {0}.Errored || {0}.Skipped || {0}.Omitted"


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    """A DAG of tasks that run pods, loops, nested DAGs, steps with contained failures, or a recursion."""
    tasks: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 6))):
        name = f"t{number}"
        fields: dict[str, Any] = {}
        if tasks and draw(st.integers(0, 3)):
            before = [each["name"] for each in draw(st.lists(st.sampled_from(tasks), min_size=1, max_size=2))]
            forms = [f"{each}{draw(st.sampled_from(RESULTS))}" for each in before] + [ANY_END.format(before[0])]
            fields["depends"] = draw(st.sampled_from([" && ".join(forms[:-1]), " || ".join(forms[:-1]), forms[-1]]))
        fields |= draw(st.sampled_from([{}, {}, {"when": "a == b"}, {"withItems": [1, 2, 3]}, {"withItems": []}]))
        template = draw(st.sampled_from(["work", "retried", "inner", "contained", "again"]))
        tasks.append(task(name, template, given={"x": "2" if template == "again" else name}, **fields))
    inner = dag(
        "inner", task("a", "work", given={"x": "a"}), task("b", "retried", given={"x": "b"}, depends="a"), inputs=("x",)
    )
    bad = task("bad", "work", given={"x": "{{item}}"}, withItems=[1, 2], continueOn={"failed": True, "error": True})
    more = {"depends": "work.Succeeded || work.Failed", "when": "{{inputs.parameters.x}} > 0"}
    minus = "{{=string(int(inputs.parameters.x) - 1)}}"
    again = dag(
        "again", task("work", given={"x": "r"}), task("more", "again", given={"x": minus}, **more), inputs=("x",)
    )
    parallelism = draw(st.sampled_from([{}, {"parallelism": 1}, {"parallelism": 2}]))
    return workflow(
        "main",
        dag("main", *tasks, **parallelism),
        inner,
        again,
        steps("contained", [bad], [task("after", "work", given={"x": "after"})], inputs=("x",), parallelism=1),
        pod("work", inputs=("x",)),
        pod("retried", inputs=("x",), retryStrategy=retry(2)),
        pod("finish"),
        onExit="finish",
    )


def answers(seed: int) -> Scripts:
    """Pods end well or badly by their node alone, every attempt of it alike."""

    def end(each: Pod) -> int:
        node = each.node.partition(".")[2].removesuffix(f"({each.attempt})")
        return int(random.Random(f"{seed} {node}").random() < 0.3)

    return Scripts({"work": end, "retried": end}, lambda each: 1.0 + random.Random(each.node).randrange(30))


def outcome(done: Workflow) -> Any:
    nodes = sorted((node.name, node.kind, str(node.phase), node.message) for node in done.nodes)
    return done.phase, [(name.removeprefix(done.name), *rest) for name, *rest in nodes]


laws = settings(max_examples=30, deadline=None)


@laws
@given(manifest=workflows(), seed=st.integers(0, 9))
def test_every_workflow_comes_to_an_end_with_nothing_left_open(manifest: dict[str, Any], seed: int) -> None:
    simulator, done = run(manifest, answers(seed))
    assert done.phase in ("Succeeded", "Failed", "Error")
    assert [node.name for node in done.nodes if not node.phase.fulfilled] == []
    assert simulator.machine.pods(done.name) == []
    assert simulator.machine.started["finish"] == 1


@laws
@given(manifest=workflows(), seed=st.integers(0, 9))
def test_more_looks_and_whole_ones_change_nothing(manifest: dict[str, Any], seed: int) -> None:
    def look(simulator: Simulator, name: str) -> None:
        simulator.look(name, whole=True)

    straight, looked = run(manifest, answers(seed)), run(manifest, answers(seed), before_each=[look])
    assert outcome(looked[1]) == outcome(straight[1])
    assert looked[0].machine.started == straight[0].machine.started


@laws
@given(manifest=workflows(), seed=st.integers(0, 9))
def test_a_controller_cut_off_between_any_two_looks_goes_on_where_it_was(manifest: dict[str, Any], seed: int) -> None:
    """Compared with one that looks as often: where pods wait for a slot, the moment of a look decides who is first."""

    def look_soon(simulator: Simulator, name: str) -> None:
        if not simulator[name].completed:
            simulator.look_again(simulator[name], simulator.now)

    def restart(simulator: Simulator, name: str) -> None:
        simulator.restart_controller()

    straight = run(manifest, answers(seed), costs=Costs(), before_each=[look_soon])
    restarted = run(manifest, answers(seed), costs=Costs(), before_each=[restart])
    assert outcome(restarted[1]) == outcome(straight[1])
    assert restarted[0].machine.started == straight[0].machine.started


@laws
@given(manifest=workflows(), seed=st.integers(0, 9))
def test_pods_of_retried_templates_hide_faults_of_machines(manifest: dict[str, Any], seed: int) -> None:
    """Where every template is tried again, a machine's fault shows only in its own attempt.

    Without parallelism: a DAG whose target has failed starts no other, so who is first among those that wait decides.
    """
    for template in manifest["spec"]["templates"]:
        template.pop("parallelism", None)
        if "container" in template:
            template["retryStrategy"] = retry(4, expression='lastRetry.exitCode != "1"')
    faults = Random(seed, 0.05, kinds=INFRASTRUCTURE)
    _, straight = run(manifest, answers(seed), costs=Costs())
    _, struck = run(manifest, answers(seed), faults=faults, costs=Costs())
    assert phases_of(struck) == phases_of(straight)


def phases_of(done: Workflow) -> Any:
    return {node.name.removeprefix(done.name): node.phase for node in done.nodes if node.kind != "Pod"}
