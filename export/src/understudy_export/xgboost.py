"""The XGBoost part: what a saved Booster says about itself, its own predictions, and its node of the graph."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy_export import libraries
from understudy_export.arguments import add_package_options, read_options
from understudy_export.errors import ExportError
from understudy_export.export import Built, build
from understudy_export.schema import Scalar

NODE = "xgboost"
TASKS = {
    "binary:logistic": "binary",
    "multi:softprob": "multiclass",
    "multi:softmax": "multiclass",
    "reg:quantileerror": "quantile",
    "reg:squarederror": "regression",
    "reg:squaredlogerror": "regression",
    "reg:pseudohubererror": "regression",
    "reg:absoluteerror": "regression",
    "reg:logistic": "regression",
    "reg:gamma": "regression",
    "reg:tweedie": "regression",
    "count:poisson": "regression",
}
OLDEST = (1, 6)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export xgboost`."""
    command.add_argument("model", metavar="MODEL", help="JSON or UBJSON, told apart by the first bytes")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--best-iteration",
        action="store_true",
        default=None,
        help="cut the model after its best iteration; default: if a scikit-learn class of XGBoost saved it, as that "
        "class predicts",
    )
    which.add_argument("--all-trees", dest="best_iteration", action="store_false", help="keep every tree")
    add_package_options(command, without=("--categories",))


def run(arguments: argparse.Namespace) -> Built:
    """The package of the model that the command line names."""
    return build(read(arguments.model, arguments.best_iteration), read_options(arguments))


@dataclass(frozen=True)
class Model:
    """A Booster: what `export.Model` asks of a library. `features` are its columns' names, or None without names."""

    content: bytes
    booster: Any
    objective: str
    task: str
    classes: int
    quantile_levels: tuple[float, ...]
    features: list[str] | None
    eval_metric: str | None
    node: str = NODE

    def path(self) -> str:
        """The model's file in the package."""
        return f"nodes/{NODE}/model.{'json' if is_json(self.content) else 'ubj'}"

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """XGBoost's own output [rows, width] for dense rows [rows, features]; a zero is not missing, NaN is."""
        xgboost = libraries.load("xgboost")
        data = xgboost.DMatrix(
            np.asarray(matrix, np.float64),
            missing=np.nan,
            feature_names=self.booster.feature_names,
            feature_types=self.booster.feature_types,
            nthread=1,
        )
        return np.asarray(self.booster.predict(data), np.float64).reshape(len(matrix), -1)

    def files(self) -> dict[str, bytes]:
        """The model's files by path in the package."""
        return {self.path(): self.content}

    def graph(self, columns: list[str]) -> dict:
        """graph.json with one node; columns: the schema's names in the order of the model's columns."""
        node = {"name": self.node, "type": "xgboost", "model": self.path(), "features": columns}
        return {"nodes": [node], "output": self.node}

    def libraries(self) -> dict[str, str]:
        """Versions of what trains and predicts, by name."""
        return libraries.versions("xgboost", "numpy")

    def column_names(self, columns: list[str], where: str) -> list[str]:
        """The training columns in the order of the model's features."""
        return libraries.columns_in_order(self.features, self.booster.num_features(), columns, where)

    def categories(self, columns: list[str], path: str | None) -> dict[str, list[Scalar]]:
        """None: a model with categorical splits is refused."""
        return {}

    def accepts(self, matrix: np.ndarray) -> np.ndarray:
        """Which of the rows XGBoost takes: it refuses what is infinite in single precision."""
        return libraries.accepted(self.predict, matrix, (libraries.load("xgboost").core.XGBoostError,))


def is_json(content: bytes) -> bool:
    """JSON or UBJSON: both begin with a brace; in UBJSON a marker for the length of the first key follows."""
    return content[1:].lstrip()[:1] in (b'"', b"}")


def read(path: str | Path, best_iteration: bool | None = None) -> Model:
    """Read a saved model.

    best_iteration: cut the trees after it; None: if one of XGBoost's scikit-learn classes wrote the file, which then
    predict with these only. Raises ExportError for a file or a model that the format cannot carry.
    """
    xgboost = libraries.load("xgboost")
    name = Path(path).name
    content = Path(path).read_bytes()
    if content[:1] != b"{":
        raise ExportError(
            f"{name}: not an XGBoost model in JSON or UBJSON; save it with Booster.save_model('model.json')"
        )
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise ExportError(f"{name}: XGBoost cannot read it: {str(error).splitlines()[0]}") from error
    booster.set_param({"nthread": 1})
    document = json.loads(booster.save_raw("json"))
    version = tuple(document["version"][:2])
    if version < OLDEST:
        raise ExportError(f"{name}: written by XGBoost {version[0]}.{version[1]}; the format takes 1.6 and later")
    learner = document["learner"]
    attributes = learner["attributes"]
    objective = check(name, learner, booster)
    if best_iteration is None:
        best_iteration = "scikit_learn" in attributes and "best_iteration" in attributes
    changed = False
    if best_iteration:
        if "best_iteration" not in attributes:
            raise ExportError(f"{name}: --best-iteration: the model has none: it was trained without early stopping")
        last = int(attributes["best_iteration"])
        if last + 1 < booster.num_boosted_rounds():
            booster = booster[: last + 1]
            changed = True
    if objective == "multi:softmax":
        # Its prediction is a label; the same model gives the probabilities under the other name.
        booster.set_param({"objective": "multi:softprob"})
        changed = True
    if changed:
        content = bytes(booster.save_raw("json" if is_json(content) else "ubj"))
        fresh = xgboost.Booster({"nthread": 1})
        fresh.load_model(bytearray(content))
        booster = fresh
    task = TASKS[objective]
    levels: tuple[float, ...] = ()
    if task == "quantile":
        levels = read_levels(name, learner["objective"]["quantile_loss_param"]["quantile_alpha"])
    metrics = json.loads(booster.save_config())["learner"].get("metrics") or []
    return Model(
        content=content,
        booster=booster,
        objective=objective,
        task=task,
        classes={"binary": 2, "multiclass": int(learner["learner_model_param"]["num_class"])}.get(task, 0),
        quantile_levels=levels,
        features=booster.feature_names,
        eval_metric=metrics[-1]["name"] if metrics else None,
    )


def check(name: str, learner: dict, booster: Any) -> str:
    """The objective of a model that the format can carry. Raises ExportError for others, naming what it is."""
    kind = learner["gradient_booster"]["name"]
    if kind != "gbtree":
        raise ExportError(f"{name}: booster {kind!r}; the format takes gbtree")
    objective = learner["objective"]["name"]
    if objective not in TASKS:
        raise ExportError(
            f"{name}: objective {objective!r}: its output is not known to the format; it takes {', '.join(TASKS)}"
        )
    trees = learner["gradient_booster"]["model"]["trees"]
    if not trees:
        raise ExportError(f"{name}: the model has no trees")
    for position, tree in enumerate(trees):
        if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
            raise ExportError(f"{name}: tree {position} has vector leaves (multi_strategy=multi_output_tree)")
        if tree.get("categories_nodes"):
            raise ExportError(
                f"{name}: tree {position} has categorical splits (enable_categorical); encode them instead"
            )
    if "c" in (booster.feature_types or []):
        raise ExportError(f"{name}: categorical features (enable_categorical); encode them before training")
    targets = int(learner["learner_model_param"].get("num_target", "1"))
    if targets > 1 and objective != "reg:quantileerror":
        raise ExportError(f"{name}: {targets} targets; the format takes one")
    return objective


def read_levels(name: str, text: str) -> tuple[float, ...]:
    """The quantile levels: `0.5`, or `[0.1,0.5,0.9]`. Raises ExportError unless they increase within (0, 1)."""
    try:
        levels = tuple(float(level) for level in text.strip("[]() ").split(",") if level.strip())
    except ValueError:
        levels = ()
    if not levels or not all(0.0 < low < high for low, high in zip(levels, [*levels[1:], 1.0])):
        raise ExportError(f"{name}: quantile_alpha {text!r}; expected increasing numbers between 0 and 1")
    return levels
