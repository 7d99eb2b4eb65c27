"""Train small predictors for the parity run, with AutoGluon's own answers beside them.

usage: train.py DIRECTORY [DATA_SET...]

For each data set: NAME (the predictor), NAME.train.csv, NAME.test.inputs.csv (rows as pandas writes them) and
NAME.reference.npz (`test|MODEL`: what `predict_proba` or `predict` gives; `test|labels`: the best model's labels). What
is there already is left alone. The trainings are those of the exporter's tests (`export/tests/tiny.py`).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tiny

directory = Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
for name in sys.argv[2:] or tiny.NAMES:
    if (directory / f"{name}.reference.npz").exists():
        continue
    print(f"training {name}", file=sys.stderr, flush=True)
    predictor = tiny.train(name, directory)
    rows = pd.read_csv(directory / f"{name}.test.csv", float_precision="round_trip").drop(columns=[predictor.label])
    rows.to_csv(directory / f"{name}.test.inputs.csv", index=False)
    classification = predictor.problem_type in ("binary", "multiclass")
    predict = predictor.predict_proba if classification else predictor.predict
    answers = {f"test|{model}": predict(rows, model=model, as_pandas=False) for model in predictor.model_names()}
    answers["test|labels"] = np.asarray(predictor.predict(rows)).astype(str)
    np.savez(directory / f"{name}.reference.npz", **answers)
