"""A table that translates keys of other tools, which users write by habit; it is consulted for unknown keys.

Sources: the interfaces of Optuna, Ray Tune, NNI, Hyperopt, Katib, Vizier, SMAC, Ax and the sweeps of W&B.
"""

from collections.abc import Iterable
from typing import Any

_CHOICES = "values: {value}"
_LIMITS = {
    **dict.fromkeys(
        [
            "n_trials",
            "max_trial_count",
            "trial_count",
            "max_evals",
            "n_iter",
            "num_samples",
            "max_trial_number",
            "run_cap",
            "budget_trials",
            "total_trials",
        ],
        "max_trials: {value}",
    ),
    **dict.fromkeys(
        [
            "parallel_trial_count",
            "max_concurrent_trials",
            "max_concurrent",
            "trial_concurrency",
            "n_jobs",
            "n_workers",
            "concurrency",
        ],
        "parallel_trials: {value}",
    ),
    **dict.fromkeys(["max_failed_trial_count", "max_failures", "max_failed"], "max_failed_trials: {value}"),
    **dict.fromkeys(["max_experiment_duration", "time_budget_s", "walltime_limit", "max_duration"], "timeout: {value}"),
    **dict.fromkeys(["max_trial_duration", "trial_walltime_limit", "time_limit"], "trial_timeout: {value}"),
}
_NUMBER = {
    "log": "scale: log",
    "log_scale": "scale: log",
    "scaling": "scale: log",
    "scale_type": "scale: log",
    "distribution": "scale: linear, log, logit, normal or lognormal",
    "prior": "scale: linear, log, logit, normal or lognormal",
    **dict.fromkeys(["low", "lower", "lower_bound", "min_value", "minimum"], "min: {value}"),
    **dict.fromkeys(["high", "upper", "upper_bound", "max_value", "maximum"], "max: {value}"),
    **dict.fromkeys(["q", "quantization", "step_size"], "step: {value}"),
    **dict.fromkeys(["bounds", "range", "feasible_space"], "min: and max:, or values:"),
}
HABITS: dict[str, dict[str, str]] = {
    "parameter": {
        **_NUMBER,
        **dict.fromkeys(["choices", "categories", "options", "list", "value", "_value"], _CHOICES),
        "parameter_type": "type: float, int, categorical or ordinal",
        "_type": "type: float, int, categorical or ordinal",
        **dict.fromkeys(["condition", "conditions", "parent", "depends_on"], "when: {{parent: [values]}}"),
    },
    "experiment": {
        **{key: f"limits: {{{{{right}}}}}" for key, right in _LIMITS.items()},
        **dict.fromkeys(
            ["direction", "goal", "mode", "metric", "metric_name", "optimize_mode", "directions"],
            "objective: {{metric: accuracy, direction: maximize}}",
        ),
        **dict.fromkeys(["search_space", "space", "params", "param_space", "configspace"], "parameters:"),
        **dict.fromkeys(["sampler", "tuner", "search_alg", "method", "suggest", "algo"], "algorithm:"),
        **dict.fromkeys(
            ["pruner", "assessor", "early_terminate", "scheduler", "automated_stopping"], "early_stopping:"
        ),
        **dict.fromkeys(["seed", "random_state", "random_seed"], "algorithm: {{seed: {value}}}"),
        **dict.fromkeys(["trial_template", "trial_command", "command", "program"], "trial:"),
        **dict.fromkeys(["study_name", "experiment_name"], "name: {value}"),
        **dict.fromkeys(["points_to_evaluate", "enqueue_trial"], "initial:"),
    },
    "objective": {
        **dict.fromkeys(["metric_name", "objective_metric_name", "name", "metric_id"], "metric: {value}"),
        **dict.fromkeys(["type", "mode", "optimize_mode", "minimize", "maximize"], "direction: maximize or minimize"),
        **dict.fromkeys(["target", "threshold", "objective_threshold"], "goal: {value}"),
    },
    "algorithmspec": {
        **dict.fromkeys(["type", "algorithm_name", "sampler"], "name: {value}"),
        **dict.fromkeys(["random_state", "random_seed"], "seed: {value}"),
        **dict.fromkeys(["algorithm_settings", "params", "class_args"], "settings:"),
    },
    "trialtemplate": {  # of Katib's v1alpha3
        "go_template": "trialSpec: {{apiVersion: batch/v1, kind: Job, ...}} with ${{trialParameters.name}} for a value"
    },
    "limits": _LIMITS,
    "budget": {
        **dict.fromkeys(["min_resource", "min_budget", "min_t", "grace_period", "min_iter"], "min: {value}"),
        **dict.fromkeys(["max_resource", "max_budget", "max_t", "max_iter", "r_l"], "max: {value}"),
        "reduction_factor": "eta: {value}",
    },
    "settings": {
        **dict.fromkeys(["population_size", "pop_size", "n_population"], "population: {value}"),
        **dict.fromkeys(["n_startup_trials", "n_initial_points", "n_startup_jobs"], "startup: {value}"),
        **dict.fromkeys(["n_ei_candidates", "n_candidates"], "candidates: {value}"),
        "multivariate": "independent: false, which is the default",
    },
}
_NAMES = {"seed", "random_state", "random_seed"}
TYPES = {
    **dict.fromkeys(["loguniform", "log_uniform", "log_uniform_values", "reciprocal"], "type: float with scale: log"),
    **dict.fromkeys(["uniform", "double", "real", "range", "number"], "type: float"),
    **dict.fromkeys(["quniform", "q_uniform"], "type: float with a step"),
    **dict.fromkeys(["randint", "integer", "int_uniform", "lograndint"], "type: int"),
    **dict.fromkeys(["choice", "discrete", "enum"], "type: categorical"),
    **dict.fromkeys(["fixed", "constant"], "trial: {arguments: {name: value}}"),
    "normal": "type: float with scale: normal",
    "lognormal": "type: float with scale: lognormal",
}


def habit(sections: Iterable[str], key: object, value: Any, known: Iterable[str]) -> str:
    """A hint such as ``"log: true is written scale: log here"``; "" if no tool has this key in these sections.

    Args:
        sections: the keys of ``HABITS`` that may apply.
        known: the valid keys; a translation to any other key is not suggested.
    """
    word, known = _snake(str(key)), set(known)
    for section in sections:
        right = HABITS.get(section, {}).get(word)
        if right and (section == "experiment" or right.partition(":")[0] in known):
            text = _text(value)
            return f"{key}{f': {text}' if text else ''} is written {right.format(value=text or '...')} here"
        if section == "settings" and word in _NAMES:
            return f"{key} is written seed: {_text(value) or '...'} here, beside settings"
    return ""


def type_habit(word: object) -> str:
    """A hint such as ``"; type: uniform is written type: float here"``; "" if no tool has this type."""
    right = TYPES.get(_snake(str(word)))
    return f"; type: {word} is written {right} here" if right else ""


def _snake(word: str) -> str:
    """maxTrialCount, max-trial-count and max_trial_count are one word."""
    parts = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word)
    return parts.replace("-", "_").replace("__", "_") if word.startswith("_") else parts.replace("-", "_").strip("_")


def _text(value: Any) -> str:
    """A value as YAML; "" if it is too long to repeat."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
    return text if isinstance(value, int | float | str | list | tuple) and len(text) <= 60 else ""
