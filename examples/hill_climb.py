"""An algorithm outside katib-flow: it steps from the best trial so far. It needs nothing but Python.

It reads one JSON request on its standard input, and writes one JSON reply to its standard output:
``katib-flow algorithms --schema`` describes both. It doesn't support conditions (``when``).
"""

import json
import math
import random
import sys

WIDTH = 0.15  # the width of a step, as a share of a parameter's range


def drawn(parameter, rng):
    """A value of a parameter, all equally likely on its scale."""
    if "values" in parameter:
        return rng.choice(parameter["values"])
    return at(parameter, rng.random())


def stepped(parameter, value, rng):
    """A value near another one."""
    if "values" in parameter:
        return value if rng.random() > WIDTH else rng.choice(parameter["values"])
    low, high = on_scale(parameter, parameter["min"]), on_scale(parameter, parameter["max"])
    share = (on_scale(parameter, value) - low) / (high - low) + rng.gauss(0, WIDTH)
    return at(parameter, min(max(share, 0.0), 1.0))


def on_scale(parameter, value):
    return math.log(value) if parameter.get("scale") == "log" else value


def at(parameter, share):
    """The value at a share, from 0 to 1, of a parameter's range."""
    low, high = on_scale(parameter, parameter["min"]), on_scale(parameter, parameter["max"])
    value = low + share * (high - low)
    value = math.exp(value) if parameter.get("scale") == "log" else value
    value = min(max(value, parameter["min"]), parameter["max"])  # rounding may have left the range
    return round(value) if parameter["type"] == "int" else value


request = json.load(sys.stdin)
objective = request["experiment"]["objective"]
sign = 1 if objective["direction"] == "minimize" else -1
results = [
    (sign * trial["observations"][objective["metric"]], trial["index"], trial["assignment"])
    for trial in request["trials"]
    if objective["metric"] in trial["observations"]
]
suggestions = []
for index in request["indices"]:
    rng = random.Random(f"{request['seed']} {index}")  # asked again, it answers the same
    best = min(results)[2] if results else {}
    assignment = {
        name: stepped(parameter, best[name], rng) if name in best else drawn(parameter, rng)
        for name, parameter in request["parameters"].items()
    }
    suggestions.append({"assignment": assignment})
print(json.dumps({"suggestions": suggestions}))
