"""The training libraries: imported only by the subcommand that needs them, and their versions."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Sequence
from importlib import metadata
from types import ModuleType

import numpy as np

from understudy_export.errors import ExportError
from understudy_export.schema import Scalar


def load(module: str, package: str | None = None) -> ModuleType:
    """The module of a training library. Raises ExportError, naming the package to install, when it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExportError(
            f"the package {package or module} is needed, in the version that trained the model: {error}"
        ) from error


def versions(*names: str) -> dict[str, str]:
    """Versions of the packages that are installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def columns_in_order(
    features: list[str] | None, count: int, columns: list[str], where: str, spelling: dict[str, str] | None = None
) -> list[str]:
    """The training columns in the order of the model's `count` features.

    features: the model's names, or None when it knows none: then the columns' own order counts. spelling: how the model
    spells a column, where it differs. Raises ExportError naming what is missing on either side.
    """
    if features is None:
        if len(columns) != count:
            raise ExportError(
                f"{where}: {len(columns)} columns besides the label ({', '.join(columns)}); the model has {count} "
                "features, without names"
            )
        return columns
    by_model_name = {(spelling or {}).get(column, column): column for column in columns}
    missing = [feature for feature in features if feature not in by_model_name]
    extra = [column for name, column in by_model_name.items() if name not in features]
    if missing or extra:
        raise ExportError(
            f"the model's features and the columns of {where} differ: only in the model: "
            f"{', '.join(missing) or 'none'}; only in the table: {', '.join(extra) or 'none'}"
        )
    return [by_model_name[feature] for feature in features]


def accepted(
    predict: Callable[[np.ndarray], np.ndarray], matrix: np.ndarray, errors: tuple[type[Exception], ...]
) -> np.ndarray:
    """Which rows [rows] the library predicts without one of `errors`; one by one only when there is one among them."""
    try:
        predict(matrix)
    except errors:
        if len(matrix) == 1:
            return np.array([False])
        return np.concatenate([accepted(predict, row[None, :], errors) for row in matrix])
    return np.ones(len(matrix), bool)


def class_list(classes: Sequence[Scalar], given: str | None) -> str:
    """`Options.classes` of a model that knows its classes. Raises ExportError when the user gave others."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(classes)
    if given is not None and next(csv.reader([given])) != [str(value) for value in classes]:
        raise ExportError(f"--classes {given}: the model's own classes are {line.getvalue()}")
    return line.getvalue()
