"""A parameter against closed forms: SciPy's quantiles, decimals, logarithms of cells."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import choices, countable, grids, ints, parameter, reals, values_of
from scipy import special, stats

UNITS = (0.0, 1e-12, 1e-3, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1 - 1e-12, 1.0)
CUT = stats.truncnorm(-3, 3)  # the bounds are three standard deviations away


def _lognormal(low: float, high: float, unit: float) -> float:
    a, b = math.log(low), math.log(high)
    return math.exp((a + b) / 2 + (b - a) / 6 * CUT.ppf(unit))


def _logit(low: float, high: float, unit: float) -> float:
    a, b = special.logit(low), special.logit(high)
    return special.expit(a + unit * (b - a))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("scale", "low", "high", "quantile"),
    [
        ("linear", -3.0, 5.0, stats.uniform(-3, 8).ppf),
        ("log", 1e-4, 10.0, stats.loguniform(1e-4, 10).ppf),
        ("logit", 0.01, 0.9, lambda unit: _logit(0.01, 0.9, unit)),
        ("normal", -2.0, 6.0, lambda unit: 2 + 8 / 6 * CUT.ppf(unit)),
        ("lognormal", 0.5, 80.0, lambda unit: _lognormal(0.5, 80.0, unit)),
    ],
)
def test_at_is_the_quantile_function_of_the_scale(scale, low, high, quantile, unit):
    value = parameter(type="float", min=low, max=high, scale=scale).at(unit)
    assert value == pytest.approx(float(quantile(unit)), rel=1e-9)


@given(reals(), st.floats(0, 1))
def test_unit_undoes_at_for_a_real_number(fields, unit):
    made = parameter(**fields)
    assert made.unit(made.at(unit)) == pytest.approx(unit, abs=1e-9)


@given(reals(), st.floats(0, 1), st.floats(0, 1))
def test_at_never_falls_where_the_unit_rises(fields, one, other):
    made = parameter(**fields)
    assert made.at(min(one, other)) <= made.at(max(one, other))


@given(reals())
def test_the_unit_interval_ends_at_the_bounds(fields):
    made = parameter(**fields)
    assert (made.at(0.0), made.at(1.0)) == (pytest.approx(fields["min"]), pytest.approx(fields["max"]))


@given(reals(), st.floats(0, 1))
def test_at_lies_between_the_bounds_exactly(fields, unit):
    made = parameter(**fields)
    assert made.contains(made.at(unit))


@given(countable(most=50))
def test_at_undoes_unit_for_each_value_of_a_countable_parameter(fields):
    made = parameter(**fields)
    assert [made.at(made.unit(value)) for value in values_of(fields)] == values_of(fields)


@given(countable(most=50))
def test_the_units_of_the_values_rise_within_the_unit_interval(fields):
    units = [parameter(**fields).unit(value) for value in values_of(fields)]
    assert units == sorted(set(units))
    assert 0 < units[0] <= units[-1] < 1


@given(countable(most=50))
def test_the_unit_interval_begins_with_the_first_value_and_ends_with_the_last(fields):
    made = parameter(**fields)
    assert [made.at(0.0), made.at(1.0)] == [values_of(fields)[0], values_of(fields)[-1]]


@given(countable(most=50), st.floats(0, 1))
def test_at_gives_one_of_the_values(fields, unit):
    made = parameter(**fields)
    assert made.contains(made.at(unit))


@given(countable(most=50))
def test_the_values_stand_at_their_positions(fields):
    made = parameter(**fields)
    assert [(type(value), value) for value in made.values()] == [(type(value), value) for value in values_of(fields)]
    assert [made.position(value) for value in values_of(fields)] == list(range(made.size))
    assert made.size == len(values_of(fields))


@pytest.mark.parametrize("steps", range(1, 9))
def test_a_whole_number_on_a_log_scale_has_the_share_of_its_cell_in_logarithms(steps):
    made = parameter(type="int", min=1, max=9, scale="log")
    edge = math.log((steps + 0.5) / 0.5) / math.log(9.5 / 0.5)  # the cells meet half-way, from 0.5 to 9.5
    assert [made.at(edge - 1e-9), made.at(edge + 1e-9)] == [steps, steps + 1]


@pytest.mark.parametrize("value", [3, 5, 7, 9])
def test_whole_numbers_on_a_linear_scale_share_the_interval_evenly(value):
    made = parameter(type="int", min=3, max=10, step=2)
    assert made.unit(value) == pytest.approx(((value - 3) / 2 + 0.5) / 4)


@pytest.mark.parametrize("value", [0.2, 0.4, 0.6, 0.8])
def test_a_grid_on_a_logit_scale_has_cells_that_meet_half_way(value):
    made = parameter(type="float", min=0.2, max=0.8, step=0.2, scale="logit")
    edges = [float(special.logit(x)) for x in (0.1, value - 0.1, value + 0.1, 0.9)]
    expected = ((edges[1] - edges[0]) + (edges[2] - edges[0])) / 2 / (edges[3] - edges[0])
    assert made.unit(value) == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["log", "lognormal"])
def test_the_first_cell_of_a_grid_ends_half_way_to_zero_where_a_logarithm_ends(scale):
    made = parameter(type="float", min=0.1, max=0.9, step=0.4, scale=scale)
    prior = stats.norm(math.log(0.09) / 2, math.log(9) / 6) if scale == "lognormal" else None
    edges = [float(prior.cdf(math.log(x))) if prior else math.log(x) for x in (0.05, 0.3, 1.1)]
    assert made.unit(0.1) == pytest.approx((edges[1] - edges[0]) / (edges[2] - edges[0]) / 2)


def test_a_normal_prior_makes_whole_numbers_in_the_middle_likelier():
    made = parameter(type="int", min=0, max=4, scale="normal")
    prior = stats.norm(2, 4 / 6)
    mass = prior.cdf(4.5) - prior.cdf(-0.5)
    assert made.unit(2) == pytest.approx(0.5)
    assert made.unit(1) == pytest.approx(((prior.cdf(0.5) + prior.cdf(1.5)) / 2 - prior.cdf(-0.5)) / mass)


@given(st.integers(-50, 50), st.integers(1, 99), st.integers(0, 3), st.integers(1, 40))
def test_steps_are_added_in_decimal(low, step, places, count):
    unit = Decimal(1).scaleb(-places)
    made = parameter(
        type="float", min=float(low * unit), max=float((low + step * count) * unit), step=float(step * unit)
    )
    assert list(made.values()) == [float((low + step * k) * unit) for k in range(count + 1)]


def test_three_tenths_is_on_the_grid_of_tenths():
    assert list(parameter(type="float", min=0.1, max=0.4, step=0.1).values()) == [0.1, 0.2, 0.3, 0.4]


def test_a_step_that_does_not_reach_the_maximum_stops_before_it():
    assert list(parameter(type="float", min=0, max=1, step=0.3).values()) == [0.0, 0.3, 0.6, 0.9]
    assert list(parameter(type="int", min=1, max=10, step=4).values()) == [1, 5, 9]


@pytest.mark.parametrize("scale", ["linear", "log", "logit", "normal", "lognormal"])
def test_a_step_beyond_the_range_leaves_one_value(scale):
    made = parameter(type="float", min=0.25, max=0.5, step=100, scale=scale)
    assert (made.size, made.at(0.0), made.at(0.7), made.at(1.0), made.unit(0.25)) == (1, 0.25, 0.25, 0.25, 0.5)


@pytest.mark.parametrize("scale", ["linear", "log", "logit", "normal", "lognormal"])
def test_equal_bounds_are_one_value(scale):
    made = parameter(type="float", min=0.5, max=0.5, scale=scale)
    assert (made.size, made.at(0.0), made.at(1.0), made.unit(0.5), list(made.values())) == (1, 0.5, 0.5, 0.5, [0.5])


def test_a_billion_whole_numbers_are_no_list():
    made = parameter(type="int", min=1, max=10**9)
    assert (made.size, made.at(0.0), made.at(1.0)) == (10**9, 1, 10**9)
    assert made.at(0.25) == pytest.approx(0.25e9, abs=1)
    assert made.at(made.unit(123_456_789)) == 123_456_789


def test_a_billion_steps_are_no_list():
    made = parameter(type="float", min=0, max=1000, step=1e-6)
    assert (made.size, made.at(1.0), made.nth(123_456_789)) == (10**9 + 1, 1000.0, 123.456789)
    assert made.contains(0.000001)
    assert not made.contains(0.0000015)


@pytest.mark.parametrize(
    ("low", "high"), [(-1e300, 1e300), (1e-300, 1e300), (1.0, math.nextafter(1.0, 2)), (0.0, 5e-324)]
)
@pytest.mark.parametrize("scale", ["linear", "log", "normal", "lognormal"])
def test_extreme_bounds_keep_to_themselves(scale, low, high):
    if low <= 0 and scale.startswith("log"):
        low = 5e-324
    made = parameter(type="float", min=low, max=high, scale=scale)
    assert all(made.contains(made.at(unit)) and 0 <= made.unit(made.at(unit)) <= 1 for unit in UNITS)


@pytest.mark.parametrize("value", [True, 1, "1.0", None, 0.9, 2.1, math.nan, math.inf])
def test_a_float_contains_floats_between_its_bounds_alone(value):
    assert not parameter(type="float", min=1, max=2).contains(value)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 2, 5])
def test_a_whole_number_contains_whole_numbers_on_its_grid_alone(value):
    assert not parameter(type="int", min=1, max=4, step=2).contains(value)


@pytest.mark.parametrize("value", [0.25, math.nextafter(0.2, 1), 0.6, -0.1, 0, False])
def test_a_float_with_a_step_contains_its_grid_alone(value):
    assert not parameter(type="float", min=0, max=0.5, step=0.1).contains(value)


def test_a_choice_tells_its_values_apart_by_type():
    made = parameter(type="categorical", values=[1, 1.0, True, "1", None])
    assert [made.position(value) for value in (1, 1.0, True, "1", None)] == [0, 1, 2, 3, 4]
    assert not made.contains(0)


@given(choices())
def test_the_values_of_a_choice_share_the_interval_evenly(fields):
    made = parameter(**fields)
    count = len(fields["values"])
    assert [made.unit(value) for value in fields["values"]] == [(k + 0.5) / count for k in range(count)]


@given(st.one_of(ints(), grids(), reals()))
def test_a_number_that_has_been_used_still_equals_its_twin(fields):
    used, twin = parameter(**fields), parameter(**fields)
    used.at(0.3)
    assert used == twin
