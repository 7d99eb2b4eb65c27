"""Reads or trains the models, compiles them for the peers, and writes what there is to measure.

usage: prepare.py CACHE REPOSITORY [--shared DIR] [--quick] [--models A,B] [--without A,B]
Writes CACHE/cases.json. Everything already in CACHE is kept: delete the directory to begin anew.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

import numpy as np

import data
import peers
import train

MODELS = [
    "lgb_cat_300x63",
    "lgb_cat_1000x31",
    "lgb_num_300x63",
    "lgb_syn_500x63",
    "xgb_syn_500d6",
    "cb_syn_1000d6",
    "rf_oh_300",
]
QUICK = ["lgb_cat_300x63", "xgb_syn_500d6", "cb_syn_1000d6"]
LIBRARY = {"lgb": "lightgbm", "xgb": "xgboost", "cb": "catboost", "rf": "forest"}


def budget(name):
    """How many times the best peer: one row, 10,000 rows (DESIGN, section 7)."""
    if name.startswith("lgb"):
        return {"1": 10 if "cat" in name else 3, "10000": 12}
    return {"xgb": {"1": 4, "10000": 12}, "cb": {"1": 4, "10000": 2}, "rf": {"10000": 3}}[name.split("_")[0]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models")
    parser.add_argument("--without", default="")
    arguments = parser.parse_args()
    shared, without = arguments.shared, [word for word in arguments.without.split(",") if word]
    out = arguments.cache / ("models-shared" if shared and (shared / "trees").is_dir() else "models")
    out.mkdir(parents=True, exist_ok=True)
    adult = functools.cache(lambda: data.Adult(shared, arguments.repository))
    table = functools.cache(lambda: (data.synthetic(100_000, 11), data.synthetic(data.ROWS, 12)))
    cases = []
    for name in arguments.models.split(",") if arguments.models else QUICK if arguments.quick else MODELS:
        library = name.split("_")[0]
        try:
            files = train.files(name, out, shared, adult, table)
            columns = train.columns(files["model"], library)
        except Exception as error:
            print(f"without {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        case = {"name": name, "library": LIBRARY[library], "columns": columns, "budget": budget(name)}
        case["directory"] = str(out)
        case |= {key: str(value) for key, value in files.items()}
        case["output"] = "probability" if library == "rf" else "margin"
        case["peers"] = peers.peers(case, out, arguments.cache / "venv-lleaves/bin/python", without)
        cases.append(case)
    own = {"adult": out / "ydf_adult.npz", "table": out / "ydf_table.npz"}
    if any(peer.get("peer") == "ydf" for case in cases for peer in case["peers"]):
        # What YDF trains its own models on, in the process that measures it.
        if not own["adult"].is_file():
            np.savez(own["adult"], train=adult().train, label=adult().label, rows=adult().rows)
        if not own["table"].is_file():
            (values, label), (rows, _) = table()
            np.savez(own["table"], train=values, label=label, rows=rows)
    (arguments.cache / "cases.json").write_text(json.dumps({"cases": cases}, indent=1))


main()
