"""golden.jsonl: rows with the trainer's own output, which the server predicts before it reports ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from understudy_export.schema import Feature, Scalar, Schema
from understudy_export.target import Target

MINIMUM_ROWS = 50
# A wide model would have thousands of constructed cases: then several go into one row.
MAX_CONSTRUCTED_ROWS = 256
UNSEEN = "understudy-never-seen"

Predict = Callable[[np.ndarray], np.ndarray]


def rows(schema: Schema, columns: list[list[Scalar | None]], count: int) -> list[list[Scalar | None]]:
    """`count` evenly spaced training rows, then constructed ones; each row a list of values in schema order.

    columns: the training data, one list of typed values for each feature. The constructed rows are training rows with
    one thing changed (see `cases`), and at the end one with everything missing that may be, and one with every
    category unseen.
    """
    available = len(columns[0])
    real = [[column[i * available // count] for column in columns] for i in range(count)]
    changes = [(j, value) for j, feature in enumerate(schema.features) for value in cases(feature, columns[j])]
    constructed = [list(real[i % count]) for i in range(min(len(changes), MAX_CONSTRUCTED_ROWS))]
    for i, (j, value) in enumerate(changes):
        constructed[i % MAX_CONSTRUCTED_ROWS][j] = value
    features = schema.features
    empty = [v if f.required else None for f, v in zip(features, real[0])]
    unseen = [unseen_value(f) if f.categorical else v for f, v in zip(features, real[-1])]
    return [*real, *constructed, empty, unseen]


def cases(feature: Feature, column: list[Scalar | None]) -> Iterator[Scalar | None]:
    """What a live row may hold that training rows need not: missing, unseen, zero, negative, large, fractional."""
    if not feature.required:
        yield None
    if feature.categorical:
        yield unseen_value(feature)
    elif feature.kind == "bool":
        yield from (False, True)
    else:
        present = [value for value in column if value is not None and abs(value) != float("inf")]
        top = max(map(abs, present), default=0)
        if feature.kind == "int":
            yield from (0, -top - 1, 10**9 + top, sorted(present)[len(present) // 2] + 0.5 if present else 0.5)
        else:
            yield from (0.0, -float(top) - 1.0, 1e300)


def unseen_value(feature: Feature) -> Scalar:
    """A value of the feature's own JSON type that is not one of its categories."""
    categories = feature.categories or ()
    if all(isinstance(value, int) and not isinstance(value, bool) for value in categories):
        return max(categories) + 1
    value = UNSEEN
    while value in categories:
        value += "-"
    return value


def lines(schema: Schema, target: Target, node: str, golden: list[list[Scalar | None]], predict: Predict) -> list[dict]:
    """The objects of golden.jsonl, for a graph of one node named `node`.

    predict: encoded rows [rows, features] to outputs [rows, width], by the trainer's own library.
    """
    outputs = predict(schema.encode([list(column) for column in zip(*golden)]))
    labels = target.labels(outputs) if target.classes else None
    result = []
    for i, row in enumerate(golden):
        line: dict = {"row": dict(zip(schema.names(), row)), "nodes": {node: outputs[i].tolist()}}
        if labels is not None:
            line["label"] = target.classes[int(labels[i])]
        result.append(line)
    return result
