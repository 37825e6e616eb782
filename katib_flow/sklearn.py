"""A search estimator for scikit-learn: ``KatibFlowSearchCV`` is used like ``GridSearchCV``.

scikit-learn's own ``BaseSearchCV`` cross-validates, ranks and refits; katib-flow chooses the candidates, one after
another. Candidates are evaluated in this process, or in the worker processes of scikit-learn (``n_jobs``).
"""

import math
import numbers
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from katib_flow.decorator import Categorical
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Trial
from katib_flow.local.asking import ask_and_tell
from katib_flow.local.by_hand import Search
from katib_flow.spec.parameters import Parameter

SCORE = "score"
_FITS_FAILED = re.compile(r"\AAll the (\d+) fits failed")
_SCALARS = (bool, int, float, str, type(None))
Results = Mapping[str, Any]


class KatibFlowSearchCV(BaseSearchCV):
    """Search over the parameters of an estimator with any algorithm of katib-flow, by cross-validated score.

    A fitted search has the attributes of ``GridSearchCV``: ``cv_results_``, ``best_estimator_``, ``best_score_``,
    ``best_params_``, ``best_index_``, ``scorer_``, ``n_splits_``, ``refit_time_``, ``multimetric_`` and so on.

    It differs from ``GridSearchCV`` and ``RandomizedSearchCV`` as follows:

    - All candidates are scored on the same splits, even if the splitter returns different ones on each call.
    - With several metrics, the search maximizes the one that ``refit`` names, or else the first one. With a callable
      ``refit`` and a single metric, it maximizes that metric.
    - If all fits of a candidate fail, the search raises an error only if this is so for all candidates. Otherwise the
      scores of the candidate are ``error_score``, as in a grid with at least one successful fit, and its times are 0.
    - The search supports multiple targets if the estimator does.
    - A search over a finite space ends when all of it has been tried, so there may be fewer candidates than
      ``max_trials``.
    - ``verbose`` reports each batch of candidates, and numbers candidates within their batch. The callbacks of
      scikit-learn 1.9 are called only for the refit.

    Args:
        estimator: the scikit-learn estimator, or a compatible object, whose parameters are searched.
        space: the search space: a mapping from the name of each parameter to ``kf.Float``, ``kf.Int``,
            ``kf.Categorical`` or ``kf.Ordinal``; to the same as plain data, such as
            ``{"type": "float", "min": 0.1, "max": 10, "scale": "log"}``; or to a list of values, which may be any
            objects, such as tuples or estimators.
        algorithm: a name, or a mapping with a name and settings; ``auto`` chooses an algorithm for the space.
        max_trials: maximum number of candidates.
        parallel_trials: number of candidates per batch, to use more jobs than there are splits.
        timeout: seconds, or a text such as ``10m``, after which no more candidates are evaluated.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: as in ``GridSearchCV``.
        random_state: seed of the search.
        tracking_uri: the MLflow store in which to record the search as an experiment; None to record nothing.
        name: name of that experiment; by default that of the estimator's class.

    Attributes:
        history_: the trials of the search, with the ids of their MLflow runs if they are recorded.
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSearchCV._parameter_constraints,
        "space": [dict],
        "algorithm": [str, dict],
        "max_trials": [Interval(numbers.Integral, 1, None, closed="left")],
        "parallel_trials": [Interval(numbers.Integral, 1, None, closed="left")],
        "timeout": [numbers.Real, str, None],
        "random_state": ["random_state"],
        "tracking_uri": [str, None],
        "name": [str, None],
        "error_score": [StrOptions({"raise"}), numbers.Real],
    }

    def __init__(
        self,
        estimator: Any,
        space: Mapping[str, Any],
        *,
        algorithm: str | Mapping[str, Any] = "auto",
        max_trials: int = 50,
        parallel_trials: int = 1,
        timeout: float | str | None = None,
        scoring: Any = None,
        n_jobs: int | None = 1,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        tracking_uri: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
            pre_dispatch=pre_dispatch, error_score=error_score, return_train_score=return_train_score,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        self.space = space
        self.algorithm = algorithm
        self.max_trials = max_trials
        self.parallel_trials = parallel_trials
        self.timeout = timeout
        self.random_state = random_state
        self.tracking_uri = tracking_uri
        self.name = name

    def __sklearn_tags__(self) -> Any:
        """The tags of scikit-learn's own searches (from 1.6 on), and the estimator's support for multiple targets."""
        from sklearn.utils import get_tags  # does not exist before 1.6, which does not call this method

        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = get_tags(self.estimator).target_tags.multi_output
        return tags

    def _run_search(self, evaluate_candidates: Callable[..., Results]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as it was before 1.9
        """Evaluate candidates as the algorithm suggests them, and report their scores to it."""
        space = _Space(self.space)
        splits = self._splits()
        self._lost = _Lost(self.error_score, super()._format_results)
        results: Results = {}
        try:
            with self._begun(space) as search, warnings.catch_warnings():
                for once in (r"\s*\d+ fits failed out of", r"One or more of the (test|train) scores are non-finite"):
                    warnings.filterwarnings("ignore", once)  # issued below, for all candidates together
                while trials := search.ask(self.parallel_trials):
                    results = self._evaluated(evaluate_candidates, splits, space, search, trials) or results
                self.history_ = search.history
            self._lost.warn()
            self._lost.complete(results)
        finally:
            del self._lost

    def _splits(self) -> "_Once | None":
        """The splits for all candidates; None if ``cv`` is a list of splits, which scikit-learn uses as they are."""
        checked = getattr(self, "_checked_cv_orig", None)  # newer versions only: in older ones it is a local of fit
        if checked is None and not (
            self.cv is None or isinstance(self.cv, numbers.Integral) or hasattr(self.cv, "split")
        ):
            return None
        return _Once(checked or self.cv, is_classifier(self.estimator))

    def _begun(self, space: "_Space") -> Search:
        algorithm = {"name": self.algorithm} if isinstance(self.algorithm, str) else dict(self.algorithm)
        limits: dict[str, Any] = {"max_trials": int(self.max_trials), "parallel_trials": int(self.parallel_trials)}
        limits |= {"max_failed_trials": int(self.max_trials)}  # failed fits do not end a search in scikit-learn
        limits |= {} if self.timeout is None else {"timeout": self.timeout}
        return ask_and_tell(
            name=self.name or type(self.estimator).__name__.lower(),
            parameters=space.parameters,
            maximize=SCORE,
            algorithm={"seed": _seed(self.random_state), **algorithm},
            limits=limits,
            tracking_uri=self.tracking_uri,
            record=self.tracking_uri is not None,
        )

    def _evaluated(
        self,
        evaluate: Callable[..., Results],
        splits: "_Once | None",
        space: "_Space",
        search: Search,
        trials: Sequence[Trial],
    ) -> Results | None:
        """The results of all candidates so far; None if all fits of these candidates failed."""
        candidates = [space.candidate(trial) for trial in trials]
        try:
            results = evaluate(candidates, cv=splits)
        except Exception as error:
            raises: Any = self.error_score
            failed = isinstance(error, ValueError) and raises != "raise" and _FITS_FAILED.search(str(error).strip())
            for trial in trials:
                search.tell(trial, error=str(error).strip() if failed else error)
            if not failed:
                raise
            self._lost.add(candidates, str(error))
            return None
        for position, trial in enumerate(trials, start=len(results["params"]) - len(trials)):
            self._tell(search, trial, results, position)
        return results

    def _tell(self, search: Search, trial: Trial, results: Results, position: int) -> None:
        """Report a candidate to the search: the score to maximize, and all means and standard deviations."""
        metrics = {
            name: float(values[position])
            for name, values in results.items()
            if name.startswith(("mean_", "std_")) and isinstance(values, np.ndarray)
        }
        score = metrics[self._maximized(results)]
        if math.isnan(score):
            search.tell(trial, metrics, error="its score is NaN")
        else:
            search.tell(trial, {**metrics, SCORE: score})

    def _maximized(self, results: Results) -> str:
        """The column of the score that the search maximizes."""
        names = [name for name in results if name.startswith("mean_test_")]
        wanted = f"mean_test_{self.refit}"
        return wanted if wanted in names else names[0]

    def _format_results(
        self, candidate_params: list[Any], n_splits: int, out: list[Any], more_results: Any = None
    ) -> dict[str, Any]:
        """scikit-learn's results, extended by the candidates whose fits all failed, in order."""
        return self._lost.formatted(candidate_params, n_splits, out, more_results)


class _Space:
    """The search space, with a text in place of each value that a spec cannot express."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self.parameters = {name: self._parameter(name, given) for name, given in space.items()}

    def _parameter(self, name: str, given: Any) -> Any:
        if isinstance(given, Parameter | Mapping):
            return given
        values = given.tolist() if isinstance(given, np.ndarray) else given
        if isinstance(values, str) or not isinstance(values, list | tuple):
            need = "kf.Float, kf.Int, kf.Categorical or kf.Ordinal, the same as a dict, or a list of values"
            raise InvalidSpec("space", [SpecError(name, given, need)])
        if all(type(value) in _SCALARS for value in values):
            return Categorical(list(values))
        texts = [value if isinstance(value, str) else repr(value) for value in values]
        texts = [text if texts.count(text) == 1 else f"{number}: {text}" for number, text in enumerate(texts)]
        self._objects[name] = dict(zip(texts, values, strict=True))
        return Categorical(texts)

    def candidate(self, trial: Trial) -> dict[str, Any]:
        """The parameters of a trial, with the original values for the estimator."""
        known = trial.assignment
        return {name: self._objects[name][value] if name in self._objects else value for name, value in known.items()}  # type: ignore[index]


class _Once:
    """A splitter that splits only once, so that all candidates are scored on the same splits."""

    def __init__(self, cv: Any, classifier: bool) -> None:
        self._cv, self._classifier = cv, classifier
        self._splits: list[Any] | None = None

    def split(self, X: Any, y: Any = None, **params: Any) -> list[Any]:  # noqa: N803 - scikit-learn's name
        if self._splits is None:
            splitter: Any = check_cv(self._cv, y, classifier=self._classifier)
            self._splits = list(splitter.split(X, y, **params))
        return self._splits


class _Lost:
    """The candidates whose fits all failed, for which scikit-learn raises an error if they make up a whole batch.

    Args:
        error_score: as in ``GridSearchCV``.
        form: builds results from the parameters of candidates, the number of splits, and the outcomes of all fits.
    """

    def __init__(self, error_score: Any, form: Callable[..., dict[str, Any]]) -> None:
        self._error_score, self._form = error_score, form
        self._candidates: dict[int, tuple[Any, str]] = {}  # by their positions among all, with the error
        self._fitted: list[Any] = []
        self._fits: list[dict[str, Any]] = []  # of the fitted candidates, one per split for each
        self._splits, self._more = 0, None

    def add(self, candidates: Sequence[Any], message: str) -> None:
        """Remember a batch, with scikit-learn's error message."""
        match = _FITS_FAILED.search(message.strip())
        self._splits = self._splits or (int(match[1]) // len(candidates) if match else 1)
        error = message.rpartition("with the following error:\n")[2]
        for candidate in candidates:
            self._candidates[len(self._fitted) + len(self._candidates)] = candidate, error

    def formatted(self, fitted: list[Any], splits: int, fits: list[dict[str, Any]], more: Any) -> dict[str, Any]:
        """The results of all candidates."""
        self._fitted, self._splits, self._fits, self._more = fitted, splits, fits, more
        remaining, candidates = iter(fitted), list[Any]()
        for position in range(len(fitted) + len(self._candidates)):
            candidates.append(self._candidates[position][0] if position in self._candidates else next(remaining))
        return self._form(candidates, splits, self._all_fits(), more)

    def warn(self) -> None:
        """Warn about failed fits, as scikit-learn does.

        Raises:
            ValueError: all fits failed, or no candidate was evaluated.
        """
        fits = self._all_fits()
        if not fits:
            raise ValueError("no candidate was evaluated, because the search ended before the first one")
        _warn_or_raise_about_fit_failures(fits, self._error_score)

    def complete(self, results: Any) -> None:
        """Extend the results, which end with the last fitted candidate, by the candidates after it."""
        whole = self.formatted(self._fitted, self._splits, self._fits, self._more)
        results.clear()
        results.update(whole)

    def _all_fits(self) -> list[dict[str, Any]]:
        fits, remaining = list[dict[str, Any]](), iter(self._fits)
        for position in range(len(self._fitted) + len(self._candidates)):
            if position in self._candidates:
                fits += [self._failed(self._candidates[position][1])] * self._splits
            else:
                fits += [next(remaining) for _ in range(self._splits)]
        return fits

    def _failed(self, error: str) -> dict[str, Any]:
        """The outcome of a failed fit."""
        like: Mapping[str, Any] = self._fits[0] if self._fits else {}
        failed = {**like, "fit_error": error, "fit_time": 0.0, "score_time": 0.0}
        for scores in ("test_scores", "train_scores"):
            if isinstance(like.get(scores), dict):
                failed[scores] = dict.fromkeys(like[scores], self._error_score)
            elif scores in like:
                failed[scores] = self._error_score
        return failed


def _seed(random_state: Any) -> int:
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
