"""Trials as rows: the decisions of an architecture, or what there is to say of a network that was grown."""

from typing import Any

from kit import experiment

from katib_flow.history import Kind, Origin, State, Suggestion, Trial
from katib_flow.models import Topology
from katib_flow.models.morphisms import modify
from katib_flow.spaces import architectures
from katib_flow.trial.table import rows, telling


def trial(index: int, assignment: Any = None, **fields: Any) -> Trial:
    return Trial(Suggestion(index, assignment or {}, **fields), State.SUCCEEDED, {"accuracy": 0.5})


def test_the_decisions_of_an_architecture_are_columns_beside_the_parameters() -> None:
    made = experiment(architecture={"space": "macro", "settings": {"layers": 2}})
    decided = {"lr": 0.1, "1.op": "conv3", "2.op": "max3", "2.skip0": True}
    first, second = rows(made, [trial(0, decided), trial(1, {**decided, "2.skip0": False})])
    assert list(first)[:3] == ["trial", "state", "accuracy"]
    assert {name: first[name] for name in decided} == decided
    assert second["2.skip0"] is False
    assert "hash" not in first


def test_a_slot_that_is_not_active_is_empty() -> None:
    template = {
        "schema": "topology/1",
        "input": {"shape": [1, 8, 8]},
        "output": {"classes": 10},
        "slots": {"op": {"among": ["conv", "skip"]}, "k": {"among": [3, 5], "when": {"op": ["conv"]}}},
        "graphs": {
            "net": {
                "vertices": {"a": "add", "y": "add"},
                "edges": [
                    {"id": "1", "src": "x", "dst": "a", "op": {"slot": "op"}, "params": {"k": {"slot": "k"}}},
                    {"id": "2", "src": "a", "dst": "y", "op": "head", "params": {"classes": 10}},
                ],
            }
        },
    }
    made = experiment(architecture={"space": template})
    (row,) = rows(made, [trial(0, {"lr": 0.1, "op": "skip"})])
    assert (row["op"], row["k"]) == ("skip", None)


def test_a_network_that_was_grown_is_told_by_its_hash_its_edits_and_its_size() -> None:
    made = experiment(architecture="chain", algorithm="random")
    assert architectures(made) is not None
    parent = architectures(made).initial
    edge = next(each.key for each in parent.flat.live.edges if each.op.startswith("conv"))
    child = modify(parent, [{"edit": "widen", "edge": edge, "to": 16, "seed": 1}, {"edit": "deepen", "edge": edge}])
    trials = [trial(0, topology=parent.to_dict()), trial(1, topology=child.to_dict(), parent=0)]
    first, second = rows(made, trials)
    assert (first["hash"], first["edits"]) == (parent.hash[:8], "")
    assert (second["hash"], second["parent"]) == (child.hash[:8], 0)
    assert second["edits"] == f"widen {edge}, to 16; deepen {edge}"
    assert (first["network_parameters"], second["network_parameters"]) == (parent.parameters, child.parameters)
    assert parent.parameters < child.parameters == Topology.parse(child.to_dict()).parameters


def test_the_trial_that_one_was_made_of_is_its_parent_whether_it_inherits_from_it_or_not() -> None:
    made = experiment()
    bred = trial(1, {"lr": 0.2}, origin=Origin(Kind.MODIFY, (0,)))
    assert [row.get("parent", "") for row in rows(made, [trial(0, {"lr": 0.1}), bred])] == [None, 0]
    assert "parent" not in rows(made, [trial(0, {"lr": 0.1})])[0]


def test_a_network_that_is_not_sound_leaves_its_columns_empty() -> None:
    made = experiment(architecture="chain", algorithm="random")
    broken, none = rows(made, [trial(0, topology={"schema": "topology/1"}), trial(1)])
    assert broken["hash"] is broken["network_parameters"] is none["hash"] is None


def test_a_column_of_a_network_and_a_parameter_of_its_name_are_told_apart() -> None:
    parameters = {"hash": {"type": "int", "min": 1, "max": 3}}
    (row,) = rows(experiment(parameters=parameters, architecture="chain"), [trial(0, {"hash": 2})])
    assert (row["parameter.hash"], row["hash"]) == (2, None)
    (plain,) = rows(experiment(parameters=parameters), [trial(0, {"hash": 2})])
    assert plain["hash"] == 2


def test_a_column_of_noughts_tells_something_and_one_of_no_retries_nothing() -> None:
    made = experiment(parameters={"skip": {"type": "categorical", "values": [False, True]}})
    none = Trial(Suggestion(0, {"skip": False}), State.SUCCEEDED, {"accuracy": 0.0})
    assert telling(rows(made, [none])) == ["trial", "state", "accuracy", "skip"]
    assert telling([]) == []
