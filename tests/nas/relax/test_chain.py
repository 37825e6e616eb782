"""Search by a supernet as trials: segments in a chain, then what they came to, from scratch."""

import pytest
from kit import spec

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Kind, Origin, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.choices import choice_metric, choice_metrics, reported_networks
from katib_flow.models.layers import Mixed, Standardise
from katib_flow.spaces import architectures
from katib_flow.spec import Experiment

both = pytest.mark.parametrize("name", ["darts", "enas"])
SLOTS = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
ENDS = dict(zip(SLOTS, ("conv3", "skip", "avg3", "none", "conv3", "skip"), strict=True))


def search(name: str, architecture: object = "cell", **algorithm: object) -> Experiment:
    lr = {"lr": {"type": "float", "min": 0.01, "max": 0.1}}
    named = {"name": name, "seed": 3, **algorithm}
    return Experiment.parse(spec(parameters=lr, architecture=architecture, algorithm=named))


def segment(suggestion: Suggestion, progress: float | None, came_to=ENDS, state: State = State.SUCCEEDED) -> Trial:
    topology = Topology.parse(suggestion.topology)
    observations = {"accuracy": 0.5} | ({} if progress is None else {"search/progress": progress})
    observations |= {
        choice_metric(slot): float(names.index(came_to[slot])) for slot, names in topology.flat.groups.items()
    }
    return Trial(suggestion, state, observations)


def only(made: Experiment, *trials: Trial) -> Suggestion:
    (suggestion,) = suggest(made, History(trials), 4)
    return suggestion


@both
def test_segments_follow_each_other_until_the_search_is_over_and_then_comes_what_they_chose(name):
    made = search(name)
    first = only(made)
    assert Topology.parse(first.topology).flat.groups.keys() == set(SLOTS)
    assert (first.parent, first.origin) == (None, Origin(Kind.SEGMENT))
    second = only(made, segment(first, 0.5))
    assert (second.parent, second.topology, second.origin) == (0, first.topology, Origin(Kind.SEGMENT, (0,)))
    assert second.assignment == {"lr": first.assignment["lr"], **ENDS}
    other = {**ENDS, "0>3": "avg3"}
    done = [segment(first, 0.5), segment(second, 1.0, other)]
    child = only(made, *done)
    assert architectures(made) is not None
    assert child.topology == architectures(made).topology(other).to_dict()
    assert (child.parent, child.origin) == (None, Origin(Kind.GENERATE, (1,)))
    assert child.assignment == {"lr": first.assignment["lr"], **other}
    for state in (State.SUCCEEDED, State.FAILED, State.RUNNING):
        assert not suggest(made, History((*done, Trial(child, state, {"accuracy": 0.9}))), 4)


@both
def test_choices_of_others_lead_to_another_architecture(name):
    made = search(name)
    first = only(made)
    turned = dict(zip(SLOTS, [*list(ENDS.values())[1:], ENDS["0>1"]], strict=True))
    children = [only(made, segment(first, 1.0, came_to)) for came_to in (ENDS, turned)]
    assert children[0].topology != children[1].topology


@both
def test_while_a_segment_runs_nothing_starts_and_a_failed_one_is_tried_again(name):
    made = search(name)
    first = only(made)
    assert not suggest(made, History((Trial(first, State.RUNNING),)), 4)
    second = only(made, segment(first, 0.5))
    again = only(made, segment(first, 0.5), Trial(second, State.FAILED))
    assert (again.index, again.parent, again.assignment) == (2, 0, second.assignment)


@both
def test_a_trial_that_trains_no_supernet_is_told(name):
    with pytest.raises(KatibFlowError, match="trial t00000: search/progress was not reported; the trial function must"):
        suggest(search(name), History((segment(only(search(name)), None),)), 1)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        *((name, space) for name in ("darts", "enas", "snas", "proxylessnas") for space in ("chain", "mobile")),
        *((name, space) for name in ("darts", "snas", "proxylessnas") for space in ("macro", "pairs")),
    ],
)
def test_a_space_that_is_more_than_a_supernet_holds_is_refused(name, space):
    (found,) = check_algorithm(search(name, space))
    assert found.where == "architecture.space"
    assert "cell or dense" in found.need
    if space == "mobile":
        assert "slots.1.k: found nothing, need a fixed value" in found.need


@both
@pytest.mark.parametrize("space", ["cell", "dense", {"space": "macro", "settings": {"skips": False}}])
def test_spaces_of_operations_on_edges_are_searched(name, space):
    assert Topology.parse(only(search(name, space)).topology).flat.groups


def test_enas_searches_sources_too_and_derives_what_a_segment_has_come_to():
    made = search("enas", {"space": "pairs", "settings": {"nodes": 2}})
    first = only(made)
    last = {slot: names[-1] for slot, names in Topology.parse(first.topology).flat.groups.items()}
    derived = only(made, segment(first, 1.0, last))
    assert derived.assignment["normal.3.in0"] == "2"
    assert derived.assignment["reduce.2.op1"] == "max3"


def test_enas_searches_skips_too_and_derives_the_network_without_those_that_are_out():
    made = search("enas", {"space": "macro", "settings": {"layers": 3, "operations": ["conv3", "max3"]}})
    assert architectures(made) is not None
    first = only(made)
    marks = {"1.op": "max3", "2.op": "conv3", "3.op": "max3", "2.skip0": "out", "3.skip0": "in", "3.skip1": "out"}
    decided = {**marks, "2.skip0": False, "3.skip0": True, "3.skip1": False}
    derived = only(made, segment(first, 1.0, marks))
    assert derived.topology == architectures(made).topology(decided).to_dict()
    assert {name: derived.assignment[name] for name in decided} == decided
    keys = {edge.key for edge in Topology.parse(derived.topology).flat.edges}
    assert "0>3" in keys
    assert not keys & {"0>2", "1>3"}


def rivals(*choices: dict[str, str]) -> dict[str, float]:
    names = ("none", "skip", "conv3", "avg3")
    positions = [{slot: names.index(op) for slot, op in choice.items()} for choice in choices]
    return choice_metrics([{}, *positions])


def test_the_best_few_are_trained_from_scratch_side_by_side_each_once():
    made = search("enas", settings={"retrain": 3})
    first = only(made)
    second, third = {**ENDS, "0>3": "avg3"}, {**ENDS, "0>3": "conv3"}
    over = segment(first, 1.0)
    over = Trial(first, State.SUCCEEDED, {**over.observations, **rivals(second, third, ENDS)})
    children = suggest(made, History((over,)), 4)
    decided = [{slot: child.assignment[slot] for slot in SLOTS} for child in children]
    assert decided == [ENDS, second, third]  # the fourth is not among the best three
    assert {child.origin for child in children} == {Origin(Kind.GENERATE, (0,))}
    running = History((over, Trial(children[0], State.RUNNING)))
    assert [child.assignment for child in suggest(made, running, 1)] == [children[1].assignment]
    states = (State.SUCCEEDED, State.FAILED, State.KILLED)
    tried = [Trial(child, state, {"accuracy": 0.5}) for child, state in zip(children, states, strict=True)]
    assert [child.assignment for child in suggest(made, History((over, *tried)), 4)] == [children[2].assignment]
    tried[2] = Trial(children[2], State.SUCCEEDED, {"accuracy": 0.5})
    assert not suggest(made, History((over, *tried)), 4)


@pytest.mark.parametrize("wrong", [{"rival/2/0>1": 4.0}, {"rival/2/0>1": 0.5}, {"rival/2/0>1": float("nan")}])
def test_a_rival_that_is_no_choice_is_not_taken(wrong):
    made = search("enas")
    first = only(made)
    told = {**segment(first, 1.0).observations, **rivals(ENDS), **wrong}
    assert len(suggest(made, History((Trial(first, State.SUCCEEDED, told),)), 4)) == 1


@pytest.mark.parametrize(("name", "count"), [("darts", 2), ("snas", 2), ("enas", 0), ("proxylessnas", 0)])
def test_a_blend_normalises_every_choice_and_what_takes_one_choice_none_more(name: str, count: int) -> None:
    layers = [layer for edge in Topology.parse(only(search(name)).topology).flat.edges for layer in edge.layers]
    mixed = [layer for layer in layers if isinstance(layer, Mixed)]
    assert mixed
    for layer in mixed:
        last = dict(zip(layer.names, [path[-1] if path else None for path in layer.paths], strict=True))
        assert [isinstance(last[op], Standardise) for op in ("skip", "avg3")].count(True) == count
        assert not isinstance(last["none"], Standardise)
        assert not isinstance(last["conv3"], Standardise)


@pytest.mark.parametrize(("value", "found"), [(None, "nothing"), (4.0, "4.0"), (1.5, "1.5"), (float("nan"), "nan")])
def test_a_segment_that_does_not_say_what_it_came_to_is_told(value, found):
    made = search("enas")
    first = only(made)
    observations = {name: told for name, told in segment(first, 1.0).observations.items() if name != "choice/1>2"}
    over = Trial(first, State.SUCCEEDED, observations | ({} if value is None else {"choice/1>2": value}))
    with pytest.raises(
        KatibFlowError, match=rf"t00000: choice/1>2: found {found}, need the position of one of 4 choices"
    ):
        suggest(made, History((over,)), 1)


def test_what_is_told_of_networks_is_what_is_taken():
    supernet = Topology.parse(only(search("enas")).topology)
    networks = [dict.fromkeys(SLOTS, place) for place in (2, 0, 3)]
    metrics = choice_metrics(networks)
    assert metrics["choice/0>1"] == 2
    assert reported_networks(supernet, metrics) == networks
    del metrics["rival/2/0>3"]
    assert reported_networks(supernet, metrics) == networks[:1]  # the third does not come second
