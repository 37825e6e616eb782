"""The search space against brute force."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kit import every_assignment, parameter_sets, scalars, space, typed

CONDITIONAL = {
    "momentum": {"type": "float", "min": 0, "max": 0.9, "step": 0.3, "when": {"optimizer": ["sgd", "rmsprop"]}},
    "optimizer": {"type": "categorical", "values": ["sgd", "adam", "rmsprop"]},
    "nesterov": {"type": "categorical", "values": [True, False], "when": {"optimizer": "sgd", "momentum": [0.3, 0.6]}},
    "layers": {"type": "int", "min": 1, "max": 2},
}


def units(count: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0, 1, exclude_max=True), min_size=count, max_size=count)


@given(parameter_sets(finite=True))
def test_the_size_is_the_number_of_assignments_that_brute_force_finds(parameters):
    assert space(parameters).size == len(every_assignment(parameters))


@given(parameter_sets(finite=True))
def test_enumerate_gives_each_assignment_once(parameters):
    listed = [typed(assignment) for assignment in space(parameters).enumerate()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {typed(assignment) for assignment in every_assignment(parameters)}


@given(parameter_sets(finite=True))
def test_enumerate_changes_the_last_parameter_fastest(parameters):
    made = space(parameters)
    in_order = [typed(assignment) for assignment in every_assignment(parameters, iter(made.parameters))]
    assert [typed(assignment) for assignment in made.enumerate()] == in_order


@given(parameter_sets(), st.data())
def test_every_point_of_the_cube_decodes_to_an_assignment_of_the_space(parameters, data):
    made = space(parameters)
    assert made.decode(data.draw(units(len(made)))) in made


@given(parameter_sets(finite=True), st.data())
def test_decode_gives_what_brute_force_finds_too(parameters, data):
    made = space(parameters)
    known = {typed(assignment) for assignment in every_assignment(parameters)}
    assert typed(made.decode(data.draw(units(len(made))))) in known


@given(parameter_sets(finite=True))
def test_decode_undoes_encode(parameters):
    made = space(parameters)
    for assignment in made.enumerate():
        point = np.nan_to_num(made.encode(assignment), nan=0.5)
        assert typed(made.decode(point)) == typed(assignment)


@given(parameter_sets(), st.data())
def test_encode_has_a_coordinate_for_what_is_active_alone(parameters, data):
    made = space(parameters)
    assignment = made.decode(data.draw(units(len(made))))
    inactive = [math.isnan(unit) for unit in made.encode(assignment)]
    assert inactive == [name not in assignment for name in made.parameters]


@given(parameter_sets(finite=True), st.data())
def test_contains_nothing_but_what_brute_force_finds(parameters, data):
    made = space(parameters)
    values = {name: [*made.parameters[name].values(), "neither", None, 0] for name in parameters}
    chosen = data.draw(st.lists(st.sampled_from(list(parameters)), unique=True))
    assignment = {name: data.draw(st.sampled_from(values[name])) for name in chosen}
    known = {typed(each) for each in every_assignment(parameters)}
    assert (assignment in made) == (typed(assignment) in known)


def test_contains_no_parameter_that_it_does_not_know():
    assert {"layers": 1, "depth": 1} not in space({"layers": {"type": "int", "min": 1, "max": 2}})


@given(parameter_sets(finite=True))
def test_keys_are_equal_for_equal_assignments_alone(parameters):
    made = space(parameters)
    everything = every_assignment(parameters)
    assert len({made.key(assignment) for assignment in everything}) == len(everything)
    assert all(made.key(assignment) == made.key(dict(reversed(assignment.items()))) for assignment in everything)


@given(parameter_sets())
def test_parents_come_first_and_nothing_is_lost(parameters):
    order = list(space(parameters).parameters)
    assert sorted(order) == sorted(parameters)
    for name, fields in parameters.items():
        assert all(order.index(parent) < order.index(name) for parent in fields.get("when", {}))


def test_a_conditional_parameter_comes_right_after_the_last_of_its_parents():
    assert list(space(CONDITIONAL).parameters) == ["optimizer", "momentum", "nesterov", "layers"]


def test_a_conditional_space_is_counted_by_its_branches():
    # adam: 1; rmsprop: 4 momenta; sgd: 4 momenta, two of them with two kinds of nesterov; each with two layers
    assert space(CONDITIONAL).size == (1 + 4 + (2 + 2 * 2)) * 2


@given(parameter_sets())
def test_a_space_is_uncountable_where_an_uncountable_parameter_can_be_active(parameters):
    made = space(parameters)
    reals = {name for name, fields in parameters.items() if fields["type"] == "float" and "step" not in fields}
    assume(reals)
    stepped = {name: {**fields, "step": 1000.0} if name in reals else fields for name, fields in parameters.items()}
    can_be_active = any(reals & assignment.keys() for assignment in every_assignment(stepped))
    assert (made.size is None) == can_be_active


def test_forty_switches_each_with_a_setting_are_counted_at_once():
    switches = {f"on{k}": {"type": "categorical", "values": [True, False]} for k in range(40)}
    settings = {f"level{k}": {"type": "int", "min": 1, "max": 3, "when": {f"on{k}": True}} for k in range(40)}
    made = space({**switches, **settings})
    assert made.size == (3 + 1) ** 40
    assert made.nth(made.size - 1) == dict.fromkeys(switches, False)


def test_a_parent_with_a_billion_values_is_counted_at_once():
    made = space(
        {
            "width": {"type": "int", "min": 1, "max": 10**9},
            "groups": {"type": "int", "min": 1, "max": 5, "when": {"width": [64, 128]}},
        }
    )
    assert made.size == 10**9 - 2 + 2 * 5
    assert [made.nth(position) for position in (62, 63, 67, 68)] == [
        {"width": 63},
        {"width": 64, "groups": 1},
        {"width": 64, "groups": 5},
        {"width": 65},
    ]


def test_a_chain_of_a_thousand_conditions_is_no_deep_recursion():
    first = {"p0": {"type": "categorical", "values": [True, False]}}
    chain = {
        f"p{k}": {"type": "categorical", "values": [True, False], "when": {f"p{k - 1}": True}} for k in range(1, 1000)
    }
    assert space({**first, **chain}).size == 1001


@given(parameter_sets(finite=True))
def test_there_is_no_assignment_past_the_last(parameters):
    made = space(parameters)
    with pytest.raises(IndexError):
        made.nth(made.size)


def test_a_space_without_parameters_has_one_assignment():
    assert (space({}).size, list(space({}).enumerate()), space({}).decode([])) == (1, [{}], {})


@pytest.mark.parametrize("parent", ["b", "c"])
def test_parameters_that_wait_for_each_other_are_refused(parent):
    parameters = {name: {"type": "int", "min": 1, "max": 2, "when": {parent: 1}} for name in "ab"}
    with pytest.raises(ValueError, match="depend on each other"):
        space(parameters)


@given(parameter_sets(), st.integers(0, 2**32))
def test_draw_is_the_same_for_the_same_stream_of_random_numbers(parameters, seed):
    made = space(parameters)
    one, other = (typed(made.draw(np.random.default_rng(seed))) for _ in range(2))
    assert one == other


@given(parameter_sets())
def test_spaces_of_the_same_parameters_are_equal(parameters):
    assert space(parameters) == space(parameters)
    assert hash(space(parameters)) == hash(space(parameters))


def test_spaces_that_differ_in_a_bound_are_not_equal():
    one, other = ({"a": {"type": "int", "min": 1, "max": top}} for top in (2, 3))
    assert space(one) != space(other)


@given(parameter_sets(), st.data())
def test_many_assignments_encode_as_one_by_one_and_what_is_outside_is_told(parameters, data):
    made = space(parameters)
    assignments = [made.decode(point) for point in data.draw(st.lists(units(len(made)), max_size=5))]
    strange = [dict(each) for each in assignments]
    for each in strange:
        name = data.draw(st.sampled_from([*made.parameters, "unknown"]))
        each[name] = data.draw(scalars)
    rows, inside = made.encode_all([*assignments, *strange])
    assert inside.tolist() == [each in made for each in (*assignments, *strange)]
    assert len(rows) == len(assignments) * 2
    for row, each, good in zip(rows, [*assignments, *strange], inside, strict=True):
        if good:
            np.testing.assert_array_equal(row, made.encode(each))
