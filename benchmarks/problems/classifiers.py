"""Real problems: scikit-learn's classifiers on digits, wine and breast cancer; the loss is error or log-loss."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from problems.data import folds, log_loss, split
from problems.problem import choice, ordered, problem, real, whole

Assignment = Mapping[str, Any]
SCALERS = {"none": "passthrough", "standard": StandardScaler(), "minmax": MinMaxScaler()}


def _validated(model: Any, name: str, rows: int) -> float:
    """Mean log-loss of a classifier over the folds."""
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, y, x_test, y_test in folds(name, rows):
            model.fit(x, y)
            losses.append(log_loss(y_test, model.predict_proba(x_test), model.classes_))
    return float(np.mean(losses))


@problem(
    "svc-cancer",
    "tuning",
    {
        "scaler": choice("none", "standard", "minmax"),
        "C": real(1e-4, 1e4, "log"),
        "kernel": choice("linear", "rbf", "poly", "sigmoid"),
        "gamma": real(1e-6, 10, "log", when={"kernel": ["rbf", "poly", "sigmoid"]}),
        "degree": whole(2, 5, when={"kernel": ["poly"]}),
        "coef0": real(-1, 1, when={"kernel": ["poly", "sigmoid"]}),
    },
)
def svc_cancer(a: Assignment) -> float:
    """Squared hinge loss of a support vector machine, at most 4 per row."""
    settings = {name: value for name, value in a.items() if name != "scaler"}
    model = make_pipeline(SCALERS[a["scaler"]], SVC(**settings, max_iter=3000, cache_size=20))
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, y, x_test, y_test in folds("breast_cancer", 210):
            margin = model.fit(x, y).decision_function(x_test) * np.where(y_test == 1, 1, -1)
            losses.append(np.clip(1 - margin, 0, 2) ** 2)
    return float(np.concatenate(losses).mean())


@problem(
    "logistic-cancer",
    "tuning",
    {
        "scaler": choice("none", "standard", "minmax"),
        "solver": choice("lbfgs", "liblinear", "saga"),
        "C": real(1e-5, 1e4, "log"),
        "lasso": choice(True, False, when={"solver": ["liblinear"]}),
        "l1_ratio": real(0, 1, when={"solver": ["saga"]}),
        "max_iter": whole(2, 60, "log"),
        "class_weight": choice("none", "balanced"),
    },
)
def logistic_cancer(a: Assignment) -> float:
    """Log-loss of a logistic regression whose solver determines the available penalties."""
    ratio = a.get("l1_ratio", 1.0 if a.get("lasso") else 0.0)
    weight = None if a["class_weight"] == "none" else "balanced"
    settings = {"C": a["C"], "solver": a["solver"], "max_iter": a["max_iter"], "l1_ratio": ratio}
    model = LogisticRegression(**settings, class_weight=weight, random_state=0)
    return _validated(make_pipeline(SCALERS[a["scaler"]], model), "breast_cancer", 210)


@problem(
    "knn-digits",
    "tuning",
    {
        "n_neighbors": whole(1, 60, "log"),
        "weights": choice("uniform", "distance"),
        "metric": choice("euclidean", "manhattan", "chebyshev", "cosine"),
        "components": whole(2, 48),
        "whiten": choice(True, False),
        "scaler": choice("none", "standard", "minmax"),
    },
)
def knn_digits(a: Assignment) -> float:
    """Log-loss of nearest neighbours after a principal component analysis."""
    x, y, x_test, y_test = split("digits", 200, 250)
    reduce = make_pipeline(SCALERS[a["scaler"]], PCA(a["components"], whiten=a["whiten"], random_state=0))
    near = KNeighborsClassifier(a["n_neighbors"], weights=a["weights"], metric=a["metric"])
    model = make_pipeline(reduce, near).fit(x, y)
    return log_loss(y_test, model.predict_proba(x_test), model.classes_)


@problem(
    "tree-cancer",
    "tuning",
    {
        "criterion": choice("gini", "entropy"),
        "max_depth": whole(1, 16),
        "min_samples_split": whole(2, 60),
        "min_samples_leaf": whole(1, 40, "log"),
        "max_features": real(0.05, 1),
        "ccp_alpha": real(1e-5, 0.1, "log"),
    },
    noise=0.01,
)
def tree_cancer(a: Assignment) -> float:
    """Log-loss of a decision tree: piecewise constant, with a little noise."""
    return _validated(DecisionTreeClassifier(**a, random_state=0), "breast_cancer", 300)


_PIPELINE = {
    "scaler": choice("none", "standard", "minmax", "quantile"),
    "reduce": choice("none", "pca", "best"),
    "components": whole(1, 13, when={"reduce": ["pca"]}),
    "whiten": choice(True, False, when={"reduce": ["pca"]}),
    "features": whole(1, 13, when={"reduce": ["best"]}),
    "model": choice("logistic", "neighbours", "tree", "discriminant"),
    "C": real(1e-4, 1e4, "log", when={"model": ["logistic"]}),
    "n_neighbors": whole(1, 50, "log", when={"model": ["neighbours"]}),
    "p": ordered(1, 2, 3, 4, when={"model": ["neighbours"]}),
    "max_depth": whole(1, 10, when={"model": ["tree"]}),
    "min_samples_leaf": whole(1, 30, when={"model": ["tree"]}),
    "shrinkage": real(1e-4, 0.999, "logit", when={"model": ["discriminant"]}),
}


@problem("pipeline-wine", "tuning", _PIPELINE)
def pipeline_wine(a: Assignment) -> float:
    """Log-loss of a pipeline; each stage is a choice with parameters of its own."""
    quantile = QuantileTransformer(n_quantiles=20, random_state=0)
    reduce: Any = "passthrough"
    if a["reduce"] == "pca":
        reduce = PCA(a["components"], whiten=a["whiten"], random_state=0)
    elif a["reduce"] == "best":
        reduce = SelectKBest(f_classif, k=a["features"])
    if a["model"] == "logistic":
        model = LogisticRegression(C=a["C"], max_iter=40)
    elif a["model"] == "neighbours":
        model = KNeighborsClassifier(a["n_neighbors"], p=a["p"])
    elif a["model"] == "tree":
        model = DecisionTreeClassifier(max_depth=a["max_depth"], min_samples_leaf=a["min_samples_leaf"], random_state=0)
    else:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=a["shrinkage"])
    scaler = (SCALERS | {"quantile": quantile})[a["scaler"]]
    return _validated(make_pipeline(scaler, reduce, model), "wine", 120)


@problem(
    "sgd-digits",
    "heldout",
    {
        "loss": choice("hinge", "log_loss", "modified_huber", "perceptron"),
        "penalty": choice("l1", "l2", "elasticnet"),
        "l1_ratio": real(0, 1, when={"penalty": ["elasticnet"]}),
        "alpha": real(1e-7, 1, "log"),
        "learning_rate": choice("constant", "optimal", "invscaling", "adaptive"),
        "eta0": real(1e-5, 10, "log", when={"learning_rate": ["constant", "invscaling", "adaptive"]}),
        "power_t": real(0.05, 0.95, when={"learning_rate": ["invscaling"]}),
        "average": choice(True, False),
        "max_iter": whole(1, 20, "log"),
    },
    noise=0.01,
)
def sgd_digits(a: Assignment) -> float:
    """Error of a linear classifier trained by stochastic gradient descent, with a conditional schedule and noise."""
    x, y, x_test, y_test = split("digits", 200, 600)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SGDClassifier(**{"eta0": 0.01} | dict(a), random_state=0, tol=None).fit(x / 16, y)
    return float(np.mean(model.predict(x_test / 16) != y_test))


@problem(
    "adaboost-digits",
    "heldout",
    {
        "n_estimators": whole(1, 50, "log"),
        "learning_rate": real(0.01, 3, "log"),
        "max_depth": whole(1, 10),
        "min_samples_leaf": whole(1, 30, "log"),
        "max_features": real(0.02, 1, "log"),
        "criterion": choice("gini", "entropy"),
    },
    tabulated=True,
)
def adaboost_digits(a: Assignment) -> float:
    """Error of boosted trees."""
    x, y, x_test, y_test = split("digits", 250, 500)
    names = ("max_depth", "min_samples_leaf", "max_features", "criterion")
    tree = DecisionTreeClassifier(**{name: a[name] for name in names})
    model = AdaBoostClassifier(tree, n_estimators=a["n_estimators"], learning_rate=a["learning_rate"], random_state=0)
    return float(np.mean(model.fit(x, y).predict(x_test) != y_test))


@problem(
    "forest-digits",
    "heldout",
    {
        "n_estimators": whole(3, 60, "log"),
        "criterion": choice("gini", "entropy"),
        "max_depth": whole(2, 20),
        "min_samples_leaf": whole(1, 20, "log"),
        "max_features": real(0.02, 1, "log"),
        "bootstrap": choice(True, False),
        "max_samples": real(0.1, 1, when={"bootstrap": [True]}),
    },
    tabulated=True,
)
def forest_digits(a: Assignment) -> float:
    """Log-loss of a random forest."""
    x, y, x_test, y_test = split("digits", 300, 500)
    model = RandomForestClassifier(**a, random_state=0).fit(x, y)
    return log_loss(y_test, model.predict_proba(x_test), model.classes_)


@problem(
    "hist-cancer",
    "heldout",
    {
        "learning_rate": real(5e-3, 1, "log"),
        "max_iter": whole(5, 40, "log"),
        "max_leaf_nodes": whole(2, 32, "log"),
        "max_depth": whole(1, 10),
        "min_samples_leaf": whole(1, 60, "log"),
        "l2_regularization": real(1e-8, 100, "log"),
        "max_features": real(0.05, 1),
        "max_bins": ordered(4, 8, 16, 32, 64, 128, 255),
        "balanced": choice(True, False),
    },
    tabulated=True,
)
def hist_cancer(a: Assignment) -> float:
    """Log-loss of histogram gradient boosting, with nine parameters."""
    settings = {name: value for name, value in a.items() if name != "balanced"}
    weight = "balanced" if a["balanced"] else None
    model = HistGradientBoostingClassifier(**settings, class_weight=weight, early_stopping=False, random_state=0)
    x, y, x_test, y_test = split("breast_cancer", 250, 300)
    return log_loss(y_test, model.fit(x, y).predict_proba(x_test), model.classes_)


@problem(
    "mlp-digits",
    "tuning",
    {
        "solver": choice("sgd", "adam"),
        "learning_rate_init": real(1e-4, 1, "log"),
        "momentum": real(0, 0.99, when={"solver": ["sgd"]}),
        "beta_1": real(0.5, 0.999, "logit", when={"solver": ["adam"]}),
        "activation": choice("relu", "tanh", "logistic"),
        "units": whole(4, 64, "log"),
        "layers": whole(1, 3),
        "alpha": real(1e-6, 10, "log"),
        "batch_size": ordered(16, 32, 64, 128),
        "epochs": whole(2, 20, "log"),
    },
    noise=0.03,
    tabulated=True,
)
def mlp_digits(a: Assignment) -> float:
    """Log-loss of a small neural network, with a conditional optimizer and the noise of its initialisation."""
    x, y, x_test, y_test = split("digits", 300, 600)
    settings = {name: value for name, value in a.items() if name not in ("units", "layers", "epochs")}
    shape = (a["units"],) * a["layers"]
    model = MLPClassifier(shape, **settings, max_iter=a["epochs"], n_iter_no_change=100, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x / 16, y)
    return log_loss(y_test, model.predict_proba(x_test / 16), model.classes_)
