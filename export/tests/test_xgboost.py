"""XGBoost models: every golden row equals XGBoost's own answer and the evaluator's."""

import json

import numpy as np
import pytest
from library_data import numbers, run, table, targets  # noqa: F401
from parity import parity

xgboost = pytest.importorskip("xgboost")


def fit(objective, label, **settings):
    frame, score = table()
    data = numbers(frame).astype(float)
    parameters = {"objective": objective, "max_depth": 3, "nthread": 1, "seed": 1, **settings}
    return data, xgboost.train(parameters, xgboost.DMatrix(data, label(score)), 6)


def yes(score):
    return (score > np.median(score)).astype(int)


def three(score):
    return np.digitize(score, np.quantile(score, [0.4, 0.7]))


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize(
    ("objective", "label", "task", "settings"),
    [
        ("binary:logistic", yes, "binary", {}),
        ("binary:logistic", yes, "binary", {"base_score": 0.2, "num_parallel_tree": 2}),
        ("multi:softprob", three, "multiclass", {"num_class": 3}),
        ("reg:squarederror", lambda score: score, "regression", {}),
        ("count:poisson", lambda score: np.abs(score), "regression", {}),
        ("reg:quantileerror", lambda score: score, "quantile", {"quantile_alpha": [0.1, 0.5, 0.9]}),
    ],
)
def test_objectives(run, tmp_path, suffix, objective, label, task, settings):  # noqa: F811
    data, booster = fit(objective, label, **settings)
    path = tmp_path / f"model.{suffix}"
    booster.save_model(path)
    assert run("xgboost", path, numbers(table()[0]), label(table()[1]), "--test", run.train) == 0
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest["task"] == task
    assert manifest.get("quantile_levels") == settings.get("quantile_alpha")
    golden = parity(run.out)
    rows = np.array([[np.nan if line["row"][c] is None else line["row"][c] for c in data] for line in golden], float)
    expected = booster.predict(xgboost.DMatrix(rows, feature_names=list(data)))
    assert np.array_equal(expected.reshape(len(rows), -1), [line["nodes"]["xgboost"] for line in golden])
    assert (run.out / f"nodes/xgboost/model.{suffix}").read_bytes() == path.read_bytes()
    assert any(line["row"]["x"] is None for line in golden)
    assert any(line["row"]["k"] % 1 == 0.5 for line in golden)
    assert any(line["row"]["k"] == 0 for line in golden)


def test_softmax_is_exported_as_probabilities(run, tmp_path):  # noqa: F811
    data, booster = fit("multi:softmax", three, num_class=3)
    booster.save_model(tmp_path / "model.json")
    assert run("xgboost", tmp_path / "model.json", data, three(table()[1])) == 0
    assert all(abs(sum(line["nodes"]["xgboost"]) - 1) < 1e-6 for line in parity(run.out))


def test_best_iteration(run, tmp_path):  # noqa: F811
    """XGBoost's scikit-learn classes predict with the best iteration; its own Booster with all trees."""
    frame, score = table()
    data, label = numbers(frame).astype(float), yes(score)
    noise = np.random.default_rng(1).integers(0, 2, 80)
    model = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=5, max_depth=3, n_jobs=1, learning_rate=0.02)
    model.fit(data, label, eval_set=[(data[:80], np.where(noise, label[:80], 1 - label[:80]))], verbose=False)
    model.save_model(tmp_path / "model.json")
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert run("xgboost", tmp_path / "model.json", data, label) == 0
    golden = parity(run.out)
    assert golden[0]["nodes"]["xgboost"] == [float(model.predict_proba(data[:1])[0, 1])]
    assert run("xgboost", tmp_path / "model.json", data, label, "--all-trees", "--force") == 0
    every = model.get_booster().predict(xgboost.DMatrix(data[:1]), iteration_range=(0, 0))
    assert parity(run.out)[0]["nodes"]["xgboost"] != golden[0]["nodes"]["xgboost"]
    whole = xgboost.Booster(model_file=tmp_path / "model.json").predict(xgboost.DMatrix(data[:1]))
    assert parity(run.out)[0]["nodes"]["xgboost"] == [float(whole[0])] and every.shape == whole.shape


def test_a_model_without_names_goes_by_position(run, tmp_path):  # noqa: F811
    frame, score = table()
    data = numbers(frame).to_numpy(float)
    booster = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(data, score), 3)
    booster.save_model(tmp_path / "model.ubj")
    assert run("xgboost", tmp_path / "model.ubj", data, score) == 0
    parity(run.out)
    assert run("xgboost", tmp_path / "model.ubj", data[:, 1:], score, "--force") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": "binary:hinge"}, "objective 'binary:hinge'"),
        ({"objective": "rank:pairwise"}, "objective 'rank:pairwise'"),
        ({"objective": "reg:squarederror", "booster": "dart"}, "booster 'dart'"),
        ({"objective": "reg:squarederror", "booster": "gblinear"}, "booster 'gblinear'"),
    ],
)
def test_refusals(run, tmp_path, capsys, settings, words):  # noqa: F811
    frame, score = table()
    data = numbers(frame).astype(float)
    xgboost.train(settings, xgboost.DMatrix(data, yes(score)), 2).save_model(tmp_path / "model.json")
    assert run("xgboost", tmp_path / "model.json", data, yes(score)) == 1
    assert words in capsys.readouterr().err
    assert not run.out.exists()


def test_vector_leaves_categories_and_other_files_are_refused(run, tmp_path, capsys):  # noqa: F811
    frame, score = table()
    data = frame[["x", "c"]].astype({"c": "category"})
    train = xgboost.DMatrix(data, score, enable_categorical=True)
    path = tmp_path / "model.json"
    xgboost.train({"max_depth": 3}, train, 3).save_model(path)
    assert run("xgboost", path, frame[["x", "c"]], score) == 1
    assert "categorical" in capsys.readouterr().err
    both = np.stack([score, -score], axis=1)
    xgboost.train({"multi_strategy": "multi_output_tree"}, xgboost.DMatrix(frame[["x"]], both), 2).save_model(path)
    assert run("xgboost", path, frame[["x"]], score) == 1
    assert "vector leaves" in capsys.readouterr().err or "targets" in capsys.readouterr().err
    path.write_text("{}")
    assert run("xgboost", path, frame[["x"]], score) == 1
    path.write_text("tree")
    assert run("xgboost", path, frame[["x"]], score) == 1
    assert "not an XGBoost model" in capsys.readouterr().err
