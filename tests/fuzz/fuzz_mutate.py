"""Inputs that nobody meant, made of some that somebody did: seeded changes of plain data, of texts and of bytes."""

import contextlib
import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

HUGE = "9" * 400


def nested(depth: int) -> Any:
    data: Any = 1
    for level in range(depth):
        data = [data] if level % 2 else {"a": data}
    return data


def as_json(data: Any) -> str:
    """JSON, of what is nested too deeply for that something as deep."""
    try:
        return json.dumps(data)
    except RecursionError:
        return '{"a":' * 3000 + "1" + "}" * 3000


SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**18, int(HUGE), -int(HUGE)),
    *(0.0, -0.0, 0.5, 1e-9, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), 1e18),
    *(
        "",
        " ",
        "0",
        "1",
        "-1",
        "1e400",
        "nan",
        "Infinity",
        "0x1f",
        "0o17",
        "010",
        HUGE,
        "1_000",
        "\u0663",
        "true",
        "null",
    ),
    *(
        "\0",
        "\n",
        "a\nb",
        "\ud800",
        "\u2028",
        "\u202e",
        "\x1b[2J",
        "\U0001f600",
        "'",
        '"',
        "'\"",
        "`",
        "\\",
        "<b>",
        "|",
        "=",
        "#",
    ),
    *("../../x", "/", ".", "..", "a/../b", "/dev/zero", "file:///etc/passwd", "http://", "sqlite:///x", "x" * 5000),
    *("${", "${}", "${lr}", "$$", "$(HOME)", "{{workflow.name}}", "{{=1}}", "{{{", "@x", "@net", "%s", "{0}", "{x}"),
    *("(", "(a+)+$", "[", "(?P<n>", "1h", "1d1s", "-5m", "1" * 30 + "h", "2001-01-01", "Z" * 300, "t00000", "t00001"),
    *(
        "failed",
        "running",
        "succeeded",
        "loss",
        "accuracy",
        "name",
        "type",
        "float",
        "int",
        "categorical",
        "log",
        "step",
    ),
)
TOKENS: tuple[str, ...] = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        ",",
        "-",
        "- ",
        "\n",
        "\n  ",
        "\t",
        " ",
        '"',
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!!",
        "!!int ",
    ),
    *(
        "|",
        ">",
        "#",
        "%",
        "---\n",
        "...\n",
        "? ",
        "\\",
        "\\u",
        "\\ud800",
        "\0",
        "\r",
        "\x1b[",
        "\x1b]",
        "\x9b",
        "\ufeff",
    ),
    *(
        "=",
        "==",
        " = ",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-999",
        HUGE,
        "0x" + "f" * 500,
        ".",
        "..",
        "e",
        "+",
        "_",
        "\u0663",
    ),
    *(
        "null",
        "true",
        "~",
        "step=",
        "timestamp",
        "${",
        "{{",
        "}}",
        "(",
        ")",
        "*",
        "+",
        "(a+)+",
        "\u2028",
        "\U0001f600",
        "/",
        "@",
    ),
)


def changed(rng: random.Random, data: Any, corpus: Sequence[Any]) -> Any:
    """Plain data with one to four changes; parts may come from elsewhere in the corpus."""
    data = copy.deepcopy(data)
    with contextlib.suppress(RecursionError):  # what is nested in what is nested gets too deep to copy
        gentle = rng.random() < 0.5  # what is still likely to be read is changed in its numbers alone
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            data = _other_number(rng, data) if gentle else _change(rng, data, corpus)
    if rng.random() < 0.02:
        holder, key = _somewhere(rng, data)
        if holder is not None:
            holder[key] = nested(3000)
    return data


def _change(rng: random.Random, data: Any, corpus: Sequence[Any]) -> Any:
    holder, key = _somewhere(rng, data)
    if holder is None:
        return _value(rng, data, corpus)
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[_name(rng, corpus)] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[_name(rng, corpus)] = _value(rng, holder[key], corpus)
        case 3 if isinstance(holder, list):
            holder[key:key] = [copy.deepcopy(holder[key]) for _ in range(rng.choice((1, 2, 50)))]
        case 4:
            other, place = _somewhere(rng, data)
            if other is not None:
                holder[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(holder[key])
        case _:
            holder[key] = _value(rng, holder[key], corpus)
    return data


def _other_number(rng: random.Random, data: Any) -> Any:
    places = [
        (holder, key)
        for holder, key in _places(data)
        if isinstance(holder[key], int | float) and not isinstance(holder[key], bool)
    ]
    if places:
        holder, key = rng.choice(places)
        value = holder[key]
        near = (value + 1, value - 1, value * 2, value / 3, 0, 1, 2, 7, 100, -value, 0.5, 1e-9, 10**6, 2**40)
        holder[key] = rng.choice(near) if abs(value) < 1e300 else 1
    return data


def _places(data: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    rest = [data]
    while rest and len(places) < 5000:
        node = rest.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            rest.append(node[key])
    return places


def _somewhere(rng: random.Random, data: Any) -> tuple[Any, Any]:
    places = _places(data)
    return rng.choice(places) if places else (None, None)


def _name(rng: random.Random, corpus: Sequence[Any]) -> str:
    """A key: one that stands somewhere else, or any text."""
    holder, key = _somewhere(rng, rng.choice(corpus))
    if isinstance(holder, dict) and rng.random() < 0.6:
        return key
    return rng.choice([each for each in SCALARS if isinstance(each, str)])


def _value(rng: random.Random, value: Any, corpus: Sequence[Any]) -> Any:
    kind = rng.randrange(10)
    if kind == 0:
        holder, key = _somewhere(rng, rng.choice(corpus))
        return None if holder is None else copy.deepcopy(holder[key])
    if kind == 1:
        return rng.choice(
            ([], {}, [[]], [value], {"a": value}, [value, value], list("abc"), nested(rng.choice((5, 90, 150))))
        )
    if kind in (2, 3) and isinstance(value, str):
        return changed_text(rng, value, [value])
    if kind in (2, 3, 4) and isinstance(value, int | float) and not isinstance(value, bool):
        return rng.choice(
            (-value, value + 1, value - 1, value * 10, value / 3 if abs(value) < 1e300 else 0, str(value), 1000003)
        )
    return rng.choice(SCALARS)


def changed_text(rng: random.Random, text: str, corpus: Sequence[str]) -> str:
    """A text with one to six changes."""
    for _ in range(rng.choice((1, 1, 2, 2, 3, 6))):
        text = _change_text(rng, text, rng.choice(corpus))
    return text


def _change_text(rng: random.Random, text: str, other: str) -> str:
    begin = rng.randint(0, len(text))
    end = min(len(text), begin + rng.choice((1, 2, 5, 20, 200)))
    part = text[begin:end]
    match rng.randrange(7):
        case 0:
            return text[:begin] + text[end:]
        case 1:
            return text[:begin] + part * rng.choice((2, 3, 100)) + text[end:]
        case 2:
            return text[:begin] + chr(rng.choice((rng.randrange(128), rng.randrange(0xD7FF)))) + text[begin + 1 :]
        case 3:
            start = rng.randint(0, len(other))
            return text[:begin] + other[start : start + rng.choice((5, 50, 500))] + text[end:]
        case 4:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines) if rng.random() < 0.2 else lines.sort() if rng.random() < 0.1 else lines.reverse()
            return "".join(lines)
        case 5:
            return text[:begin] + rng.choice([str(each) for each in SCALARS]) + text[end:]
        case _:
            return text[:begin] + rng.choice(TOKENS) * rng.choice((1, 1, 1, 2, 3000)) + text[begin:]


def changed_bytes(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Bytes with one to six changes."""
    for _ in range(rng.choice((1, 1, 2, 2, 3, 6))):
        begin = rng.randint(0, len(data))
        end = min(len(data), begin + rng.choice((1, 2, 8, 100)))
        other = rng.choice(corpus)
        start = rng.randint(0, len(other))
        data = rng.choice(_BYTE_CHANGES)(rng, data, begin, end, other[start : start + 40])
    return data


_BYTE_CHANGES: tuple[Callable[[random.Random, bytes, int, int, bytes], bytes], ...] = (
    lambda rng, data, begin, end, other: data[:begin] + data[end:],
    lambda rng, data, begin, end, other: data[:begin] + data[begin:end] * rng.choice((2, 3, 50)) + data[end:],
    lambda rng, data, begin, end, other: data[:begin] + rng.randbytes(end - begin) + data[end:],
    lambda rng, data, begin, end, other: data[:begin] + other + data[end:],
    lambda rng, data, begin, end, other: (
        data[:begin] + rng.choice((b"\xff" * 10, b"\0" * 8, b"\x7f\xf0" + b"\0" * 6)) + data[end:]
    ),
)
