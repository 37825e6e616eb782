"""An objective of Katib's kind -> the command of a container: its text travels, and the image needs only Python."""

import builtins
import inspect
import json
import symtable
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.katib.substitution import escaped
from katib_flow.spec.template import as_text
from katib_flow.trial import alone

_KNOWN = {*dir(builtins), "__name__", "__file__", "__doc__"}
_LATER = "from __future__ import annotations\n\n"  # no annotation is evaluated: what it names may be of the module


def command(
    experiment: Experiment,
    objective: Callable[..., Any],
    names: Mapping[str, str],
    *,
    push: bool,
    packages: Sequence[str],
    index_urls: Sequence[str],
) -> list[str]:
    """The command of a container that calls the objective with one trial's parameters.

    Args:
        experiment: the search, with the constants of its trials.
        names: what the objective calls a parameter or a constant, by its name in the spec, in the order of its dict.
        push: whether it calls ``report_metrics`` of Katib's SDK.

    Raises:
        SpecError: the objective's own text is not all that it takes.
    """
    known = {name: _values(parameter) for name, parameter in experiment.parameters.items()}
    if experiment.budget is not None:
        known[experiment.budget.parameter] = None
    settings = {
        "code": own_text(objective),
        "function": objective.__name__,
        "metric": experiment.objective[0].metric,
        "constants": experiment.trial.arguments,
        "names": dict(names),
        "values": known,
        "packages": list(packages),
        "index_urls": list(index_urls),
        "push": push,
    }
    program = Path(alone.__file__).read_text(encoding="utf-8")
    texts = [program, json.dumps(settings)]
    return ["python3", "-u", "-c", *map(escaped, texts), *(f"{name}=${{{name}}}" for name in known)]


def _values(parameter: Any) -> dict[str, Any] | None:
    """What a choice may be, by the text of it; None of a number."""
    values = getattr(parameter, "values_", None)
    return None if values is None else {as_text(value): value for value in values}


def own_text(objective: Callable[..., Any]) -> str:
    """The text of a function, and of it alone.

    Raises:
        SpecError: there is none, or it names what stands outside of it.
    """
    name = getattr(objective, "__name__", repr(objective))
    try:
        text = _LATER + textwrap.dedent(inspect.getsource(objective))
        tables = symtable.symtable(text, "<objective>", "exec")
    except (OSError, TypeError, SyntaxError):
        need = "a function made by def, whose text can be read: a pod gets nothing else of it"
        raise SpecError("trial.function", name, need) from None
    if not any(table.get_name() == name for table in tables.get_children()):
        raise SpecError("trial.function", name, "a function made by def: a pod gets the text of it, and nothing else")
    if outside := sorted(set(_outside(tables)) - {name}):
        need = (
            f"a function that stands alone, as a pod gets its text and nothing else: "
            f"import or define {', '.join(outside)} inside of it"
        )
        raise SpecError("trial.function", name, need)
    return text


def _outside(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that a text reads, and gives to nothing."""
    for symbol in table.get_symbols():
        given = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
        if symbol.is_referenced() and symbol.is_global() and not given and symbol.get_name() not in _KNOWN:
            yield symbol.get_name()
    for child in table.get_children():
        yield from _outside(child)
