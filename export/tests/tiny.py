"""Tiny AutoGluon predictors, trained in seconds, that together use every part of the exporter.

`train(name, directory)` writes `directory/name` (the predictor), `name.train.csv` and `name.test.csv`. The data are
rows of the Adult census set in `examples/adult`, with other columns as the label for other tasks, and dates made up.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "adult"
# Settings that keep every model small; the families are all those that the format carries.
FAMILIES = {
    "GBM": [{"num_boost_round": 12, "num_leaves": 7}],
    "XGB": {"n_estimators": 12, "max_depth": 3},
    "CAT": {"iterations": 12, "depth": 4},
    "RF": {"n_estimators": 5, "max_leaf_nodes": 40},
    "XT": {"n_estimators": 5, "max_leaf_nodes": 40},
    "LR": {},
    "NN_TORCH": {"num_epochs": 4, "hidden_size": 16, "num_layers": 2},
    "FASTAI": {"epochs": 3, "layers": [16]},
}
NAMES = ("binary", "stacked", "multiclass", "regression", "quantile", "dates", "networks")


def census():
    """4,000 rows with the label, in their order."""
    rows = pd.read_csv(EXAMPLES / "rows.csv", float_precision="round_trip")
    return pd.concat([rows, pd.read_csv(EXAMPLES / "labels.csv")], axis=1)


def tables(name):
    """Training and test table and the label's name."""
    data = census()
    random = np.random.default_rng(7)
    if name in ("binary", "stacked", "networks"):
        # A number that may be missing, and one that only has two values.
        data["score"] = np.where(random.random(len(data)) < 0.2, np.nan, random.normal(size=len(data)).round(3))
        data["level"] = random.choice([0.25, 1.75], len(data))
        return data[:1200], data[1200:2000], "income"
    if name == "multiclass":
        top = data["marital_status"].isin(["Married-civ-spouse", "Never-married", "Divorced"])
        data = data[top].drop(columns=["relationship"]).reset_index(drop=True)
        return data[:1200], data[1200:1800], "marital_status"
    if name == "dates":
        start = np.datetime64("2019-01-01T00:00:00", "s").astype(int)
        seconds = start + random.integers(0, 5 * 365 * 86400, len(data))
        when = pd.Series(pd.to_datetime(seconds, unit="s").strftime("%Y-%m-%dT%H:%M:%S"))
        data["day of visit"] = when.where(random.random(len(data)) > 0.1)
        noise = random.normal(size=len(data))
        data["spent"] = (data["hours_per_week"] + 10 * pd.to_datetime(when).dt.month + noise).round(3)
        data = data[["age", "workclass", "sex", "day of visit", "spent"]]
        return data[:1000], data[1000:1500], "spent"
    data["tenure"] = (data["age"] * 0.3 + data["education_num"] + random.normal(size=len(data))).round(4)
    data = data[["workclass", "education", "sex", "hours_per_week", "age", "capital_gain", "tenure"]]
    return data[:1000], data[1000:1600], "tenure"


def settings(name):
    """Arguments of TabularPredictor and of its fit."""
    if name == "binary":
        return {"eval_metric": "log_loss", "positive_class": ">50K"}, {"hyperparameters": FAMILIES}
    if name == "networks":
        families = {
            "NN_TORCH": [
                {"num_epochs": 2, "hidden_size": 8, "num_layers": 3, "use_batchnorm": True, "activation": "elu"},
                {
                    "num_epochs": 2,
                    "hidden_size": 8,
                    "num_layers": 1,
                    "activation": "tanh",
                    "proc.max_category_levels": 5,
                },
            ],
            "XGB": {"n_estimators": 5, "proc.max_category_levels": 4},
            "LR": {"proc.skew_threshold": 0.5},
            "KNN": {},
        }
        return {"eval_metric": "roc_auc", "positive_class": ">50K"}, {"hyperparameters": families}
    if name == "stacked":
        fit = {"num_bag_folds": 2, "num_stack_levels": 1, "refit_full": True, "calibrate": True}
        fit["hyperparameters"] = FAMILIES
        fit["ag_args_ensemble"] = {"fold_fitting_strategy": "sequential_local"}
        return {"eval_metric": "log_loss", "positive_class": ">50K"}, fit
    if name == "multiclass":
        return {"eval_metric": "log_loss"}, {"hyperparameters": FAMILIES, "calibrate": True}
    if name == "quantile":
        families = {key: FAMILIES[key] for key in ("GBM", "CAT", "NN_TORCH", "RF")}
        return {"problem_type": "quantile", "quantile_levels": [0.1, 0.5, 0.9]}, {"hyperparameters": families}
    if name == "dates":
        families = {key: FAMILIES[key] for key in ("GBM", "CAT", "LR", "XGB")}
        return {"problem_type": "regression"}, {"hyperparameters": families}
    return {"problem_type": "regression"}, {"hyperparameters": FAMILIES}


def train(name, directory):
    """Train one predictor; returns AutoGluon's object."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from autogluon.tabular import TabularPredictor

    directory = Path(directory)
    training, test, label = tables(name)
    training.to_csv(directory / f"{name}.train.csv", index=False)
    test.to_csv(directory / f"{name}.test.csv", index=False)
    # Through the file, so that both sides have read the same decimals.
    training = pd.read_csv(directory / f"{name}.train.csv", float_precision="round_trip")
    predictor, fit = settings(name)
    return TabularPredictor(label=label, path=str(directory / name), verbosity=0, **predictor).fit(
        training, num_cpus=2, num_gpus=0, **fit
    )
