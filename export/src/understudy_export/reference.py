"""reference.json: the profile of the training data, for drift and for z-scores."""

from __future__ import annotations

import math

import numpy as np

from understudy_export.schema import Feature, Schema

LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def profile(schema: Schema, matrix: np.ndarray, scores: np.ndarray) -> dict:
    """The content of reference.json.

    matrix: training rows in the model, shape [rows, features], float64; scores: the model's score of each row, [rows].
    """
    features = {f.name: profile_feature(f, matrix[:, j]) for j, f in enumerate(schema.features)}
    return {"rows": int(matrix.shape[0]), "features": features, "score": profile_numbers(scores)}


def profile_feature(feature: Feature, column: np.ndarray) -> dict:
    """One feature's profile from its encoded column [rows]: after `fill`, so what the model sees as NaN is missing."""
    missing = np.isnan(column)
    present = column[~missing]
    share = {"missing_share": float(missing.sum()) / len(column)}
    if feature.categorical:
        counts = np.bincount(present[present >= 0].astype(np.int64), minlength=len(feature.categories or ()))
        return {**share, "counts": counts.tolist()}
    if feature.kind == "bool":
        return {**share, "counts": [int((present == 0).sum()), int((present == 1).sum())]}
    numbers = profile_numbers(present)
    quantiles = numbers.pop("quantiles")
    return {**share, **numbers, "unique": int(np.unique(present).size), "quantiles": quantiles}


def profile_numbers(values: np.ndarray) -> dict:
    """mean, std (ddof=0), min, max and quantiles (linear interpolation) of float64 values; all NaN when there are none.

    The sums are exactly rounded (`math.fsum`), so that they do not depend on the machine.
    """
    levels = list(LEVELS)
    if values.size == 0:
        numbers = dict.fromkeys(("mean", "std", "min", "max"), math.nan)
        return {**numbers, "quantiles": {"levels": levels, "values": [math.nan] * len(levels)}}
    if np.isfinite(values).all():
        mean = math.fsum(values) / values.size
        std = math.sqrt(math.fsum((values - mean) ** 2) / values.size)
    else:
        mean, std = float(np.mean(values)), math.nan
    with np.errstate(invalid="ignore"):
        quantiles = np.quantile(values, levels)
    return {
        "mean": mean,
        "std": std,
        "min": float(values.min()),
        "max": float(values.max()),
        "quantiles": {"levels": levels, "values": quantiles.tolist()},
    }
