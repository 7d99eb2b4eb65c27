"""MLflow: a model's directory as MLflow 3.17 writes it, by hand, so that MLflow itself is not needed."""

import json

import numpy as np
import pytest
from library_data import numbers, run, table, targets  # noqa: F401
from parity import parity

yaml = pytest.importorskip("yaml")
KINDS = {"float64": "double", "int64": "long", "bool": "boolean", "object": "string"}


def write(run, frame, flavours):  # noqa: F811
    """MLmodel; the caller writes the artifacts."""
    directory = run.directory / "artifacts"
    directory.mkdir(exist_ok=True)
    inputs = [{"type": KINDS[str(frame[name].dtype)], "name": name, "required": True} for name in frame]
    document = {
        "flavors": {**flavours, "python_function": {"loader_module": "mlflow.somewhere"}},
        "mlflow_version": "3.17.2",
        "run_id": "ab12",
        "signature": {"inputs": json.dumps(inputs), "outputs": None, "params": None},
    }
    (directory / "MLmodel").write_text(yaml.safe_dump(document))
    return directory


def data():
    frame, score = table()
    return numbers(frame)[["x", "k", "z"]], score


def test_lightgbm_text_and_the_signature(run):  # noqa: F811
    """A column that the signature does not have is no feature; a double is a `float` although its values are whole."""
    lightgbm = pytest.importorskip("lightgbm")
    frame, score = data()
    frame = frame.assign(whole=np.round(frame.z * 10))
    directory = write(run, frame, {"lightgbm": {"data": "model.lgb", "model_class": "lightgbm.basic.Booster"}})
    settings = {"objective": "regression", "verbose": -1, "num_threads": 1}
    lightgbm.train(settings, lightgbm.Dataset(frame, score), 4).save_model(directory / "model.lgb")
    assert run("mlflow", directory, frame.assign(id=range(len(frame))), score) == 0
    parity(run.out)
    features = json.loads((run.out / "schema.json").read_text())["features"]
    assert [(f["name"], f["kind"]) for f in features] == [
        ("x", "float"),
        ("k", "int"),
        ("z", "float"),
        ("whole", "float"),
    ]
    provenance = json.loads((run.out / "manifest.json").read_text())["provenance"]
    assert provenance == {"mlflow_run_id": "ab12", "mlflow_version": "3.17.2"}


def test_a_pickled_lightgbm_classifier(run):  # noqa: F811
    lightgbm, joblib = pytest.importorskip("lightgbm"), pytest.importorskip("joblib")
    frame, score = data()
    directory = write(run, frame, {"lightgbm": {"data": "model.pkl"}})
    model = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1, n_jobs=1).fit(frame, targets(score)[1])
    joblib.dump(model, directory / "model.pkl")
    assert run("mlflow", directory, frame, targets(score)[1]) == 0
    assert json.loads((run.out / "manifest.json").read_text())["classes"] == [0, 10, 20]
    assert parity(run.out)[0]["nodes"]["lightgbm"] == model.predict_proba(frame[:1])[0].tolist()


def test_xgboost_whatever_the_file_is_called(run):  # noqa: F811
    xgboost = pytest.importorskip("xgboost")
    frame, score = data()
    directory = write(run, frame, {"xgboost": {"data": "model.xgb", "model_class": "xgboost.core.Booster"}})
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(frame.astype(float), score), 4)
    for kind in ("ubj", "json"):
        (directory / "model.xgb").write_bytes(booster.save_raw(kind))
        assert run("mlflow", directory, frame, score, "--force") == 0
        parity(run.out)


def test_catboost_whatever_the_format(run):  # noqa: F811
    catboost = pytest.importorskip("catboost")
    frame, score = data()
    directory = write(run, frame, {"catboost": {"data": "model.cb", "save_format": "cbm"}})
    model = catboost.CatBoostRegressor(iterations=4, depth=3, verbose=0, thread_count=1, allow_writing_files=False)
    model.fit(frame, score)
    for kind in ("cbm", "json"):
        model.save_model(str(directory / "model.cb"), format=kind)
        assert run("mlflow", directory, frame, score, "--force") == 0
        parity(run.out)


def test_sklearn_and_pytorch(run):  # noqa: F811
    joblib, torch = pytest.importorskip("joblib"), pytest.importorskip("torch")
    from sklearn.ensemble import RandomForestRegressor

    frame, score = data()
    directory = write(run, frame, {"sklearn": {"pickled_model": "model.pkl"}})
    joblib.dump(RandomForestRegressor(3, random_state=1).fit(frame, score), directory / "model.pkl")
    assert run("mlflow", directory, frame, score) == 0
    parity(run.out)
    frame = frame.fillna(0.0)
    directory = write(run, frame, {"pytorch": {"model_data": "data"}})
    (directory / "data").mkdir()
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 1)), directory / "data" / "model.pth")
    assert run("mlflow", directory, frame, score, "--force") == 0
    parity(run.out)
    (directory / "data" / "model.pth").rename(directory / "data" / "model.pt2")
    assert run("mlflow", directory, frame, score, "--force") == 1


@pytest.mark.parametrize(
    ("flavours", "words"),
    [
        ({"onnx": {"data": "model.onnx"}}, "flavour 'onnx': an ONNX graph"),
        ({}, "only Python can load it (loader_module mlflow.somewhere)"),
        ({"lightgbm": {"data": "gone"}}, "flavour 'lightgbm': no gone"),
        ({"xgboost": {}}, "names no file"),
    ],
)
def test_refusals(run, capsys, flavours, words):  # noqa: F811
    frame, score = data()
    assert run("mlflow", write(run, frame, flavours), frame, score) == 1
    assert words in capsys.readouterr().err


def test_a_table_without_a_column_of_the_signature(run, capsys):  # noqa: F811
    frame, score = data()
    directory = write(run, frame, {"lightgbm": {"data": "MLmodel"}})
    assert run("mlflow", directory, frame[["x", "k"]], score) == 1
    assert "no column z, which the model's signature has" in capsys.readouterr().err
