"""Halton's sequence, a parameter a prime: the same points as halton.js and halton.sh, which cannot see one another."""

import json
import sys

PRIMES = (2, 3, 5, 7, 11, 13)


def radical_inverse(number: int, base: int) -> float:
    """The digits of a number in a base, mirrored at the point."""
    value, weight = 0.0, 1.0
    while number > 0:
        weight /= base
        value += weight * (number % base)
        number //= base
    return value


def at(parameter: dict, unit: float) -> object:
    if parameter["type"] == "float":
        return parameter["min"] + unit * (parameter["max"] - parameter["min"])
    if parameter["type"] == "int":
        return parameter["min"] + int(unit * (parameter["max"] - parameter["min"] + 1))
    return parameter["values"][int(unit * len(parameter["values"]))]


asked = json.load(sys.stdin)
count = (asked["state"] or {"asked": 0})["asked"] + 1
suggestions = [
    {
        "assignment": {
            name: at(parameter, radical_inverse(index + 1, base))
            for (name, parameter), base in zip(asked["parameters"].items(), PRIMES, strict=False)
        }
    }
    for index in asked["indices"]
]
print(json.dumps({"suggestions": suggestions, "state": {"asked": count}}))
