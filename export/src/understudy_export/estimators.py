"""scikit-learn's estimators as nodes of FORMAT.md: forests and linear models."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from understudy_export.arrays import forest_arrays, join_trees, safetensors
from understudy_export.errors import ExportError

FORESTS = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor")
HISTOGRAM = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
LINEAR_CLASSIFIERS = ("LogisticRegression", "LogisticRegressionCV", "SGDClassifier")
LINEAR_REGRESSORS = (
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "ElasticNet",
    "ElasticNetCV",
    "SGDRegressor",
    "BayesianRidge",
    "HuberRegressor",
    "QuantileRegressor",
    "PoissonRegressor",
    "GammaRegressor",
    "TweedieRegressor",
)
KNOWN = (*FORESTS, *TREES, *BOOSTED, *HISTOGRAM, *LINEAR_CLASSIFIERS, *LINEAR_REGRESSORS)
# What BLAS may add in another order: the links differ by far more.
TOLERANCE = 1e-9
# Sums of fewer numbers have one order in NumPy.
STRANDS = 8
MAX_SINGLE_ROWS = 10_000

Inputs = Callable[[], tuple[Any, np.ndarray]]


@dataclass(frozen=True)
class Node:
    """A node of graph.json without `features`; `width` is of its output. A classifier is asked for probabilities."""

    kind: str
    name: str
    task: str
    width: int
    entry: dict
    files: dict[str, bytes] = field(default_factory=dict)
    quantile_levels: tuple[float, ...] = ()

    def predict(self, estimator: Any, frame: Any) -> np.ndarray:
        """scikit-learn's own output [rows, width].

        Histogram gradient boosting lies column by column in memory, so that with 8 classes or more its softmax adds in
        another order for many rows than for one. One row is what a server answers: unless they are very many, the rows
        are asked for one by one.
        """
        if self.task in ("binary", "multiclass"):
            single = self.kind in HISTOGRAM and self.width >= STRANDS and 1 < len(frame) <= MAX_SINGLE_ROWS
            if single:
                return np.concatenate([self.predict(estimator, frame[i : i + 1]) for i in range(len(frame))])
            return np.asarray(estimator.predict_proba(frame), np.float64)[:, -self.width :]
        return np.asarray(estimator.predict(frame), np.float64).reshape(-1, 1)


def read_node(estimator: Any, final: Any, where: str, classes: int, inputs: Inputs) -> Node:
    """The node of a fitted estimator.

    estimator: the whole model, which ends in `final`; classes: their number, 0 for a regressor; inputs: the training
    rows as the whole model and as the estimator gets them. Raises ExportError, naming the class, for what is not known.
    """
    kind = type(final).__name__
    where = f"{where}: {kind}"
    if not type(final).__module__.startswith("sklearn.") or kind not in KNOWN:
        raise ExportError(f"{where}: the exporter takes {', '.join(KNOWN)}")
    if not hasattr(final, "n_features_in_"):
        raise ExportError(f"{where}: not fitted")
    if getattr(final, "n_outputs_", 1) != 1:
        raise ExportError(f"{where}: {final.n_outputs_} targets; the format takes one")
    if kind in FORESTS:
        # Several threads add the trees' outputs in the order in which they arrive.
        final.n_jobs = 1
        return forest(kind, where, classes, forest_arrays([e.tree_ for e in final.estimators_]), average=True)
    if kind in TREES:
        # The mean of one: what an average of probabilities gives are probabilities.
        return forest(kind, where, classes, forest_arrays([final.tree_]), average=True)
    if kind in BOOSTED:
        return boosted(final, kind, where, classes)
    if kind in HISTOGRAM:
        return histogram(final, kind, where, classes)
    return linear(estimator, final, kind, where, classes, inputs)


def task_of(classes: int, quantile: float | None = None) -> str:
    """The task of manifest.json."""
    if classes:
        return "binary" if classes == 2 else "multiclass"
    return "regression" if quantile is None else "quantile"


def forest(
    kind: str,
    where: str,
    classes: int,
    arrays: dict[str, np.ndarray],
    *,
    start: list[float] | None = None,
    link: str = "identity",
    precision: str = "float",
    average: bool = False,
    quantile: float | None = None,
) -> Node:
    """A `forest` node. A binary forest that holds both classes' probabilities gives both."""
    width = arrays["value"].shape[1]
    start = [0.0] * width if start is None else start
    if not all(map(math.isfinite, start)):
        raise ExportError(f"{where}: it starts from {start}")
    path = "nodes/forest/arrays.safetensors"
    entry = {
        "name": "forest",
        "type": "forest",
        "arrays": path,
        "input": precision,
        "start": start,
        "average": average,
        "link": link,
    }
    files = {path: safetensors(arrays)}
    levels = () if quantile is None else (float(quantile),)
    return Node(kind, "forest", task_of(classes, quantile), len(start), entry, files, levels)


def boosted(final: Any, kind: str, where: str, classes: int) -> Node:
    """Gradient boosting: single precision, a constant start, each leaf times the learning rate."""
    if not (final.init_ == "zero" if isinstance(final.init_, str) else type(final.init_).__name__.startswith("Dummy")):
        raise ExportError(f"{where}: init is a {type(final.init_).__name__}; the format takes a constant start")
    stages, outputs = final.estimators_.shape
    start = final._raw_predict_init(np.zeros((1, final.n_features_in_), np.float32))[0]
    link, scale = ("sigmoid" if outputs == 1 else "softmax", 1.0) if classes else ("identity", 1.0)
    if final.loss == "exponential":
        # Its link is the sigmoid of twice the sum; twice is exact.
        scale = 2.0
    rate = float(final.learning_rate)
    arrays = forest_arrays(
        [tree.tree_ for tree in final.estimators_.ravel()],
        leaf=lambda value: value[:, 0, :] * rate * scale,
        outputs=None if outputs == 1 else np.tile(np.arange(outputs), stages),
    )
    quantile = final.alpha if final.loss == "quantile" else None
    # NaN is refused by scikit-learn here.
    arrays.pop("missing_left")
    return forest(kind, where, classes, arrays, start=(start * scale).tolist(), link=link, quantile=quantile)


def histogram(final: Any, kind: str, where: str, classes: int) -> Node:
    """Histogram gradient boosting: double precision, categories as sets of codes."""
    start = np.atleast_1d(np.asarray(final._baseline_prediction).squeeze())
    if start.dtype != np.float64:
        raise ExportError(f"{where}: it predicts in {start.dtype}; expected float64")
    parts, sets, outputs = [], [], []
    for stage in final._predictors:
        for output, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaves = nodes["is_leaf"].astype(bool)
            categorical = nodes["is_categorical"].astype(bool) & ~leaves
            part = {
                "left": np.where(leaves, -1, nodes["left"].astype(np.int64)),
                "right": np.where(leaves, -1, nodes["right"].astype(np.int64)),
                "feature": np.where(leaves, 0, nodes["feature_idx"]),
                "threshold": np.where(leaves | categorical, 0.0, nodes["num_threshold"]),
                "missing_left": np.where(leaves, 0, nodes["missing_go_to_left"]),
                "category": np.where(categorical, nodes["bitset_idx"].astype(np.int64) + len(sets), -1),
                "value": nodes["value"][:, None],
            }
            parts.append(part)
            sets.extend(predictor.raw_left_cat_bitsets)
            outputs.append(output)
    arrays = join_trees(parts, outputs if len(start) > 1 else None)
    if sets:
        arrays["sets"] = np.array(sets, np.uint32)
    else:
        arrays.pop("category")
    link = ("sigmoid" if len(start) == 1 else "softmax") if classes else "identity"
    if not classes and type(final._loss.link).__name__ == "LogLink":
        link = "exp"
    quantile = final.quantile if not classes and final.loss == "quantile" else None
    return forest(kind, where, classes, arrays, start=start.tolist(), link=link, precision="double", quantile=quantile)


def linear(estimator: Any, final: Any, kind: str, where: str, classes: int, inputs: Inputs) -> Node:
    """A `linear` node; the link is the one that gives the library's own output on the training rows."""
    if kind == "SGDClassifier" and final.loss != "log_loss":
        raise ExportError(
            f"{where}: loss {final.loss!r} gives no probabilities that the format has; it takes 'log_loss'"
        )
    coefficients = np.asarray(final.coef_.toarray() if hasattr(final.coef_, "toarray") else final.coef_, np.float64)
    coefficients = np.atleast_2d(coefficients)
    outputs = len(coefficients)
    intercepts = np.broadcast_to(np.asarray(final.intercept_, np.float64).ravel(), outputs)
    if outputs != (1 if classes <= 2 else classes):
        raise ExportError(f"{where}: {outputs} targets; the format takes one")
    links = (
        ("identity", "exp") if not classes else ("sigmoid", "binary_softmax") if classes == 2 else ("softmax", "ovr")
    )
    frame, matrix = inputs()
    quantile = final.quantile if kind == "QuantileRegressor" else None
    for link in links:
        chosen = (coefficients, intercepts)
        if link == "binary_softmax":
            chosen = (np.concatenate([-coefficients, coefficients]), np.concatenate([-intercepts, intercepts]))
        entry = {
            "name": "linear",
            "type": "linear",
            "coefficients": chosen[0].tolist(),
            "intercepts": chosen[1].tolist(),
            "link": link,
        }
        levels = () if quantile is None else (float(quantile),)
        width = classes if classes > 2 else 1
        node = Node(kind, "linear", task_of(classes, quantile), width, entry, {}, levels)
        expected = node.predict(estimator, frame)
        with np.errstate(all="ignore"):
            found = apply_link(link, matrix @ chosen[0].T + chosen[1])
        if np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            return node
    raise ExportError(f"{where}: its output on the training rows is none of {', '.join(links)} of the linear sum")


def apply_link(link: str, sums: np.ndarray) -> np.ndarray:
    """A link of FORMAT.md on [rows, outputs]."""
    if link == "sigmoid":
        return 1.0 / (1.0 + np.exp(-sums))
    if link == "exp":
        return np.exp(sums)
    if link == "ovr":
        each = 1.0 / (1.0 + np.exp(-sums))
        return each / each.sum(axis=1, keepdims=True)
    if link in ("softmax", "binary_softmax"):
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return shares if link == "softmax" else shares[:, 1:]
    return sums
