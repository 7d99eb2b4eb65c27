"""A trained TabularPredictor: its models, and which of them the format can carry."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from understudy_export.autogluon import features
from understudy_export.errors import ExportError
from understudy_export.schema import Scalar
from understudy_export.target import Target

TREES = {"LGBModel": "lightgbm", "XGBoostModel": "xgboost", "CatBoostModel": "catboost", "RFModel": "forest"}
FAMILIES = {
    **TREES,
    "XTModel": "forest",
    "LinearModel": "linear",
    "TabularNeuralNetTorchModel": "torch",
    "NNFastAiTabularModel": "fastai",
}
BAGS = {"StackerEnsembleModel", "BaggedEnsembleModel"}
TASKS = {"binary", "multiclass", "regression", "quantile"}


def progress(text: str) -> None:
    """One line on stderr for work that takes its time."""
    print(f"understudy-export: {text}", file=sys.stderr, flush=True)


class Predictor:
    """A predictor with the models that were loaded so far; `ag` is AutoGluon's own object."""

    def __init__(self, path: str | Path) -> None:
        """Load the directory that `TabularPredictor.fit` wrote. Raises ExportError when it is none."""
        path = Path(path)
        if not (path / "predictor.pkl").is_file():
            raise ExportError(f"{path}: no predictor.pkl; expected the directory of a TabularPredictor")
        logging.getLogger("autogluon").setLevel(logging.ERROR)
        # Idle threads of the libraries' several pools would otherwise spin against each other.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        warnings.filterwarnings("ignore", module="sklearn|autogluon|lightgbm|fastai|pandas|torch")
        try:
            from autogluon.tabular import TabularPredictor
        except ImportError as error:
            raise ExportError(f"AutoGluon is needed, in the environment that trained the predictor: {error}") from error
        self.ag = TabularPredictor.load(str(path), verbosity=0)
        self.learner = self.ag._learner
        self.trainer = self.ag._trainer
        self.task: str = self.trainer.problem_type
        if self.task not in TASKS:
            raise ExportError(f"{path}: problem type {self.task!r}; the format has {', '.join(sorted(TASKS))}")
        self.models: dict[str, Any] = {}
        self.children: dict[tuple[str, str], Any] = {}

    def model(self, name: str) -> Any:
        """A model by AutoGluon's name."""
        if name not in self.models:
            model = self.trainer.load_model(name)
            single_thread(model)
            self.models[name] = model
        return self.models[name]

    def child(self, bag: Any, child: Any) -> Any:
        """A model inside of a bag."""
        key = (bag.name, child if isinstance(child, str) else child.name)
        if key not in self.children:
            self.children[key] = bag.load_child(child)
            single_thread(self.children[key])
        return self.children[key]

    def weighted(self, model: Any) -> Any | None:
        """The one weighted ensemble inside of a `WeightedEnsembleModel`, None for another model."""
        if type(model).__name__ != "WeightedEnsembleModel":
            return None
        if len(model.models) != 1:
            raise ExportError(f"{model.name}: WeightedEnsembleModel of {len(model.models)} folds; expected 1")
        return self.child(model, model.models[0])

    def is_bag(self, model: Any) -> bool:
        return type(model).__name__ in BAGS

    def bases(self, model: Any) -> list[str]:
        """Names of the models whose answers this one reads, in order; a refitted model reads refitted ones."""
        if not hasattr(model, "stack_column_prefix_lst"):
            return []
        return [model.stack_column_prefix_to_model_map[prefix] for prefix in model.stack_column_prefix_lst or []]

    def needed(self, name: str) -> list[str]:
        """The models that an answer needs, each after those that it reads, `name` last."""
        found: list[str] = []

        def visit(current: str) -> None:
            for base in self.bases(self.model(current)):
                visit(base)
            if current not in found:
                found.append(current)

        visit(name)
        return found

    def refusals(self, name: str) -> list[str]:
        """Why a model cannot be exported: one line for each model that blocks it, with its class; empty if it can."""
        reasons = []
        for current in self.needed(name):
            model = self.model(current)
            inner = [model]
            if self.is_bag(model):
                inner += [self.child(model, child) for child in model.models]
            for part in inner:
                reason = refusal(self, part)
                if reason:
                    place = current if part is model else f"{current}, in {part.name}"
                    reasons.append(f"{place} ({type(part).__name__}): {reason}")
                    break
        return reasons

    def choose(self, wanted: str | None) -> str:
        """The model to export: `wanted`, or AutoGluon's best.

        Raises ExportError with every model that blocks it, and the best model by the leaderboard that can be exported.
        """
        names = self.ag.model_names()
        name = wanted or self.ag.model_best
        if name not in names:
            raise ExportError(f"no model {name!r}; the predictor has {', '.join(names)}")
        stage = features.refusal(self.learner.feature_generator)
        if stage:
            raise ExportError(stage)
        reasons = self.refusals(name)
        if reasons:
            others = [other for other in self.ranking() if other != name and not self.refusals(other)]
            offer = ""
            if others:
                offer = f"; the best exportable model by the leaderboard is {others[0]}: --model {others[0]}"
            raise ExportError(f"{name} cannot be exported: {'; '.join(reasons)}{offer}")
        return name

    def ranking(self) -> list[str]:
        """The models, best validation score first."""
        return [name for name in self.ag.leaderboard(display=False)["model"] if name in self.ag.model_names()]

    def target(self) -> Target:
        """The label, the classes in the order of the probabilities with their JSON types, and the threshold."""
        label = str(self.ag.label)
        if self.task == "quantile":
            return Target("quantile", label, quantile_levels=tuple(float(q) for q in self.ag.quantile_levels))
        if self.task == "regression":
            return Target("regression", label)
        mapping = self.learner.label_cleaner.cat_mappings_dependent_var
        classes = tuple(json_class(mapping[code]) for code in range(len(mapping)))
        dropped = len(self.ag.class_labels) - len(classes)
        if dropped:
            progress(f"{dropped} classes were too rare to be learned; they are never predicted and are left out")
        threshold = self.ag.decision_threshold if self.task == "binary" else None
        return Target(self.task, label, classes, 0.5 if threshold is None else float(threshold))


def json_class(value: Any) -> Scalar:
    """A class label with its JSON type."""
    value = features.plain(value)
    if not isinstance(value, (str, int, float)):
        raise ExportError(f"class {value!r}: type {type(value).__name__}; expected text, a number or a boolean")
    return value


def single_thread(model: Any) -> None:
    """Let a forest add its trees in order: in several threads the order, and so the last bit, is chance."""
    if hasattr(getattr(model, "model", None), "estimators_"):
        model.model.n_jobs = 1


def refusal(predictor: Predictor, model: Any) -> str | None:
    """Why one model, without those that it reads, cannot be exported; None when it can."""
    kind = type(model).__name__
    if not type(model).__module__.startswith(("autogluon.tabular.models.", "autogluon.core.models.")):
        return f"a model class of {type(model).__module__}"
    if getattr(model, "conformalize", None) is not None:
        return "conformalized quantiles"
    if model.problem_type != predictor.task:
        return f"problem type {model.problem_type!r}, a distilled or converted model"
    if predictor.is_bag(model):
        return None if model.models else "a bag without models"
    inner = predictor.weighted(model)
    if inner is not None:
        if type(inner).__name__ != "GreedyWeightedEnsembleModel":
            return f"ensemble {type(inner).__name__}"
        return None
    if kind not in FAMILIES:
        return "the format has no such model"
    generators = model._model_specific_feature_generators
    if generators is not None:
        return f"feature generators of its own ({type(generators).__name__})"
    if model.temperature_scalar is not None and model.name not in predictor.ag.model_names():
        return "temperature inside of a bag"
    return family_refusal(model, FAMILIES[kind])


def family_refusal(model: Any, family: str) -> str | None:
    """Why the library's own model inside of an AutoGluon model cannot be exported; None when it can."""
    inner = type(model.model).__name__
    quantile = model.problem_type == "quantile"
    if family == "lightgbm":
        boosters = list(model.model.model_dict.values()) if inner == "QuantileBooster" else [model.model]
        if any(re.search(r"^is_linear=1$", b.model_to_string(), re.MULTILINE) for b in boosters):
            return "linear_tree: trees with linear leaves"
    elif family == "xgboost":
        if not model._ohe:
            return "enable_categorical: categorical splits"
        booster = model.model.get_xgb_params().get("booster") or "gbtree"
        if booster != "gbtree":
            return f"booster {booster}"
    elif family == "catboost":
        if (model.model.get_all_params() or {}).get("grow_policy", "SymmetricTree") != "SymmetricTree":
            return f"grow_policy {model.model.get_all_params()['grow_policy']}: trees that are not symmetric"
    elif family == "forest":
        if quantile:
            return "quantiles of a forest, which keeps its training targets"
        if inner not in (
            "RandomForestClassifier",
            "RandomForestRegressor",
            "ExtraTreesClassifier",
            "ExtraTreesRegressor",
        ) or not type(model.model).__module__.startswith("sklearn."):
            return f"{type(model.model).__module__}.{inner}, not scikit-learn's own forest"
    elif family == "linear":
        if inner not in ("LogisticRegression", "Ridge", "Lasso"):
            return f"{inner}, not scikit-learn's logistic regression, ridge or lasso"
    elif family == "torch":
        if type(model.processor).__name__ != "ColumnTransformer":
            return f"a compiled network ({type(model.processor).__name__})"
    elif quantile:
        return "quantiles by isotonic regression"
    return None
