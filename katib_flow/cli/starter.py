"""A spec to start from, made of the command that the user runs today: its options become parameters or stay unchanged.

The program is read and never run: options are looked up in its argparse or click definitions, and values in the
command take precedence. Pure: text in, text out.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import PurePath
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.spec.katib.substitution import escaped

Value = float | int | str | bool | None
_CONSTANT = re.compile(
    r"(^|[-_.])(seed|random[-_]state|port|rank|workers?|jobs?|threads?|gpus?|device|verbose|epochs?|steps?|iters?|version|"
    r"fold|log|interval|max[-_]len\w*)($|[-_.])"
)
"""Names of options that are seldom searched: budgets, hardware, logging."""
_SHARE = re.compile(r"(^|[-_.])(dropout|momentum|subsample|colsample\w*|ratio|alpha|beta\d?|gamma)($|[-_.])")
_METRICS = (
    "accuracy",
    "acc",
    "val_acc",
    "val_accuracy",
    "auc",
    "f1",
    "r2",
    "score",
    "val_loss",
    "loss",
    "rmse",
    "mse",
    "mae",
)
_RISING = re.compile(r"acc|auc|f1|r2|score|precision|recall|map|bleu")


FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""A pattern for a function as ``module:name``."""


@dataclass(frozen=True)
class Option:
    """An option of a program.

    Attributes:
        name: the name without dashes.
        spelled: the spelling up to the value: ``--lr=`` or ``lr=``; or ``--lr`` if the value is the next word.
        value: the value in the command, or the default; None if unknown.
        choices: the allowed values, if the program restricts them.
        flag: True if the option takes no value.
        given: True if the option is in the command.
    """

    name: str
    spelled: str
    value: Value = None
    choices: tuple[Value, ...] = ()
    flag: bool = False
    given: bool = False

    def word(self, value: str) -> list[str]:
        """The words of a command that set the option to a value."""
        return [f"{self.spelled}{value}"] if self.spelled.endswith("=") else [self.spelled, value]


def script_of(command: Sequence[str]) -> str | None:
    """The Python script that a command runs; None if it names no ``.py`` file."""
    return next((word for word in command if word.endswith(".py")), None)


def options_of(source: str) -> list[Option]:
    """The options that a program defines with argparse or click, in order; empty if the text is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return [option for call in calls if (option := _option(call))]


def _option(call: ast.Call) -> Option | None:
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function not in ("add_argument", "option"):
        return None
    spellings = [_literal(argument) for argument in call.args]
    long = [word for word in spellings if isinstance(word, str) and word.startswith("--")]
    if not long:
        return None
    keywords = {keyword.arg: _literal(keyword.value) for keyword in call.keywords if keyword.arg}
    spelled = long[0].split("/")[0]
    flag = keywords.get("action") in ("store_true", "store_false", "count") or bool(keywords.get("is_flag"))
    choices = next((_choices(keyword.value) for keyword in call.keywords if keyword.arg in ("choices", "type")), ())
    default = keywords.get("default")
    kind = next((getattr(keyword.value, "id", "") for keyword in call.keywords if keyword.arg == "type"), "")
    if kind == "float" and type(default) is int:
        default = float(default)
    plain = default if isinstance(default, bool | int | float | str) else None
    return Option(spelled.lstrip("-"), f"{spelled}=", plain, choices, flag or isinstance(plain, bool))


def _choices(node: ast.expr) -> tuple[Value, ...]:
    """The values in ``choices=[...]`` or ``type=click.Choice([...])``."""
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "Choice" and node.args:
        node = node.args[0]
    values = _literal(node)
    if not isinstance(values, list | tuple):
        return ()
    plain = [
        value
        for value in values
        if isinstance(value, str | bool | int) or (isinstance(value, float) and isfinite(value))
    ]
    return tuple(plain) if len(plain) == len(values) else ()


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def given(words: Sequence[str]) -> list[Option | str]:
    """The words of a command, with ``--lr 0.1``, ``--lr=0.1`` and ``lr=0.1`` as options."""
    read: list[Option | str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if match := re.fullmatch(r"(-{0,2}[A-Za-z_+~][\w.+@/-]*)=(.*)", word, re.DOTALL):
            read.append(Option(match[1].lstrip("-+~"), f"{match[1]}=", _value(match[2]), given=True))
        elif re.fullmatch(r"--[A-Za-z_][\w.-]*", word) and rest and not rest[0].startswith("--"):
            read.append(Option(word.lstrip("-"), word, _value(rest.pop(0)), given=True))
        else:
            read.append(word)
    return read


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def searched(option: Option) -> dict[str, Any] | None:
    """The parameter that an option becomes, as data of a spec; None if it stays unchanged."""
    value = option.value
    if option.flag or isinstance(value, bool) or _CONSTANT.search(option.name.lower()):
        return None
    if len(option.choices) > 1:
        return {"type": "categorical", "values": list(option.choices)}
    if isinstance(value, float) and _SHARE.search(option.name.lower()) and 0 <= value <= 1:
        return {"type": "float", "min": 0.0, "max": 0.9 if value < 0.9 else 0.999}
    if isinstance(value, float) and value > 0:
        return {"type": "float", "min": _rounded(value / 10), "max": _rounded(value * 10), "scale": "log"}
    if isinstance(value, float) and not value:
        return {"type": "float", "min": 0.0, "max": 1.0}
    if isinstance(value, int) and value > 0:
        return {"type": "int", "min": max(1, value // 4), "max": 4 * value, "scale": "log"}
    return None


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def metric_of(source: str) -> str:
    """The first well-known metric that a program seems to print as ``name=value`` or ``name: value``; else "loss"."""
    for metric in _METRICS:
        if re.search(rf"\b{metric}\s*[=:]\s*[{{%]", source):
            return metric
    return "loss"


def starter(command: Sequence[str], source: str = "") -> str:
    """A commented spec for a command.

    Args:
        command: the words of the command as the user runs it today.
        source: the text of the program that it runs.
    """
    words = list(command)
    read = given(words)
    defined = {option.name: option for option in options_of(source)}
    known = {option.name for option in read if isinstance(option, Option)}
    merged = [_with_choices(item, defined) if isinstance(item, Option) else item for item in read]
    added = [option for name, option in defined.items() if name not in known and searched(option)]
    parameters: dict[str, dict[str, Any]] = {}
    argv: list[str] = []
    for item in [*merged, *added]:
        if isinstance(item, str):
            argv.append(escaped(item))
        elif (parameter := searched(item)) is not None:
            name = _identifier(item.name, parameters)
            parameters[name] = parameter
            argv += item.word(f"${{{name}}}")
        else:
            value = str(item.value).lower() if isinstance(item.value, bool) else str(item.value)
            argv += item.word(escaped(value))
    script = script_of(words)
    name = re.sub(r"[^a-z0-9]+", "-", PurePath(script).stem.lower()).strip("-") if script else "experiment"
    return "".join(_lines(name or "experiment", metric_of(source), parameters, argv))


def function_starter(reference: str, source: str) -> str:
    """A commented spec for a Python function, whose arguments become parameters or constants.

    Args:
        reference: the function as ``module:name``.
        source: the text of the module.

    Raises:
        KatibFlowError: the text has no such function.
    """
    module, _, name = reference.partition(":")
    function = _function(name, source)
    if function is None:
        raise KatibFlowError(f"{reference}: found no function {name} at the top level of the module {module}")
    options = list(_arguments(function))
    parameters = {option.name: fields for option in options if (fields := searched(option))}
    constants = {option.name: option.value for option in options if option.name not in parameters}
    metric = _returned(function) or metric_of(source)
    title = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "experiment"
    lines = list(_head(title, metric, parameters, "the function returns it, alone or in a dict", "argument"))
    lines += [
        "\n# How a trial is run: the module is imported from the directory of this file, then from the working one.\n"
    ]
    arguments = ", ".join(f"{_key(name)}: {json.dumps(value)}" for name, value in constants.items())
    extra = f", arguments: {{{arguments}}}" if constants else ""
    return "".join([*lines, f"trial: {{function: {json.dumps(reference)}{extra}}}\n"])


def _function(name: str, source: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Option]:
    """The arguments that can be passed by name; one without a default gets an example value for its annotation."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    for argument, default in pairs[len(given.posonlyargs) :]:
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        value = _literal(default) if default is not None else _EXAMPLES.get(kind, _EXAMPLES["float"])
        if kind == "float" and type(value) is int:
            value = float(value)
        choices = _literal_choices(argument.annotation)
        plain = value if isinstance(value, bool | int | float | str) else None
        yield Option(argument.arg, f"{argument.arg}=", plain, choices, isinstance(plain, bool))


_EXAMPLES: dict[str, Value] = {"float": 0.1, "int": 4, "str": "", "bool": False}
"""Values for arguments without a default, by annotation."""


def _literal_choices(annotation: ast.expr | None) -> tuple[Value, ...]:
    """The values in ``Literal["a", "b"]``."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).rpartition(".")[2] == "Literal":
        values = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return tuple(value for node in values if isinstance(value := _literal(node), bool | int | float | str))
    return ()


def _returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The first key of a dict that a function returns or yields; "" if it has no such dict."""
    for node in ast.walk(function):
        value = node.value if isinstance(node, ast.Return | ast.Yield) else None
        for key in value.keys if isinstance(value, ast.Dict) else ():
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value not in ("step", "epoch"):
                return key.value
    return ""


def _with_choices(option: Option, defined: dict[str, Option]) -> Option:
    known = defined.get(option.name)
    if known is None:
        return option
    value = float(option.value) if isinstance(known.value, float) and type(option.value) is int else option.value
    return replace(option, value=value, choices=known.choices)


def _identifier(name: str, taken: dict[str, dict[str, Any]]) -> str:
    """A valid name for a parameter that is not taken."""
    plain = re.sub(r"[^\w.-]", "_", name) or "x"
    plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
    number = 2
    unique = plain
    while unique in taken:
        unique, number = f"{plain}_{number}", number + 1
    return unique


def _lines(name: str, metric: str, parameters: dict[str, dict[str, Any]], argv: Sequence[str]) -> Iterator[str]:
    yield from _head(name, metric, parameters, _PRINTS, "option of the command")
    yield "\n# How a trial is run: without a shell, with paths relative to this file. ${NAME} is a parameter's value.\n"
    yield "trial:\n"
    words = [*argv, *([] if parameters else ["--x=${x}"])]
    yield f"  command: [{', '.join(json.dumps(word) for word in words)}]\n"


_PRINTS = "the program prints it as a line NAME=VALUE, any number of times; the last one counts"


def _head(name: str, metric: str, parameters: dict[str, dict[str, Any]], reported: str, kind: str) -> Iterator[str]:
    """A spec without its trial.

    Args:
        reported: how a trial reports the metric.
        kind: what parameters are derived from, for a comment if there are no parameters.
    """
    direction = "maximize" if _RISING.search(metric) else "minimize"
    yield "# An experiment of katib-flow. Check it: katib-flow validate FILE\n"
    yield f"name: {_key(name)}\n\n"
    yield f"# The metric to optimize: {reported}.\n"
    yield f"objective: {{metric: {_key(metric)}, direction: {direction}}}   # goal: VALUE ends the search\n\n"
    yield "# The search space. Types: float and int (scale: linear or log), categorical, ordinal.\n"
    yield "parameters:\n"
    if not parameters:
        yield f"  x: {{type: float, min: 0.0, max: 1.0}}   # an example, because no {kind} looks like a parameter\n"
    for parameter, fields in parameters.items():
        inner = ", ".join(f"{key}: {_scalar(key, value)}" for key, value in fields.items())
        yield f"  {_key(parameter)}: {{{inner}}}\n"
    yield "\nalgorithm: auto   # katib-flow algorithms lists the others\n"
    yield "limits: {max_trials: 20, parallel_trials: 2}   # also timeout: 2h, trial_timeout: 10m\n"


def _key(text: str) -> str:
    """A text as YAML, quoted only if necessary."""
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", text, re.ASCII) and text.lower() not in ("true", "false", "null", "nan")
    return text if plain else json.dumps(text)


def _scalar(key: str, value: Any) -> str:
    return value if key in ("type", "scale") else json.dumps(value)


SEARCH_OF_NETWORKS = """\
# A neural architecture search on images that come with scikit-learn. It needs PyTorch: pip install
# 'katib-flow[nas]'. Check it: katib-flow validate FILE
name: digits-network
objective: {metric: loss, direction: minimize}
additional_metrics: [accuracy]

# The search space: a cell of four vertices with an operation on each of its edges. For other spaces, and your own,
# see the page "Neural architecture search" of the documentation.
architecture: {space: cell, settings: {operations: [none, skip, conv3, avg3]}}

# Regularized evolution; `katib-flow algorithms` lists the others, and the NAS systems that they come from.
algorithm: {name: amoebanet, seed: 1, settings: {population: 8, sample: 4}}
limits: {max_trials: 24, parallel_trials: 2, timeout: 20m}

# The built-in trainer trains each network; `function: "module:name"` names your own.
trial: {arguments: {epochs: 5, train_size: 300}}
"""
