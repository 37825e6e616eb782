"""HEBO behind a pipe: for each line of JSON in, a line of JSON out, [answer, processor seconds so far].

``flat.Hebo`` starts it with a Python that has HEBO installed.
"""

import json
import random
import sys
import time
import warnings

import numpy as np
import torch
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO

warnings.simplefilter("ignore")
torch.set_num_threads(1)
answers, sys.stdout = sys.stdout, sys.stderr  # HEBO prints to standard output


def described(axis):
    """A ``flat.Axis``, as sent by ``flat.Hebo``, in the terms of HEBO's DesignSpace."""
    if axis["kind"] == "category":
        return {"name": axis["name"], "type": "cat", "categories": list(range(int(axis["high"]) + 1))}
    kind = {"real": ("num", "pow"), "whole": ("int", "pow_int")}[axis["kind"]][axis["log"]]
    base = {"base": 10} if kind in ("pow", "pow_int") else {}
    return {"name": axis["name"], "type": kind, "lb": axis["low"], "ub": axis["high"], **base}


def main():
    """Answer the messages on standard input until it ends."""
    optimizer = out = None
    begun = time.process_time()
    for line in sys.stdin:
        message, answer = json.loads(line), None
        if "space" in message:
            seed = message["seed"]
            random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
            optimizer = HEBO(DesignSpace().parse([described(axis) for axis in message["space"]]), scramble_seed=seed)
        elif "ask" in message:
            out = optimizer.suggest(n_suggestions=message["ask"])
            answer = [
                {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
                for row in out.to_dict("records")
            ]
        else:
            optimizer.observe(out, np.array(message["tell"]).reshape(-1, 1))
        answers.write(json.dumps([answer, time.process_time() - begun]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
