"""Translate Katib's algorithms and early stopping rules, with their settings.

In Katib every setting is text. A setting without a counterpart is left out, with a note.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.draft import Draft
from katib_flow.spec.katib.sections import plain
from katib_flow.spec.problems import NOTHING
from katib_flow.wording import did_you_mean

AT = "spec.algorithm.algorithmSettings"


@dataclass(frozen=True)
class Counterpart:
    """The counterpart here of an algorithm or rule of Katib.

    Attributes:
        settings: native names of settings by their names in Katib; "seed" is the seed of the algorithm.
        reasons: why a setting is left out, by its name in Katib; other settings have no counterpart.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])


_SEED = {"random_state": "seed"}
_TPE = {
    **dict.fromkeys(("n_EI_candidates", "n_ei_candidates", "ei_candidates"), "candidates"),
    **dict.fromkeys(("n_startup_trials", "startup_trials"), "startup"),
    **_SEED,
}
_CONTROLLER = {
    "controller_hidden_size": "units",
    "controller_baseline_decay": "baseline_decay",
    "controller_entropy_weight": "entropy",
}
_PBT = ("n_population", "truncation_threshold", "resample_probability")
_CHECKPOINTS = "suggestion_trial_dir"
_MODEL = "the model is always a Gaussian process"

ALGORITHMS = {
    "random": Counterpart("random", _SEED),
    "grid": Counterpart("grid", _SEED),
    "sobol": Counterpart("sobol", _SEED),
    "tpe": Counterpart("tpe", _TPE),
    "multivariate-tpe": Counterpart("tpe", _TPE),
    "bayesianoptimization": Counterpart(
        "gp",
        {"n_initial_points": "startup", **_SEED},
        {"base_estimator": _MODEL, "acq_func": "the acquisition is always expected improvement"},
    ),
    "cmaes": Counterpart("cmaes", {"sigma": "sigma", "restart_strategy": "restart_strategy", **_SEED}),
    "hyperband": Counterpart("hyperband", _SEED),
    "enas": Counterpart(
        "nas-rl", _CONTROLLER, {"controller_learning_rate": "the controller here learns in fewer steps"}
    ),
    "pbt": Counterpart("pbt", {name: name for name in _PBT}),
}
_LONG_NAMES = ("bayesianoptimization", "multivariate-tpe")  # names unlike that of any native algorithm
RULES = {"medianstop": Counterpart("median", {"min_trials_required": "min_trials", "start_step": "start_step"})}
_EQUIVALENT = {("bayesianoptimization", "base_estimator"): "GP", ("bayesianoptimization", "acq_func"): "EI"}
_HYPERBAND_STATE = ("b_l", "n", "r", "s_max", "current_s", "current_i", "evaluating_trials")


def algorithm(draft: Draft, data: Any, names: Mapping[str, str]) -> manifest.Algorithm | None:
    """Fill in ``algorithm``, and ``budget`` for hyperband.

    Args:
        names: native names of the parameters by their names in Katib.

    Returns:
        The section as read; None if it is too wrong to be read.
    """
    read = draft.read(manifest.Algorithm, data, "spec.algorithm", unsound=["algorithm", "budget", "limits"])
    if read is None:
        return None
    suggestion = did_you_mean(read.algorithm_name, _LONG_NAMES, cutoff=0.9)
    if suggestion and read.algorithm_name not in _LONG_NAMES:
        need = f"the name of an algorithm of Katib or katib-flow{suggestion}"
        draft.wrong("spec.algorithm.algorithmName", read.algorithm_name, need, unsound=["algorithm", "budget"])
    settings = {setting.name: setting.value for setting in read.algorithm_settings}
    if read.algorithm_name == "hyperband":
        settings = _budget(draft, settings, names)
    if read.algorithm_name == "pbt":
        settings.pop(_CHECKPOINTS, None)  # handled with the trial
    _section(draft, "algorithm", read, ALGORITHMS.get(read.algorithm_name), settings)
    return read


def checkpoints(read: manifest.Algorithm | None) -> str:
    """The directory in which a trial of Katib's pbt finds its parent's checkpoint and writes its own; "" if not set."""
    settings = {setting.name: setting.value for setting in read.algorithm_settings} if read else {}
    return settings.get(_CHECKPOINTS, "").rstrip("/")


def early_stopping(draft: Draft, data: Any) -> None:
    """Fill in ``early_stopping``, if the manifest has the section."""
    if data is None:
        return
    read = draft.read(manifest.Algorithm, data, "spec.earlyStopping", unsound=["early_stopping"])
    if read is not None:
        settings = {setting.name: setting.value for setting in read.algorithm_settings}
        _section(draft, "early_stopping", read, RULES.get(read.algorithm_name), settings)


def _section(
    draft: Draft, key: str, read: manifest.Algorithm, ours: Counterpart | None, settings: Mapping[str, str]
) -> None:
    """Fill in a section ``{name, seed, settings}``; the settings of a name unknown to Katib are passed on unchanged."""
    at = "spec.algorithm" if key == "algorithm" else "spec.earlyStopping"
    section: dict[str, Any] = {"name": ours.name if ours else read.algorithm_name}
    native_settings: dict[str, Any] = {}
    draft.came(key, at)
    draft.came(f"{key}.name", f"{at}.algorithmName")
    draft.came(f"{key}.settings", f"{at}.algorithmSettings")
    positions = {setting.name: position for position, setting in enumerate(read.algorithm_settings)}
    for name, text in settings.items():
        native = ours.settings.get(name) if ours else name
        where = f"{at}.algorithmSettings[{positions[name]}].value"
        if native == "seed":
            seed = plain(text)
            section["seed"] = text if seed is None else seed
            draft.came(f"{key}.seed", where)
        elif native is not None:
            native_settings[native] = typed(text)
            draft.came(f"{key}.settings.{native}", where)
        elif ours and _EQUIVALENT.get((read.algorithm_name, name)) != text:
            why = ours.reasons.get(name, "it has no counterpart here")
            draft.note(key, f"left out the setting {name}: {text!r}, because {why}")
    if native_settings:
        section["settings"] = native_settings
    draft.data[key] = section if len(section) > 1 else section["name"]


def typed(text: str) -> Any:
    """The number or boolean that the text of a setting represents, or the text itself."""
    number = plain(text)
    return number if number is not None else {"true": True, "false": False}.get(text.lower(), text)


def _budget(draft: Draft, settings: dict[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Fill in ``budget`` and return the remaining settings.

    Katib lists the resource among the parameters, and sets it itself (its r_l is R, the most that a trial may spend).
    """
    resource = settings.pop("resource_name", "")
    if resource not in names and resource and "parameters" in draft.unsound:
        draft.unsound |= {"budget", "algorithm"}  # perhaps the invalid parameter
        return {}
    if resource not in names:
        need = f"the setting resource_name, the name of a parameter{did_you_mean(resource, names)}"
        draft.wrong(AT, resource or NOTHING, need, unsound=["budget", "algorithm"])
        return {}
    most, eta = (_count(draft, settings.pop(key, None), key, default) for key, default in (("r_l", None), ("eta", 3)))
    native = names[resource]
    draft.data["parameters"].pop(native, None)
    draft.note("budget", f"Katib lists {native} among the parameters, although hyperband sets it")
    draft.data["budget"] = {"parameter": native, "min": 1, "max": most, "eta": eta}
    draft.came("budget", AT)
    return {name: value for name, value in settings.items() if name not in _HYPERBAND_STATE}


def _count(draft: Draft, text: str | None, key: str, default: int | None) -> int:
    number = default if text is None else plain(text)
    if number is not None and number <= 0 and default is not None:
        number = default  # as in Katib
    if number is None or not 1 <= number < math.inf:
        need = f"the setting {key}, a number of at least 1"
        draft.wrong(AT, NOTHING if text is None else f"{key}: {text}", need, unsound=["budget", "algorithm"])
        return 1
    if number != int(number):
        draft.note("budget", f"{key} was {text}; a budget is counted in whole units")
    return math.floor(number)
