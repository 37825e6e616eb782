"""scikit-learn's own tests of its grid search, run on ours: over a finite space with the algorithm grid they are alike.

Left out are those of what ours has not: lists of grids, repeated values, an empty grid, callbacks for each candidate.
"""

import importlib
import inspect
from typing import Any

import numpy as np
import pytest

theirs = pytest.importorskip("sklearn.model_selection.tests.test_search")

from katib_flow.sklearn import KatibFlowSearchCV  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
LEFT_OUT = {
    "test_grid_search_bad_param_grid": "of the texts that tell of a bad grid",
    "test_grid_search_cv_results": "a list of grids",
    "test_grid_search_cv_results_multimetric": "a list of grids",
    "test_custom_run_search": "a list of grids",
    "test_predict_proba_disabled": "an empty grid",
    "test_grid_search_classifier_all_fits_fail": "a grid that repeats a value",
    "test_grid_search_cv_splits_consistency": "a grid that repeats a value",
    "test_callable_multimetric_clf_all_fits_fail": "a grid that repeats a value",
}
OURS = ("space", "algorithm", "max_trials", "parallel_trials", "timeout", "random_state", "tracking_uri", "name")


class AsGridSearch(KatibFlowSearchCV):
    """Ours, with the arguments of ``GridSearchCV``."""

    _parameter_constraints = {
        **{name: each for name, each in KatibFlowSearchCV._parameter_constraints.items() if name not in OURS},
        "param_grid": [dict, list],
    }

    def __init__(
        self, estimator: Any, param_grid: Any, *, scoring: Any = None, n_jobs: Any = None, refit: Any = True,
        cv: Any = None, verbose: Any = 0, pre_dispatch: Any = "2*n_jobs", error_score: Any = np.nan,
        return_train_score: Any = False,
    ) -> None:  # fmt: skip
        super().__init__(
            estimator, {}, algorithm="grid", max_trials=1000, random_state=0, scoring=scoring, n_jobs=n_jobs,
            refit=refit, cv=cv, verbose=verbose, pre_dispatch=pre_dispatch, error_score=error_score,
            return_train_score=return_train_score,
        )  # fmt: skip
        self.param_grid = param_grid

    @property
    def space(self) -> Any:
        (grid,) = self.param_grid if isinstance(self.param_grid, list) else [self.param_grid]
        return {name: list(values) for name, values in grid.items()}

    @space.setter
    def space(self, value: Any) -> None:
        """It is that of the grid."""


def applies(name: str, test: Any) -> bool:
    """Whether a test is of grid search alone, and of what ours has."""
    text = inspect.getsource(test)
    others = ("Randomized", "Halving", "callback", "array_api", "fetch_", "ParameterGrid")
    return "GridSearchCV" in text and name not in LEFT_OUT and not any(other in text for other in others)


globals().update(
    {
        name: test
        for name, test in vars(theirs).items()
        if name.startswith("test_") and inspect.isfunction(test) and applies(name, test)
    }
)


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs, "GridSearchCV", AsGridSearch)


def test_most_of_their_tests_are_run() -> None:
    assert importlib.import_module(__name__) is not None
    assert sum(name.startswith("test_") for name in globals()) > 40
