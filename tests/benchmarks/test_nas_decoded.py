"""The control of the networks that NAO decodes, against a brute-force count over the table."""

import pytest

from benchmarks.nas_decoded import compared
from benchmarks.nas_table import Table, codes


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load()


@pytest.mark.parametrize("child", [(2, 2, 2, 2, 2, 0), (2, 2, 2, 2, 1, 1), (0, 1, 2, 3, 2, 1)])
def test_chance_is_the_share_of_better_networks_among_the_untried_at_that_distance(
    table: Table, child: tuple[int, ...]
) -> None:
    seed = (2, 2, 2, 2, 2, 1)
    far = sum(one != other for one, other in zip(seed, child, strict=True))
    tried = {table.class_of(seed), table.class_of((3, 3, 3, 3, 3, 3)), table.class_of((2, 2, 2, 2, 2, 2))}
    bound, better, count = table.mean_valid_loss[table.class_of(seed)], 0, 0
    for code in codes():
        if sum(one != other for one, other in zip(seed, code, strict=True)) == far:
            network = table.class_of(code)
            if network not in tried:
                count += 1
                better += table.mean_valid_loss[network] < bound
    is_better, chance = compared(table, seed, child, tried)
    assert chance == pytest.approx(better / count)
    assert is_better == (table.mean_valid_loss[table.class_of(child)] < bound)
