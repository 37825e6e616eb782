"""Operations say what they do not take: by the parameter, whatever has been made before."""

from typing import Any

import pytest

from katib_flow.errors import SpecError
from katib_flow.models.layers import Activation
from katib_flow.models.operations import layers_of, operation


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("conv", {"k": 4}, "here.params.k: found 4, need a value that conv accepts (k must be odd, not 4"),
        ("conv", {"order": "bn-conv-elu"}, "here.params.order: found 'bn-conv-elu', need a value that conv accepts"),
        ("conv", {"kk": 3}, "here.params.kk: found 3, need a parameter of conv"),
        ("conv3", {"k": 5}, "here.params.k: found 5, need a parameter of conv3: c, s, d, order"),
        ("head", {}, "here.params.classes: found nothing, need a value, for head"),
        ("head", {"classes": 2, "norm": "no"}, "here.params.norm: found 'no', need a value that head accepts"),
        ("mbconv", {"se": 2},
         "here.params.se: found 2, need a value that mbconv accepts (se must be a number from 0 to 1, not 2"),
        ("reduce", {"s": 1}, "here.params.s: found 1, need a parameter of reduce: c"),
        ("fit", {"c": 4, "s": 0}, "here.params.s: found 0, need a value that fit accepts"),
        ("mixed", {"among": ["conv3", "conv33"], "group": "g"}, "here.params.among[1].op: found 'conv33', need an"),
        ("mixed", {"among": [{"o": "conv3"}], "group": "g"}, "here.params: found"),
        ("cnv3", {}, "here.op: found 'cnv3', need an operation: act, "),
    ],
)  # fmt: skip
def test_what_an_operation_does_not_take_is_told_by_its_path(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as told:
        layers_of(name, params, "here")
    assert str(told.value).startswith(message)


@pytest.mark.parametrize("first", [1, True, 1.0])
def test_what_is_taken_does_not_hang_on_what_was_made_before(first: Any) -> None:
    """1, true and 1.0 are equal, and only one of them is a number of channels."""
    for value in (first, 1, True, 1.0):
        if type(value) is int:
            assert layers_of("conv", {"c": value})
            continue
        with pytest.raises(SpecError, match=r"params\.c: found (True|1\.0)"):
            layers_of("conv", {"c": value})


def test_an_error_in_an_operation_of_ones_own_is_told_as_one_of_its_parameters() -> None:
    @operation("test-lookup")
    def lookup(name: str = "relu") -> list[Activation]:
        return [{"relu": Activation("relu")}[name]]

    assert layers_of("test-lookup", {"name": "relu"}) == (Activation("relu"),)
    with pytest.raises(SpecError, match=r"params.name: found .relo., need a value that test-lookup accepts .KeyError"):
        layers_of("test-lookup", {"name": "relo"})
