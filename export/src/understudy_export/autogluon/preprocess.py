"""What AutoGluon's model classes do to their matrix, as columns of a node: scalers, encoders, one column each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from understudy_export.autogluon.columns import Columns, Op, Value, lookup
from understudy_export.errors import ExportError

# A column that is always 0: NaN or not is never 2.
ZERO: list[Op] = ["is_missing", {"equals": 2}]


class Matrix:
    """The matrix of one model: its columns by name, and the node's own columns made of them so far."""

    def __init__(self, values: Mapping[str, Value], columns: Columns) -> None:
        self.values = values
        self.columns = columns

    def value(self, name: str) -> Value:
        """Where column `name` is. Raises ExportError when there is none."""
        if name not in self.values:
            raise ExportError(f"a model reads {name!r}, which is no feature of the predictor")
        return self.values[name]

    def add(self, name: str, suffix: str, ops: list[Op]) -> str:
        """A column with `ops` applied to column `name`, called `name.suffix`."""
        return self.columns.add(f"{name}.{suffix}" if suffix else name, self.value(name), ops)

    def singles(self, names: Iterable[str]) -> bool:
        """Whether numpy would hold these columns together in single precision: all are single, none is wider."""
        return all(self.value(name).single for name in names)


def merged_levels(categories: np.ndarray, infrequent: np.ndarray) -> tuple[dict[int, int], int]:
    """Position of each seen category in AutoGluon's encoders that merge rare levels, and how many positions there are.

    categories: sorted values seen in training (codes, -1 for missing); infrequent: positions of the rare ones, which
    share the last position.
    """
    rare = set(np.asarray(infrequent, int).tolist())
    positions: dict[int, int] = {}
    for place, category in enumerate(np.asarray(categories).tolist()):
        if place not in rare:
            positions[int(category)] = len(positions)
    frequent = len(positions)
    for place in rare:
        positions[int(np.asarray(categories).tolist()[place])] = frequent
    return positions, frequent + (1 if rare else 0)


def one_hot_merged(matrix: Matrix, names: list[str], encoder: Any, zero_is_missing: bool) -> list[list[str]]:
    """Columns of `OneHotMergeRaresHandleUnknownEncoder` of each name, one a level; unknown is all zeros."""
    result = []
    for position, name in enumerate(names):
        value = matrix.value(name)
        categories, infrequent = encoder.categories_[position], encoder.infrequent_indices_[position]
        if encoder.drop is not None:
            raise ExportError(f"one-hot encoder of {name!r} drops a level")
        if not value.categories:
            result.append(one_hot_numbers(matrix, name, categories, infrequent))
            continue
        levels, width = merged_levels(categories, infrequent)
        result.append([level_column(matrix, name, levels, level, zero_is_missing) for level in range(width)])
    return result


def level_column(matrix: Matrix, name: str, levels: Mapping[int, int], level: int, zero_is_missing: bool) -> str:
    """The column that is 1 where category `name` has this level, else 0, or missing."""
    codes = [code for code, place in levels.items() if place == level]
    ops: list[Op]
    if len(codes) == 1:
        ops = [{"equals": codes[0]}, *([{"missing": 0}] if zero_is_missing else [])]
    else:
        none = "nan" if zero_is_missing else 0
        ops = [lookup(dict.fromkeys(codes, 1), matrix.value(name).categories, none)]
    return matrix.add(name, str(codes[0]) if len(codes) == 1 else "rare", ops)


def one_hot_numbers(matrix: Matrix, name: str, categories: np.ndarray, infrequent: np.ndarray) -> list[str]:
    """One-hot columns of a numeric column, one for each value."""
    if len(infrequent):
        raise ExportError(f"one-hot encoder of the numbers {name!r} merges rare values")
    return [
        matrix.add(name, repr(number), ZERO if math.isnan(number) else [{"equals": number}])
        for number in map(float, categories)
    ]


def ordinal_merged(matrix: Matrix, names: list[str], encoder: Any) -> list[str]:
    """Columns of `OrdinalMergeRaresHandleUnknownEncoder`: the row of an embedding's table."""
    result = []
    for position, name in enumerate(names):
        levels, _ = merged_levels(encoder.categories_[position], encoder.infrequent_indices_[position])
        unknown = int(encoder.categories_unknown_level_[position])
        count = matrix.value(name).categories
        result.append(matrix.add(name, "row", [lookup(dict(levels), count, unknown)]))
    return result


def rounded(number: float, single: bool) -> float:
    """A constant of a scaler as numpy would use it beside a column of that precision."""
    return float(np.float32(number)) if single else float(number)


def scaled(ops: list[Op], mean: float | None, scale: float | None, single: bool) -> list[Op]:
    """`ops`, then minus `mean`, then divided by `scale`, each in single precision if `single`."""
    result = list(ops)
    for operation, number in (("subtract", mean), ("divide", scale)):
        if number is not None:
            result.append({operation: rounded(number, single)})
            if single:
                result.append("float")
    return result


def fills(imputer: Any, names: list[str]) -> list[list[Op]]:
    """scikit-learn's `SimpleImputer` for each column."""
    if type(imputer).__name__ != "SimpleImputer" or imputer.add_indicator:
        raise ExportError(f"{type(imputer).__name__} for {names[:3]}; expected a SimpleImputer")
    statistics = [float(number) for number in imputer.statistics_]
    if len(statistics) != len(names) or any(math.isnan(number) for number in statistics):
        raise ExportError(f"SimpleImputer: a column of {names[:3]} was missing throughout in training")
    return [[{"fill": number}] for number in statistics]


def standard(matrix: Matrix, names: list[str], steps: dict[str, Any]) -> list[str]:
    """Columns of a pipeline of imputer (optional) and `StandardScaler`."""
    scaler = steps["scaler"]
    if type(scaler).__name__ != "StandardScaler":
        raise ExportError(f"scaler {type(scaler).__name__} for {names[:3]}; expected StandardScaler")
    start = fills(steps["imputer"], names) if "imputer" in steps else [[] for _ in names]
    single = matrix.singles(names)
    means = scaler.mean_ if scaler.with_mean else [None] * len(names)
    scales = scaler.scale_ if scaler.with_std else [None] * len(names)
    return [
        matrix.add(name, "scaled", scaled(ops, mean, scale, single))
        for name, ops, mean, scale in zip(names, start, means, scales)
    ]


def quantile_normal(matrix: Matrix, names: list[str], steps: dict[str, Any]) -> list[str]:
    """Columns of a pipeline of imputer and `QuantileTransformer`."""
    transformer = steps["quantile"]
    if matrix.singles(names):
        raise ExportError(f"QuantileTransformer in single precision for {names[:3]}")
    result = []
    for position, (name, ops) in enumerate(zip(names, fills(steps["imputer"], names))):
        quantiles = {
            "values": [float(number) for number in transformer.quantiles_[:, position]],
            "references": [float(number) for number in transformer.references_],
            "normal": transformer.output_distribution == "normal",
        }
        result.append(matrix.add(name, "normal", [*ops, {"quantiles": quantiles}]))
    return result


def one_hot_plain(matrix: Matrix, names: list[str], generator: Any) -> list[str]:
    """Columns of `OneHotEncoderFeatureGenerator`: rare categories merged, then scikit-learn's one-hot."""
    integers, encoder = generator._cat_feat_gen, generator._ohe
    if encoder.drop is not None or encoder.handle_unknown != "ignore":
        raise ExportError(f"OneHotEncoder of {names[:3]} drops a level or refuses an unknown one")
    result = []
    for position, name in enumerate(names):
        count = matrix.value(name).categories
        if not count:
            raise ExportError(f"OneHotEncoder of {name!r}, which is no category")
        # What the encoder sees for each code; -1 stands for missing and unseen.
        seen = {code: code for code in range(count)}
        if integers is None:
            seen[-1] = -1
        else:
            seen[-1] = int(integers.fillna_val)
            kept = {int(number) for number in integers.cats[position]}
            seen = {code: number if number in kept else int(integers.infrequent_val) for code, number in seen.items()}
        for level in encoder.categories_[position].tolist():
            codes = {code: 0 for code, number in seen.items() if number == level}
            if codes:
                result.append(level_column(matrix, name, codes, 0, zero_is_missing=False))
            else:
                result.append(matrix.add(name, "never", ZERO))
    return result
