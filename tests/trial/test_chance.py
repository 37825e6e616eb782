"""The global random numbers of forked trials, compared with those of processes that import the same module anew."""

import json
import subprocess
import sys

import pytest

MODULES = {
    "random": "import random\n{seed}\ndef f(): print(random.random())",
    # NumPy loads its part for random numbers when it is first used
    "numpy": "import numpy as np\nfrom numpy import random\n{seed}\ndef f(): print(np.random.rand())",
    "torch": "import torch\n{seed}\ndef f(): print(float(torch.rand(1)))",
}
SEEDS = {"random": "random.seed(1)", "numpy": "np.random.seed(1)", "torch": "torch.manual_seed(1)"}
TRIALS = """
import json, os, sys
from katib_flow.trial.functions import fork_function, load_code

function, drawn = load_code("m:f", sys.argv[1]), []
for _ in range(3):
    pid, output = fork_function(function, {}, "score", os.environ, os.devnull, lambda: None)
    with os.fdopen(output) as lines:
        drawn.append(lines.readline().strip())
    os.waitpid(pid, 0)
print(json.dumps(drawn))
"""


def printed(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("library", MODULES)
def test_trials_draw_different_numbers_where_no_module_seeds(library: str) -> None:
    pytest.importorskip(library)
    drawn = json.loads(printed(TRIALS, MODULES[library].format(seed="")))
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("count", [0, 1, 623, 624, 625, 5000])
@pytest.mark.parametrize(
    ("library", "draw"), [("random", "random.getrandbits(32)"), ("numpy", "np.random.randint(2**32, dtype='u4')")]
)
def test_numbers_that_a_module_draws_are_no_seed(library: str, draw: str, count: int) -> None:
    draws = f"for _ in range({count}): {draw}"
    drawn = json.loads(printed(TRIALS, MODULES[library].format(seed=draws)))
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("library", MODULES)
def test_a_seed_of_the_module_counts_in_every_trial_as_in_a_new_process(library: str) -> None:
    pytest.importorskip(library)
    module = MODULES[library].format(seed=SEEDS[library])
    anew = printed(f"{module}\nf()")
    assert json.loads(printed(TRIALS, module)) == [anew] * 3


def test_another_generator_in_the_place_of_numpys_is_left_alone() -> None:
    seed = "np.random.set_bit_generator(np.random.PCG64(1))"
    module = MODULES["numpy"].format(seed=seed)
    anew = printed(f"{module}\nf()")
    assert json.loads(printed(TRIALS, module)) == [anew] * 3
