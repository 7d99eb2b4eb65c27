"""Makes the small packages in model/tests/packages: python tests/make_packages.py DIRECTORY."""

import sys
import tempfile
from pathlib import Path

import catboost
import joblib
import torch
import xgboost
from library_data import Runner, numbers, table, targets
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from test_sklearn import prepared


def make(root):
    frame, score = table()
    binary, multi, _ = targets(score)
    full = numbers(frame).fillna({"x": 0.0})
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        model = directory / "model"

        def export(package, library, data, label, *more):
            run = Runner(directory)
            run.out = root / package / "1"
            assert run(library, model, data, label, "--force", *more) == 0

        def pickled(package, estimator, data, label):
            joblib.dump(estimator.fit(data, label), model)
            export(package, "sklearn", data, label)

        data = numbers(frame)
        settings = {"objective": "reg:squarederror", "max_depth": 4, "nthread": 1, "seed": 1}
        booster = xgboost.train(settings, xgboost.DMatrix(data.astype(float), score), 20)
        model.write_bytes(booster.save_raw("ubj"))
        export("xgboost-regression", "xgboost", data, score)
        cats = frame[["x", "k", "c", "s", "b"]]
        settings = {
            "iterations": 20,
            "depth": 4,
            "loss_function": "MultiClass",
            "one_hot_max_size": 3,
            "random_seed": 1,
        }
        trained = catboost.CatBoost({**settings, "verbose": 0, "thread_count": 1, "allow_writing_files": False})
        trained.fit(cats.fillna({"c": "nan"}), multi, cat_features=["c", "s", "b"]).save_model(str(model))
        export("catboost-multiclass", "catboost", cats, multi)
        pickled("sklearn-forest-binary", RandomForestClassifier(10, max_depth=7, random_state=1), data, binary)
        pickled("sklearn-gb", GradientBoostingRegressor(n_estimators=20, random_state=1), full, score)
        histogram = HistGradientBoostingClassifier(max_iter=8, categorical_features=["c", "s"], random_state=1)
        pickled("sklearn-histgb", histogram, frame, multi)
        pickled("sklearn-logistic-pipeline", make_pipeline(prepared(), LogisticRegression(max_iter=500)), frame, binary)
        torch.manual_seed(1)
        preprocessor = prepared()
        width = preprocessor.fit_transform(frame).shape[1]
        nn = torch.nn
        norm = nn.BatchNorm1d(16)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.save(nn.Sequential(nn.Linear(width, 16), norm, nn.GELU(), nn.Dropout(), nn.Linear(16, 3)), model)
        joblib.dump(preprocessor, directory / "preprocessor")
        export("torch-mlp", "torch-mlp", frame, multi, "--preprocessor", directory / "preprocessor")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
