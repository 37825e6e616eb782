"""The program of a container whose image needs only Python 3.8: it calls a function with a dict.

The text of this module travels in the command, so it imports Python's own library alone. Where katib-flow is at hand,
``pushed`` serves an objective that calls ``report_metrics`` of Katib's SDK.

    python3 -c TEXT SETTINGS name=value ...
"""

from __future__ import annotations

import importlib
import json
import pathlib
import subprocess
import sys
import tempfile
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

MODULE = "objective"


def main(arguments: Sequence[str]) -> None:
    """Call the function that the settings hold the text of.

    Args:
        arguments: the settings as JSON, then the parameters as ``name=value``. Of the settings, ``names`` is what the
            function calls the parameters, in the order of its dict; ``values`` is what one of them may be, by the text
            of it, and null for a number.
    """
    settings = json.loads(arguments[0])
    install(settings["packages"], settings["index_urls"])
    if settings["push"]:
        pushed(printed)
    values = {**settings["constants"], **dict(map(typed(settings["values"]), arguments[1:]))}
    parameters = {theirs: values[ours] for ours, theirs in settings["names"].items() if ours in values}
    directory = tempfile.mkdtemp()
    (pathlib.Path(directory) / (MODULE + ".py")).write_text(settings["code"], encoding="utf-8")
    sys.path.insert(0, directory)
    function = getattr(importlib.import_module(MODULE), settings["function"])
    returned = function(parameters)
    if returned is not None:
        for values in steps(returned):
            printed(values if isinstance(values, dict) else {settings["metric"]: values})


def typed(known: Mapping[str, Any]) -> Callable[[str], tuple[str, Any]]:
    """What reads ``name=value``: a number from JSON, any other value from the texts that are known."""

    def read(argument: str) -> tuple[str, Any]:
        name, _, text = argument.partition("=")
        values = known[name]
        return name, json.loads(text) if values is None else values[text]

    return read


def steps(returned: Any) -> Iterator[Any]:
    """What a function returned; a generator's or other iterator's values one after another."""
    return returned if hasattr(returned, "__next__") else iter([returned])


def printed(metrics: Mapping[str, Any], *_: Any, **__: Any) -> None:
    """Print metrics as a line of ``name=value``; what is no number is left out."""
    pairs = []
    for name, value in metrics.items():
        try:
            pairs.append("%s=%r" % (name, float(value)))  # noqa: UP031
        except (TypeError, ValueError):
            print(f"{name} is no number: {value!r}", file=sys.stderr)
    if pairs:
        print(*pairs, flush=True)


def pushed(report: Callable[..., None]) -> None:
    """Have ``report_metrics`` of Katib's SDK report in another way: there is no DB of Katib's.

    Where the SDK is not installed, a module of its name has that function alone.
    """
    try:
        module = importlib.import_module("kubeflow.katib")
    except ImportError:
        module, package = types.ModuleType("kubeflow.katib"), types.ModuleType("kubeflow")
        package.katib, package.__path__ = module, []  # type: ignore[attr-defined]
        sys.modules.setdefault("kubeflow", package)
        sys.modules["kubeflow"].katib = module  # type: ignore[attr-defined]
        sys.modules["kubeflow.katib"] = module
    module.report_metrics = report  # type: ignore[attr-defined]


def install(packages: Sequence[str], index_urls: Sequence[str]) -> None:
    """Install packages for this process; they go before what the image has, as in Katib."""
    if not packages:
        return
    target = tempfile.mkdtemp()
    indices = [part for url in index_urls[:1] for part in ("--index-url", url)]
    indices += [part for url in index_urls[1:] for part in ("--extra-index-url", url)]
    options = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--target", target, *indices]
    subprocess.check_call([sys.executable, "-m", "pip", "install", *options, "--", *packages])
    sys.path.insert(0, target)


if __name__ == "__main__":
    main(sys.argv[1:])
