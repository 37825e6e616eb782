"""What surprises people about Argo, a test each; all of it was read in its source or seen on a real controller."""

import json
from typing import Any

import pytest
from shapes import (
    Scripts,
    arguments,
    barrier,
    dag,
    phases,
    pod,
    retry,
    run,
    steps,
    task,
    three_iterations,
    trial,
    workflow,
)

from katib_flow.argo.cluster import WORKFLOW
from katib_flow.testing.argo import Costs, Fault, Phase, Pod, Rejected, Result, Scripted, Simulator, Unsupported
from katib_flow.testing.argo.simulator import CLUSTER_TEMPLATE, TEMPLATE
from katib_flow.testing.kubernetes import FakeCluster

ONE = pod("one", inputs=("x",))


def loop(items: Any, *following: dict[str, Any], template: dict[str, Any] = ONE, **more: Any) -> dict[str, Any]:
    """A DAG whose task ``each`` loops over what a task ``list`` printed."""
    param = {"withParam": "{{tasks.list.outputs.parameters.items}}"}
    each = task("each", template["name"], given={"x": "{{item}}"}, depends="list", **param, **more)
    listed = pod("list", outputs={"items": {}})
    return workflow("main", dag("main", task("list"), each, *following), listed, template, pod("end"))


def listing(items: Any, **answers: Any) -> Scripts:
    text = items if isinstance(items, str) else json.dumps(items)
    return Scripts({"list": {"items": text}, **answers})


def test_a_retry_node_is_there_whenever_a_strategy_is_even_with_limit_zero() -> None:
    _, done = run(workflow("a", pod("a", retryStrategy={"limit": "0"})), Scripts({"a": 1}))
    assert [(node.name.removeprefix(done.name), node.kind) for node in done.nodes] == [("", "Retry"), ("(0)", "Pod")]
    assert (done.phase, done.message) == ("Failed", "No more retries left")


def test_a_leaf_that_is_left_out_inherits_a_failure_from_deep_inside_its_branch() -> None:
    contained = steps("contained", [task("bad", continueOn={"failed": True, "error": True})])
    skipped = task("end", depends="contained", when="a == b")
    done = run(
        workflow("main", dag("main", task("contained"), skipped), contained, pod("bad"), pod("end")),
        Scripts({"bad": 1}),
    )[1]
    assert phases(done)[".contained"] == "Succeeded"
    assert (phases(done)[".end"], done.phase) == ("Skipped", "Failed")


def test_a_task_between_them_stops_the_inheritance() -> None:
    contained = steps("contained", [task("bad", continueOn={"failed": True, "error": True})])
    main = dag("main", task("contained"), task("good", depends="contained"), task("end", depends="good", when="a == b"))
    done = run(workflow("main", main, contained, pod("bad"), pod("good"), pod("end")), Scripts({"bad": 1}))[1]
    assert (phases(done)[".end"], done.phase) == ("Skipped", "Succeeded")


def test_continue_on_contains_failures_and_errors_apart() -> None:
    def phase(answer: Any, **on: bool) -> str:
        group = steps("main", [task("bad", continueOn=on)], [task("end")])
        out = {"outputs": {"y": {}}} if answer == 0 else {}
        return run(workflow("main", group, pod("bad", **out), pod("end")), Scripts({"bad": answer}))[1].phase

    assert phase(1, failed=True) == "Succeeded"
    assert phase(1, error=True) == "Failed"
    assert phase(0, error=True) == "Succeeded"  # its output is missing: an Error
    assert phase(0, failed=True) == "Failed"


@pytest.mark.parametrize(
    ("depends", "end"),
    [("each", "Succeeded"), ("each.Succeeded", "Omitted"), ("each.Skipped", "Succeeded")],
)
def test_an_empty_loop_is_skipped_which_a_bare_name_accepts(depends: str, end: str) -> None:
    _, done = run(loop([], task("end", depends=depends)), listing([]))
    assert (phases(done)[".each"], phases(done)[".end"], done.phase) == ("Skipped", end, "Succeeded")
    assert done.nodes[f"{done.name}.each"].message == "Skipped, empty params"


def test_what_is_no_list_is_an_error_unless_the_condition_rules_the_task_out() -> None:
    _, done = run(loop(""), listing("{}"))
    assert (phases(done)[".each"], done.phase) == ("Error", "Error")
    _, done = run(loop("", when="a == b"), listing("{}"))
    assert (phases(done)[".each"], done.phase) == ("Skipped", "Succeeded")


def test_items_become_names_maps_as_sorted_pairs() -> None:
    _, done = run(loop(""), listing(["a(b)", 2, True, {"z": "1", "a": 2}]))
    names = [name for name in phases(done) if name.startswith(".each(")]
    assert names == [".each(0:ab)", ".each(1:2)", ".each(2:true)", ".each(3:a:2,z:1)"]


def test_fields_of_an_item_are_texts_and_conditions_are_asked_for_each() -> None:
    programs = listing([{"x": 1, "run": "yes"}, {"x": 2, "run": "no"}])
    each = task(
        "each",
        "one",
        given={"x": "{{item.x}} of {{item}}"},
        depends="list",
        withParam="{{tasks.list.outputs.parameters.items}}",
        when="{{item.run}} == yes",
    )
    _, done = run(workflow("main", dag("main", task("list"), each), pod("list", outputs={"items": {}}), ONE), programs)
    assert programs.ran[1:] == [("one", {"x": '1 of {"run":"yes","x":1}'})]
    assert done.phase == "Succeeded"


def test_a_sequence_counts_and_names_its_members() -> None:
    each = task("each", "one", given={"x": "{{item}}"}, withSequence={"count": "3"})
    programs = Scripts()
    _, done = run(workflow("main", dag("main", each), ONE), programs)
    assert [inputs["x"] for _, inputs in programs.ran] == ["0", "1", "2"]
    assert ".each(2:2)" in phases(done)


def test_aggregates_hold_only_what_succeeded_so_positions_shift() -> None:
    template = pod("one", inputs=("x",), outputs={"y": {}})
    end = task("end", "two", given={"x": "{{tasks.each.outputs.parameters.y}}"}, depends="each || each.Failed")
    manifest = loop("", end, template=template)
    manifest["spec"]["templates"].append(pod("two", inputs=("x",)))
    programs = listing(list("abcd"), one=lambda each: 1 if each.inputs["x"] == "b" else {"y": each.inputs["x"]})
    run(manifest, programs)
    assert programs.ran[-1] == ("two", {"x": '["a","c","d"]'})


def test_where_nothing_succeeded_there_is_no_aggregate_at_all() -> None:
    template = pod("one", inputs=("x",), outputs={"y": {}})
    end = task("end", "two", given={"x": "{{tasks.each.outputs.parameters.y}}"}, depends="each || each.Failed")
    manifest = loop("", end, template=template)
    manifest["spec"]["templates"].append(pod("two", inputs=("x",)))
    _, done = run(manifest, listing(list("ab"), one=1))
    assert phases(done)[".end"] == "Error"
    assert "failed to resolve" in done.nodes[f"{done.name}.end"].message


def test_a_group_of_tasks_has_the_phase_of_the_last_that_is_bad() -> None:
    _, done = run(loop(""), listing(list("abc"), one=lambda each: 1 if each.inputs["x"] == "a" else 0))
    assert (phases(done)[".each"], done.phase) == ("Failed", "Failed")


@pytest.mark.parametrize(("depends", "bad", "runs"), [
    ("each.AnySucceeded", "a", True), ("each.AnySucceeded", "abc", False),
    ("each.AllFailed", "abc", True), ("each.AllFailed", "ab", False),
])  # fmt: skip
def test_any_and_all_of_a_group(depends: str, bad: str, runs: bool) -> None:
    programs = listing(list("abc"), one=lambda each: 1 if each.inputs["x"] in bad else 0)
    _, done = run(loop("", task("end", depends=depends)), programs)
    assert (phases(done)[".end"] == "Succeeded") is runs


def test_an_absent_output_of_a_skipped_task_is_an_error_unless_somebody_has_a_default() -> None:
    def phase(produced: dict[str, Any], default: dict[str, Any], value: str) -> str:
        first = task("a", when="x == y")
        consumer = pod("b")
        consumer["inputs"] = {"parameters": [{"name": "v", **default}]}
        main = dag("main", first, task("b", given={"v": value}, depends="a"))
        return run(workflow("main", main, pod("a", outputs={"o": produced}), consumer))[1].phase

    plain = "{{tasks.a.outputs.parameters.o}}"
    assert phase({}, {}, plain) == "Error"
    assert phase({"default": "d"}, {}, plain) == "Succeeded"
    assert phase({}, {"default": "d"}, plain) == "Succeeded"
    assert phase({}, {}, "{{=tasks.a.outputs.parameters.o ?? 'd'}}") == "Succeeded"


def test_exit_codes_are_texts_and_minus_one_where_there_is_none() -> None:
    def attempts(expression: str, fault: Fault | None = None, answer: int = 0) -> int:
        template = pod("a", retryStrategy=retry(1, expression=expression))
        faults = Scripted({"(0)": fault} if fault else {})
        _, done = run(workflow("a", template), Scripts({"a": answer}, lambda pod: 20.0), faults=faults, costs=Costs())
        return len(done.nodes.attempts(done.nodes[done.name]))

    assert attempts('lastRetry.exitCode == "7"', answer=7) == 2
    assert attempts("int(lastRetry.exitCode) > 6", answer=7) == 2
    assert attempts('lastRetry.exitCode == "-1"', Fault.DELETED) == 2
    assert attempts('lastRetry.status == "Error"', Fault.DELETED) == 2
    assert attempts('lastRetry.status == "Error"', Fault.EVICTED) == 1  # an eviction is a failure
    _, done = run(
        workflow("a", pod("a", retryStrategy=retry(1, expression="lastRetry.exitCode == 7"))), Scripts({"a": 7})
    )
    assert done.phase == "Error"
    assert "mismatched types" in done.message


def test_on_error_misses_evictions() -> None:
    def attempts(policy: str) -> int:
        template = pod("a", retryStrategy={"limit": "1", "retryPolicy": policy})
        settings: dict[str, Any] = {"faults": Scripted({"(0)": Fault.EVICTED}), "costs": Costs()}
        _, done = run(workflow("a", template), Scripts({}, lambda pod: 20.0), **settings)
        return len(done.nodes.attempts(done.nodes[done.name]))

    assert [attempts(policy) for policy in ("OnError", "OnFailure", "Always")] == [1, 2, 2]


def test_a_result_keeps_its_last_256_kilobytes() -> None:
    end = task("end", "one", given={"x": "{{tasks.a.outputs.result}}"}, depends="a")
    programs = Scripts({"a": Result(printed="x" + "y" * 256 * 1024)})
    run(workflow("main", dag("main", task("a"), end), pod("a"), ONE), programs)
    assert programs.ran[-1] == ("one", {"x": "y" * 256 * 1024})


def test_a_parameter_is_a_text_whatever_yaml_made_of_it() -> None:
    programs = Scripts()
    main = dag("main", *(task(f"t{n}", "one", given={"x": value}) for n, value in enumerate([1, True, "0o7", 1.5])))
    run(workflow("main", main, ONE), programs)
    assert [inputs["x"] for _, inputs in programs.ran] == ["1", "true", "0o7", "1.5"]


def test_a_text_that_holds_a_placeholder_is_replaced_at_the_next_hop() -> None:
    programs = Scripts()
    main = dag("main", task("inner", given={"x": "{{tasks.a.outputs.parameters.o}}"}, depends="a"), task("a"))
    inner = steps("inner", [task("one", given={"x": "{{inputs.parameters.x}}"})], inputs=("x",))
    programs.answers = {"a": {"o": "{{workflow.name}}"}}
    _, done = run(workflow("main", main, inner, pod("a", outputs={"o": {}}), ONE), programs)
    assert programs.ran[-1] == ("one", {"x": done.name})


def test_an_output_loses_its_last_newline_and_no_other() -> None:
    programs = Scripts({"a": Result(files={"/kf/o": "x\n\n"})})
    main = dag("main", task("a"), task("one", given={"x": "{{tasks.a.outputs.parameters.o}}"}, depends="a"))
    run(workflow("main", main, pod("a", outputs={"o": {}}), ONE), programs)
    assert programs.ran[-1] == ("one", {"x": "x\n"})


def test_outputs_of_dags_and_steps_by_parameter_and_by_expression_and_globally() -> None:
    a = pod("a", outputs={"o": {}})
    a["outputs"]["parameters"][0]["globalName"] = "everywhere"
    inner = dag("inner", task("a"))
    inner["outputs"] = {
        "parameters": [
            {"name": "p", "valueFrom": {"parameter": "{{tasks.a.outputs.parameters.o}}"}},
            {"name": "e", "valueFrom": {"expression": "int(tasks.a.outputs.parameters.o) + 1"}},
        ]
    }
    outer = steps(
        "main",
        [task("inner")],
        [task("one", given={"x": "{{steps.inner.outputs.parameters.p}} {{steps.inner.outputs.parameters.e}}"})],
    )
    outer["outputs"] = {
        "parameters": [{"name": "q", "valueFrom": {"parameter": "{{steps.inner.outputs.parameters.e}}"}}]
    }
    programs = Scripts({"a": {"o": "41"}})
    _, done = run(workflow("main", outer, inner, a, ONE), programs)
    assert programs.ran[-1] == ("one", {"x": "41 42"})
    assert done.nodes[done.name].outputs == {"q": "42"}
    assert done.outputs == {"everywhere": "41"}


def test_the_parallelism_of_a_template_does_not_count_retry_nodes_but_their_attempts() -> None:
    at_once: list[int] = []

    def one(each: Pod) -> int:
        at_once.append(len(simulator.machine.pods(each.workflow)))
        return 0

    each = task("each", "one", given={"x": "{{item}}"}, withItems=[1, 2, 3, 4, 5])
    manifest = workflow("main", steps("main", [each], parallelism=2), pod("one", inputs=("x",), retryStrategy=retry(1)))
    simulator = Simulator(Scripts({"one": one}, lambda pod: 30.0))
    simulator.submit(manifest)
    simulator.run()
    assert len(at_once) == 5
    assert max(at_once) == 2


def test_the_parallelism_of_a_workflow_counts_every_pod() -> None:
    at_once: list[int] = []

    def one(each: Pod) -> int:
        at_once.append(len(simulator.machine.pods(each.workflow)))
        return 0

    each = [task(f"t{n}", "one", given={"x": "1"}) for n in range(4)]
    simulator = Simulator(Scripts({"one": one}, lambda pod: 30.0))
    simulator.submit(workflow("main", dag("main", *each), ONE, parallelism=1))
    simulator.run()
    assert at_once == [1, 1, 1, 1]


def with_limit(size: int) -> FakeCluster:
    cluster = FakeCluster()
    cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "limits"}, "data": {"gpu": str(size)}}
    )
    return cluster


def test_a_semaphore_is_shared_by_workflows_and_who_waits_holds_no_pod() -> None:
    at_once: list[int] = []

    def one(each: Pod) -> int:
        at_once.append(sum(len(simulator.machine.pods(name)) for name in simulator.workflows))
        return 0

    lock = {"semaphores": [{"configMapKeyRef": {"name": "limits", "key": "gpu"}}]}
    each = task("each", "one", given={"x": "{{item}}"}, withItems=[1, 2, 3, 4])
    template = pod("one", inputs=("x",), retryStrategy=retry(1), synchronization=lock)
    simulator = Simulator(Scripts({"one": one}, lambda pod: 30.0), cluster=with_limit(3))
    names = [simulator.submit(workflow("main", steps("main", [each]), template)) for _ in range(2)]
    simulator.run()
    assert [simulator[name].phase for name in names] == ["Succeeded", "Succeeded"]
    assert len(at_once) == 8
    assert max(at_once) == 3
    assert simulator.locks.held("ConfigMap/limits/gpu") == 0


def test_a_semaphore_that_nobody_has_set_up_is_an_error_of_the_node() -> None:
    lock = {"semaphores": [{"configMapKeyRef": {"name": "limits", "key": "gpu"}}]}
    _, done = run(workflow("main", dag("main", task("a")), pod("a", synchronization=lock)))
    assert (phases(done)[".a"], done.phase) == ("Error", "Error")
    assert "configmaps 'limits' with the key 'gpu' not found" in done.nodes[f"{done.name}.a"].message


def test_a_mutex_goes_to_the_older_workflow_first() -> None:
    order: list[str] = []
    lock = {"mutexes": [{"name": "{{workflow.parameters.run}}"}]}
    inner = dag("inner", task("one", given={"x": "1"}), synchronization=lock)
    main = dag("main", task("inner"))
    simulator = Simulator(Scripts({"one": lambda each: order.append(each.workflow) or 0}, lambda pod: 30.0))
    names: list[str] = []
    for _ in range(3):
        names.append(simulator.submit(workflow("main", main, inner, ONE, given={"run": "r"})))
        simulator.run(until=simulator.now + 1)
    simulator.run()
    assert order == names


def test_a_workflow_from_a_template_takes_its_spec_and_its_own_parameters_win() -> None:
    below = workflow(
        "main", dag("main", task("one", given={"x": "{{workflow.parameters.p}} {{workflow.parameters.q}}"})), ONE
    )
    below["spec"]["arguments"] = arguments(p="below", q="below")
    cluster = FakeCluster()
    cluster.create({"apiVersion": TEMPLATE[0], "kind": TEMPLATE[1], "metadata": {"name": "kf"}, "spec": below["spec"]})
    programs = Scripts()
    own = {"workflowTemplateRef": {"name": "kf"}, "arguments": arguments(p="own")}
    kind = {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1]}
    simulator = Simulator(programs, cluster=cluster)
    simulator.submit({**kind, "metadata": {"generateName": "wf-"}, "spec": own})
    simulator.run()
    assert programs.ran == [("one", {"x": "own below"})]


def test_a_template_of_another_resolves_its_names_where_it_is_from() -> None:
    there = workflow("main", dag("inside", task("one", given={"x": "there"})), pod("one", inputs=("x",)))
    cluster = FakeCluster()
    kind = {"apiVersion": CLUSTER_TEMPLATE[0], "kind": CLUSTER_TEMPLATE[1]}
    cluster.create({**kind, "metadata": {"name": "lib"}, "spec": there["spec"]})
    reference = {"name": "lib", "template": "inside", "clusterScope": True}
    programs = Scripts()
    simulator = Simulator(programs, cluster=cluster)
    simulator.submit(workflow("main", dag("main", {"name": "a", "templateRef": reference})))
    simulator.run()
    assert programs.ran == [("one", {"x": "there"})]


def test_a_completed_workflow_is_deleted_when_its_time_is_over() -> None:
    simulator, done = run(workflow("one", pod("one"), ttlStrategy={"secondsAfterCompletion": 60}))
    assert done.phase == "Succeeded"
    assert simulator.cluster.names(WORKFLOW) == []


def test_deleting_a_workflow_ends_its_pods() -> None:
    programs = three_iterations()
    simulator = Simulator(programs)
    name = simulator.submit(barrier())
    simulator.run(until=simulator.now + 15)
    simulator.cluster.delete(WORKFLOW, name)
    ran = len(programs.ran)
    simulator.run()
    assert len(programs.ran) == ran


def test_a_pod_that_never_was_seen_running_gets_another_under_the_same_name() -> None:
    simulator, done = run(
        workflow("a", pod("a")), faults=Scripted({"": Fault.DELETED}), costs=Costs(requeue=10.0, start=1.0, end=1.0)
    )
    assert done.phase == "Succeeded"
    assert simulator.machine.started["a"] == 2


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    (workflow("a", pod("a", daemon=True)), Unsupported, r"spec.templates\[0\]: .* does not support the key 'daemon'"),
    (workflow("a", pod("a"), hooks={}), Unsupported, "the key 'hooks'"),
    (workflow("a", {"name": "a", "suspend": {}}), Unsupported, "the key 'suspend'"),
    (workflow("m", dag("m", task("a", continueOn={})), pod("a")), Unsupported, "the key 'continueOn'"),
    (workflow("m", steps("m", [task("a", depends="b")]), pod("a")), Unsupported, "the key 'depends'"),
    (workflow("m", dag("m", task("a", depends="b")), pod("a")), Rejected, "dependency 'b' not defined"),
    (workflow("m", dag("m", task("a", depends="b"), task("b", "a", depends="a")), pod("a")), Rejected, "cycle"),
    (workflow("m", dag("m", task("a", "nope")), pod("a")), Rejected, "template name 'nope' undefined"),
    (workflow("m", dag("m", task("a")), pod("a"), pod("a")), Rejected, "names must be unique"),
    (workflow("m", dag("m", task("a", given={"x": "{{tasks.b.outputs.result}}"}), task("b", "a")), ONE | {"name": "a"}),
     Rejected, "failed to resolve {{tasks.b.outputs.result}}"),
    (workflow("m", dag("m", task("a", given={"x": "{{inputs.parameters.nope}}"})), ONE | {"name": "a"}),
     Rejected, "failed to resolve"),
    (workflow("m", dag("m", task("a"), retryStrategy=retry()), pod("a")), Unsupported, "retries of a whole DAG"),
    (workflow("m", dag("m", task("a"), activeDeadlineSeconds="1"), pod("a")), Rejected, "only pod templates may"),
    (workflow("m", steps("m", [task("a", when="{{item}} == a")]), pod("a")), Rejected, "failed to resolve {{item}}"),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "error", "says"), REFUSED)
def test_what_is_unknown_or_wrong_is_refused_before_anything_runs(
    manifest: dict[str, Any], error: type[Exception], says: str
) -> None:
    simulator = Simulator(Scripts())
    with pytest.raises(error, match=says):
        simulator.submit(manifest)
    assert simulator.cluster.names(WORKFLOW) == []


def test_names_and_labels_have_63_characters_at_most() -> None:
    manifest = workflow("a", pod("a"))
    manifest["metadata"] = {"name": "a" * 64}
    with pytest.raises(Rejected, match="must not be more than 63 characters"):
        Simulator(Scripts()).submit(manifest)
    ids = {"ids": json.dumps(["x" * 64])}
    with pytest.raises(Rejected, match="label katib-flow/trial"):
        run(barrier(), Scripts({"suggest": ids}))


def test_a_variable_has_128_kilobytes_at_most() -> None:
    template = pod("a")
    template["container"]["env"] = [{"name": "SPEC", "value": "{{workflow.parameters.spec}}"}]
    run(workflow("a", template, given={"spec": "x" * 131_000}))
    with pytest.raises(Rejected, match="argument list too long: 'SPEC=xx"):
        run(workflow("a", template, given={"spec": "x" * 131_100}))


def test_variables_are_expanded_as_kubernetes_does() -> None:
    template = pod("a")
    template["container"]["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A) $$(A) $(C) $$"}]
    simulator, _ = run(workflow("a", template))
    assert simulator.machine.history[0].env() == {"A": "1", "B": "1 $(A) $(C) $"}


def test_a_pods_token_is_the_executors_alone_where_main_may_have_none() -> None:
    spec = {"serviceAccountName": "kf-trial", "automountServiceAccountToken": False}
    with pytest.raises(Rejected, match="serviceAccountName is needed"):
        run(workflow("a", pod("a"), **spec))
    simulator, _ = run(
        workflow(
            "a", trial() | {"name": "a"}, executor={"serviceAccountName": "kf-executor"}, given={"id": "x"}, **spec
        )
    )
    made = simulator.machine.history[0]
    mounted = {
        c["name"] for c in made.containers() if any(m["name"] == "exec-sa-token" for m in c.get("volumeMounts", []))
    }
    assert mounted == {"init", "wait"}
    assert made.spec["serviceAccountName"] == "kf-trial"


def test_a_patch_is_merged_by_the_names_of_containers() -> None:
    patch = {"containers": [{"name": "wait", "securityContext": {"a": 1}}, {"name": "extra", "image": "x"}]}
    simulator, _ = run(workflow("a", trial() | {"name": "a"}, podSpecPatch=json.dumps(patch), given={"id": "x"}))
    made = simulator.machine.history[0]
    assert made.container("wait") == {
        "name": "wait", "image": "quay.io/argoproj/argoexec", "command": ["argoexec"], "securityContext": {"a": 1},
    }  # fmt: skip
    assert [each["name"] for each in made.spec["containers"]] == ["main", "wait", "collector", "extra"]


def test_a_sidecar_that_is_killed_spoils_nothing() -> None:
    answers = {"a": Result(137, container="collector")}
    _, done = run(workflow("a", trial() | {"name": "a"}, given={"id": "x"}), Scripts(answers))
    assert done.phase == "Succeeded"
    assert done.nodes[f"{done.name}(0)"].phase is Phase.SUCCEEDED
