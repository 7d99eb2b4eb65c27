"""What the model predicts: the task, the classes with their JSON types, and from an output to a label or a score."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np

from understudy_export.errors import ExportError
from understudy_export.schema import Scalar, typed
from understudy_export.table import Table, scalars


@dataclass(frozen=True)
class Target:
    """`classes` is in the order of the probabilities, negative class first; empty when it is no classification."""

    task: str
    label: str
    classes: tuple[Scalar, ...] = ()
    threshold: float = 0.5
    quantile_levels: tuple[float, ...] = ()

    def labels(self, outputs: np.ndarray) -> np.ndarray:
        """Index into `classes` of each row's label; outputs [rows, width]. Binary: strictly above the threshold.

        A binary model gives the positive class's probability, or both, the positive class's last.
        """
        if self.task == "binary":
            return (outputs[:, -1] > self.threshold).astype(np.int64)
        return np.argmax(outputs, axis=1)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """One score for each row, shape [rows]: P(positive class), P(predicted class), or the value."""
        if self.task == "multiclass":
            return outputs.max(axis=1)
        return outputs[:, -1 if self.task == "binary" else 0]

    def truth(self, table: Table) -> np.ndarray:
        """The label column as indices into `classes`, or as doubles; shape [rows]. Raises ExportError when unknown."""
        cells = table.column(self.label)
        if not self.classes:
            try:
                return np.array([float(cell) for cell in cells])
            except ValueError as error:
                raise ExportError(f"{table.path}: label column {self.label!r}: {error}") from error
        # A label is looked up by its text, so that a table without one of the classes reads the same.
        index = {cell: code for code, value in enumerate(self.classes) for cell in spellings(value)}
        unknown = sorted(set(cells) - index.keys())
        if unknown:
            raise ExportError(f"{table.path}: label column {self.label!r} holds {unknown[:5]}: not in {self.classes}")
        return np.array([index[cell] for cell in cells])

    def to_json(self) -> dict:
        """The keys of manifest.json that belong to the target."""
        entry: dict = {"task": self.task, "label": self.label}
        if self.classes:
            entry["classes"] = list(self.classes)
        if self.task == "binary":
            entry["positive_class"] = self.classes[1]
            entry["decision_threshold"] = self.threshold
        if self.task == "quantile":
            entry["quantile_levels"] = list(self.quantile_levels)
        return entry


def spellings(value: Scalar) -> list[str]:
    """How a CSV may write a class."""
    if isinstance(value, bool):
        return ["true", "True", "TRUE"] if value else ["false", "False", "FALSE"]
    if isinstance(value, float):
        return [repr(value), str(int(value))] if value.is_integer() else [repr(value)]
    return [str(value)]


def read_classes(table: Table, label: str, count: int, listed: str | None, positive: str | None) -> tuple[Scalar, ...]:
    """The classes in the order of the probabilities.

    `listed` is the user's comma-separated order; without it the distinct values of the label column, sorted. `count` is
    what the model has. With two classes `positive` goes last. Raises ExportError when these do not fit together.
    """
    cells = table.column(label)
    if "" in cells:
        raise ExportError(f"{table.path}: row {cells.index('')}: the label {label!r} is missing")
    distinct = sorted(set(cells))
    if listed is not None:
        distinct = next(csv.reader([listed]))
        unknown = sorted(set(cells) - set(distinct))
        if unknown:
            raise ExportError(f"{table.path}: label column {label!r} holds {unknown[:5]}: not in --classes {listed}")
    values = scalars(distinct)
    unique = {typed(value): value for value in values}
    if listed is None:
        values = sorted(unique.values())
    if len(unique) != len(values) or len(values) != count:
        raise ExportError(f"the model has {count} classes; {label!r} has {len(values)}: {values[:20]}")
    if positive is not None:
        by_text = {cell: value for value in values for cell in spellings(value)}
        if count != 2:
            raise ExportError(f"--positive-class {positive}: the model has {count} classes; only 2 have a positive one")
        if positive not in by_text:
            raise ExportError(f"--positive-class {positive!r}: the classes are {values}")
        if by_text[positive] != values[1]:
            if listed is not None:
                raise ExportError(f"--positive-class {positive!r} is not the last of --classes {listed}")
            values.reverse()
    return tuple(values)
