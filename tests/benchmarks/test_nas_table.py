"""The table of NB-digits: it covers its space, agrees with training, and its curve of random search is exact."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nas_table
from benchmarks.nas_table import Table, best_of, codes, space
from katib_flow.loop import load
from katib_flow.spaces import architectures


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load()


def test_every_code_has_its_network_and_every_network_a_code(table):
    assert len(table.hashes) == 941
    assert {table.class_of(code) for code in codes()} == set(range(941))
    rng = np.random.default_rng(0)
    for _ in range(60):
        decisions = space().draw(rng)
        topology, number = space().topology(decisions), table.position(decisions)
        assert table.by_hash[topology.hash] == number
        assert table.parameters[number] == topology.parameters
        assert table.flops[number] == topology.flops


def test_the_network_of_none_is_as_good_as_chance(table):
    zero = table.class_of((0,) * 6)
    assert table.valid_loss[zero] == pytest.approx(math.log(10), abs=1e-5)
    assert table.parameters[zero] == 0


def test_validation_and_test_agree_and_size_is_not_all(table):
    one, other = np.argsort(np.argsort(table.mean_valid_loss)), np.argsort(np.argsort(table.mean_test_loss))
    assert np.corrcoef(one, other)[0, 1] > 0.9
    assert table.parameters[table.mean_valid_loss.argmin()] < table.parameters.max()


def test_regrets_are_distances_from_the_best(table):
    best = int(table.mean_valid_loss.argmin())
    assert table.regret(best) == 0
    assert min(table.test_regret(number) for number in range(941)) == 0
    decisions = space().decode((1, 2, 3, 2, 1, 0))
    assert table.query(decisions) == table.valid_loss[table.position(decisions), 0]


@pytest.mark.parametrize(("count", "drawn"), [(6, 1), (6, 3), (6, 6), (9, 4)])
def test_the_probability_of_each_rank_to_be_the_best_drawn_is_that_of_a_full_count(count, drawn):
    draws = list(itertools.combinations(range(count), drawn))
    counted = [sum(min(draw) == rank for draw in draws) / len(draws) for rank in range(count)]
    assert best_of(count, drawn) == pytest.approx(counted)


@pytest.mark.parametrize("queries", [1, 50, 100])
def test_the_exact_curves_of_random_search_agree_with_a_simulation(table, queries):
    rng = np.random.default_rng(1)
    best, choice = [], []
    for _ in range(2000):
        drawn = rng.choice(941, queries, replace=False)
        best.append(min(table.regret(int(number)) for number in drawn))
        choice.append(table.regret(int(drawn[table.valid_loss[drawn, 0].argmin()])))
    for regrets, exact in ((best, table.random_search(queries)), (choice, table.random_choice(queries))):
        assert abs(np.mean(regrets) - exact) < 4 * np.std(regrets) / math.sqrt(2000)  # by chance once in 16,000


@pytest.mark.slow
@pytest.mark.parametrize("code", [(1, 2, 3, 2, 2, 1), (0, 3, 2, 0, 1, 2)])
def test_a_network_trained_again_comes_out_as_in_the_table(table, code):
    pytest.importorskip("torch")
    from benchmarks.nas_digits import trained

    row = trained((code, 0))
    kept = table.epochs[table.class_of(code), 0]
    assert row["epochs"][-1][1] == pytest.approx(kept[-1, 1], rel=0.2)  # equal to the bit on the same kind of CPU
    assert row["epochs"][-1][2] == pytest.approx(kept[-1, 2], abs=0.03)


def test_a_trial_that_looks_its_network_up_reports_what_a_training_did(table, monkeypatch):
    decisions = space().draw(np.random.default_rng(3))
    monkeypatch.setattr(nas_table, "topology", lambda: space().topology(decisions))
    number = table.position(decisions)
    assert nas_table.look_up(1) == {"loss": table.query(decisions, 1), "regret": table.regret(number)}


def test_the_experiment_on_the_table_searches_its_space_and_calls_look_up():
    experiment = load(Path(nas_table.__file__).parent / "nas-table.yaml")
    assert architectures(experiment).parameters == space().parameters
    assert experiment.trial.function == "nas_table:look_up"
    assert callable(nas_table.look_up)
