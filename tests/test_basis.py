"""What a suggestion was derived from, as it is written and read."""

import json
from itertools import cycle, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.basis import Basis, Indices
from katib_flow.history import History, State, Suggestion, Trial

index_sets = st.sets(st.integers(0, 40))


@given(index_sets)
def test_ranges_hold_the_indices_that_they_were_made_of(indices):
    ranges = Indices.from_sorted(sorted(indices))
    assert [index for index in range(50) if index in ranges] == sorted(indices)
    assert len(ranges) == len(indices)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(ranges.ranges))
    assert Indices.parse(str(ranges)) == ranges


@given(index_sets, index_sets, index_sets, st.integers(0, 9))
def test_a_basis_reads_back_as_it_was(indices, running, killed, earlier):
    trials = [
        Trial(Suggestion(index, {}), State.RUNNING if index in running else State.KILLED if index in killed else over)
        for index, over in zip(sorted(indices), cycle([State.SUCCEEDED, State.FAILED]), strict=False)
    ]
    before = History(tuple(Trial(Suggestion(index, {})) for index in range(earlier)))
    basis = Basis.of_request(History(tuple(trials)), 41, 2, before)
    back = Suggestion.from_dict(json.loads(json.dumps(Suggestion(41, {}, basis=basis).to_dict())))
    assert back.basis == basis
    assert (basis.start, basis.count, basis.earlier) == (41, 2, earlier)
    for trial in trials:
        assert trial.index in basis.trials
        assert basis.state_of(trial.index) == (None if trial.state.over else str(trial.state))


def test_the_order_of_a_history_is_no_part_of_its_basis():
    trials = [Trial(Suggestion(index, {}), State.RUNNING if index % 3 else State.SUCCEEDED) for index in range(8)]
    bases = {Basis.of_request(History(tuple(order)), 8, 2, History()) for order in (trials, trials[::-1])}
    assert [str(basis.trials) for basis in bases] == ["0-7"]
    assert Basis.from_dict(next(iter(bases)).to_dict()) in bases


def test_a_basis_is_small_however_long_the_history_and_takes_no_memory_by_what_it_claims():
    trials = tuple(Trial(Suggestion(index, {}), State.SUCCEEDED) for index in range(10_000))
    assert len(json.dumps(Basis.of_request(History(trials), 10_000, 1, History()).to_dict())) < 60
    assert 10**17 in Indices.parse(f"0-{10**17}")


@pytest.mark.parametrize(
    "data",
    [
        {"start": -1, "count": 1},
        {"start": 0, "count": True},
        {"start": 0, "count": 1, "earlier": "2"},
        {"start": 0, "count": 1, "trials": "3-1"},
        {"start": 0, "count": 1, "trials": "4,2"},
        {"start": 0, "count": 1, "trials": "1,1"},
        {"start": 0, "count": 1, "trials": [0]},
        {"start": 0, "count": 1, "unfinished": {"running": "a"}},
    ],
)
def test_what_is_no_basis_is_refused(data):
    with pytest.raises(ValueError, match="need"):
        Basis.from_dict(data)


def test_a_basis_is_no_part_of_what_is_proposed():
    basis = Basis(0, 1)
    assert Suggestion(0, {"x": 1}, basis=basis) == Suggestion(0, {"x": 1})
    assert "basis" not in repr(Suggestion(0, {"x": 1}, basis=basis))
