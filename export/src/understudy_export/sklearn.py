"""The scikit-learn part: a fitted estimator, alone or at the end of a Pipeline, as columns and one node."""

from __future__ import annotations

import argparse
import pickle
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy_export import libraries
from understudy_export.arguments import add_package_options, read_options
from understudy_export.errors import ExportError
from understudy_export.estimators import Node, read_node
from understudy_export.export import Built, build
from understudy_export.pipeline import plain
from understudy_export.prepared import Prepared, prepare, split_steps
from understudy_export.schema import Scalar, typed
from understudy_export.table import Table, read_csv


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export sklearn`."""
    command.add_argument(
        "model",
        metavar="FILE",
        help="a joblib or pickle file of a fitted estimator or Pipeline. It is UNPICKLED, which runs whatever code it "
        "holds: only for files that you trust, with the versions that trained it",
    )
    add_package_options(command, without=("--categories",))


def run(arguments: argparse.Namespace) -> Built:
    """The package of the model that the command line names."""
    return export(load(arguments.model), Path(arguments.model).name, arguments)


def export(estimator: Any, where: str, arguments: argparse.Namespace) -> Built:
    """The package of a fitted estimator; where: what to call it in an error."""
    options = read_options(arguments)
    train = read_csv(options.train)
    ignored = {options.label, *options.ignore}
    model = read(estimator, where, train, [name for name in train.columns if name not in ignored])
    replaced: dict = {"required": options.required | model.prepared.refused_missing(model.accepts) - options.optional}
    if model.known_classes:
        replaced["classes"] = libraries.class_list(model.known_classes, options.classes)
    return build(model, replace(options, **replaced))


def load(path: str | Path) -> Any:
    """Unpickle a file. Raises ExportError when that fails, or when another version of scikit-learn wrote it."""
    libraries.load("sklearn", "scikit-learn")
    from sklearn.exceptions import InconsistentVersionWarning

    name = Path(path).name
    with Path(path).open("rb") as file:
        head = file.read(2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            if head == b"PK":
                skops = libraries.load("skops.io", "skops")
                return skops.load(path, trusted=skops.get_untrusted_types(file=path))
            return libraries.load("joblib").load(path)
    except InconsistentVersionWarning as error:
        raise ExportError(f"{name}: {str(error).splitlines()[0]} Export it where it was trained") from error
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError, ImportError) as error:
        raise ExportError(f"{name}: cannot be unpickled: {error!r}") from error


@dataclass
class Model:
    """A fitted estimator: what `export.Model` asks of a library."""

    estimator: Any
    part: Node
    prepared: Prepared
    known_classes: tuple[Scalar, ...]
    eval_metric: str | None = None
    quantile_levels: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.task = self.part.task
        self.objective = self.part.kind
        self.classes = len(self.known_classes)
        self.quantile_levels = self.part.quantile_levels
        self.node = self.part.name

    def column_names(self, columns: list[str], where: str) -> list[str]:
        """The training columns in the order of the model's features."""
        return libraries.columns_in_order(self.prepared.names, len(self.prepared.order), columns, where)

    def categories(self, columns: list[str], path: str | None) -> dict[str, list[Scalar]]:
        """The categories that the pipeline's encoders know, by column."""
        return self.prepared.known

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """scikit-learn's own output [rows, width] for rows [rows, features] in the order of the model's columns."""
        return self.part.predict(self.estimator, self.prepared.frame(matrix))

    def accepts(self, matrix: np.ndarray) -> np.ndarray:
        """Which of the rows scikit-learn takes."""
        return libraries.accepted(self.predict, matrix, (ValueError, TypeError))

    def files(self) -> dict[str, bytes]:
        """The model's files by path in the package."""
        return self.part.files

    def graph(self, columns: list[str]) -> dict:
        """graph.json: the pipeline's columns and one node."""
        return self.prepared.graph(self.part.entry, columns)

    def libraries(self) -> dict[str, str]:
        """Versions of what trains and predicts, by name."""
        return libraries.versions("scikit-learn", "numpy", "pandas", "scipy")


def read(estimator: Any, where: str, train: Table, columns: list[str]) -> Model:
    """What a fitted estimator says about itself.

    columns: the features of the training data. Raises ExportError for a class or a setting that the format cannot
    carry."""
    libraries.load("sklearn", "scikit-learn")
    steps, final = split_steps(estimator, where)
    prepared = prepare(estimator, steps, final, where, train, columns)
    classes = read_classes(final, where)

    def inputs() -> tuple[Any, np.ndarray]:
        frame = prepared.frame(prepared.rows())
        return frame, prepared.transform(frame)

    return Model(estimator, read_node(estimator, final, where, len(classes), inputs), prepared, classes)


def read_classes(final: Any, where: str) -> tuple[Scalar, ...]:
    """The classes in the order of the probabilities; none for a regressor."""
    if not hasattr(final, "classes_"):
        return ()
    classes = [plain(value) for value in np.asarray(final.classes_).tolist()]
    if len({typed(value) for value in classes}) < 2 or not all(isinstance(c, (str, int, float)) for c in classes):
        raise ExportError(f"{where}: classes {classes}: expected two or more texts, numbers or booleans")
    return tuple(classes)
