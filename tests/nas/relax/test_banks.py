"""Convolutions that read memory banks: which they are, what each reads and writes, where its cells lie."""

import pytest

from katib_flow.models.presets import space_of
from katib_flow.nas.relax.banks import BankConv, Grid, bank_convs
from katib_flow.spec.sections import Architecture


def supernet(space, **settings):
    return space_of(Architecture(space=space, settings=settings)).supernet()


def test_a_convolution_has_the_bits_of_what_it_reads_and_of_what_follows_it_writes():
    assert bank_convs(supernet("banks", stages=1, layers=3, banks=2, channels=4, operations=["conv3", "max3"])) == (
        BankConv("1.2.fit", 4, ((4, ("1.2.read0", 1)), (4, None)), (None, ("1.2.write1", 1)), ("1.2.op",)),
        BankConv("1.3.fit", 4, ((4, None), (4, ("1.3.read1", 1))), (("1.3.write0", 1), None), ("1.3.op",)),
    )


def test_layers_of_a_network_with_skips_are_such_convolutions_too():
    convs = bank_convs(supernet("macro", layers=3, channels=4, operations=["conv3", "avg3"], reductions=[2]))
    assert [(conv.edge, conv.channels, conv.operations) for conv in convs] == [
        ("2.fit", 4, ("2.op",)),
        ("3.fit", 8, ("3.op",)),
    ]
    assert convs[1].reads == ((8, ("3.skip0", 1)), (8, ("3.skip1", 1)), (8, None))
    assert convs[0].writes == (None,)


@pytest.mark.parametrize("space", ["cell", "dense", "mobile-chain"])
def test_other_spaces_have_none(space):
    assert bank_convs(supernet(space)) == ()


def test_every_convolution_has_rows_of_its_own_and_a_column_for_all_that_it_may_read():
    grid = Grid.from_supernet(supernet("banks", stages=2, layers=3, banks=2, channels=4))
    assert (grid.unit, grid.columns, grid.operations) == (4, 4, 4)
    rows = [range(grid.rows)[rows] for _, rows, _ in grid.slices()]
    assert [number for each in rows for number in each] == list(range(grid.rows))
    for conv, of_rows, columns in grid.slices():
        assert len(range(grid.rows)[of_rows]) * 4 == conv.channels == (4 if conv.edge.startswith("1") else 8)
        assert len(range(grid.columns)[columns]) * 4 == conv.inputs


def test_without_any_slot_taken_the_banks_are_a_chain_and_with_all_they_are_dense():
    space = space_of(Architecture(space="banks", settings={"stages": 1, "layers": 3, "banks": 3, "channels": 4}))
    bits = [slot for slot in space.slots if ".op" not in slot]
    plain = {slot: False if slot in bits else "conv3" for slot in space.slots}
    chain, dense = space.topology(plain), space.topology({**plain, **dict.fromkeys(bits, True)})
    assert dense.parameters - chain.parameters == (1 + 2) * 4 * 4  # columns of the second, and of the third
    read = {edge.src for edge in dense.flat.live.edges if edge.dst == "1.3.in"}
    assert read == {"1.b0.2", "1.b1.2", "1.b2.2"}
