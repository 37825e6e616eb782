"""Real problems: scikit-learn's regressors on the diabetes data; the loss is the root mean squared error."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, RationalQuadratic
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, HuberRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, QuantileTransformer, StandardScaler
from sklearn.svm import SVR

from problems.data import folds, rmse, split
from problems.problem import choice, ordered, problem, real, whole

Assignment = Mapping[str, Any]


def _validated(model: Any, rows: int) -> float:
    """Mean error over the folds, with inputs scaled to about unit variance."""
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, y, x_test, y_test in folds("diabetes", rows):
            losses.append(rmse(y_test, model.fit(x * 21, y).predict(x_test * 21)))
    return float(np.mean(losses))


@problem(
    "kernel-ridge-diabetes",
    "heldout",
    {
        "kernel": choice("linear", "rbf", "laplacian", "polynomial", "sigmoid"),
        "alpha": real(1e-4, 1e3, "log"),
        "gamma": real(1e-5, 10, "log", when={"kernel": ["rbf", "laplacian", "polynomial", "sigmoid"]}),
        "degree": real(1, 5, when={"kernel": ["polynomial"]}),
        "coef0": real(0, 5, when={"kernel": ["polynomial", "sigmoid"]}),
    },
)
def kernel_ridge_diabetes(a: Assignment) -> float:
    """Kernel ridge regression; the parameters of the kernel depend on its choice."""
    settings = dict(a) | ({"degree": round(a["degree"])} if "degree" in a else {})
    return _validated(KernelRidge(**settings), 200)


@problem(
    "gp-diabetes",
    "heldout",
    {
        "kernel": choice("rbf", "matern", "quadratic", "dot"),
        "nu": ordered(0.5, 1.5, 2.5, when={"kernel": ["matern"]}),
        "length": real(0.05, 500, "log", when={"kernel": ["rbf", "matern", "quadratic"]}),
        "mixture": real(0.01, 100, "log", when={"kernel": ["quadratic"]}),
        "constant": real(1e-3, 1e3, "log"),
        "noise": real(1e-5, 1e2, "log"),
        "trend": choice(True, False),
        "offset": real(0.01, 10, "log", when={"trend": [True]}),
    },
)
def gp_diabetes(a: Assignment) -> float:
    """A Gaussian process whose kernel is the search space."""
    kernel: Any = DotProduct(1.0)
    if a["kernel"] == "rbf":
        kernel = RBF(a["length"])
    elif a["kernel"] == "matern":
        kernel = Matern(a["length"], nu=a["nu"])
    elif a["kernel"] == "quadratic":
        kernel = RationalQuadratic(a["length"], a["mixture"])
    kernel = ConstantKernel(a["constant"]) * kernel
    if a["trend"]:
        kernel = kernel + ConstantKernel(0.01) * DotProduct(a["offset"])
    return _validated(GaussianProcessRegressor(kernel, alpha=a["noise"], optimizer=None, normalize_y=True), 150)


_PIPELINE = {
    "scaler": choice("standard", "quantile"),
    "expand": choice(True, False),
    "reduce": choice("none", "pca", "best"),
    "components": whole(1, 10, when={"reduce": ["pca"]}),
    "features": whole(1, 10, when={"reduce": ["best"]}),
    "model": choice("elastic", "neighbours", "svr", "huber"),
    "alpha": real(1e-3, 100, "log", when={"model": ["elastic", "huber"]}),
    "l1_ratio": real(0, 1, when={"model": ["elastic"]}),
    "epsilon": real(1.05, 4, when={"model": ["huber"]}),
    "n_neighbors": whole(1, 60, "log", when={"model": ["neighbours"]}),
    "weights": choice("uniform", "distance", when={"model": ["neighbours"]}),
    "C": real(0.1, 1e4, "log", when={"model": ["svr"]}),
    "gamma": real(1e-4, 1, "log", when={"model": ["svr"]}),
}


@problem("pipeline-diabetes", "heldout", _PIPELINE)
def pipeline_diabetes(a: Assignment) -> float:
    """A pipeline; each stage is a choice with parameters of its own."""
    scaler = StandardScaler() if a["scaler"] == "standard" else QuantileTransformer(n_quantiles=20, random_state=0)
    expand = PolynomialFeatures(2, include_bias=False) if a["expand"] else "passthrough"
    reduce: Any = "passthrough"
    if a["reduce"] == "pca":
        reduce = PCA(a["components"], random_state=0)
    elif a["reduce"] == "best":
        reduce = SelectKBest(f_regression, k=a["features"])
    if a["model"] == "elastic":
        model = ElasticNet(alpha=a["alpha"], l1_ratio=a["l1_ratio"], max_iter=300)
    elif a["model"] == "huber":
        model = HuberRegressor(alpha=a["alpha"], epsilon=a["epsilon"], max_iter=30)
    elif a["model"] == "svr":
        model = SVR(C=a["C"], gamma=a["gamma"], max_iter=5000)
    else:
        model = KNeighborsRegressor(a["n_neighbors"], weights=a["weights"])
    return _validated(make_pipeline(scaler, expand, reduce, model), 200)


@problem(
    "boosting-diabetes",
    "tuning",
    {
        "loss": choice("squared_error", "absolute_error", "huber"),
        "learning_rate": real(5e-3, 1, "log"),
        "n_estimators": whole(5, 100, "log"),
        "max_depth": whole(1, 6),
        "min_samples_leaf": whole(1, 40, "log"),
        "subsample": real(0.2, 1, step=0.1),
        "max_features": real(0.1, 1),
        "alpha": real(0.5, 0.99, when={"loss": ["huber"]}),
    },
    tabulated=True,
)
def boosting_diabetes(a: Assignment) -> float:
    """Gradient boosting, with eight parameters."""
    x, y, x_test, y_test = split("diabetes", 180, 200)
    return rmse(y_test, GradientBoostingRegressor(**a, random_state=0).fit(x, y).predict(x_test))
