"""AutoGluon's persisted predictor and the package made from it, call by call in one run.

usage: compare.py PREDICTOR ROWS.csv CACHE PACKAGE_BINARY [--train CSV] [--models A,B] [--repeats N] [--quick] [--out DIR]
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor

MANY = 1000


class Package:
    """Our side: a process that holds the package and times its own calls."""

    def __init__(self, binary, directory):
        self.process = subprocess.Popen([binary, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the package's process ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def export(predictor, model, cache, train):
    """The package of a model, exported once."""
    out = cache / "packages" / f"{Path(predictor.path).name}-{model}" / "1"
    if not (out / "manifest.json").is_file():
        print(f"export {model}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "understudy_export", "autogluon", predictor.path, "--model", model]
        command += ["--out", out, *(["--train", train] if train else [])]
        subprocess.run([str(word) for word in command], check=True)
    return out


def values(table):
    """Rows as a caller sends them: JSON values, nothing where pandas has NaN."""

    def value(cell):
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return None
        return cell.item() if isinstance(cell, np.generic) else cell

    return [[value(cell) for cell in row] for row in table.astype(object).itertuples(index=False)]


def answers(predictor, model, table):
    if predictor.problem_type in ("binary", "multiclass"):
        return np.asarray(predictor.predict_proba(table, model=model, as_pandas=False), dtype=np.float64)
    return np.asarray(predictor.predict(table, model=model, as_pandas=False), dtype=np.float64)


def call(predictor, model, table):
    """One call's wall time and this process's CPU time, in nanoseconds."""
    used, start = time.process_time_ns(), time.perf_counter_ns()
    if predictor.problem_type in ("binary", "multiclass"):
        predictor.predict_proba(table, model=model, as_pandas=False)
    else:
        predictor.predict(table, model=model, as_pandas=False)
    return time.perf_counter_ns() - start, time.process_time_ns() - used


def measure(predictor, model, package, table, plan):
    """Alternating rounds: theirs one by one, ours, theirs by 1,000, ours."""
    ours = Package(package["binary"], package["directory"])
    try:
        table = table[ours.about["features"]]
        rows = values(table)
        ours.ask(rows=rows)
        expected = answers(predictor, model, table)
        got = np.array(ours.ask(predict=True)["scores"]).reshape(len(table), -1)
        if expected.ndim == 1:
            expected = expected[:, None]
        deviation = float(np.nanmax(np.abs(got - expected)))
        equal = int((got.astype(np.float32) == expected.astype(np.float32)).all(axis=1).sum())
        ones = [table.iloc[[index]] for index in range(min(plan["calls"] * plan["repeats"], len(table)))]
        found = {key: [] for key in ("one", "one_cpu", "many", "many_cpu", "our_one", "our_one_cpu", "our_many", "our_many_cpu")}
        for part in ones[:5]:
            call(predictor, model, part)
        for number in range(plan["repeats"]):
            for index in range(plan["calls"]):
                wall, cpu = call(predictor, model, ones[(number * plan["calls"] + index) % len(ones)])
                found["one"].append(wall)
                found["one_cpu"].append(cpu)
            answer = ours.ask(calls=plan["calls"] * 10, size=1)
            found["our_one"] += answer["ns"]
            found["our_one_cpu"].append(answer["cpu_ns"])
            for index in range(plan["many"]):
                wall, cpu = call(predictor, model, table.iloc[:MANY])
                found["many"].append(wall)
                found["many_cpu"].append(cpu)
            answer = ours.ask(calls=plan["many"] * 10, size=min(MANY, len(table)))
            found["our_many"] += answer["ns"]
            found["our_many_cpu"].append(answer["cpu_ns"])
        point = lambda key, share: float(np.percentile(found[key], share)) / 1e3
        return {
            "model": model,
            "rows": len(table),
            "max_deviation": deviation,
            "equal_in_single_precision": equal,
            "golden_rows": ours.about["golden"],
            "microseconds": {
                "one_p50": point("one", 50),
                "one_p99": point("one", 99),
                "one_cpu": point("one_cpu", 50),
                "our_one_p50": point("our_one", 50),
                "our_one_p99": point("our_one", 99),
                "our_one_cpu": point("our_one_cpu", 50),
                "many_p50": point("many", 50),
                "many_cpu": point("many_cpu", 50),
                "our_many_p50": point("our_many", 50),
                "our_many_cpu": point("our_many_cpu", 50),
            },
        }
    finally:
        ours.close()


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [flag for flag in ("avx2", "avx512f") if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.processor())}; {os.cpu_count()} CPUs; {' '.join(flags)}"


def report(results, missing, plan, before, best):
    heading = ["model", "", "1 row p50", "p99", "CPU", "1,000 rows p50", "CPU", "deviation"]
    lines = [heading]
    us = lambda number: f"{number / 1e3:,.2f} ms" if number >= 1000 else f"{number:,.1f} us"
    for result in results:
        t = result["microseconds"]
        name = result["model"] + (" (best)" if result["model"] == best else "")
        theirs = [us(t[key]) for key in ("one_p50", "one_p99", "one_cpu", "many_p50", "many_cpu")]
        ours = [us(t["our_" + key]) for key in ("one_p50", "one_p99", "one_cpu", "many_p50", "many_cpu")]
        times = [f"{t[key] / t['our_' + key]:,.0f}x" for key in ("one_p50", "one_p99", "one_cpu", "many_p50", "many_cpu")]
        same = f"{result['equal_in_single_precision']} of {result['rows']} equal in f32"
        lines += [
            [name, "AutoGluon", *theirs, ""],
            ["", "ours", *ours, f"{result['max_deviation']:.1e}; {same}"],
            ["", "ratio", *times, ""],
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    markdown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    markdown.insert(1, "|" + "---|" * len(heading))
    notes = [f"left out: {model}: {why}" for model, why in missing.items()]
    for result in results:
        if result["model"] == best:
            one = result["microseconds"]["our_one_p50"]
            notes.append(f"budget: {best}, one row at most 60 us in process: {one:.1f} us, {'met' if one <= 60 else 'NOT met'}")
    load = lambda load: " ".join(f"{number:.2f}" for number in load)
    notes.append(
        f"{cpu()}; load average {load(before)} before, {load(os.getloadavg())} after; {plan['repeats']} rounds of "
        f"{plan['calls']} calls of AutoGluon and {plan['calls'] * 10} of ours"
    )
    print("\n".join([*aligned, "", *notes]))
    return "\n".join(["# AutoGluon's predictor and its package", "", *markdown, "", *(f"- {note}" for note in notes), ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for argument in ("predictor", "rows", "cache", "binary"):
        parser.add_argument(argument, type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--models")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    plan = {"repeats": 2, "calls": 50, "many": 2} if arguments.quick else {"repeats": 5, "calls": 100, "many": 4}
    plan["repeats"] = max(1, arguments.repeats or plan["repeats"])
    predictor = TabularPredictor.load(str(arguments.predictor), verbosity=0)
    table = pd.read_csv(arguments.rows, float_precision="round_trip").drop(columns=predictor.label, errors="ignore")
    table = table.iloc[: 2 * MANY]
    best = predictor.model_best
    models = [best] if arguments.quick else [best, *predictor.model_names()]
    models = arguments.models.split(",") if arguments.models else list(dict.fromkeys(models))
    before, results, missing = os.getloadavg(), [], {}
    for model in models:
        try:
            directory = export(predictor, model, arguments.cache, arguments.train)
            predictor.persist([model], with_ancestors=True, max_memory=None)
            package = {"binary": arguments.binary, "directory": directory}
            results.append(measure(predictor, model, package, table, plan))
            print(f"{model}: measured", file=sys.stderr, flush=True)
        except Exception as error:
            # One model must not take the others' figures with it.
            missing[model] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"without {model}: {missing[model]}", file=sys.stderr, flush=True)
        finally:
            predictor.unpersist()
    out = arguments.out or arguments.cache
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(report(results, missing, plan, before, best))
    data = {"machine": cpu(), "plan": plan, "results": results, "missing": missing}
    (out / "report.json").write_text(json.dumps(data, indent=1))
    print(f"written: {out / 'report.md'} and report.json beside it")


main()
