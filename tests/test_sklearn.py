"""The search estimator for scikit-learn: what any search estimator promises, and what only this one does."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

import katib_flow as kf
from katib_flow.errors import InvalidSpec
from katib_flow.history import History, State
from katib_flow.sklearn import KatibFlowSearchCV
from katib_flow.tracking import Status, Store

X, Y = load_iris(return_X_y=True)
C = kf.Float(0.01, 100, scale="log")
STRICT: dict[str, Any] = {"max_trials": 2, "algorithm": "random", "random_state": 0, "error_score": "raise", "cv": 2}


@parametrize_with_checks(
    [
        KatibFlowSearchCV(LogisticRegression(), {"C": C}, **STRICT),
        KatibFlowSearchCV(Ridge(), {"alpha": C}, **STRICT),
        KatibFlowSearchCV(
            make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": C}, **STRICT, return_train_score=True
        ),
        KatibFlowSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, **{**STRICT, "parallel_trials": 2}),
    ]
)
def test_it_is_an_estimator_of_scikit_learn(estimator: Any, check: Any) -> None:
    if sklearn.__version__ < "1.6" and "default_constructible" in str(check):
        pytest.skip("before 1.6 it makes estimators of one argument, and its own searches by their names")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


class Noted(ClassifierMixin, BaseEstimator):
    """A classifier whose score is what the parameter says; it fails where that is told to."""

    def __init__(self, a: float = 0.0, b: Any = None, fails: Any = ()) -> None:
        self.a, self.b, self.fails = a, b, fails

    def fit(self, X: Any, y: Any) -> "Noted":
        if self.a in self.fails:
            raise ValueError("as it was told to")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])

    def score(self, X: Any, y: Any) -> float:  # type: ignore[override]
        return -((self.a - 3) ** 2)


def search(estimator: Any = None, space: Any = None, **changes: Any) -> Any:
    settings: dict[str, Any] = {"algorithm": "random", "max_trials": 6, "random_state": 0, "cv": 3}
    return KatibFlowSearchCV(
        Noted() if estimator is None else estimator, space or {"a": kf.Float(0, 10)}, **(settings | changes)
    )


def test_the_results_are_those_of_a_grid_search_over_the_same_candidates() -> None:
    values = [0.01, 0.1, 1.0, 10.0]
    ours = search(SVC(), {"C": values}, algorithm="grid", max_trials=9, return_train_score=True).fit(X, Y)
    theirs = GridSearchCV(SVC(), {"C": values}, cv=3, return_train_score=True).fit(X, Y)
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for name, column in theirs.cv_results_.items():
        if "time" not in name:
            assert list(ours.cv_results_[name]) == list(column), name
    for name in ("best_params_", "best_score_", "best_index_", "n_splits_", "multimetric_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert np.array_equal(ours.classes_, theirs.classes_)
    assert ours.score(X, Y) == theirs.score(X, Y)
    assert ours.refit_time_ > 0
    assert ours.best_estimator_.C == theirs.best_estimator_.C


def test_what_was_learnt_of_candidates_decides_on_the_next() -> None:
    aimless = search(max_trials=30).fit(X, Y)
    clever = search(max_trials=30, algorithm="gp").fit(X, Y)
    assert clever.best_score_ == max(clever.cv_results_["mean_test_score"])
    assert abs(clever.best_params_["a"] - 3) < 0.05 < abs(aimless.best_params_["a"] - 3)
    assert isinstance(clever.history_, History)
    assert [trial.observations["score"] for trial in clever.history_] == list(clever.cv_results_["mean_test_score"])


def test_a_parameter_that_is_not_active_is_masked_and_not_set() -> None:
    space = {
        "kernel": ["linear", "rbf"],
        "gamma": {"type": "float", "min": 0.001, "max": 1, "when": {"kernel": ["rbf"]}},
    }
    found = search(SVC(), space, max_trials=12).fit(X, Y)
    linear = np.array([params["kernel"] == "linear" for params in found.cv_results_["params"]])
    assert 0 < linear.sum() < 12
    assert list(found.cv_results_["param_gamma"].mask) == list(linear)
    assert all(("gamma" in params) != alone for params, alone in zip(found.cv_results_["params"], linear, strict=True))


def test_values_may_be_any_objects() -> None:
    class Twin:
        def __repr__(self) -> str:
            return "twin"

    twins = [Twin(), Twin()]
    scalers = [StandardScaler(), MinMaxScaler(), "passthrough", None]
    found = search(make_pipeline(StandardScaler(), SVC()), {"standardscaler": scalers}, algorithm="grid").fit(X, Y)
    tried = [params["standardscaler"] for params in found.cv_results_["params"]]
    assert all(one is other for one, other in zip(tried, scalers, strict=True))
    layers = search(
        MLPClassifier(max_iter=1), {"hidden_layer_sizes": [(2,), (3, 2)]}, max_trials=2, algorithm="grid", cv=2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert layers.fit(X, Y).best_params_["hidden_layer_sizes"] in [(2,), (3, 2)]
    both = search(space={"b": twins}, algorithm="grid").fit(X, Y)
    assert [params["b"] for params in both.cv_results_["params"]] == twins
    array = search(space={"a": np.array([1.0, 2.0])}, algorithm="grid").fit(X, Y)
    assert [params["a"] for params in array.cv_results_["params"]] == [1.0, 2.0]


@pytest.mark.parametrize("fails", [(0,), (2,), (4,), (0, 1, 3), (0, 1, 2, 3), (0, 1, 3, 4)])
@pytest.mark.parametrize("parallel", [1, 2])
def test_candidates_that_cannot_be_fitted_stand_in_the_results_as_in_a_grid(fails: Any, parallel: int) -> None:
    values = [0, 1, 2, 3, 4]
    with pytest.warns(FitFailedWarning) as told:
        ours = search(Noted(fails=fails), {"a": values}, algorithm="grid", parallel_trials=parallel).fit(X, Y)
    with pytest.warns(FitFailedWarning) as wanted:
        theirs = GridSearchCV(Noted(fails=fails), {"a": values}, cv=3).fit(X, Y)
    (ours_said,), (theirs_said,) = (
        [str(each.message) for each in given if each.category is FitFailedWarning] for given in (told, wanted)
    )
    non_finite = [
        [str(each.message) for each in given if "non-finite" in str(each.message)] for given in (told, wanted)
    ]
    assert non_finite[0] == non_finite[1]
    assert len(non_finite[0]) == 1
    assert ours_said.splitlines()[1] == theirs_said.splitlines()[1]  # so many of so many
    assert ours_said.rstrip().endswith("ValueError: as it was told to")
    for name in ("params", "mean_test_score", "rank_test_score", "split1_test_score"):
        assert np.array_equal(ours.cv_results_[name], theirs.cv_results_[name], equal_nan=name != "params"), name
    assert ours.best_params_ == theirs.best_params_
    assert [trial.state is State.FAILED for trial in ours.history_] == [value in fails for value in values]


def test_where_all_fail_it_says_so_of_all() -> None:
    with pytest.raises(ValueError, match=r"All the 9 fits failed(.|\n)*as it was told to"):
        search(Noted(fails=(0, 1, 2)), {"a": [0, 1, 2]}, algorithm="grid").fit(X, Y)
    with pytest.raises(ValueError, match=r"^as it was told to$"):
        search(Noted(fails=(0, 1, 2)), {"a": [0, 1, 2]}, algorithm="grid", error_score="raise").fit(X, Y)


def test_an_error_score_stands_for_those_that_cannot_be_fitted() -> None:
    with pytest.warns(FitFailedWarning, match=r"set to -99"):
        found = search(Noted(fails=(1,)), {"a": [0, 1, 2]}, algorithm="grid", error_score=-99).fit(X, Y)
    assert list(found.cv_results_["mean_test_score"]) == [-9, -99, -1]


def test_all_candidates_are_scored_on_the_same_splits() -> None:
    class Split(Noted):
        def score(self, X: Any, y: Any) -> float:  # type: ignore[override]
            return float(X[:, 0].mean())

    found = search(Split(), {"a": [0, 1, 2]}, algorithm="grid", cv=ShuffleSplit(2, test_size=0.2)).fit(X, Y)
    assert len(set(found.cv_results_["split0_test_score"])) == 1
    assert len({found.cv_results_[f"split{number}_test_score"][0] for number in (0, 1)}) == 2
    once = search(Split(), {"a": [0, 1, 2]}, algorithm="grid", cv=KFold(3).split(X)).fit(X, Y)
    assert once.n_splits_ == 3


def test_with_several_metrics_it_raises_the_one_of_refit() -> None:
    def opposite(estimator: Any, X: Any, y: Any) -> float:
        return -((estimator.a - 8) ** 2)

    scoring = {"near": Noted.score, "far": opposite}
    for refit, best in (("near", 3), ("far", 8)):
        found = search(scoring=scoring, refit=refit, algorithm="gp", max_trials=25).fit(X, Y)
        assert abs(found.best_params_["a"] - best) < 0.5
        raised = [trial.observations["score"] for trial in found.history_]
        assert raised == list(found.cv_results_[f"mean_test_{refit}"])
        assert found.multimetric_
        assert {"mean_test_near", "mean_test_far", "rank_test_far"} <= set(found.cv_results_)
        assert found.best_score_ == max(found.cv_results_[f"mean_test_{refit}"])
    found = search(scoring=scoring, refit=False, algorithm="gp", max_trials=25).fit(X, Y)
    assert abs(min(params["a"] - 3 for params in found.cv_results_["params"] if params["a"] > 2.5)) < 0.6
    assert not hasattr(found, "best_estimator_")
    told = search(scoring=lambda e, X, y: {"a": 1.0, "b": 2.0}, refit="b").fit(X, Y)
    assert told.best_score_ == 2.0


def test_it_is_cloned_pickled_and_nested() -> None:
    found = search().fit(X, Y)
    again = pickle.loads(pickle.dumps(found))
    assert again.best_params_ == found.best_params_
    assert again.history_ == found.history_
    assert clone(found).get_params()["max_trials"] == 6
    scores = cross_val_score(search(SVC(), {"C": C}, max_trials=2), X, Y, cv=2)
    assert scores.shape == (2,)
    with pytest.raises(NotFittedError):
        search().predict(X)
    assert found.fit(X, Y) is found


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_seed_decides_and_the_number_of_processes_does_not(jobs: int) -> None:
    found = search(SVC(), {"C": C}, n_jobs=jobs, parallel_trials=2, max_trials=4).fit(X, Y)
    assert list(found.cv_results_["param_C"]) == list(
        search(SVC(), {"C": C}, parallel_trials=2, max_trials=4).fit(X, Y).cv_results_["param_C"]
    )
    other = search(SVC(), {"C": C}, max_trials=4, random_state=1).fit(X, Y)
    assert list(other.cv_results_["param_C"]) != list(found.cv_results_["param_C"])
    drawn = [search(random_state=np.random.RandomState(5)).fit(X, Y).best_params_ for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert search(random_state=None).fit(X, Y).best_params_ != search(random_state=None).fit(X, Y).best_params_


def test_it_is_recorded_where_a_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search().fit(X, Y)
    assert list(tmp_path.iterdir()) == []
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    found = search(tracking_uri=uri).fit(X, Y)
    store = Store(uri)
    record = store.find("noted")
    assert record.status is Status.SUCCEEDED
    history = store.history(record)
    assert [trial.assignment for trial in history] == found.cv_results_["params"]
    scores = list(found.cv_results_["mean_test_score"])
    assert [trial.observations["score"] for trial in history] == scores
    assert [trial.observations["mean_test_score"] for trial in history] == scores
    assert [trial.run_id for trial in found.history_] == [trial.run_id for trial in history]
    search(tracking_uri=uri, name="named").fit(X, Y)
    assert store.find("named").experiment.algorithm.seed == 0


def test_it_ends_when_there_is_nothing_left_to_try_or_no_time() -> None:
    assert len(search(space={"a": [0, 1, 2]}, max_trials=50).fit(X, Y).history_) == 3
    with pytest.raises(ValueError, match="no candidate was evaluated, because the search ended before the first"):
        search(timeout=1e-9).fit(X, Y)


class Weighed(Noted):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Weighed":
        self.weight_ = float(np.mean(sample_weight))
        super().fit(X, y)
        return self

    def score(self, X: Any, y: Any) -> float:  # type: ignore[override]
        return self.weight_


def test_what_fit_is_given_besides_is_split_like_the_data() -> None:
    _, labels = make_classification(40, random_state=0)
    found = search(Weighed(), cv=KFold(2)).fit(X[:40], labels, sample_weight=np.r_[np.zeros(20), np.ones(20)])
    assert found.cv_results_["split0_test_score"][0] == 1.0
    assert found.cv_results_["split1_test_score"][0] == 0.0
    assert found.best_estimator_.weight_ == 0.5


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"space": {"a": 3}}, InvalidSpec, "a: found 3, need kf.Float, kf.Int, kf.Categorical or kf.Ordinal"),
        ({"space": {"a": "abc"}}, InvalidSpec, "a: found 'abc', need kf.Float"),
        ({"space": {"a": {"type": "float", "min": 2, "max": 1}}}, InvalidSpec, "parameters.a.min: found 2"),
        ({"algorithm": "hyperbond"}, InvalidSpec, "did you mean 'hyperband'"),
        ({"max_trials": 0}, InvalidParameterError, "'max_trials' parameter"),
        ({"space": {"no_such": [1, 2]}}, ValueError, "Invalid parameter 'no_such'"),
    ],
)
def test_a_mistake_is_told(changes: Any, error: Any, said: str) -> None:
    with pytest.raises(error) as raised:
        search(**changes).fit(X, Y)
    assert said in str(raised.value)
