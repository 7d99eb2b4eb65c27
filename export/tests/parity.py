"""A package's golden rows against the evaluator, with the bounds of FORMAT.md."""

import numpy as np
from evaluator import Package

BOUNDS = {"mlp": 5e-7, "linear": 1e-12}
MINIMUM_ROWS = 50


def parity(path):
    """Assert that every golden output equals the evaluator's, to the bit where FORMAT.md says so; the golden lines."""
    package = Package(path)
    golden = package.golden()
    assert len(golden) >= MINIMUM_ROWS
    given = {
        node["name"]: np.array([[float(v) for v in line["nodes"][node["name"]]] for line in golden])
        for node in package.graph["nodes"]
    }
    found = package.outputs([line["row"] for line in golden], given)
    for node in package.graph["nodes"]:
        expected, values = given[node["name"]], found[node["name"]]
        assert values.shape == expected.shape
        with np.errstate(all="ignore"):
            near = np.abs(values - expected) <= BOUNDS.get(node["type"], 0.0) * np.maximum(1.0, np.abs(expected))
        wrong = ~((values == expected) | (np.isnan(values) & np.isnan(expected)) | near)
        assert not wrong.any(), (
            node["name"],
            values[wrong][:5],
            expected[wrong][:5],
            golden[int(np.argwhere(wrong)[0, 0])],
        )
    if "classes" in package.manifest:
        assert [line["label"] for line in golden] == package.labels(given[package.graph["output"]])
    return golden
