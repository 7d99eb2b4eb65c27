"""What comes before an estimator: the training columns, their categories, and a pipeline's columns of the format."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy_export import libraries
from understudy_export.errors import ExportError
from understudy_export.pipeline import (
    Coded,
    Column,
    Number,
    Pipeline,
    Raw,
    Use,
    categories_of,
    column_kind,
    graph_columns,
    table,
    unseen_value,
)
from understudy_export.schema import Scalar, infer_feature
from understudy_export.table import Table


@dataclass(frozen=True)
class Prepared:
    """Transformers on training columns.

    order: the features in the order of the model's columns; names: as the model knows them, None if it does not; known
    and missing: categories, and what a missing category is, by feature; columns: what the estimator gets.
    """

    steps: list[tuple[str, Any]]
    where: str
    order: list[str]
    names: list[str] | None
    known: dict[str, list[Scalar]]
    missing: dict[str, Any]
    columns: list[Column]
    train: Table

    def frame(self, matrix: np.ndarray) -> Any:
        """The table that the first step gets, of rows [rows, features]: codes become categories again."""
        columns: list[list] = []
        kinds = [column_kind([*self.known.get(name, ()), self.missing.get(name, 0.0)]) for name in self.order]
        for j, feature in enumerate(self.order):
            column = matrix[:, j].tolist()
            if feature in self.known:
                values, none = self.known[feature], self.missing.get(feature, math.nan)
                other = unseen_value(values)
                column = [none if code != code else values[int(code)] if code >= 0 else other for code in column]
            columns.append(column)
        return table(columns, kinds, self.names)

    def transform(self, frame: Any) -> np.ndarray:
        """What the estimator gets of a table, by the fitted transformers themselves; [rows, columns]."""
        for _, step in self.steps:
            if not (step is None or isinstance(step, str)):
                frame = step.transform(frame)
        return frame.toarray() if hasattr(frame, "toarray") else np.asarray(frame, np.float64)

    def rows(self, limit: int | None = None) -> np.ndarray:
        """The training rows in the model [rows, features], at most `limit`."""
        features = [infer_feature(n, self.train.column(n), self.known.get(n), self.train.path) for n in self.order]
        matrix = [[f.encode(f.parse(cell)) for cell in self.train.column(f.name)[:limit]] for f in features]
        return np.array(matrix, np.float64).T.copy()

    def refused_missing(self, accepts: Callable[[np.ndarray], np.ndarray]) -> set[str]:
        """The categorical features where the library takes no missing value; accepts: which rows it takes."""
        found = set()
        for j, name in enumerate(self.order):
            if name in self.known and "" not in self.train.column(name):
                row = self.rows(1)
                row[0, j] = math.nan
                if not accepts(row)[0]:
                    found.add(name)
        return found

    def graph(self, node: dict, columns: list[str]) -> dict:
        """graph.json of one node, which reads the prepared columns; columns: the names of the features."""
        entries, names = graph_columns(self.columns, self.where, set(columns))
        graph: dict = {"columns": entries} if entries else {}
        return {**graph, "nodes": [{**node, "features": names}], "output": node["name"]}


def prepare(
    model: Any, steps: list[tuple[str, Any]], final: Any, where: str, train: Table, columns: list[str]
) -> Prepared:
    """Read the transformers of a model.

    model: what takes the table; final: the estimator at the end, or None; columns: the features of the training data.
    Raises ExportError, naming the step and the class, for what the format cannot carry.
    """
    names = getattr(model, "feature_names_in_", None)
    names = None if names is None else [str(name) for name in names]
    order = libraries.columns_in_order(names, getattr(model, "n_features_in_", len(columns)), columns, train.path)

    def walk(pipeline: Pipeline, current: list[Column]) -> list[Column]:
        for name, step in steps:
            current = pipeline.apply(step, f"{where}: step {name!r}" if name else where, current)
        current = categorical_of(pipeline, final, where, current)
        pipeline.finish(current, where)
        return current

    pipeline = Pipeline(order)
    walk(pipeline, [Raw(feature) for feature in order])
    known, missing = read_uses(pipeline.uses, train, where)
    start: list[Column] = [
        Coded(name, tuple(known[name]), missing[name], unseen_value(known[name])) if name in known else Number(name)
        for name in order
    ]
    return Prepared(steps, where, order, names, known, missing, walk(Pipeline(order), start), train)


def split_steps(estimator: Any, where: str) -> tuple[list[tuple[str, Any]], Any]:
    """The transformers and the estimator of a Pipeline, nested ones too."""
    if type(estimator).__name__ != "Pipeline":
        return [], estimator
    *steps, (name, final) = estimator.steps
    more, final = split_steps(final, f"{where}: step {name!r}")
    return [*steps, *more], final


def categorical_of(pipeline: Pipeline, final: Any, where: str, columns: list[Column]) -> list[Column]:
    """Histogram gradient boosting encodes its categorical features itself, and puts them first."""
    inner = getattr(final, "_preprocessor", None)
    if not type(final).__name__.startswith("HistGradientBoosting"):
        return columns
    if inner is None:
        if getattr(final, "is_categorical_", None) is not None:
            raise ExportError(f"{where}: categorical features as scikit-learn before 1.4 kept them; train it anew")
        return columns
    chosen = np.asarray(final.is_categorical_)
    encoder = inner.named_transformers_["encoder"]
    coded = [column for column, flag in zip(columns, chosen) if flag]
    others = [column for column, flag in zip(columns, chosen) if not flag]
    return [*pipeline.apply(encoder, f"{where}: categorical features", coded), *others]


def read_uses(uses: dict[str, Use], train: Table, where: str) -> tuple[dict[str, list[Scalar]], dict[str, Any]]:
    """The categories by feature, and what a missing one is. Raises ExportError for a feature used in both ways."""
    known: dict[str, list[Scalar]] = {}
    missing: dict[str, Any] = {}
    for feature, use in uses.items():
        if not use.encoders:
            continue
        if use.numbers:
            raise ExportError(
                f"{where}: feature {feature!r} is a category in {use.encoders[0]} and a number in {use.numbers[0]}; "
                "give the model two columns"
            )
        values = categories_of(use, f"{where}: {use.encoders[0]}, feature {feature!r}")
        if not values:
            raise ExportError(f"{where}: {use.encoders[0]}: feature {feature!r} has no categories but missing ones")
        cells = set(train.column(feature)) - {""}
        if all(isinstance(value, str) for value in values) and not cells & set(map(str, values)):
            # Texts of floats, where the training data had integers and missing values.
            raise ExportError(
                f"{where}: feature {feature!r}: none of its values in {train.path} ({sorted(cells)[:3]}) is one of the "
                f"encoder's categories ({values[:3]})"
            )
        known[feature] = values
        missing[feature] = use.missing
    return known, missing
