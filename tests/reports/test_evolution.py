"""How an architecture evolved: who descends from whom, what changed, and what statistics decided."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from kit import experiment

from katib_flow.history import History, Kind, Metric, Origin, State, Suggestion, Trial
from katib_flow.models import Topology
from katib_flow.models.choices import choice_metrics, weight_metrics
from katib_flow.models.edits import in_words
from katib_flow.models.morphisms import modify
from katib_flow.nas.systems.envelopenet import EnvelopeNetSettings, constructed
from katib_flow.reports import choice_charts
from katib_flow.reports.architectures import architecture_sections, search_names
from katib_flow.reports.blocks import Card, Chart, Picture, Row, Section, Table, Text
from katib_flow.reports.evolution import differences, generations, improvements, lineage
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment
from katib_flow.trial.table import rows


def searched(**sections: Any) -> Experiment:
    sections = {"parameters": {}, "architecture": "cell", "algorithm": "random", **sections}
    return experiment(objective={"metric": "loss", "direction": "minimize"}, **sections)


def trial(index: int, loss: float | None, assignment: Any = None, **fields: Any) -> Trial:
    state = State.FAILED if loss is None else State.SUCCEEDED
    observations = {} if loss is None else {"loss": loss}
    return Trial(Suggestion(index, assignment or {}, **fields), state, observations)


def cells(made: Experiment, *losses: float, mutants: bool = False) -> list[Trial]:
    """Trials that each differ from the one before in one decision."""
    space, rng = architectures(made), np.random.default_rng(0)
    assert space is not None
    decisions = space.draw(rng)
    found: list[Trial] = []
    for index, loss in enumerate(losses):
        topology = space.topology(decisions).to_dict()
        origin = Origin(Kind.MODIFY, (index - 1,)) if index and mutants else Origin()
        found.append(trial(index, loss, decisions, topology=topology, origin=origin))
        decisions = space.mutate(decisions, rng)
    return found


def only(made: Experiment, trials: list[Trial], series: Any = None) -> Section:
    history = History(tuple(trials))
    best = made.best(history)
    assert best is not None
    (section,) = architecture_sections(made, history, best, series or {})
    return section


def cards(section: Section) -> tuple[Card, ...]:
    (row,) = (block for block in section.blocks if isinstance(block, Row))
    return tuple(row.cards)


def test_the_line_goes_from_the_oldest_ancestor_to_the_best() -> None:
    made = searched()
    trials = [
        trial(0, 5.0),
        trial(1, 6.0),
        trial(2, 4.0, origin=Origin(Kind.MODIFY, (0,))),
        trial(3, 3.0, parent=2),
        trial(4, 9.0, parent=3),
        trial(5, 7.0, origin=Origin(Kind.MODIFY, (1,))),
    ]
    history = History(tuple(trials))
    best = made.best(history)
    assert best is not None
    assert [each.index for each in lineage(history, best)] == [0, 2, 3]
    assert [each.index for each in lineage(history, trials[1])] == [1]
    assert [each.index for each in improvements(made.objective[0], history)] == [0, 2, 3]


def test_a_search_that_is_one_line_is_told_to_its_end_and_failures_are_left_out() -> None:
    trials = [trial(0, 1.0), trial(1, None, parent=0), trial(2, 3.0, parent=0), trial(3, 2.0, parent=2)]
    history = History(tuple(trials))
    assert [each.index for each in lineage(history, trials[0])] == [0, 2, 3]


def test_ancestors_that_go_round_or_are_missing_end_the_line() -> None:
    trials = [trial(3, 1.0, parent=5), trial(5, 2.0, parent=3), trial(6, 0.5, parent=1)]
    history = History(tuple(trials))
    assert [each.index for each in lineage(history, trials[0])] == [5, 3]
    assert [each.index for each in lineage(history, trials[2])] == [6]


def test_a_mutant_is_told_by_the_decision_that_changed() -> None:
    made = searched()
    trials = cells(made, 3.0, 2.0, 1.0, mutants=True)
    found = generations(made, trials)
    for before, after in pairwise(trials):
        (slot,) = (name for name in before.assignment if before.assignment[name] != after.assignment[name])
        expected = f"{slot}: {before.assignment[slot]} → {after.assignment[slot]}"
        assert found[after.index].changes == (expected,)
    section = only(made, trials)
    said, table = section.blocks[:2]
    assert isinstance(said, Text)
    assert isinstance(table, Table)
    assert said.text == "The best network descends from t00000 in 2 steps."
    assert [row[0] for row in table.rows] == ["t00000", "t00001", "t00002"]
    assert [row[2] for row in table.rows] == [
        f"{Topology.parse(each.suggestion.topology).parameters:,}" for each in trials
    ]
    pictures = [block for card in cards(section) for block in card.blocks if isinstance(block, Picture)]
    assert len(pictures) == 3
    assert 'class="op new"' not in pictures[0].svg
    assert all("amber" in each.svg for each in pictures[1:])


def test_where_nothing_descends_the_best_ones_are_told_in_their_order() -> None:
    made = searched()
    section = only(made, cells(made, 3.0, 4.0, 2.0, 2.5, 1.0))
    table = section.blocks[1]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["t00000", "t00002", "t00004"]
    assert table.marked == frozenset({2})


def test_a_long_line_is_cut_and_says_so() -> None:
    made = searched()
    losses = np.linspace(3, 1, 30)
    losses[5] = 0.5  # the search is one line, and the best in the midst of it
    section = only(made, cells(made, *losses, mutants=True))
    said, table = section.blocks[:2]
    assert isinstance(said, Text)
    assert isinstance(table, Table)
    assert "the best of the 30 is t00005. 12 of 30 are shown" in said.text
    assert [row[0] for row in table.rows] == ["t00000", "t00005", *(f"t{index:05d}" for index in range(20, 30))]
    assert table.marked == frozenset({1})
    whole = only(made, cells(made, *losses[:12], mutants=True)).blocks[1]
    assert isinstance(whole, Table)
    assert len(whole.rows) == 12


def test_choices_are_named_without_parameters_where_that_tells_them_apart() -> None:
    slots = {"a": ("none", "max3"), "b": ("none(s=2)", "max3(s=2)")}
    drawn = choice_charts.weights(slots, {slot: [[(1, 0.5)], [(1, 0.5)]] for slot in slots})["data"]
    assert [each["name"] for each in drawn if each["showlegend"]] == ["none", "max3"]
    assert drawn[0]["line"]["color"] == drawn[2]["line"]["color"] != drawn[1]["line"]["color"]
    kinds = {"a": ("conv(k=3)", "conv(k=5)"), "b": ("skip", "conv(k=3)")}
    drawn = choice_charts.weights(kinds, {slot: [[(1, 0.5)], [(1, 0.5)]] for slot in kinds})["data"]
    assert [each["name"] for each in drawn if each["showlegend"]] == ["conv(k=3)", "conv(k=5)", "skip"]


def test_edits_are_told_in_words() -> None:
    assert in_words({"edit": "widen", "edge": "conv1", "to": 16, "seed": 4}) == "widen conv1, to 16"
    assert in_words({"edit": "skip", "src": "a", "dst": "b"}) == "skip, src a, dst b"
    made = searched(architecture={"space": "chain"})
    space = architectures(made)
    assert space is not None
    parent = space.initial
    edge = next(each.key for each in parent.flat.live.edges if each.op.startswith("conv"))
    child = modify(parent, [{"edit": "widen", "edge": edge, "to": 16, "seed": 1}])
    trials = [
        trial(0, 2.0, topology=parent.to_dict()),
        trial(1, 1.0, topology=child.to_dict(), parent=0),
    ]
    assert generations(made, trials)[1].changes == (f"widen {edge}, to 16",)


def test_networks_that_were_made_anew_are_told_by_their_edges() -> None:
    made = searched(architecture={"space": "chain"})
    space = architectures(made)
    assert space is not None
    data = space.initial.to_dict()
    edges = data["graphs"]["net"]["edges"]
    wider = {**edges[0], "params": {**edges[0]["params"], "k": 5}}
    graph = {**data["graphs"]["net"], "edges": [wider, *edges[1:-1], {**edges[-1], "id": "last"}]}
    other = {**data, "graphs": {"net": graph}}
    first, last = edges[0]["id"], edges[-1]["id"]
    found = list(differences(space.initial, Topology.parse(other)))
    old = edges[0]["params"].get("k", "")
    assert found == [f"removed: {last}", "new: last", f"changed: {first} (k: {old} → 5)"]


def test_the_statistics_of_an_envelope_say_what_was_pruned() -> None:
    architecture = {"space": "envelope", "settings": {"channels": 4, "stages": 1}}
    made = searched(architecture=architecture, algorithm="envelopenet")
    space = architectures(made)
    assert space is not None
    values = {"s0.c0.conv1": 0.4, "s0.c0.conv3": 0.1, "s0.c0.sep3": 0.3, "s0.c0.sep5": 0.2}
    first = trial(0, 2.0, topology=space.initial.to_dict())
    observed = {"loss": 2.0, "variance/stem": 9.0, **{f"variance/{key}": value for key, value in values.items()}}
    first = replace(first, observations=observed)
    child = constructed(first, EnvelopeNetSettings())
    section = only(made, [first, trial(1, 1.0, topology=child.to_dict(), parent=0)])
    (chart,) = (block for card in cards(section) for block in card.blocks if isinstance(block, Chart))
    kept, pruned = chart.figure["data"]
    assert (kept["name"], pruned["name"]) == ("kept", "pruned")
    assert pruned["y"] == ["s0.c0.conv3"]  # a third of four is one, the least: by hand
    assert kept["y"] == ["s0.c0.sep5", "s0.c0.sep3", "s0.c0.conv1"]
    assert "removed: s0.c0.conv3" in [block.text for block in cards(section)[1].blocks if isinstance(block, Text)]


def supernet_trials(made: Experiment, taken: list[tuple[int, ...]]) -> tuple[list[Trial], dict[str, list[Metric]]]:
    """Segments that come to some choices, then what was derived of the last."""
    space = architectures(made)
    assert space is not None
    supernet = space.supernet()
    names = supernet.flat.groups
    trials: list[Trial] = []
    series: dict[str, list[Metric]] = {}
    for index, positions in enumerate(taken):
        choices = choice_metrics([dict(zip(names, positions, strict=True))])
        parent, origin = index - 1 if index else None, Origin(Kind.SEGMENT, (index - 1,) if index else ())
        decided = space.decode([0] * len(names))
        suggestion = Suggestion(index, decided, parent=parent, topology=supernet.to_dict(), origin=origin)
        trials.append(Trial(suggestion, State.SUCCEEDED, {"loss": 2.0, **choices}))
        series[trials[-1].id] = [Metric(name, value, index + 1) for name, value in choices.items()]
        weights = weight_metrics(supernet)
        series[trials[-1].id] += [
            Metric(name, 0.25 + 0.1 * index, index + 1) for metrics in weights.values() for name in metrics
        ]
    decisions = space.decode(taken[-1])
    derived = {"topology": space.topology(decisions).to_dict(), "origin": Origin(parents=(len(taken) - 1,))}
    return [*trials, trial(len(taken), 1.0, decisions, **derived)], series


def test_the_choices_of_a_supernet_are_told_over_its_segments() -> None:
    made = searched(architecture={"space": "cell", "settings": {"nodes": 3}}, algorithm="darts")
    taken = [(0, 1, 2), (2, 1, 2), (2, 3, 2)]
    trials, series = supernet_trials(made, taken)
    assert len(search_names(trials)) == 3 + 3 * 4
    section = only(made, trials, series)
    table = section.blocks[1]
    assert isinstance(table, Table)
    assert [row[-1] for row in table.rows] == ["the first", "0>1: none → conv3", "0>2: skip → avg3", "as before"]
    choices, shares = (block for block in section.blocks if isinstance(block, Chart))
    (map_,) = choices.figure["data"]
    assert map_["x"] == [1, 2, 3]
    assert list(zip(*map_["z"], strict=True)) == taken
    assert map_["text"][0] == ["none", "conv3", "conv3"]
    assert [each["y"] for each in shares.figure["data"]] == [[0.25, 0.35, 0.45]] * 12
    assert [card.title.split(",")[0].split(":")[0] for card in cards(section)] == ["t00000", "t00001", "t00002"]


def test_a_segments_accuracy_stands_beside_the_decisions_that_gave_it_and_competes_with_no_training() -> None:
    made = searched(architecture={"space": "cell", "settings": {"nodes": 3}}, algorithm="darts")
    trials, _ = supernet_trials(made, [(0, 1, 2), (2, 3, 2)])
    better = [replace(trial, observations={**trial.observations, "loss": 0.5}) for trial in trials[:-1]]
    history = History([*better, trials[-1]])
    table = rows(made, history)
    assert [[row[slot] for slot in ("0>1", "0>2", "1>2")] for row in table] == [
        ["none", "skip", "conv3"],
        ["conv3", "avg3", "conv3"],
        ["conv3", "avg3", "conv3"],
    ]
    assert [row["loss"] for row in table] == [0.5, 0.5, 1.0]
    assert made.best(history) == trials[-1]
    assert improvements(made.objective[0], history) == [trials[-1]]
    silent = History([replace(better[0], observations={"loss": 0.5})])
    assert [row["0>1"] for row in rows(made, silent)] == [None]


def test_a_network_that_is_not_sound_is_left_out_and_nothing_breaks() -> None:
    made = searched()
    broken = trial(1, 1.0, topology={"schema": "topology/1"}, parent=0)
    (found,) = generations(made, [broken])
    assert found.network is None
    section = only(made, [*cells(made, 2.0), broken])
    assert any("could not be read" in block.text for block in cards(section)[1].blocks if isinstance(block, Text))
