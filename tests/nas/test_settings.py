"""Two sets of values, and those that are given before either."""

from typing import ClassVar

from katib_flow.nas.settings import SystemSettings


class Example(SystemSettings):
    paper: ClassVar = {"population": 100}
    population: int = 20
    sample: int = 5


def test_the_papers_values_stand_in_the_place_of_the_defaults():
    assert Example().population == 20
    assert Example.model_validate({"preset": "small"}).population == 20
    of_paper = Example.model_validate({"preset": "paper"})
    assert (of_paper.population, of_paper.sample) == (100, 5)


def test_what_is_given_goes_before_the_papers_value():
    assert Example.model_validate({"preset": "paper", "population": 7}).population == 7


def test_what_a_preset_gives_is_checked_as_if_it_were_given():
    made = Example.model_validate({"preset": "paper"})
    assert Example.model_validate(made.model_dump()) == made
