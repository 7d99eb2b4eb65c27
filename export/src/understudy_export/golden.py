"""golden.jsonl: rows with the trainer's own output, which the server predicts before it reports ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from understudy_export.errors import ExportError
from understudy_export.schema import Feature, Scalar, Schema
from understudy_export.target import Target

MINIMUM_ROWS = 50
# A wide model would have thousands of constructed cases: then several go into one row.
MAX_CONSTRUCTED_ROWS = 256
UNSEEN = "understudy-never-seen"


def rows(
    schema: Schema, columns: list[list[Scalar | None]], count: int, extreme: bool = True
) -> list[list[Scalar | None]]:
    """`count` evenly spaced training rows, then constructed ones; each row a list of values in schema order.

    columns: the training data, one list of typed values for each feature. The constructed rows are training rows with
    one thing changed (see `cases`), and at the end one with everything missing that may be, and one with every
    category unseen. extreme: also numbers that no library takes which computes in single precision.
    """
    available = len(columns[0])
    real = [[column[i * available // count] for column in columns] for i in range(count)]
    changes = [(j, value) for j, feature in enumerate(schema.features) for value in cases(feature, columns[j], extreme)]
    constructed = [list(real[i % count]) for i in range(min(len(changes), MAX_CONSTRUCTED_ROWS))]
    for i, (j, value) in enumerate(changes):
        constructed[i % MAX_CONSTRUCTED_ROWS][j] = value
    features = schema.features
    empty = [v if f.required else None for f, v in zip(features, real[0])]
    unseen = [unseen_value(f) if f.categorical else v for f, v in zip(features, real[-1])]
    return [*real, *constructed, empty, unseen]


def cases(feature: Feature, column: list[Scalar | None], extreme: bool) -> Iterator[Scalar | None]:
    """What a live row may hold that training rows need not: missing, unseen, zero, negative, large, fractional."""
    if not feature.required:
        yield None
    if feature.categorical:
        yield unseen_value(feature)
    elif feature.kind == "bool":
        yield from (False, True)
    elif feature.kind == "datetime":
        yield from ("1969-12-31T23:59:59.5Z", "2024-02-29", "2100-03-01T01:02:03+05:30")
    else:
        present = [value for value in column if value is not None and abs(value) != float("inf")]
        top = max(map(abs, present), default=0)
        if feature.kind == "int":
            large = 10**9 + top if extreme else 10 * top
            yield from (0, -top - 1, large, sorted(present)[len(present) // 2] + 0.5 if present else 0.5)
        else:
            yield from (0.0, -float(top) - 1.0, 1e300 if extreme else 10.0 * top)


def unseen_value(feature: Feature) -> Scalar:
    """A value of the feature's own JSON type that is not one of its categories."""
    categories = feature.categories or ()
    if all(isinstance(value, int) and not isinstance(value, bool) for value in categories):
        return max(categories) + 1
    value = UNSEEN
    while value in categories:
        value += "-"
    return value


def accepted(
    schema: Schema, golden: list[list[Scalar | None]], accepts: Callable[[np.ndarray], np.ndarray]
) -> list[list[Scalar | None]]:
    """The rows that the library takes; accepts: encoded rows [rows, features] to bool [rows].

    Raises ExportError when fewer than the format asks for are left, or none with a missing value in a feature that may
    be missing: then the library takes no missing values there, and the feature has to be required.
    """
    kept = [row for row, good in zip(golden, accepts(schema.encode([list(c) for c in zip(*golden)]))) if good]
    if len(kept) < MINIMUM_ROWS:
        raise ExportError(f"the library refuses {len(golden) - len(kept)} of {len(golden)} rows of the training data")
    for j, feature in enumerate(schema.features):
        if not feature.required and all(row[j] is not None for row in kept):
            raise ExportError(
                f"feature {feature.name!r} may be missing, but the model takes no missing value there: "
                f"use --required {feature.name}"
            )
    return kept


def lines(
    schema: Schema,
    target: Target,
    golden: list[list[Scalar | None]],
    outputs: dict[str, np.ndarray],
    labels: Sequence[int] | None,
) -> list[dict]:
    """The objects of golden.jsonl.

    golden: rows of values in schema order; outputs: by node, [rows, width], by the trainer's own library; labels: index
    into the classes for each row, None when it is no classification.
    """
    result = []
    for i, row in enumerate(golden):
        line: dict = {
            "row": dict(zip(schema.names(), row)),
            "nodes": {node: values[i].tolist() for node, values in outputs.items()},
        }
        if labels is not None:
            line["label"] = target.classes[int(labels[i])]
        result.append(line)
    return result
