"""Nodes of AutoGluon's tree and linear models: each class's own preparation, and the library's own file."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from understudy_export.arrays import forest_arrays, safetensors
from understudy_export.autogluon.preprocess import (
    Matrix,
    one_hot_merged,
    one_hot_plain,
    quantile_normal,
    standard,
)
from understudy_export.cityhash import category_hash
from understudy_export.errors import ExportError


@dataclass
class Part:
    """A node without its name, place and flags: `keys` of graph.json, and its files by path in the node's directory.

    A path in `keys` is the bare name of the file.
    """

    keys: dict
    files: dict[str, bytes] = field(default_factory=dict)


def internal_features(model: Any) -> list[str]:
    """The model's columns in its own order, by AutoGluon's names."""
    back = {new: old for old, new in (getattr(model, "_features_internal_map", None) or {}).items()}
    return [back.get(name, name) for name in model._features_internal]


def lightgbm(model: Any, matrix: Matrix, booster: Any) -> Part:
    """A LightGBM booster on categories' codes, -1 as missing."""
    names = internal_features(model)
    if booster.num_feature() != len(names):
        raise ExportError(f"the booster has {booster.num_feature()} features, AutoGluon's model {len(names)}")
    categorical = [name for name in names if matrix.value(name).categories]
    known = booster.pandas_categorical or []
    if len(known) != len(categorical):
        raise ExportError(f"the booster knows {len(known)} lists of categories, AutoGluon's model {len(categorical)}")
    features = []
    for name in names:
        if name in categorical:
            values = known[categorical.index(name)]
            if values != list(range(len(values))):
                raise ExportError(f"categories of {name!r} in the booster: {values[:5]}; expected 0, 1, 2, ...")
            features.append(matrix.add(name, "or missing", [{"missing": -1}]))
        else:
            features.append(matrix.add(name, "", []))
    text = booster.model_to_string()
    if "\nis_linear=1" in text:
        raise ExportError("LightGBM with linear_tree: the format has no trees with linear leaves")
    return Part({"type": "lightgbm", "model": "model.txt", "features": features}, {"model.txt": text.encode()})


def xgboost(model: Any, matrix: Matrix) -> Part:
    """An XGBoost booster, cut to its best iteration, on one-hot columns; a sparse matrix has no zeros: 0 is missing."""
    generator = model._ohe_generator
    features = []
    if generator.cat_cols:
        for columns in one_hot_merged(matrix, generator.cat_cols, generator.ohe_encs, zero_is_missing=True):
            features += columns
    features += [matrix.add(name, "or missing", [{"missing": 0}]) for name in generator.other_cols]
    booster = model.model.get_booster()
    best = booster.attr("best_iteration")
    if best is not None:
        booster = booster[: int(best) + 1]
    if booster.num_features() != len(features):
        raise ExportError(f"the booster has {booster.num_features()} features, AutoGluon's encoder {len(features)}")
    content = bytes(booster.save_raw("ubj"))
    return Part({"type": "xgboost", "model": "model.ubj", "features": features}, {"model.ubj": content})


def catboost(model: Any, matrix: Matrix) -> Part:
    """A CatBoost model in JSON, with the hash of each code's digits; missing and unseen are a code of their own."""
    names = internal_features(model)
    features, hashes = [], {}
    for name in names:
        count = matrix.value(name).categories
        feature = matrix.add(name, "", [])
        features.append(feature)
        if count:
            mapping = model._category_mapping[name]
            if mapping != {**{code: code for code in range(count)}, "__NaN__": count}:
                raise ExportError(f"CatBoost's categories of {name!r} are {list(mapping)[:5]}; expected 0, 1, 2, ...")
            absent = category_hash(str(count))
            codes = [category_hash(str(code)) for code in range(count)]
            hashes[feature] = {"codes": codes, "missing": absent, "unseen": absent}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.json"
        model.model.save_model(str(path), format="json")
        document = json.loads(path.read_text(encoding="utf-8"))
    if "oblivious_trees" not in document:
        raise ExportError("CatBoost's trees are not symmetric (grow_policy)")
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    keys = {"type": "catboost", "model": "model.json", "features": features, "hashes": hashes}
    return Part(keys, {"model.json": content})


def forest(model: Any, matrix: Matrix, binary: bool) -> Part:
    """A random forest or extra trees: codes as numbers, missing as 0, single precision; leaves hold probabilities."""
    features = [matrix.add(name, "or 0", [{"fill": 0}]) for name in internal_features(model)]
    trees = [estimator.tree_ for estimator in model.model.estimators_]
    classes = getattr(model.model, "classes_", None)
    outputs = 1 if binary or classes is None else len(classes)
    if binary and len(classes) != 2:
        raise ExportError(f"the forest has {len(classes)} classes; expected 2")
    arrays = forest_arrays(trees, leaf=(lambda value: value[:, 0, 1:2]) if binary else None)
    keys = {
        "type": "forest",
        "arrays": "forest.safetensors",
        "features": features,
        "input": "float",
        "start": [0.0] * outputs,
        "average": True,
        "link": "identity",
    }
    return Part(keys, {"forest.safetensors": safetensors(arrays)})


def linear(model: Any, matrix: Matrix, binary: bool) -> Part:
    """Logistic or linear regression on scaled and one-hot columns."""
    features: list[str] = []
    for name, pipeline, columns in model._pipeline.transformers_:
        if name == "remainder":
            if pipeline != "drop":
                raise ExportError(f"the linear model passes {list(columns)[:3]} through")
            continue
        steps = dict(pipeline.steps)
        if name == "cats":
            features += one_hot_plain(matrix, columns, steps["generator"].encoder_)
        elif name in ("cont", "bool"):
            features += standard(matrix, columns, steps)
        elif name == "skew":
            features += quantile_normal(matrix, columns, steps)
        else:
            raise ExportError(f"the linear model prepares {list(columns)[:3]} by {name!r}, which is not known")
    estimator = model.model
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    intercepts = np.broadcast_to(np.asarray(estimator.intercept_, np.float64).ravel(), len(coefficients))
    if coefficients.shape[1] != len(features):
        width = coefficients.shape[1]
        raise ExportError(f"the linear model has {width} columns, its preparation makes {len(features)}")
    classes = getattr(estimator, "classes_", None)
    link = "identity" if classes is None else "sigmoid" if binary else "softmax"
    keys = {
        "type": "linear",
        "coefficients": coefficients.tolist(),
        "intercepts": intercepts.tolist(),
        "features": features,
        "link": link,
    }
    return Part(keys)
