"""A search estimator for scikit-learn: ``KatibFlowSearchCV`` stands where ``GridSearchCV`` stands.

What cross-validates, ranks and refits is scikit-learn's own ``BaseSearchCV``; which candidates there are, katib-flow
decides, one after another. Candidates are evaluated in this process, or in scikit-learn's own ones (``n_jobs``).
"""

import math
import numbers
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
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

    What is fitted has the attributes of ``GridSearchCV``: ``cv_results_``, ``best_estimator_``, ``best_score_``,
    ``best_params_``, ``best_index_``, ``scorer_``, ``n_splits_``, ``refit_time_``, ``multimetric_`` and so on.

    Where it departs from ``GridSearchCV`` and ``RandomizedSearchCV``:

    - All candidates are scored on the same splits, also of a splitter that draws other ones each time it is asked.
    - With several metrics the search raises that which ``refit`` names, and where it names none, the first; with a
      callable ``refit`` and one metric, that metric.
    - A candidate of which every fit fails is no reason to raise, unless all candidates are such: its scores are
      ``error_score``, as in a grid of which another candidate can be fitted. Its times are 0.
    - Estimators that take several targets say so of the search, too.
    - A search over a finite space ends when it has tried all of it, so there may be fewer candidates than
      ``max_trials``.
    - ``verbose`` tells of each batch of candidates, and a candidate's number is that in its batch. The callbacks of
      scikit-learn 1.9 hear of the refit alone.

    Args:
        estimator: what is searched, an estimator of scikit-learn or like one.
        space: by the name of each parameter, ``kf.Float``, ``kf.Int``, ``kf.Categorical`` or ``kf.Ordinal``; the same
            as plain data, ``{"type": "float", "min": 0.1, "max": 10, "scale": "log"}``; or a list of values, which may
            be any objects: tuples, estimators.
        algorithm: a name, or a mapping with its name and settings; auto chooses one for the space.
        max_trials: how many candidates are evaluated.
        parallel_trials: how many candidates are asked for together, for ``n_jobs`` beyond the number of splits.
        timeout: seconds, or text such as ``10m``, after which no more candidates are asked for.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: as in ``GridSearchCV``.
        random_state: seed of the search.
        tracking_uri: a store of MLflow in which the search is recorded as an experiment; in none, where it is None.
        name: of that experiment; that of the estimator's class, where it is None.

    Attributes:
        history_: the trials, as katib-flow has them; with the id of each trial's run where they are recorded.
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
        """scikit-learn's (from 1.6 on), and that several targets may be given where the estimator takes them."""
        from sklearn.utils import get_tags  # not there before 1.6, and neither is this method's caller

        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = get_tags(self.estimator).target_tags.multi_output
        return tags

    def _run_search(self, evaluate_candidates: Callable[..., Results]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as it was before 1.9
        """Evaluate candidates as the algorithm suggests them, and tell it what came of each."""
        space = _Space(self.space)
        splits = self._splits()
        self._lost = _Lost(self.error_score, super()._format_results)
        results: Results = {}
        try:
            with self._begun(space) as search, warnings.catch_warnings():
                for once in (r"\s*\d+ fits failed out of", r"One or more of the (test|train) scores are non-finite"):
                    warnings.filterwarnings("ignore", once)  # given below, of all candidates
                while trials := search.ask(self.parallel_trials):
                    results = self._evaluated(evaluate_candidates, splits, space, search, trials) or results
                self.history_ = search.history
            self._lost.tell()
            self._lost.complete(results)
        finally:
            del self._lost

    def _splits(self) -> "_Once | None":
        """The splits of all candidates; None where scikit-learn has them, splits that were listed and not made."""
        checked = getattr(self, "_checked_cv_orig", None)  # of newer versions: in older ones fit keeps it to itself
        if checked is None and not (
            self.cv is None or isinstance(self.cv, numbers.Integral) or hasattr(self.cv, "split")
        ):
            return None
        return _Once(checked or self.cv, is_classifier(self.estimator))

    def _begun(self, space: "_Space") -> Search:
        algorithm = {"name": self.algorithm} if isinstance(self.algorithm, str) else dict(self.algorithm)
        limits: dict[str, Any] = {"max_trials": int(self.max_trials), "parallel_trials": int(self.parallel_trials)}
        limits |= {"max_failed_trials": int(self.max_trials)}  # what cannot be fitted ends no search of scikit-learn's
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
        """The results of all candidates so far; None where no fit of these went well."""
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
        """Tell what came of a candidate: the score to be raised, and every mean and deviation beside."""
        told = {
            name: float(values[position])
            for name, values in results.items()
            if name.startswith(("mean_", "std_")) and isinstance(values, np.ndarray)
        }
        score = told[self._raised(results)]
        if math.isnan(score):
            search.tell(trial, told, error="its score is not a number")
        else:
            search.tell(trial, {**told, SCORE: score})

    def _raised(self, results: Results) -> str:
        """The column of the score that the search raises."""
        names = [name for name in results if name.startswith("mean_test_")]
        wanted = f"mean_test_{self.refit}"
        return wanted if wanted in names else names[0]

    def _format_results(
        self, candidate_params: list[Any], n_splits: int, out: list[Any], more_results: Any = None
    ) -> dict[str, Any]:
        """scikit-learn's, with the candidates that could not be fitted, at their places."""
        return self._lost.formatted(candidate_params, n_splits, out, more_results)


class _Space:
    """What a search tries, and the values that a spec cannot hold: they have a text that stands for each."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self.parameters = {name: self._parameter(name, each) for name, each in space.items()}

    def _parameter(self, name: str, each: Any) -> Any:
        if isinstance(each, Parameter | Mapping):
            return each
        values = each.tolist() if isinstance(each, np.ndarray) else each
        if isinstance(values, str) or not isinstance(values, list | tuple):
            need = "kf.Float, kf.Int, kf.Categorical or kf.Ordinal, the same as a dict, or a list of values"
            raise InvalidSpec("space", [SpecError(name, each, need)])
        if all(type(value) in _SCALARS for value in values):
            return Categorical(list(values))
        texts = [value if isinstance(value, str) else repr(value) for value in values]
        texts = [text if texts.count(text) == 1 else f"{number}: {text}" for number, text in enumerate(texts)]
        self._objects[name] = dict(zip(texts, values, strict=True))
        return Categorical(texts)

    def candidate(self, trial: Trial) -> dict[str, Any]:
        """The parameters of a trial as the estimator takes them."""
        known = trial.assignment
        return {name: self._objects[name][value] if name in self._objects else value for name, value in known.items()}  # type: ignore[index]


class _Once:
    """A splitter that splits once, so that all candidates are scored alike."""

    def __init__(self, cv: Any, classifier: bool) -> None:
        self._cv, self._classifier = cv, classifier
        self._splits: list[Any] | None = None

    def split(self, X: Any, y: Any = None, **params: Any) -> list[Any]:  # noqa: N803 - scikit-learn's name
        if self._splits is None:
            splitter: Any = check_cv(self._cv, y, classifier=self._classifier)
            self._splits = list(splitter.split(X, y, **params))
        return self._splits


class _Lost:
    """The candidates of which every fit failed: asked for them alone, scikit-learn sees a search without any result.

    Args:
        form: makes results of the parameters of candidates, the number of splits, and what came of each fit.
    """

    def __init__(self, error_score: Any, form: Callable[..., dict[str, Any]]) -> None:
        self._error_score, self._form = error_score, form
        self._candidates: dict[int, tuple[Any, str]] = {}  # by their place among all, with what went wrong
        self._fitted: list[Any] = []
        self._fits: list[dict[str, Any]] = []  # of those that were fitted, so many as there are splits for each
        self._splits, self._more = 0, None

    def add(self, candidates: Iterable[Any], message: str) -> None:
        """Remember a batch, with what scikit-learn said of it."""
        found = _FITS_FAILED.search(message.strip())
        self._splits = self._splits or (int(found[1]) // len(list(candidates)) if found else 1)
        error = message.rpartition("with the following error:\n")[2]
        for each in candidates:
            self._candidates[len(self._fitted) + len(self._candidates)] = each, error

    def formatted(self, fitted: list[Any], splits: int, fits: list[dict[str, Any]], more: Any) -> dict[str, Any]:
        """The results of all candidates."""
        self._fitted, self._splits, self._fits, self._more = fitted, splits, fits, more
        remaining, candidates = iter(fitted), list[Any]()
        for place in range(len(fitted) + len(self._candidates)):
            candidates.append(self._candidates[place][0] if place in self._candidates else next(remaining))
        return self._form(candidates, splits, self._all_fits(), more)

    def tell(self) -> None:
        """Warn of the fits that failed, as scikit-learn does.

        Raises:
            ValueError: all have failed, or there is no candidate.
        """
        fits = self._all_fits()
        if not fits:
            raise ValueError("no candidate was evaluated: the search ended before the first")
        _warn_or_raise_about_fit_failures(fits, self._error_score)

    def complete(self, results: Any) -> None:
        """Have the results, which are of the last candidate that was fitted, tell of those that came later, too."""
        whole = self.formatted(self._fitted, self._splits, self._fits, self._more)
        results.clear()
        results.update(whole)

    def _all_fits(self) -> list[dict[str, Any]]:
        fits, remaining = list[dict[str, Any]](), iter(self._fits)
        for place in range(len(self._fitted) + len(self._candidates)):
            if place in self._candidates:
                fits += [self._failed(self._candidates[place][1])] * self._splits
            else:
                fits += [next(remaining) for _ in range(self._splits)]
        return fits

    def _failed(self, error: str) -> dict[str, Any]:
        """What a fit gives that failed."""
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
