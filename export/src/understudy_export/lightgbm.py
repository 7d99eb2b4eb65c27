"""The LightGBM part: what a text model says about itself, its own predictions, and its node of the graph."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import lightgbm
import numpy as np

from understudy_export.arguments import add_package_options, read_options
from understudy_export.categories import read_categories
from understudy_export.errors import ExportError
from understudy_export.export import Built, build
from understudy_export.schema import Scalar

NODE = "lightgbm"
MODEL_PATH = f"nodes/{NODE}/model.txt"
TASKS = {
    "binary": "binary",
    "multiclass": "multiclass",
    "multiclassova": "multiclass",
    "quantile": "quantile",
    "regression": "regression",
    "regression_l1": "regression",
    "huber": "regression",
    "fair": "regression",
    "mape": "regression",
    "poisson": "regression",
    "gamma": "regression",
    "tweedie": "regression",
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export lightgbm`."""
    command.add_argument("model", metavar="MODEL.txt", help="text model, version v3 or v4")
    add_package_options(command)


def run(arguments: argparse.Namespace) -> Built:
    """The package of the model that the command line names."""
    return build(load(arguments.model), read_options(arguments))


@dataclass(frozen=True)
class Model:
    """A text model: what `export.Model` asks of a library.

    `features` are its columns' names in order; `categorical` the positions it splits as categories.
    """

    content: bytes
    booster: lightgbm.Booster
    objective: str
    task: str
    classes: int
    quantile_levels: tuple[float, ...]
    features: list[str]
    categorical: list[int]
    pandas_categories: list | None
    eval_metric: str | None
    node: str = NODE

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """LightGBM's own output [rows, width] for rows [rows, features] in the order of the model's columns."""
        outputs = np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)
        return outputs.reshape(len(matrix), -1)

    def files(self) -> dict[str, bytes]:
        """The model's files by path in the package: the text as it was read."""
        return {MODEL_PATH: self.content}

    def graph(self, columns: list[str]) -> dict:
        """graph.json with one node; columns: the schema's names in the order of the model's columns."""
        node = {"name": self.node, "type": "lightgbm", "model": MODEL_PATH, "features": columns}
        return {"nodes": [node], "output": self.node}

    def libraries(self) -> dict[str, str]:
        """Versions of what trains and predicts, by name."""
        return {name: metadata.version(name) for name in ("lightgbm", "numpy")}

    def column_names(self, columns: list[str], where: str) -> list[str]:
        """The training columns in the order of the model's features.

        LightGBM replaces blanks in a name by `_`; such a column keeps its own name in the package. Raises ExportError
        naming what is missing on either side.
        """
        by_model_name = {re.sub(r"\s", "_", column): column for column in columns}
        if len(by_model_name) != len(columns):
            same = sorted(set(columns) - set(by_model_name.values()))
            raise ExportError(f"{where}: with blanks as `_`, column {', '.join(map(repr, same))} has another's name")
        missing = [feature for feature in self.features if feature not in by_model_name]
        extra = [column for name, column in by_model_name.items() if name not in self.features]
        if missing or extra:
            raise ExportError(
                f"the model's features and the columns of {where} differ: only in the model: "
                f"{', '.join(missing) or 'none'}; only in the table: {', '.join(extra) or 'none'}"
            )
        return [by_model_name[feature] for feature in self.features]

    def categories(self, columns: list[str], path: str | None) -> dict[str, list[Scalar]]:
        """Categories by column name; columns: names in the model's order, path: the categories file or None.

        Without a file the model's pandas trailer counts. Raises ExportError when a categorical feature has none.
        """
        known: dict[str, list[Scalar]] = {}
        if path is not None:
            known = read_categories(path, columns)
        elif self.pandas_categories is not None:
            if len(self.pandas_categories) != len(self.categorical):
                raise ExportError(
                    f"pandas_categorical has {len(self.pandas_categories)} lists and the model {len(self.categorical)} "
                    "categorical features: which belongs to which is not known; give --categories"
                )
            known = {columns[j]: values for j, values in zip(self.categorical, self.pandas_categories)}
        without = [columns[j] for j in self.categorical if columns[j] not in known]
        if without:
            raise ExportError(
                f"the model has categorical features without known categories: {', '.join(without)}; give --categories"
            )
        return known


def load(path: str | Path) -> Model:
    """Read a text model.

    Raises ExportError, naming the reason, for anything the package format cannot carry: another version than v3 or v4,
    linear trees, an objective without a known output (custom, ranking, cross entropy), no trees.
    """
    name = Path(path).name
    content = Path(path).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ExportError(f"{name}: not a LightGBM text model: {error}") from error
    if not text.startswith("tree\n"):
        raise ExportError(f"{name}: not a LightGBM text model: it starts with {text[:20]!r}, expected 'tree'")
    header = dict(line.partition("=")[::2] for line in text.partition("\nTree=")[0].splitlines())
    parameters = dict(re.findall(r"^\[(\w+): (.*)\]$", text, re.MULTILINE))
    if header.get("version") not in ("v3", "v4"):
        raise ExportError(f"{name}: model version {header.get('version')!r}; the format takes v3 and v4")
    if re.search(r"^is_linear=1$", text, re.MULTILINE) or parameters.get("linear_tree") == "1":
        raise ExportError(f"{name}: linear_tree=1: the format has no trees with linear leaves; train without it")
    if "\nTree=" not in text:
        raise ExportError(f"{name}: the model has no trees")
    objective, *options = header.get("objective", "").split() or [""]
    if objective not in TASKS:
        raise ExportError(
            f"{name}: objective {objective or 'none (a custom objective)'!r}: its output is not known to the format; "
            f"it takes {', '.join(TASKS)}"
        )
    settings = dict(option.partition(":")[::2] for option in options)
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ExportError(f"{name}: LightGBM cannot read it: {error}") from error
    task = TASKS[objective]
    level = float(settings.get("alpha", parameters.get("alpha", "nan")))
    if task == "quantile" and not 0.0 < level < 1.0:
        raise ExportError(f"{name}: objective quantile with alpha {level}; expected a number between 0 and 1")
    return Model(
        content=content,
        booster=booster,
        objective=objective,
        task=task,
        classes={"binary": 2, "multiclass": int(header["num_class"])}.get(task, 0),
        quantile_levels=(level,) if task == "quantile" else (),
        features=header["feature_names"].split(),
        categorical=categorical_features(text, header["feature_infos"].split()),
        pandas_categories=pandas_categories(text),
        eval_metric=parameters.get("metric") or None,
    )


def categorical_features(text: str, infos: list[str]) -> list[int]:
    """Positions of the features that the model splits, or saw in training, as categories, in order."""
    found = {j for j, info in enumerate(infos) if info != "none" and not info.startswith("[")}
    declared = re.search(r"^\[categorical_feature: ([0-9,]+)\]$", text, re.MULTILINE)
    if declared:
        found.update(int(position) for position in declared[1].split(","))
    splits = re.findall(r"^split_feature=(.*)$", text, re.MULTILINE)
    for features, kinds in zip(splits, re.findall(r"^decision_type=(.*)$", text, re.MULTILINE)):
        found.update(int(f) for f, kind in zip(features.split(), kinds.split()) if int(kind) & 1)
    return sorted(found)


def pandas_categories(text: str) -> list | None:
    """The `pandas_categorical:` trailer: a list of categories for each categorical column in order, or None."""
    trailer = re.search(r"^pandas_categorical:(.*)$", text, re.MULTILINE)
    return (json.loads(trailer[1]) or None) if trailer else None
