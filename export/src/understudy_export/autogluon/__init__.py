"""The AutoGluon part: `understudy-export autogluon PREDICTOR_DIR`, run where the predictor was trained."""

from __future__ import annotations

import argparse
from importlib import metadata
from typing import Any

import numpy as np

from understudy_export import golden, metrics, reference
from understudy_export.arguments import add_package_options, read_options
from understudy_export.dates import text
from understudy_export.errors import ExportError
from understudy_export.export import Built, Options, finish
from understudy_export.schema import Scalar, Schema, override
from understudy_export.table import read_csv

# What the predictor itself says; the training table is optional here.
WITHOUT = {
    "--train",
    "--label",
    "--categories",
    "--classes",
    "--positive-class",
    "--threshold",
    "--ignore",
    "--eval-metric",
}
# How far a table's answers may lie from AutoGluon's own before the export is called wrong.
TOLERANCE = 1e-5
# Rows of the self-test on which a network's answer for many rows differs more from that for one are left out.
STEADY = 1.5e-7
LIBRARIES = ("autogluon.tabular", "numpy", "pandas", "scikit-learn")
FAMILY_LIBRARIES = {
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "catboost": ("catboost",),
    "mlp": ("torch", "fastai"),
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export autogluon`."""
    add = command.add_argument
    add("predictor", metavar="PREDICTOR_DIR", help="the directory that TabularPredictor.fit wrote")
    add("--model", metavar="NAME", help="default: the predictor's best model")
    add(
        "--train",
        metavar="CSV",
        help="training data, UTF-8, with header; default: what the predictor kept, which lacks the second value of "
        "a two-valued column and tells missing from unseen no more",
    )
    add_package_options(command, without=WITHOUT)


def run(arguments: argparse.Namespace) -> Built:
    """The package of the predictor's model that the command line names."""
    from understudy_export.autogluon.predictor import Predictor, progress

    options = read_options(arguments, train=arguments.train or "", label="")
    progress(f"loading {arguments.predictor}")
    return build(Predictor(arguments.predictor), arguments.model, options)


def build(predictor: Any, model: str | None, options: Options) -> Built:
    """The package of one model. Raises ExportError, with class and name, for what the format cannot carry."""
    from understudy_export.autogluon.features import frame, read_generators, stage
    from understudy_export.autogluon.graph import Graph
    from understudy_export.autogluon.predictor import progress

    name = predictor.choose(model)
    target = predictor.target()
    table = read_csv(options.train) if options.train else None
    generators = read_generators(predictor.learner.feature_generator)
    prepared = stage(generators, table)
    bounds = {feature.name: feature.bounds for feature in prepared.features if feature.bounds} | options.bounds
    features = override(prepared.features, bounds, set(options.required), set(options.optional))
    schema = Schema(features, options.max_rows, options.policy)
    graph = Graph(predictor, prepared)
    graph.build(name)
    if table is not None:
        values = schema.values(table)
    else:
        progress("no --train: taking the training rows that the predictor kept")
        values = kept_rows(predictor, schema, generators)
    output = graph.nodes[-1]["name"]

    def predict(columns: list[list[Scalar | None]]) -> np.ndarray:
        return predict_scores(predictor, name, frame(schema.features, columns))

    progress("predicting the self-test rows")
    rows = golden.rows(schema, values, options.golden_rows, extreme=False)
    raw = frame(schema.features, [list(column) for column in zip(*rows)])
    matrix = predictor.learner.transform_features(raw)
    outputs = graph.evaluate(matrix)
    kept = steady_rows(graph.steady(matrix, outputs))
    rows, raw = [rows[i] for i in kept], raw.iloc[kept].reset_index(drop=True)
    outputs = {node: values[kept] for node, values in outputs.items()}
    check_answers(outputs[output], predict_scores(predictor, name, raw), name)
    labels = predicted_labels(predictor, name, raw, target.classes) if target.classes else None
    progress("profiling the training rows")
    profile = reference.profile(schema, schema.encode(values), target.scores(predict(values)))
    measured = dict(options.metrics)
    if options.test is not None:
        test = read_csv(options.test)
        measured.update(metrics.measure(target, predict(schema.values(test)), target.truth(test)))
    kinds = {node["type"] for node in graph.nodes}
    return finish(
        schema,
        target,
        graph=graph.document(),
        artifacts=graph.files,
        lines=golden.lines(schema, target, rows, outputs, labels),
        profile=profile,
        metrics=measured,
        eval_metric=predictor.ag.eval_metric.name,
        libraries=versions([*LIBRARIES, *(lib for kind in kinds for lib in FAMILY_LIBRARIES.get(kind, ()))]),
        options=options,
    )


def versions(names: list[str]) -> dict[str, str]:
    """Versions by name of what is installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def predict_scores(predictor: Any, name: str, table: Any) -> np.ndarray:
    """AutoGluon's own answer [rows, width] for a raw table: a binary model's is the positive class's probability."""
    learner = predictor.learner
    answers = learner.predict_proba(table, model=name, as_pandas=False, as_multiclass=False, inverse_transform=False)
    return np.asarray(answers, np.float64).reshape(len(table), -1)


def predicted_labels(predictor: Any, name: str, table: Any, classes: tuple[Scalar, ...]) -> list[int]:
    """Index of the class that AutoGluon predicts for each row."""
    index = {(type(value), value): code for code, value in enumerate(classes)}
    labels = predictor.ag.predict(table, model=name, as_pandas=False)
    return [index[type(value), value] for value in np.asarray(labels).tolist()]


def steady_rows(distances: np.ndarray) -> list[int]:
    """Rows, in order, on which AutoGluon agrees with itself; at least as many as the format asks for."""
    limit = max(STEADY, np.sort(distances)[min(len(distances), golden.MINIMUM_ROWS) - 1])
    return np.flatnonzero(distances <= limit).tolist()


def check_answers(outputs: np.ndarray, answers: np.ndarray, name: str) -> None:
    """Raise ExportError when the nodes, evaluated one by one, do not give what the predictor gives as a whole."""
    difference = np.abs(outputs - answers) / np.maximum(1.0, np.abs(answers))
    if outputs.shape != answers.shape or not np.nanmax(difference, initial=0.0) <= TOLERANCE:
        raise ExportError(f"{name}: its nodes give {outputs[0].tolist()}, the predictor {answers[0].tolist()}")


def kept_rows(predictor: Any, schema: Schema, generators: Any) -> list[list[Scalar | None]]:
    """The training rows that the predictor kept after its feature generators, as raw values, one list for each feature.

    What was neither missing nor a known category cannot be told any more; it is missing here. Raises ExportError when
    the predictor kept none.
    """
    import pandas as pd

    try:
        tables = [predictor.trainer.load_X(), predictor.trainer.load_X_val()]
    except (FileNotFoundError, AttributeError, TypeError) as error:
        raise ExportError(f"the predictor kept no training data; give --train ({error})") from error
    table = pd.concat([part for part in tables if part is not None], ignore_index=True)
    columns: list[list[Scalar | None]] = []
    for feature in schema.features:
        name = feature.name
        if name not in table:
            columns.append([None] * len(table))
            continue
        numbers = pd.Series(table[name].astype(object)).where(table[name].notna(), None).tolist()
        if name in generators.categories:
            known = generators.categories[name]
            columns.append([None if code is None else known[int(code)] for code in numbers])
        elif name in generators.true_values:
            columns.append([generators.true_values[name] if value else None for value in numbers])
        elif name in generators.dates:
            columns.append([text(int(value)) for value in numbers])
        else:
            columns.append([value if value is None or value == value else None for value in numbers])
    return columns
