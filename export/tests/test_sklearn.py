"""scikit-learn: every golden row equals scikit-learn's own answer and the evaluator's."""

import json

import numpy as np
import pytest
from library_data import numbers, run, table, targets  # noqa: F401
from parity import parity

pytest.importorskip("sklearn")
import joblib  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import (  # noqa: E402
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
)
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: E402

LABELS = ("binary", "multi", "ten", "value")


def label(kind):
    _, score = table()
    return dict(zip(LABELS, (*targets(score), score)))[kind]


def export(run, model, frame, kind, *more):  # noqa: F811
    """Fit, export and check; the golden lines."""
    model.fit(frame, label(kind))
    path = run.directory / "model.joblib"
    joblib.dump(model, path)
    assert run("sklearn", path, frame, label(kind), "--test", run.train, *more) == 0
    golden = parity(run.out)
    ask = model.predict if kind == "value" else model.predict_proba
    own = np.asarray(ask(frame[:1])).reshape(1, -1)[0]
    output = golden[0]["nodes"].popitem()[1]
    assert output == own[-len(output) :].tolist()
    if kind != "value":
        assert golden[0]["label"] == model.predict(frame[:1])[0]
    return golden


def full(frame):
    return numbers(frame).fillna({"x": 0.0})


@pytest.mark.parametrize("as_frame", [True, False])
@pytest.mark.parametrize(
    ("model", "kind", "width"),
    [
        (RandomForestClassifier(7, random_state=1), "binary", 2),
        (RandomForestClassifier(7, random_state=1, n_jobs=2), "multi", 3),
        (RandomForestRegressor(7, random_state=1), "value", 1),
        (ExtraTreesClassifier(5, random_state=1, max_depth=6), "ten", 10),
        (ExtraTreesRegressor(5, random_state=1, max_depth=6), "value", 1),
        (DecisionTreeClassifier(max_depth=4), "binary", 2),
        (DecisionTreeRegressor(max_leaf_nodes=9), "value", 1),
    ],
)
def test_forests(run, model, kind, width, as_frame):  # noqa: F811
    frame = numbers(table()[0])
    golden = export(run, model, frame if as_frame else frame.to_numpy(float), kind)
    assert len(golden[1]["nodes"]["forest"]) == width
    assert any(value is None for line in golden for value in line["row"].values())


@pytest.mark.parametrize(
    ("model", "kind", "link"),
    [
        (GradientBoostingClassifier(n_estimators=5), "binary", "sigmoid"),
        (GradientBoostingClassifier(n_estimators=5, loss="exponential"), "binary", "sigmoid"),
        (GradientBoostingClassifier(n_estimators=5), "multi", "softmax"),
        (GradientBoostingClassifier(n_estimators=3), "ten", "softmax"),
        (GradientBoostingRegressor(n_estimators=5), "value", "identity"),
        (GradientBoostingRegressor(n_estimators=5, init="zero", loss="huber"), "value", "identity"),
        (GradientBoostingRegressor(n_estimators=5, loss="quantile", alpha=0.3), "value", "identity"),
    ],
)
def test_gradient_boosting(run, model, kind, link):  # noqa: F811
    golden = export(run, model, full(table()[0]), kind)
    [node] = json.loads((run.out / "graph.json").read_text())["nodes"]
    assert node["link"] == link
    # scikit-learn refuses what is missing here, and so does the schema.
    assert all(value is not None for line in golden for value in line["row"].values())
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest.get("quantile_levels") == ([0.3] if getattr(model, "loss", "") == "quantile" else None)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (HistGradientBoostingClassifier(max_iter=6, categorical_features=["c", "s"]), "binary"),
        (HistGradientBoostingClassifier(max_iter=4, categorical_features=["c", "s", "b"]), "multi"),
        (HistGradientBoostingClassifier(max_iter=2, categorical_features=["c"]), "ten"),
        (HistGradientBoostingRegressor(max_iter=6, categorical_features="from_dtype"), "value"),
    ],
)
def test_histogram_gradient_boosting(run, model, kind):  # noqa: F811
    frame = table()[0].astype({"c": "category"})
    golden = export(run, model, frame, kind)
    rows = [line["row"] for line in golden]
    assert any(row["c"] is None for row in rows) and any(row["c"] == "understudy-never-seen" for row in rows)
    assert any(row["x"] is None for row in rows)


@pytest.mark.parametrize("loss", ["poisson", "gamma", "quantile"])
def test_losses_of_histogram_gradient_boosting(run, loss):  # noqa: F811
    quantile = 0.2 if loss == "quantile" else None
    model = HistGradientBoostingRegressor(loss=loss, quantile=quantile, max_iter=4)
    frame, score = table()
    model.fit(numbers(frame), np.abs(score) + 0.1)
    joblib.dump(model, run.directory / "model.pkl")
    assert run("sklearn", run.directory / "model.pkl", numbers(frame), np.abs(score) + 0.1) == 0
    parity(run.out)


def prepared(**encoder):
    """A column transformer with a bit of everything."""
    return ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), ["x", "k"]),
            ("q", QuantileTransformer(output_distribution="normal", n_quantiles=40), ["z"]),
            (
                "c",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"), OneHotEncoder(**{"handle_unknown": "ignore", **encoder})
                ),
                ["c", "s"],
            ),
        ],
        remainder="passthrough",
    )


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (LogisticRegression(max_iter=500), "binary"),
        (LogisticRegression(max_iter=500), "multi"),
        (LogisticRegression(solver="liblinear"), "binary"),
        (SGDClassifier(loss="log_loss", alpha=0.1, random_state=1), "binary"),
        (SGDClassifier(loss="log_loss", alpha=0.1, random_state=1), "multi"),
        (LinearRegression(), "value"),
        (Ridge(), "value"),
        (Lasso(0.01), "value"),
        (ElasticNet(0.01), "value"),
    ],
)
def test_linear_models_behind_a_pipeline(run, model, kind):  # noqa: F811
    path = run.directory / "model.joblib"
    frame = table()[0]
    whole = make_pipeline(prepared(), model).fit(frame, label(kind))
    joblib.dump(whole, path)
    assert run("sklearn", path, frame, label(kind), "--test", run.train) == 0
    rows = [line["row"] for line in parity(run.out)]
    for name in ("x", "c"):
        assert any(row[name] is None for row in rows)
    assert any(row["k"] % 1 == 0.5 for row in rows)


def test_a_log_link(run):  # noqa: F811
    frame = full(table()[0])
    model = make_pipeline(StandardScaler(), PoissonRegressor()).fit(frame, np.abs(label("value")))
    joblib.dump(model, run.directory / "model.joblib")
    assert run("sklearn", run.directory / "model.joblib", frame, np.abs(label("value"))) == 0
    parity(run.out)
    assert json.loads((run.out / "graph.json").read_text())["nodes"][0]["link"] == "exp"


@pytest.mark.parametrize(
    "encoder",
    [
        {"drop": "first"},
        {"drop": "if_binary"},
        {"min_frequency": 60},
        {"handle_unknown": "infrequent_if_exist", "max_categories": 3},
        {"handle_unknown": "error"},
        {"sparse_output": False, "min_frequency": 60, "drop": "first"},
    ],
)
def test_one_hot_encoders(run, encoder):  # noqa: F811
    """Behind them a forest, so that the columns are compared to the bit."""
    export(run, make_pipeline(prepared(**encoder), RandomForestRegressor(5, random_state=1)), table()[0], "value")


@pytest.mark.parametrize(
    "transformer",
    [
        ColumnTransformer(
            [
                ("a", make_pipeline(SimpleImputer(strategy="mean"), MinMaxScaler(clip=True)), ["x"]),
                ("b", RobustScaler(), ["k"]),
                ("c", MaxAbsScaler(), ["z"]),
                (
                    "o",
                    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7, encoded_missing_value=-2),
                    ["c", "s", "b"],
                ),
            ]
        ),
        ColumnTransformer(
            [
                (
                    "a",
                    make_pipeline(SimpleImputer(strategy="constant", fill_value=-5), QuantileTransformer()),
                    ["x", "k"],
                ),
                (
                    "c",
                    make_pipeline(
                        SimpleImputer(strategy="constant", fill_value="none", add_indicator=True), OneHotEncoder()
                    ),
                    ["c"],
                ),
                ("d", "drop", ["z"]),
                ("i", FunctionTransformer(), ["b"]),
            ],
            remainder=StandardScaler(),
        ),
        make_pipeline(
            ColumnTransformer([("o", OrdinalEncoder(), ["c", "s"])], remainder="passthrough"),
            "passthrough",
            StandardScaler(with_mean=False),
        ),
    ],
)
def test_transformers(run, transformer):  # noqa: F811
    export(run, make_pipeline(transformer, RandomForestRegressor(5, random_state=1)), table()[0], "value")


def test_booleans_and_texts_of_numbers_as_classes(run):  # noqa: F811
    frame = full(table()[0])
    for values in ((False, True), (1.0, 2.0), ("a,b", "c")):
        chosen = np.array(values)[(label("binary") == "yes").astype(int)]
        joblib.dump(DecisionTreeClassifier(max_depth=3).fit(frame, chosen), run.directory / "m.joblib")
        assert run("sklearn", run.directory / "m.joblib", frame, chosen, "--force") == 0
        parity(run.out)
        assert json.loads((run.out / "manifest.json").read_text())["classes"] == list(values)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (KNeighborsClassifier(), "KNeighborsClassifier: the exporter takes"),
        (make_pipeline(StandardScaler(), PowerTransformer(), Ridge()), "step 'powertransformer': PowerTransformer"),
        (make_pipeline(FunctionTransformer(np.abs), RandomForestClassifier(2)), "a function cannot be exported"),
        (SGDClassifier(), "SGDClassifier: loss 'hinge'"),
        (GradientBoostingClassifier(init=DecisionTreeClassifier(), n_estimators=2), "init is a DecisionTreeClassifier"),
        (
            make_pipeline(
                ColumnTransformer([("o", OneHotEncoder(), ["s"]), ("n", StandardScaler(), ["s"])]), LogisticRegression()
            ),
            "feature 's' is a category in",
        ),
    ],
)
def test_refusals(run, capsys, model, words):  # noqa: F811
    frame = full(table()[0])
    kind = "value" if "Ridge" in repr(model) else "binary"
    joblib.dump(model.fit(frame, label(kind)), run.directory / "model.joblib")
    assert run("sklearn", run.directory / "model.joblib", frame, label(kind)) == 1
    assert words in capsys.readouterr().err
    assert not run.out.exists()


def test_other_files_and_unfitted_models_are_refused(run, capsys):  # noqa: F811
    frame = full(table()[0])
    path = run.directory / "model.joblib"
    path.write_bytes(b"no pickle")
    assert run("sklearn", path, frame, label("binary")) == 1
    assert "model.joblib: cannot be unpickled" in capsys.readouterr().err
    joblib.dump(RandomForestClassifier(), path)
    assert run("sklearn", path, frame, label("binary")) == 1
    assert "not fitted" in capsys.readouterr().err
    model = RandomForestClassifier(3).fit(full(table()[0]), label("binary"))
    joblib.dump(model, path)
    assert run("sklearn", path, frame, label("binary"), "--positive-class", "no") == 1
    assert "is not the last" in capsys.readouterr().err
    gradient = GradientBoostingRegressor(n_estimators=2).fit(frame, label("value"))
    joblib.dump(gradient, path)
    assert run("sklearn", path, frame, label("value"), "--optional", "x") == 1
    assert "feature 'x' may be missing, but the model takes no missing value" in capsys.readouterr().err
