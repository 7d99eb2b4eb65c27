"""The CatBoost part: the model as JSON, the hashes of its categories, and its own predictions."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy_export import libraries
from understudy_export.arguments import add_package_options, read_options
from understudy_export.categories import read_categories
from understudy_export.cityhash import category_hash
from understudy_export.errors import ExportError
from understudy_export.export import Built, build
from understudy_export.schema import Scalar
from understudy_export.table import Table, read_csv, scalars

NODE = "catboost"
MODEL_PATH = f"nodes/{NODE}/model.json"
TASKS = {
    "Logloss": "binary",
    "CrossEntropy": "binary",
    "MultiClass": "multiclass",
    "MultiClassOneVsAll": "multiclass",
    "Quantile": "quantile",
    "MultiQuantile": "quantile",
    "RMSE": "regression",
    "MAE": "regression",
    "MAPE": "regression",
    "Huber": "regression",
    "Expectile": "regression",
    "LogCosh": "regression",
    "Lq": "regression",
    "LogLinQuantile": "regression",
    "Poisson": "regression",
    "Tweedie": "regression",
}
EXPONENTIAL = ("Poisson", "Tweedie")
# The combination of hashes in a key of a CTR table (CatBoost's CalcHash).
KEY_MULTIPLIER = 0x4906BA494954CB65
EMPTY = 2**64 - 1
# What people write for a missing category before they give the data to CatBoost, which takes none.
MISSING_TEXTS = (
    "nan",
    "",
    "NaN",
    "None",
    "missing",
    "Missing",
    "MISSING",
    "__NaN__",
    "NA",
    "N/A",
    "null",
    "<NA>",
    "NULL",
)
UNSEEN = "understudy-never-seen"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export catboost`."""
    command.add_argument("model", metavar="MODEL", help="told apart by the first bytes")
    command.add_argument(
        "--missing-text",
        metavar="TEXT",
        help="what a missing category was called in training (CatBoost itself takes none); default: what the model "
        "knows of " + ", ".join(map(repr, MISSING_TEXTS)) + ", else 'nan'",
    )
    add_package_options(command)


def run(arguments: argparse.Namespace) -> Built:
    """The package of the model that the command line names."""
    options = read_options(arguments)
    model = read(arguments.model, read_csv(options.train), getattr(arguments, "missing_text", None))
    if model.known_classes:
        options = replace(options, classes=libraries.class_list(model.known_classes, options.classes))
    return build(model, options)


@dataclass
class Model:
    """A CatBoost model: what `export.Model` asks of a library.

    `categorical` are the positions of its categorical features; `texts` by position what each code's category is called
    in training, and what a missing one is; both are known after `categories`.
    """

    booster: Any
    document: dict
    content: bytes
    train: Table
    missing_text: str | None
    objective: str
    task: str
    classes: int
    known_classes: tuple[Scalar, ...]
    quantile_levels: tuple[float, ...]
    features: list[str] | None
    count: int
    categorical: list[int]
    eval_metric: str | None
    node: str = NODE
    texts: dict[int, tuple[list[str], str]] = field(default_factory=dict)

    def column_names(self, columns: list[str], where: str) -> list[str]:
        """The training columns in the order of the model's features."""
        return libraries.columns_in_order(self.features, self.count, columns, where)

    def categories(self, columns: list[str], path: str | None) -> dict[str, list[Scalar]]:
        """The values of the categorical features by column; columns: names in the model's order.

        They come from the file of --categories, else from the training data: the model only knows hashes. An empty
        cell is a missing value, not a category.
        """
        known = read_categories(path, columns) if path is not None else {}
        texts = sorted(set(known) - {columns[j] for j in self.categorical})
        if texts:
            raise ExportError(f"categories for {', '.join(texts)}: the model has numbers there")
        result = {}
        for j in self.categorical:
            name = columns[j]
            values = known.get(name)
            if values is None:
                cells = sorted(set(self.train.column(name)) - {""})
                values = unique(scalars(cells))
            if not values:
                raise ExportError(f"column {name!r}: no value besides missing ones; CatBoost has it as a category")
            hashes = known_hashes(self.document, j)
            result[name] = values
            self.texts[j] = (spell(values, hashes), self.missing_text or spell_missing(hashes))
        return result

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """CatBoost's own output [rows, width] for rows [rows, features] in the order of the model's columns."""
        import pandas

        columns: dict[int, Any] = {}
        for j in range(self.count):
            if j in self.texts:
                texts, missing = self.texts[j]
                columns[j] = [
                    missing if code != code else texts[int(code)] if code >= 0 else self.unseen_text(j)
                    for code in matrix[:, j].tolist()
                ]
            else:
                columns[j] = matrix[:, j]
        pool = libraries.load("catboost").Pool(pandas.DataFrame(columns), cat_features=self.categorical)
        pool.set_feature_names(self.booster.feature_names_)
        kind = "Exponent" if self.objective in EXPONENTIAL else "Probability" if self.classes else "RawFormulaVal"
        outputs = np.asarray(self.booster.predict(pool, prediction_type=kind, thread_count=1), np.float64)
        outputs = outputs.reshape(len(matrix), -1)
        return outputs[:, 1:] if self.task == "binary" else outputs

    def unseen_text(self, position: int) -> str:
        """A text that no training row had, and whose hash is no other's."""
        texts, missing = self.texts[position]
        taken = {category_hash(text) for text in (*texts, missing)} | known_hashes(self.document, position)
        text = UNSEEN
        while category_hash(text) in taken:
            text += "-"
        return text

    def files(self) -> dict[str, bytes]:
        """The model's files by path in the package."""
        return {MODEL_PATH: self.content}

    def graph(self, columns: list[str]) -> dict:
        """graph.json with one node; columns: the schema's names in the order of the model's columns."""
        hashes = {
            columns[j]: {
                "codes": [category_hash(text) for text in texts],
                "missing": category_hash(missing),
                "unseen": category_hash(self.unseen_text(j)),
            }
            for j, (texts, missing) in self.texts.items()
        }
        node = {"name": self.node, "type": "catboost", "model": MODEL_PATH, "hashes": hashes, "features": columns}
        return {"nodes": [node], "output": self.node}

    def libraries(self) -> dict[str, str]:
        """Versions of what trains and predicts, by name."""
        return libraries.versions("catboost", "numpy", "pandas")


def unique(values: list[Scalar]) -> list[Scalar]:
    """The values, each once, sorted; numbers that are equal are one."""
    return sorted({value: value for value in values}.values())


def known_hashes(document: dict, position: int) -> set[int]:
    """The hashes of a categorical feature that the model knows: of its one-hot splits and of its own CTR tables."""
    found: set[int] = set()
    own: list[dict] = []
    for feature in document["features_info"].get("categorical_features", []):
        if feature["flat_feature_index"] == position:
            found.update(value & 0xFFFFFFFF for value in feature.get("values", []))
            own = [{"cat_feature_index": feature["feature_index"], "combination_element": "cat_feature_value"}]
    inverse = pow(KEY_MULTIPLIER, -1, 2**64)
    for identifier, table in document.get("ctr_data", {}).items():
        if json.loads(identifier)["identifier"] != own:
            continue
        for key in table["hash_map"][:: table["hash_stride"]]:
            if int(key) != EMPTY:
                # key = M * (M * x) with the sign-extended 32-bit hash x.
                found.add(int(key) * inverse * inverse & 0xFFFFFFFF)
    return found


def spell(values: list[Scalar], hashes: set[int]) -> list[str]:
    """What each category was called in training: the spelling of which the model knows most hashes.

    CatBoost takes texts and integers. Where a CSV has integers the training may have had the text of floats (`1.0`),
    and for booleans 0 and 1.
    """
    spellings = [[str(value) for value in values]]
    if all(isinstance(value, bool) for value in values):
        spellings = [[str(int(value)) for value in values], *spellings, [str(value).lower() for value in values]]
    elif all(isinstance(value, (int, float)) for value in values):
        spellings += [[repr(float(value)) for value in values]]
        spellings += [[str(int(value)) if float(value).is_integer() else repr(value) for value in values]]
    return max(spellings, key=lambda texts: sum(category_hash(text) in hashes for text in texts))


def spell_missing(hashes: set[int]) -> str:
    """What a missing category was called in training, of the usual words the first whose hash the model knows."""
    return next((text for text in MISSING_TEXTS if category_hash(text) in hashes), MISSING_TEXTS[0])


def read(path: str | Path, train: Table, missing_text: str | None = None) -> Model:
    """Read a saved model, .cbm or JSON. Raises ExportError for a file or a model that the format cannot carry."""
    catboost = libraries.load("catboost")
    name = Path(path).name
    head = Path(path).read_bytes()[:4]
    kind = "cbm" if head == b"CBM1" else "json" if head[:1] == b"{" else None
    if kind is None:
        raise ExportError(f"{name}: not a CatBoost model in .cbm or JSON: it begins with {head!r}")
    try:
        booster = catboost.CatBoost().load_model(str(path), format=kind)
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "model.json"
            booster.save_model(str(file), format="json")
            # CatBoost writes JSON that reads back exactly, but reads it itself with errors in the last place: what it
            # has read is what it predicts with, so that is written anew.
            content = file.read_bytes()
        document = json.loads(content)
    except (catboost.CatBoostError, ValueError) as error:
        raise ExportError(f"{name}: CatBoost cannot read it: {error}") from error
    information = document["features_info"]
    for other in ("text_features", "embedding_features"):
        if information.get(other):
            raise ExportError(f"{name}: {other.replace('_', ' ')}; the format takes numbers and categories")
    parameters = document["model_info"]["params"]
    parameters = json.loads(parameters) if isinstance(parameters, str) else parameters
    loss = parameters["loss_function"]
    objective = loss["type"]
    if objective not in TASKS:
        raise ExportError(
            f"{name}: loss function {objective!r}: its output is not known to the format; it takes {', '.join(TASKS)}"
        )
    task = TASKS[objective]
    bias = document["scale_and_bias"][1]
    width = len(bias) if isinstance(bias, list) else 1
    levels: tuple[float, ...] = ()
    if task == "quantile":
        levels = tuple(float(level) for level in str(loss["params"].get("alpha", "0.5")).split(","))
    names = list(booster.feature_names_)
    metric = parameters.get("metrics", {}).get("eval_metric", {}).get("type")
    return Model(
        booster=booster,
        document=document,
        content=content,
        train=train,
        missing_text=missing_text,
        objective=objective,
        task=task,
        classes={"binary": 2, "multiclass": width}.get(task, 0),
        known_classes=read_class_names(document["model_info"].get("class_params")),
        quantile_levels=levels,
        features=None if names == [str(j) for j in range(len(names))] else names,
        count=len(names),
        categorical=list(booster.get_cat_feature_indices()),
        eval_metric=metric,
    )


def read_class_names(parameters: Any) -> tuple[Scalar, ...]:
    """The classes that the model knows, in the order of its probabilities; none for what is no classification."""
    if not parameters:
        return ()
    parameters = json.loads(parameters) if isinstance(parameters, str) else parameters
    names = parameters.get("class_names", [])
    if parameters.get("class_label_type") == "Float":
        return tuple(float(value) for value in names)
    return tuple(names)
