"""Two threads that compile at once cannot disturb each other."""

import subprocess
import sys

# pydantic completes a model at its first use, and not under a lock; so every model in use must be complete before
SCRIPT = """
from pydantic import BaseModel
from katib_flow.argo import compiler, install
from katib_flow.spec import Experiment

def experiment(mode):
    return Experiment.parse({
        "name": "two", "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}}, "limits": {"max_trials": 2},
        "trial": {"function": "user_module:train"}, "argo": {"image": "user:1", "mode": mode},
    })

def incomplete(model=BaseModel):
    here = set() if model.__pydantic_complete__ else {model.__name__}
    return here.union(*map(incomplete, model.__subclasses__()))

before = incomplete()
for mode in ("barrier", "lanes"):
    compiler.compile_experiment(experiment(mode)).to_yaml()
install.files()
print(sorted(before - incomplete()))
"""


def test_importing_the_compiler_completes_every_model_that_it_uses() -> None:
    completed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (completed.stdout, completed.returncode) == ("[]\n", 0), completed.stderr
