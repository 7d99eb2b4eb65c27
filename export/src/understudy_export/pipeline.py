"""scikit-learn's transformers as columns of FORMAT.md: what they make of each value, in doubles.

A column of the matrix between two steps is a `Number`, a feature with operations, or a `Coded`: a value for each
category of a feature. What a transformer makes of a category is not computed here: the fitted transformer is asked,
once for each category.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from understudy_export.errors import ExportError
from understudy_export.golden import UNSEEN
from understudy_export.schema import MAX_NAME_BYTES, Scalar


@dataclass(frozen=True)
class Raw:
    """A feature as it comes, while its kind is being found out."""

    feature: str


@dataclass(frozen=True)
class Number:
    """A numeric feature, then operations."""

    feature: str
    ops: tuple = ()

    def then(self, *ops: Any) -> Number:
        return Number(self.feature, (*self.ops, *ops))


@dataclass(frozen=True)
class Coded:
    """A value for each category of a feature in the order of the codes, for a missing one, and for an unseen one."""

    feature: str
    values: tuple
    missing: Any
    unseen: Any


Column = Union[Raw, Number, Coded, None]
ENCODERS = ("OneHotEncoder", "OrdinalEncoder")
SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "QuantileTransformer")


@dataclass
class Use:
    """How the pipeline uses one feature: the categories that its encoders know, and where it is used as a number."""

    categories: list = field(default_factory=list)
    missing: Any = math.nan
    encoders: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)


class Pipeline:
    """Reads fitted transformers; `uses` by feature is filled while columns are `Raw`."""

    def __init__(self, features: list[str]) -> None:
        self.uses: dict[str, Use] = {feature: Use() for feature in features}

    def apply(self, transformer: Any, where: str, columns: list[Column]) -> list[Column]:
        """The columns after a transformer. Raises ExportError, naming `where` and the class, for one not known."""
        kind = type(transformer).__name__
        if isinstance(transformer, str) or transformer is None:
            if transformer in (None, "passthrough"):
                return columns
            raise ExportError(f"{where}: {transformer!r}")
        where = f"{where}: {kind}"
        if not type(transformer).__module__.startswith("sklearn."):
            raise ExportError(f"{where}: not a class of scikit-learn")
        count = getattr(transformer, "n_features_in_", len(columns))
        if count != len(columns):
            raise ExportError(f"{where}: fitted on {count} columns; it gets {len(columns)}")
        if kind == "Pipeline":
            for name, step in transformer.steps:
                columns = self.apply(step, f"{where}, step {name!r}", columns)
            return columns
        if kind == "ColumnTransformer":
            return self.split(transformer, where, columns)
        if kind == "FunctionTransformer":
            if transformer.func is not None:
                raise ExportError(f"{where}: a function cannot be exported")
            return columns
        if kind == "SimpleImputer":
            return self.impute(transformer, where, columns)
        if kind in ENCODERS:
            return self.encode(transformer, where, columns)
        if kind in SCALERS:
            return self.scale(transformer, where, columns)
        known = ("Pipeline", "ColumnTransformer", "SimpleImputer", *ENCODERS, *SCALERS)
        raise ExportError(f"{where}: the exporter takes {', '.join(known)}")

    def split(self, transformer: Any, where: str, columns: list[Column]) -> list[Column]:
        """ColumnTransformer: each part on its own columns, one after another."""
        result: list[Column] = []
        for name, part, _ in transformer.transformers_:
            if isinstance(part, str) and part == "drop":
                continue
            chosen = [columns[j] for j in transformer._transformer_to_input_indices[name]]
            if chosen:
                result += self.apply(part, f"{where}, part {name!r}", chosen)
        return result

    def impute(self, transformer: Any, where: str, columns: list[Column]) -> list[Column]:
        """SimpleImputer: columns that had no value at all are dropped; indicators come after all columns."""
        missing = transformer.missing_values
        names = input_names(transformer, len(columns))
        kept = set(transformer.get_feature_names_out(names))
        result: list[Column] = []
        for j, column in enumerate(columns):
            if names[j] not in kept:
                continue
            if isinstance(column, Raw):
                if missing is None:
                    self.uses[column.feature].missing = None
                result.append(column)
            elif isinstance(column, Number):
                value = as_number(transformer.statistics_[j], where)
                ops = () if is_nan(missing) else ({"missing": as_number(missing, where)},)
                result.append(column.then(*ops, {"fill": value}))
            elif column is None:
                result.append(None)
            else:
                result += self.ask(transformer, where, columns, j)[:1]
        indicator = transformer.indicator_ if transformer.add_indicator else None
        for j in [] if indicator is None else indicator.features_:
            column = columns[j]
            if isinstance(column, Number):
                ops = () if is_nan(missing) else ({"missing": as_number(missing, where)},)
                result.append(column.then(*ops, "is_missing"))
            elif isinstance(column, Coded):
                flags = [float(same(value, missing)) for value in (*column.values, column.missing, column.unseen)]
                result.append(Coded(column.feature, tuple(flags[:-2]), flags[-2], flags[-1]))
            else:
                result.append(None)
        return result

    def encode(self, transformer: Any, where: str, columns: list[Column]) -> list[Column]:
        """OneHotEncoder and OrdinalEncoder."""
        result: list[Column] = []
        for j, column in enumerate(columns):
            if isinstance(column, Raw):
                use = self.uses[column.feature]
                use.encoders.append(where)
                known = list(transformer.categories_[j])
                if any(value is None for value in known):
                    use.missing = None
                use.categories += [value for value in known if value is not None and not is_nan(value)]
            if isinstance(column, Coded):
                result += self.ask(transformer, where, columns, j)
            elif isinstance(column, Number):
                raise ExportError(
                    f"{where}: it encodes {column.feature!r}, which is used as a number as well; give the model two "
                    "columns"
                )
            else:
                result += [None] * len(slots(transformer, len(columns))[j])
        return result

    def scale(self, transformer: Any, where: str, columns: list[Column]) -> list[Column]:
        """One operation or two on each column."""
        result: list[Column] = []
        for j, column in enumerate(columns):
            if isinstance(column, Raw):
                self.uses[column.feature].numbers.append(where)
                result.append(None)
            elif isinstance(column, Number):
                result.append(column.then(*scaling(transformer, j)))
            elif isinstance(column, Coded):
                result += self.ask(transformer, where, columns, j)
            else:
                result.append(None)
        return result

    def finish(self, columns: list[Column], where: str) -> None:
        """Note that an estimator takes these columns as they are: as numbers."""
        for column in columns:
            if isinstance(column, Raw):
                self.uses[column.feature].numbers.append(where)

    def ask(self, transformer: Any, where: str, columns: list[Column], position: int) -> list[Column]:
        """What the fitted transformer makes of each value of the `Coded` column at `position`: its output columns.

        What it refuses to transform, a missing or an unseen category, becomes NaN.
        """
        column = columns[position]
        assert isinstance(column, Coded)
        chosen = slots(transformer, len(columns))[position]
        outputs = []
        for value in (*column.values, column.missing, column.unseen):
            try:
                row = transform_one(transformer, columns, position, value)
                outputs.append([plain(row[slot]) for slot in chosen])
            except (ValueError, TypeError) as error:
                if any(value is known for known in column.values):
                    raise ExportError(f"{where}: {column.feature!r}: {value!r}: {error}") from error
                outputs.append([math.nan] * len(chosen))
        return [
            Coded(column.feature, tuple(made[:-2]), made[-2], made[-1])
            for made in ([row[i] for row in outputs] for i in range(len(chosen)))
        ]


def scaling(transformer: Any, j: int) -> Iterator[Any]:
    """The operations of a scaler on its column `j`, as scikit-learn computes them."""
    kind = type(transformer).__name__
    if kind == "QuantileTransformer":
        yield {
            "quantiles": {
                "values": transformer.quantiles_[:, j].tolist(),
                "references": transformer.references_.tolist(),
                "normal": transformer.output_distribution == "normal",
            }
        }
    elif kind == "MinMaxScaler":
        yield {"multiply": float(transformer.scale_[j])}
        yield {"add": float(transformer.min_[j])}
        if transformer.clip:
            yield {"clip": [float(bound) for bound in transformer.feature_range]}
    elif kind == "MaxAbsScaler":
        yield {"divide": float(transformer.scale_[j])}
        if getattr(transformer, "clip", False):
            yield {"clip": [-1.0, 1.0]}
    else:
        center = transformer.mean_ if kind == "StandardScaler" else transformer.center_
        if (
            center is not None
            and getattr(transformer, "with_mean", True)
            and getattr(transformer, "with_centering", True)
        ):
            yield {"subtract": float(center[j])}
        if transformer.scale_ is not None:
            yield {"divide": float(transformer.scale_[j])}


def slots(transformer: Any, count: int) -> list[list[int]]:
    """For each of `count` inputs of a transformer the positions of its outputs, indicators excepted."""
    kind = type(transformer).__name__
    if kind == "SimpleImputer":
        names = input_names(transformer, count)
        kept = list(transformer.get_feature_names_out(names))
        return [[kept.index(name)] if name in kept else [] for name in names]
    if kind != "OneHotEncoder":
        return [[j] for j in range(count)]
    ends = np.cumsum(transformer._n_features_outs).tolist()
    return [list(range(start, end)) for start, end in zip([0, *ends], ends)]


def transform_one(transformer: Any, columns: list[Column], position: int, value: Any) -> np.ndarray:
    """The transformer's output for one row that holds `value` at `position`, and something harmless elsewhere."""
    row, kinds = [], []
    for j, column in enumerate(columns):
        usual = list(column.values) if isinstance(column, Coded) else [0.0]
        if hasattr(transformer, "categories_"):
            usual = [plain(known) for known in transformer.categories_[j]]
        row.append([value if j == position else usual[0]])
        kinds.append(column_kind([*usual, *row[-1]]))
    frame = table(row, kinds, getattr(transformer, "feature_names_in_", None))
    output = transformer.transform(frame)
    output = output.toarray() if hasattr(output, "toarray") else np.asarray(output)
    return output[0]


def column_kind(values: list) -> type:
    """The type of a table's column that may hold `values`: texts, booleans and None make one of objects."""
    return object if any(isinstance(value, (str, bool, type(None))) for value in values) else np.float64


def table(columns: list[list], kinds: list[type], names: Any) -> Any:
    """A table for scikit-learn: a pandas frame with `names`, without them a matrix. kinds: the columns' types."""
    typed = []
    for column, kind in zip(columns, kinds):
        pure = kind is object and all(isinstance(cell, bool) for cell in column)
        typed.append(np.array(column, bool if pure else kind))
    if names is not None:
        import pandas

        return pandas.DataFrame(dict(zip(names, typed)))
    if any(column.dtype == object for column in typed):
        matrix = np.empty((len(typed[0]), len(typed)), object)
        for j, column in enumerate(typed):
            matrix[:, j] = column
        return matrix
    return np.array(typed, np.float64).T.copy()


def graph_columns(columns: list[Column], where: str, taken: set[str]) -> tuple[list[dict], list[str]]:
    """The `columns` of graph.json, and for each column of the estimator's matrix the name that it has there.

    taken: the names of the features. Raises ExportError when a text reaches the estimator.
    """
    entries: list[dict] = []
    names = []
    by_content: dict[tuple, str] = {}
    for column in columns:
        assert isinstance(column, (Number, Coded))
        ops: list = list(getattr(column, "ops", ()))
        if isinstance(column, Coded):
            values = [as_number(value, f"{where}: {column.feature!r}") for value in (*column.values, column.missing)]
            unseen = math.nan if isinstance(column.unseen, str) else as_number(column.unseen, where)
            if values[:-1] != list(map(float, range(len(values) - 1))) or not is_nan(values[-1]) or unseen != -1.0:
                ops = [{"codes": {"map": values[:-1], "unseen": unseen, "missing": values[-1]}}]
        if not ops:
            names.append(column.feature)
            continue
        key = (column.feature, repr(ops))
        if key not in by_content:
            stem = column.feature if len(column.feature.encode()) < MAX_NAME_BYTES - 16 else "column"
            number = len(entries)
            while f"{stem}.{number}" in taken:
                number += 1
            by_content[key] = f"{stem}.{number}"
            taken.add(by_content[key])
            entries.append({"name": by_content[key], "from": column.feature, "ops": ops})
        names.append(by_content[key])
    return entries, names


def categories_of(use: Use, where: str) -> list[Scalar]:
    """The schema's categories of a feature that only encoders use: each once, in the encoders' order."""
    found: dict[Any, Scalar] = {}
    for value in use.categories:
        value = plain(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, (str, int, float)):
            raise ExportError(
                f"{where}: category {value!r} of {type(value).__name__}; expected text, number or boolean"
            )
        found.setdefault((isinstance(value, bool), value), value)
    return list(found.values())


def unseen_value(categories: list[Scalar]) -> Scalar:
    """A value of the categories' type that is none of them."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in categories):
        return max(categories) + 1
    text = UNSEEN
    while text in categories:
        text += "-"
    return text


def input_names(transformer: Any, count: int) -> list[str]:
    """The names of a transformer's inputs, as `get_feature_names_out` wants them."""
    return list(getattr(transformer, "feature_names_in_", [f"x{j}" for j in range(count)]))


def as_number(value: Any, where: str) -> float:
    if isinstance(value, (str, bytes)) or value is None:
        raise ExportError(f"{where}: {value!r} where the estimator needs a number")
    return float(value)


def plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def is_nan(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and value != value


def same(value: Any, missing: Any) -> bool:
    """Whether an imputer with `missing_values=missing` replaces the value."""
    return is_nan(value) if is_nan(missing) else value is missing or (value == missing and not is_nan(value))
