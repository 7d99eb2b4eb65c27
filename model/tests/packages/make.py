"""Make the packages of this directory: small AutoGluon predictors of every family, with AutoGluon's own answers.

usage: make.py [PREDICTORS]     where the tiny predictors are kept or will be trained; default: a temporary directory
needs: AutoGluon 1.6 (export/README.md); PYTHONPATH=export/src, or the exporter installed

The trainings are those of `export/tests/tiny.py`. An ensemble as AutoGluon weighs it leaves most of so small models
out: the package `binary` has all of them with equal weights.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "export" / "tests"))

import numpy as np  # noqa: E402
import tiny  # noqa: E402

from understudy_export.cli import main  # noqa: E402

EXPORTED_AT = "2026-11-23T00:00:00Z"
# Package, predictor, model; None is the best one.
PACKAGES = [
    ("ag-binary", "binary", "WeightedEnsemble_L2"),
    ("ag-stacked", "stacked", "WeightedEnsemble_L3_FULL"),
    ("ag-bagged", "stacked", "WeightedEnsemble_L2"),
    ("ag-multiclass", "multiclass", "WeightedEnsemble_L2"),
    ("ag-multiclass-catboost", "multiclass", "CatBoost"),
    ("ag-regression", "regression", "WeightedEnsemble_L2"),
    ("ag-quantile", "quantile", "LightGBM"),
    ("ag-quantile-catboost", "quantile", "CatBoost"),
    ("ag-quantile-network", "quantile", "NeuralNetTorch"),
    ("ag-dates", "dates", "LightGBM"),
    ("ag-dates-linear", "dates", "LinearModel"),
    ("ag-networks", "networks", "NeuralNetTorch"),
    ("ag-merged-levels", "networks", "XGBoost"),
]
# Predictors whose ensemble gets all models, with equal weights.
EQUAL = ("binary", "multiclass", "regression")


def weigh_equally(directory):
    """Let the weighted ensemble of a predictor take all its models."""
    from autogluon.tabular import TabularPredictor

    predictor = TabularPredictor.load(str(directory))
    trainer = predictor._trainer
    names = [name for name in predictor.model_names() if not name.startswith("WeightedEnsemble")]
    ensemble = trainer.load_model("WeightedEnsemble_L2")
    inner = ensemble.models[0]
    inner.base_model_names = names
    inner.model.weights_ = [np.float64(1.0 / len(names))] * len(names)
    inner.weights_ = inner.model.weights_
    inner.features = inner._set_stack_columns(base_model_names=names)
    ensemble.stack_column_prefix_lst = list(names)
    ensemble.stack_column_prefix_to_model_map = {name: name for name in names}
    ensemble.base_model_names = list(names)
    ensemble.stack_columns, ensemble.num_pred_cols_per_model = ensemble.set_stack_columns(stack_column_prefix_lst=names)
    trainer.save_model(ensemble)
    missing = [name for name in names if not trainer.model_graph.has_edge(name, "WeightedEnsemble_L2")]
    trainer.model_graph.add_edges_from((name, "WeightedEnsemble_L2") for name in missing)
    trainer.save()


def make(predictors):
    """Write every package."""
    for package, name, model in PACKAGES:
        directory = predictors / name
        if not (directory / "predictor.pkl").exists():
            tiny.train(name, predictors)
        if name in EQUAL:
            equal = predictors / f"{name}-equal"
            if not equal.exists():
                shutil.copytree(directory, equal)
                weigh_equally(equal)
            directory = equal
        arguments = ["autogluon", directory, "--out", HERE / package / "1", "--model", model, "--force"]
        arguments += ["--train", predictors / f"{name}.train.csv", "--test", predictors / f"{name}.test.csv"]
        arguments += ["--exported-at", EXPORTED_AT, "--golden-rows", "50", "--policy", "autogluon"]
        arguments += ["--provenance", "data_set=UCI Adult (Becker and Kohavi, 1996), CC BY 4.0"]
        if main([str(argument) for argument in arguments]) != 0:
            sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
