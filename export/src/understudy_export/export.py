"""From a model and its training data to the files of a package; the same for every library."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from understudy_export import __version__, golden, metrics, package, reference
from understudy_export.errors import ExportError
from understudy_export.schema import Scalar, Schema, infer_feature, override, with_kind
from understudy_export.table import Table, read_csv
from understudy_export.target import Target, read_classes


class Model(Protocol):
    """What the exporter needs from a library's own part.

    A model of several nodes also has `outputs(matrix)`, like `predict` but by node, every node of the graph. A library
    that refuses some rows has `accepts(matrix)`: which of the rows it takes, bool [rows].
    """

    task: str
    objective: str
    classes: int  # 0 when it is no classification
    quantile_levels: tuple[float, ...]
    eval_metric: str | None
    node: str  # the name of the output node

    def column_names(self, columns: list[str], where: str) -> list[str]:
        """The training columns in the order of the model's."""

    def categories(self, columns: list[str], path: str | None) -> dict[str, list[Scalar]]:
        """Categories by column name; columns are in the order of the model's."""

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """The library's own output [rows, width] for rows [rows, features] in the order of the model's columns."""

    def graph(self, columns: list[str]) -> dict:
        """The content of graph.json."""

    def files(self) -> dict[str, bytes]:
        """The native artifacts by path in the package."""

    def libraries(self) -> dict[str, str]:
        """Versions by name."""


@dataclass(frozen=True)
class Options:
    """What the user asked for; the meaning of each is in the command's help."""

    train: str
    label: str
    name: str
    version: str = "1"
    categories: str | None = None
    classes: str | None = None
    positive_class: str | None = None
    threshold: float = 0.5
    golden_rows: int = 64
    bounds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()
    kinds: dict[str, str] = field(default_factory=dict)  # what a signature says of numbers and booleans
    max_rows: int = 100
    policy: str = "sanitize"
    metrics: dict[str, float] = field(default_factory=dict)
    test: str | None = None
    eval_metric: str | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    trained_at: str | None = None
    exported_at: str | None = None


@dataclass(frozen=True)
class Built:
    """A package in memory: content by relative path, and manifest.json without `files`."""

    files: dict[str, bytes]
    manifest: dict
    golden_rows: int


def read_target(model: Model, train: Table, options: Options) -> Target:
    """What the model predicts, from its objective and the label column."""
    train.column(options.label)
    if not model.classes:
        if options.classes is not None or options.positive_class is not None:
            raise ExportError(f"classes were given, but the model's objective is {model.objective}")
        return Target(model.task, options.label, quantile_levels=model.quantile_levels)
    classes = read_classes(train, options.label, model.classes, options.classes, options.positive_class)
    return Target(model.task, options.label, classes, options.threshold)


def read_schema(model: Model, train: Table, options: Options) -> tuple[Schema, list[str]]:
    """The schema, and its names in the order of the model's columns."""
    columns = [column for column in train.columns if column != options.label and column not in options.ignore]
    in_model_order = model.column_names(columns, train.path)
    known = model.categories(in_model_order, options.categories)
    features = [infer_feature(c, train.column(c), known.get(c), train.path) for c in columns]
    features = [with_kind(feature, options.kinds.get(feature.name)) for feature in features]
    features = override(features, options.bounds, set(options.required), set(options.optional))
    return Schema(features, options.max_rows, options.policy), in_model_order


def build(model: Model, options: Options) -> Built:
    """The package of a model. Raises ExportError when it cannot be one, OSError when a file is not there."""
    package.check_identity(options.name, options.version)
    package.timestamp(options.exported_at)
    train = read_csv(options.train)
    target = read_target(model, train, options)
    schema, in_model_order = read_schema(model, train, options)
    order = [schema.names().index(name) for name in in_model_order]

    def predict(matrix: np.ndarray) -> np.ndarray:
        return model.predict(matrix[:, order])

    values = schema.values(train)
    matrix = schema.encode(values)
    rows = golden.rows(schema, values, options.golden_rows)
    if hasattr(model, "accepts"):
        rows = golden.accepted(schema, rows, lambda matrix: model.accepts(matrix[:, order]))
    golden_matrix = schema.encode([list(column) for column in zip(*rows)])
    outputs = {model.node: predict(golden_matrix)}
    if hasattr(model, "outputs"):
        outputs = model.outputs(golden_matrix[:, order])
    labels = target.labels(outputs[model.node]) if target.classes else None
    measured = dict(options.metrics)
    if options.test is not None:
        test = read_csv(options.test)
        measured.update(metrics.measure(target, predict(schema.encode(schema.values(test))), target.truth(test)))
    return finish(
        schema,
        target,
        graph=model.graph(in_model_order),
        artifacts=model.files(),
        lines=golden.lines(schema, target, rows, outputs, labels),
        profile=reference.profile(schema, matrix, target.scores(predict(matrix))),
        metrics=measured,
        eval_metric=options.eval_metric or model.eval_metric,
        libraries=model.libraries(),
        options=options,
    )


def finish(
    schema: Schema,
    target: Target,
    *,
    graph: dict,
    artifacts: dict[str, bytes],
    lines: list[dict],
    profile: dict,
    metrics: dict[str, float],
    eval_metric: str | None,
    libraries: dict[str, str],
    options: Options,
) -> Built:
    """The files of a package from its parts.

    artifacts: the native files by path; lines: the objects of golden.jsonl; profile: the content of reference.json;
    libraries: versions by name. Raises ExportError for a name, version or time that the format does not take.
    """
    package.check_identity(options.name, options.version)
    exported_at = package.timestamp(options.exported_at)
    files = {
        "schema.json": package.document(schema.to_json()),
        "graph.json": package.document(graph),
        "reference.json": package.document(profile),
        "golden.jsonl": package.json_lines(lines),
        "requirements.txt": package.requirements().encode(),
        **artifacts,
    }
    manifest: dict = {
        "format": "understudy-package",
        "format_version": 1,
        "name": options.name,
        "version": options.version,
        **target.to_json(),
    }
    if eval_metric:
        manifest["eval_metric"] = eval_metric
    if metrics:
        manifest["metrics"] = metrics
    if options.trained_at is not None:
        manifest["trained_at"] = package.timestamp(options.trained_at)
    manifest["exported_at"] = exported_at
    libraries = {**libraries, "python": platform.python_version(), "understudy_export": __version__}
    manifest["libraries"] = dict(sorted(libraries.items()))
    if options.provenance:
        manifest["provenance"] = options.provenance
    return Built(files, manifest, len(lines))
