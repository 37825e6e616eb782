"""Turn a Katib-style objective into a container's command, which carries its source: the image needs only Python."""

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
_FUTURE = "from __future__ import annotations\n\n"  # unevaluated annotations may use names of the module


def command(
    experiment: Experiment,
    objective: Callable[..., Any],
    names: Mapping[str, str],
    *,
    push: bool,
    packages: Sequence[str],
    index_urls: Sequence[str],
) -> list[str]:
    """Return a container's command that calls the objective with the parameters of one trial.

    Args:
        experiment: the experiment; ``trial.arguments`` holds the constants.
        names: the objective's names of parameters and constants, keyed by their names in the spec, in the order of
            the objective's dict.
        push: whether the objective calls ``report_metrics`` of Katib's SDK.
        packages: requirements that pip installs before the objective runs.
        index_urls: package indexes for pip.

    Raises:
        SpecError: the objective's source cannot be read, or is not self-contained.
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
    """Map the text of each value of a categorical or ordinal parameter to the value; None for a number."""
    values = getattr(parameter, "values_", None)
    return None if values is None else {as_text(value): value for value in values}


def own_text(objective: Callable[..., Any]) -> str:
    """Return the source of a function, without the rest of its module.

    Raises:
        SpecError: the source cannot be read, or it uses names that are defined outside the function.
    """
    name = getattr(objective, "__name__", repr(objective))
    try:
        text = _FUTURE + textwrap.dedent(inspect.getsource(objective))
        tables = symtable.symtable(text, "<objective>", "exec")
    except (OSError, TypeError, SyntaxError):
        need = "a function defined with def whose source can be read, because the pod runs that source alone"
        raise SpecError("trial.function", name, need) from None
    if not any(table.get_name() == name for table in tables.get_children()):
        raise SpecError("trial.function", name, "a function defined with def, because the pod runs its source alone")
    if outside := sorted(set(_outside(tables)) - {name}):
        need = (
            "a self-contained function, because the pod runs its source alone: "
            f"import or define {', '.join(outside)} inside it"
        )
        raise SpecError("trial.function", name, need)
    return text


def _outside(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that a scope and the scopes in it read but do not bind."""
    for symbol in table.get_symbols():
        bound = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
        if symbol.is_referenced() and symbol.is_global() and not bound and symbol.get_name() not in _KNOWN:
            yield symbol.get_name()
    for child in table.get_children():
        yield from _outside(child)
