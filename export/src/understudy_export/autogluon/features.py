"""AutoGluon's feature generators: what a raw row looks like, and the columns that make their matrix of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from understudy_export.autogluon.columns import Columns, Op, Value
from understudy_export.errors import ExportError
from understudy_export.schema import Feature, Scalar, typed
from understudy_export.table import Table, scalars

PIPELINES = {"AutoMLPipelineFeatureGenerator", "PipelineFeatureGenerator"}
STAGES = {
    "AsTypeFeatureGenerator",
    "FillNaFeatureGenerator",
    "IdentityFeatureGenerator",
    "CategoryFeatureGenerator",
    "CategoryMemoryMinimizeFeatureGenerator",
    "DatetimeFeatureGenerator",
    "DropUniqueFeatureGenerator",
    "DropDuplicatesFeatureGenerator",
}
DATE_PARTS = {"year", "month", "day", "dayofweek"}


@dataclass
class Generators:
    """What the fitted generators do, by name of the raw column. `types`: dtype of the training column."""

    columns: list[str]
    types: dict[str, Any]
    outputs: list[str]
    true_values: dict[str, Scalar] = field(default_factory=dict)
    fills: dict[str, Any] = field(default_factory=dict)
    categories: dict[str, list[Scalar]] = field(default_factory=dict)
    modes: dict[str, Scalar] = field(default_factory=dict)
    dates: dict[str, int] = field(default_factory=dict)
    date_parts: tuple[str, ...] = ()


@dataclass
class Stage:
    """The schema's features, the graph's columns, and where each column of AutoGluon's matrix is found."""

    features: list[Feature]
    columns: Columns
    values: dict[str, Value]


def plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def walk(generator: Any) -> Iterator[Any]:
    """The generators inside of a generator, in order, without itself."""
    for group in getattr(generator, "generators", None) or []:
        for inner in group:
            yield inner
            yield from walk(inner)
    for inner in getattr(generator, "_post_generators", None) or []:
        yield inner
        yield from walk(inner)


def refusal(pipeline: Any) -> str | None:
    """Why the feature generators cannot become columns, with the class; None when they can."""
    if type(pipeline).__name__ not in PIPELINES:
        return f"feature generator {type(pipeline).__name__}: only AutoGluon's own pipeline is known"
    if getattr(pipeline, "_is_dummy", False):
        return "no useful features: the model predicts always the same"
    if getattr(pipeline, "passthrough_features", None):
        return f"passthrough features {pipeline.passthrough_features[:3]}"
    for generator in walk(pipeline):
        name = type(generator).__name__
        if name not in STAGES or not type(generator).__module__.startswith("autogluon.features."):
            return f"feature generator {name}, for {', '.join(map(str, (generator.features_in or [])[:3]))}"
        if name == "CategoryFeatureGenerator" and generator.features_in:
            if generator.category_map is None:
                return "CategoryFeatureGenerator without stateful categories"
            inner = [type(post).__name__ for post in generator._post_generators]
            if inner != ["CategoryMemoryMinimizeFeatureGenerator"]:
                return f"CategoryFeatureGenerator followed by {inner}"
        if name == "DatetimeFeatureGenerator" and not set(generator.features) <= DATE_PARTS:
            return f"DatetimeFeatureGenerator with {generator.features}"
    return None


def read_generators(pipeline: Any) -> Generators:
    """What the generators learned. Raises ExportError, with the class, for one that the format cannot carry."""
    reason = refusal(pipeline)
    if reason:
        raise ExportError(reason)
    columns = list(pipeline.features_in)
    for column in columns:
        if not isinstance(column, str):
            raise ExportError(f"column {column!r}: expected a name of text")
    learned = Generators(columns, {}, list(pipeline.features_out))
    for generator in walk(pipeline):
        name = type(generator).__name__
        if name == "AsTypeFeatureGenerator":
            real = generator._feature_metadata_in_real.type_map_raw
            learned.types = {c: generator._type_map_real_opt.get(c) for c in columns}
            for column, value in (generator._bool_features or {}).items():
                learned.true_values[column] = plain(value)
                learned.types[column] = np.dtype(object) if real[column] == "object" else real[column]
        elif name == "FillNaFeatureGenerator":
            learned.fills = dict(generator._fillna_feature_map)
        elif name == "CategoryFeatureGenerator" and generator.features_in:
            learned.categories = {c: pd.Index(v).tolist() for c, v in generator.category_map.items()}
            learned.modes = {c: plain(v) for c, v in (generator._fillna_map or {}).items()}
        elif name == "DatetimeFeatureGenerator" and generator.features_in:
            learned.dates = {c: pd.Timestamp(v).as_unit("ns").value for c, v in generator._fillna_map.items()}
            learned.date_parts = tuple(generator.features)
    return learned


def number_type(name: str, kind: Any) -> np.dtype:
    """The numpy type of a numeric training column."""
    try:
        return np.dtype(kind)
    except TypeError:
        raise ExportError(f"feature {name!r}: type {kind}; expected a number of numpy") from None


def schema_feature(name: str, learned: Generators, table: Table | None) -> Feature:
    """The schema's feature of a raw column; table: the training data when it is there."""
    if name in learned.dates:
        return Feature(name, "datetime")
    if name in learned.categories:
        return category_feature(name, learned.categories[name])
    true = learned.true_values.get(name)
    if isinstance(true, bool):
        return Feature(name, "bool")
    if name in learned.true_values and not isinstance(true, (int, float)):
        seen: list[Scalar] = [true]
        if table is not None:
            cells = [cell for cell in table.column(name) if cell != ""]
            kinds = {typed(value): value for value in scalars(sorted(set(cells)) or [str(true)])}
            seen = sorted(kinds.values()) if typed(true) in kinds else seen
        return category_feature(name, seen)
    kind = number_type(name, learned.types[name])
    if kind.kind == "f":
        return Feature(name, "float")
    if kind.kind not in "iu":
        raise ExportError(f"feature {name!r}: type {kind}; expected a number, a category or a date")
    limits = np.iinfo(kind)
    return Feature(name, "int", bounds=None if kind == np.int64 else (int(limits.min), min(int(limits.max), 2**53)))


def category_feature(name: str, categories: list[Scalar]) -> Feature:
    """A feature of categories: `text` when all are strings."""
    kind = "text" if all(isinstance(value, str) for value in categories) else "category"
    return Feature(name, kind, categories=tuple(categories))


def stage(learned: Generators, table: Table | None) -> Stage:
    """The schema and the columns of AutoGluon's matrix. Raises ExportError for what cannot be carried."""
    features = [schema_feature(name, learned, table) for name in learned.columns]
    columns = Columns(learned.columns)
    values: dict[str, Value] = {}
    for feature in features:
        values.update(feature_values(feature, learned, columns))
    missing = [name for name in learned.outputs if name not in values]
    if missing:
        raise ExportError(f"feature generators make {missing[:3]}, which is not known to come from a column")
    return Stage(features, columns, {name: values[name] for name in learned.outputs})


def feature_values(feature: Feature, learned: Generators, columns: Columns) -> dict[str, Value]:
    """The columns of AutoGluon's matrix that come from one raw column, by name."""
    name = feature.name
    raw = Value(name)
    if name in learned.dates:
        filled: list[Op] = [{"fill": float(learned.dates[name])}]
        result = {name: Value(columns.add(f"{name}.time", raw, filled))}
        for part in learned.date_parts:
            key = f"{name}.{part}"
            result[key] = Value(columns.add(key, raw, [*filled, {"date": part}]))
        return result
    if name in learned.categories:
        count = len(feature.categories or ())
        absent = feature.codes.get(typed(learned.fills.get(name)), -1) if name in learned.fills else -1
        unseen = feature.codes.get(typed(learned.modes[name]), -1) if name in learned.modes else -1
        codes = {"map": list(range(count)), "unseen": unseen, "missing": absent if absent >= 0 else unseen}
        return {name: Value(columns.add(f"{name}.code", raw, [{"codes": codes}]), categories=count)}
    if name in learned.true_values:
        true = learned.true_values[name]
        wanted = feature.codes[typed(true)] if feature.categorical else float(true)  # type: ignore[arg-type]
        return {name: Value(columns.add(f"{name}.true", raw, [{"equals": wanted}]))}
    kind = number_type(name, learned.types[name])
    if kind.kind in "iu":
        return {name: Value(columns.add(f"{name}.whole", raw, [{"fill": 0}, "truncate"]))}
    ops: list[Op] = [{"fill": float(learned.fills[name])}] if name in learned.fills else []
    if kind == np.float32:
        ops.append("float")
    elif kind != np.float64:
        raise ExportError(f"feature {name!r}: type {kind}; expected float64 or float32")
    return {name: Value(columns.add(f"{name}.number", raw, ops), single=kind == np.float32)}


def frame(features: list[Feature], values: list[list[Scalar | None]]) -> pd.DataFrame:
    """The table that a Python server would make of JSON rows; values: one list for each feature."""
    return pd.DataFrame({feature.name: column for feature, column in zip(features, values)})
