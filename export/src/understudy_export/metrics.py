"""Metrics of the exported model on test rows, from the trainer's own predictions."""

from __future__ import annotations

import math

import numpy as np

from understudy_export.target import Target

EPSILON = 1e-15


def measure(target: Target, outputs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Metrics by name, `test_*`. outputs: [rows, width]; truth: class indices or values, [rows].

    Log loss is in nats. `test_auc` is only there for a binary model when both classes occur.
    """
    if not target.classes:
        return measure_values(target, outputs, truth)
    accuracy = float(np.mean(target.labels(outputs) == truth))
    if target.task == "binary":
        likelihood = np.where(truth == 1, outputs[:, -1], 1.0 - outputs[:, -1])
    else:
        likelihood = outputs[np.arange(len(truth)), truth]
    losses = [-math.log(min(max(p, EPSILON), 1.0)) for p in likelihood.tolist()]
    result = {"test_accuracy": accuracy, "test_log_loss": math.fsum(losses) / len(losses)}
    if target.task == "binary" and 0 < truth.sum() < len(truth):
        result["test_auc"] = area_under_curve(outputs[:, -1], truth == 1)
    return result


def measure_values(target: Target, outputs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Root mean squared and mean absolute error, in the label's unit; of quantiles the levels' mean pinball loss."""
    if target.task == "quantile":
        losses = []
        for level, values in zip(target.quantile_levels, outputs.T):
            error = truth - values
            losses.append(math.fsum(np.maximum(level * error, (level - 1.0) * error)) / len(error))
        return {"test_pinball_loss": math.fsum(losses) / len(losses)}
    error = truth - outputs[:, 0]
    return {
        "test_rmse": math.sqrt(math.fsum(error**2) / len(error)),
        "test_mae": math.fsum(np.abs(error)) / len(error),
    }


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half. scores: [rows]; positive: bool, [rows], both values present."""
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[group]
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return float((math.fsum(ranks[positive]) - positives * (positives + 1) / 2.0) / (positives * negatives))
