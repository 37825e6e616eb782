"""The program of a container whose image needs only Python 3.8: it calls a function with a dict.

The text of this module is part of the command, so it imports only the standard library. ``pushed`` also serves
objectives that call ``report_metrics`` of Katib's SDK where katib-flow is installed.

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
    """Call the function whose source is in the settings.

    Args:
        arguments: the settings as JSON, then the parameters as ``name=value``. In the settings, ``names`` maps our name
            of a parameter to the function's, in the order of its dict; ``values`` maps each parameter to null for a
            number, or to its values by their text.
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
    """A function that parses ``name=value``: numbers as JSON, other values by their known texts."""

    def read(argument: str) -> tuple[str, Any]:
        name, _, text = argument.partition("=")
        values = known[name]
        return name, json.loads(text) if values is None else values[text]

    return read


def steps(returned: Any) -> Iterator[Any]:
    """The values of a returned iterator, or any other returned value as the only one."""
    return returned if hasattr(returned, "__next__") else iter([returned])


def printed(metrics: Mapping[str, Any], *_: Any, **__: Any) -> None:
    """Print metrics as a line of ``name=value``; a value that is not a number is skipped, with a message."""
    pairs = []
    for name, value in metrics.items():
        try:
            pairs.append("%s=%r" % (name, float(value)))  # noqa: UP031
        except (TypeError, ValueError):
            print(f"{name} is not a number: {value!r}", file=sys.stderr)
    if pairs:
        print(*pairs, flush=True)


def pushed(report: Callable[..., None]) -> None:
    """Replace ``report_metrics`` of Katib's SDK, because there is no Katib DB.

    If the SDK is not installed, a module of its name is created with only that function.
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
    """Install packages for this process; they take precedence over those of the image, as in Katib."""
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
