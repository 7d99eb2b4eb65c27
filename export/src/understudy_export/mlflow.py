"""The MLflow part: reads a model's MLmodel file and hands its artifact to the library that it belongs to."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from understudy_export import libraries
from understudy_export.arguments import add_package_options, read_options
from understudy_export.errors import ExportError
from understudy_export.export import Built, build
from understudy_export.table import read_csv

# The native flavours first: every model also has `python_function`.
FLAVOURS = ("autogluon", "lightgbm", "xgboost", "catboost", "sklearn", "pytorch")
REFUSED = {
    "onnx": "an ONNX graph; export the model that it was converted from",
    "tensorflow": "a TensorFlow model",
    "keras": "a Keras model",
    "h2o": "an H2O model",
    "spark": "a Spark model",
    "statsmodels": "a statsmodels model",
    "prophet": "a Prophet model",
    "transformers": "a transformers pipeline",
}
KINDS = {"long": "int", "integer": "int", "double": "float", "float": "float", "boolean": "bool", "string": "text"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export mlflow`."""
    add = command.add_argument
    add(
        "model",
        metavar="MODEL_DIR",
        help="the directory with the MLmodel file. Models of scikit-learn and PyTorch are UNPICKLED, which runs "
        "whatever code they hold: only for models that you trust, with the versions that trained them",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--best-iteration", action="store_true", default=None, help="XGBoost, see `xgboost --help`")
    which.add_argument("--all-trees", dest="best_iteration", action="store_false", help="XGBoost")
    add("--missing-text", metavar="TEXT", help="CatBoost, see `catboost --help`")
    add("--preprocessor", metavar="FILE", help="PyTorch, see `torch-mlp --help`")
    add("--task", choices=("binary", "multiclass", "regression"), help="PyTorch, see `torch-mlp --help`")
    add_package_options(command)


def run(arguments: argparse.Namespace) -> Built:
    """The package of the model in the directory that the command line names."""
    directory = Path(arguments.model)
    document = read_document(directory)
    flavours = document.get("flavors") or {}
    flavour = next((name for name in FLAVOURS if name in flavours), None)
    if flavour is None:
        other = next((name for name in flavours if name != "python_function"), "python_function")
        loader = flavours.get("python_function", {}).get("loader_module", "none")
        reason = REFUSED.get(other, f"only Python can load it (loader_module {loader})")
        raise ExportError(f"{directory.name}: flavour {other!r}: {reason}; the exporter takes {', '.join(FLAVOURS)}")
    settings = flavours[flavour]
    path = artifact(directory, flavour, settings)
    given = {**vars(arguments), **from_document(document, arguments), "model": str(path)}
    return DISPATCH[flavour](path, settings, argparse.Namespace(**given))


def read_document(directory: Path) -> dict:
    """The MLmodel file. Raises ExportError when it is no mapping in YAML."""
    yaml = libraries.load("yaml", "PyYAML")
    try:
        document = yaml.safe_load((directory / "MLmodel").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExportError(f"{directory.name}/MLmodel: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ExportError(f"{directory.name}/MLmodel: expected a mapping, got {type(document).__name__}")
    return document


def artifact(directory: Path, flavour: str, settings: dict) -> Path:
    """The file or directory that holds the model."""
    name = settings.get("data") or settings.get("pickled_model") or settings.get("model_data")
    if not isinstance(name, str):
        raise ExportError(f"{directory.name}: flavour {flavour!r} names no file: {settings}")
    path = directory / name
    if not path.exists():
        raise ExportError(f"{directory.name}: flavour {flavour!r}: no {name}")
    return path


def from_document(document: dict, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the MLmodel file says about the columns and its origin, as values of the command line.

    A column of --train that is neither the label nor in the signature is no feature. Raises ExportError when one of the
    signature is missing there.
    """
    origin = [
        (key if key.startswith("mlflow") else f"mlflow_{key}", str(document[key]))
        for key in ("run_id", "model_id", "model_uuid", "mlflow_version", "utc_time_created")
        if document.get(key)
    ]
    found: dict[str, Any] = {"provenance": [*origin, *arguments.provenance]}
    columns = read_signature(document)
    if not columns or not getattr(arguments, "train", None):
        return found
    known = {column["name"] for column in columns}
    header = read_csv(arguments.train).columns
    lost = sorted(known - header.keys())
    if lost:
        raise ExportError(f"{arguments.train}: no column {', '.join(lost)}, which the model's signature has")
    found["ignore"] = [*arguments.ignore, *(name for name in header if name not in known | {arguments.label})]
    found["kinds"] = {column["name"]: KINDS[column["type"]] for column in columns if column.get("type") in KINDS}
    return found


def read_signature(document: dict) -> list[dict]:
    """The named columns of the signature's inputs; none for a tensor or without a signature."""
    try:
        inputs = json.loads((document.get("signature") or {}).get("inputs") or "[]")
        return [column for column in inputs if isinstance(column.get("name"), str) and column.get("type") != "tensor"]
    except (ValueError, AttributeError, TypeError) as error:
        raise ExportError(f"MLmodel: signature: {error!r}") from error


def lightgbm_model(path: Path, settings: dict, arguments: argparse.Namespace) -> Built:
    """A text model, or a pickled LGBMClassifier or LGBMRegressor, whose Booster it takes."""
    lightgbm: Any = import_module("understudy_export.lightgbm")
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"tree":
        return lightgbm.run(arguments)
    from understudy_export.sklearn import load

    estimator = load(path)
    if not hasattr(estimator, "booster_"):
        raise ExportError(f"{path.name}: {type(estimator).__name__}; expected a LightGBM model")
    with tempfile.TemporaryDirectory() as directory:
        text = Path(directory) / "model.txt"
        estimator.booster_.save_model(str(text))
        model = lightgbm.load(str(text))
    options = read_options(arguments)
    if hasattr(estimator, "classes_"):
        options = replace(options, classes=libraries.class_list(estimator.classes_.tolist(), options.classes))
    return build(model, options)


def xgboost_model(path: Path, settings: dict, arguments: argparse.Namespace) -> Built:
    """JSON or UBJSON, whatever the file is called. Only the scikit-learn classes predict with the best iteration."""
    xgboost: Any = import_module("understudy_export.xgboost")
    if arguments.best_iteration is None and settings.get("model_class", "").endswith("core.Booster"):
        arguments.best_iteration = False
    return xgboost.run(arguments)


def catboost_model(path: Path, settings: dict, arguments: argparse.Namespace) -> Built:
    """`model.cb`, which is .cbm or JSON."""
    catboost: Any = import_module("understudy_export.catboost")
    return catboost.run(arguments)


def sklearn_model(path: Path, settings: dict, arguments: argparse.Namespace) -> Built:
    """A pickle, or skops' archive."""
    sklearn: Any = import_module("understudy_export.sklearn")
    return sklearn.run(arguments)


def pytorch_model(path: Path, settings: dict, arguments: argparse.Namespace) -> Built:
    """`data/model.pth`; a traced graph holds no modules."""
    torch_mlp: Any = import_module("understudy_export.torch_mlp")
    file = path / "model.pth"
    if not file.exists():
        held = sorted(entry.name for entry in path.iterdir())
        raise ExportError(f"{path.name}: {', '.join(held)}: a traced graph; log the Sequential as model.pth")
    return torch_mlp.run(argparse.Namespace(**{**vars(arguments), "model": str(file), "architecture": None}))


def autogluon_model(path: Path, settings: dict, arguments: argparse.Namespace) -> Built:
    """A predictor's directory, as the community flavour keeps it."""
    autogluon: Any = import_module("understudy_export.autogluon")
    return autogluon.run(argparse.Namespace(**{**vars(arguments), "predictor": str(path), "model": None}))


DISPATCH = {
    "autogluon": autogluon_model,
    "lightgbm": lightgbm_model,
    "xgboost": xgboost_model,
    "catboost": catboost_model,
    "sklearn": sklearn_model,
    "pytorch": pytorch_model,
}
