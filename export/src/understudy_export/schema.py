"""The schema of a package: the features, how a CSV cell becomes a value, and how a value becomes a number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Union

import numpy as np

from understudy_export.dates import nanoseconds
from understudy_export.errors import ExportError
from understudy_export.table import BOOLEANS, Table, number

Scalar = Union[str, int, float, bool]
POLICIES = ("strict", "sanitize", "autogluon")
MAX_NAME_BYTES = 256
DEFAULT_TEXT_BYTES = 1000


def typed(value: Scalar) -> tuple[type, Scalar]:
    """What makes a category unique: its JSON type and its value (`True`, `1` and `1.0` differ)."""
    return type(value), value


@dataclass(frozen=True)
class Feature:
    """One feature. `bounds` is (low, high) with None for an open side; `categories` only for `category` and `text`."""

    name: str
    kind: str
    required: bool = False
    bounds: tuple[float | None, float | None] | None = None
    categories: tuple[Scalar, ...] | None = None
    fill: Scalar | None = None
    codes: dict = field(init=False, repr=False, compare=False)
    by_cell: dict = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or len(self.name.encode()) > MAX_NAME_BYTES:
            raise ExportError(f"feature name {self.name!r}: expected 1 to {MAX_NAME_BYTES} bytes of UTF-8")
        categories = self.categories or ()
        for value in categories:
            if not isinstance(value, (str, int, float)) or value in (math.inf, -math.inf) or value != value:
                raise ExportError(f"feature {self.name!r}: category {value!r}: expected text, finite number or boolean")
        codes = {typed(value): code for code, value in enumerate(categories)}
        by_cell = {cell_key(value): value for value in categories}
        if self.categories is not None and not len(categories) == len(codes) == len(by_cell) > 0:
            raise ExportError(f"feature {self.name!r}: no categories, or two look the same in a CSV: {categories}")
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "by_cell", by_cell)

    @property
    def categorical(self) -> bool:
        return self.categories is not None

    def parse(self, cell: str) -> Scalar | None:
        """The value of a CSV cell with its JSON type; None is missing. Raises ValueError when it is no such value."""
        if self.categorical:
            if cell in self.by_cell:
                return self.by_cell[cell]
            if cell == "":
                return None
            if self.kind == "text":
                return cell
            try:
                value = number(cell)
            except ValueError:
                return BOOLEANS.get(cell, cell)
            return self.by_cell.get(cell_key(value), value)
        if self.kind == "bool":
            return None if cell == "" else BOOLEANS[cell]
        if self.kind == "datetime":
            return cell or None
        return number(cell)

    def encode(self, value: Scalar | None) -> float:
        """The number the model sees: NaN for missing (after `fill`), -1.0 for a category that is not known.

        A time is nanoseconds since 1970, UTC; a text that is no time is missing.
        """
        if value is None:
            value = self.fill
        if value is None:
            return math.nan
        if self.categorical:
            return float(self.codes.get(typed(value), -1))
        if self.kind == "datetime" and isinstance(value, str):
            time = nanoseconds(value)
            return math.nan if time is None else float(time)
        return float(value)

    def to_json(self) -> dict:
        """The feature as schema.json holds it; what has no meaning for its kind is absent."""
        entry: dict = {"name": self.name, "kind": self.kind, "required": self.required}
        if self.bounds is not None:
            entry["bounds"] = list(self.bounds)
        if self.categorical:
            entry["categories"] = list(self.categories or ())
        if self.fill is not None:
            entry["fill"] = self.fill
        return entry


def cell_key(value: Scalar | None) -> str:
    """One spelling for each category in a CSV; numbers that are equal share it (`1`, `1.0`)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def infer_feature(name: str, cells: list[str], categories: list[Scalar] | None, where: str) -> Feature:
    """The feature that a training column shows.

    With categories: `text` when all are strings, else `category`; `fill` is "" when that is one of them. Without:
    `bool`, `int` or `float`, required when no cell is missing. Raises ExportError for a column that is none of these.
    """
    if categories is not None:
        kind = "text" if all(isinstance(value, str) for value in categories) else "category"
        feature = Feature(name, kind, categories=tuple(categories), fill="" if "" in categories else None)
        if not any(feature.encode(feature.parse(cell)) >= 0 for cell in set(cells)):
            raise ExportError(
                f"feature {name!r}: none of its {len(set(cells))} values in {where} is one of its {len(categories)} "
                f"categories: {sorted(set(cells))[:3]} against {list(categories)[:3]}"
            )
        return feature
    distinct = set(cells)
    if distinct <= BOOLEANS.keys() | {""} and distinct != {""}:
        return Feature(name, "bool", required="" not in distinct)
    values = {}
    for row, cell in enumerate(cells):
        try:
            values[cell] = number(cell)
        except ValueError:
            raise ExportError(
                f"{where}: row {row}, column {name!r}: expected a number, got {cell!r}; a text column needs its "
                "categories in the file of --categories"
            ) from None
    present = [value for value in values.values() if value is not None]
    kind = "int" if present and all(isinstance(value, int) for value in present) else "float"
    return Feature(name, kind, required=None not in values.values())


def with_kind(feature: Feature, kind: str | None) -> Feature:
    """The feature with the kind that a signature says; None: as it is.

    What looks whole in the training data may be a `float`, and numbers with a fraction stay one. Raises ExportError
    when one of the two is no number.
    """
    if kind is None or kind == feature.kind or feature.categorical:
        return feature
    if {kind, feature.kind} == {"int", "float"}:
        return replace(feature, kind="float")
    raise ExportError(f"feature {feature.name!r}: the signature says {kind}; the training data shows {feature.kind}")


@dataclass(frozen=True)
class Schema:
    """The features in the order of the training data, and what a request may hold."""

    features: tuple[Feature, ...]
    max_rows: int = 100
    policy: str = "sanitize"

    def names(self) -> list[str]:
        return [feature.name for feature in self.features]

    def values(self, table: Table) -> list[list[Scalar | None]]:
        """Typed values of a table, one list for each feature. Raises ExportError naming row, column and cell."""
        columns = []
        for feature in self.features:
            column = []
            for row, cell in enumerate(table.column(feature.name)):
                try:
                    column.append(feature.parse(cell))
                except (ValueError, KeyError):
                    raise ExportError(
                        f"{table.path}: row {row}, column {feature.name!r}: expected {feature.kind}, got {cell!r}"
                    ) from None
            columns.append(column)
        return columns

    def encode(self, columns: list[list[Scalar | None]]) -> np.ndarray:
        """The rows in the model, shape [rows, features], float64, from one list of values for each feature."""
        encoded = [[feature.encode(value) for value in column] for feature, column in zip(self.features, columns)]
        return np.array(encoded, dtype=np.float64).T.copy()

    def to_json(self) -> dict:
        """The content of schema.json; `max_text_bytes` is 1,000, or the longest category when that is longer."""
        texts = [c for f in self.features for c in f.categories or () if isinstance(c, str)]
        longest = max((len(text.encode()) for text in texts), default=0)
        return {
            "features": [feature.to_json() for feature in self.features],
            "limits": {"max_rows": self.max_rows, "max_text_bytes": max(DEFAULT_TEXT_BYTES, longest)},
            "policy": self.policy,
        }


def override(
    features: list[Feature],
    bounds: dict[str, tuple[float | None, float | None]],
    required: set[str],
    optional: set[str],
) -> tuple[Feature, ...]:
    """Apply what the user said about single features. Raises ExportError for an unknown name or a contradiction."""
    known = {feature.name: feature for feature in features}
    unknown = sorted((set(bounds) | required | optional) - known.keys())
    if unknown:
        raise ExportError(f"no feature {', '.join(map(repr, unknown))}; the features are {', '.join(known)}")
    if required & optional:
        raise ExportError(f"both required and optional: {', '.join(sorted(required & optional))}")
    for name, (low, high) in bounds.items():
        if known[name].kind not in ("int", "float"):
            raise ExportError(f"bounds for {name!r}: it is {known[name].kind}; only int and float have bounds")
        if low is not None and high is not None and low > high:
            raise ExportError(f"bounds for {name!r}: low {low} is above high {high}")
        known[name] = replace(known[name], bounds=(low, high))
    for name in required:
        known[name] = replace(known[name], required=True, fill=None)
    for name in optional:
        known[name] = replace(known[name], required=False)
    return tuple(known.values())
