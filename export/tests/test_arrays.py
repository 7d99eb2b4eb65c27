"""The safetensors file, and a forest's arrays against scikit-learn's own walk."""

import numpy as np
import pytest

from understudy_export.arrays import forest_arrays, join_trees, read_safetensors, safetensors
from understudy_export.errors import ExportError

ensemble = pytest.importorskip("sklearn.ensemble")


def test_safetensors_come_back():
    arrays = {
        "odd": np.array([1, 2, 255], np.uint8),
        "scalar": np.array(2.5, np.float64),
        "empty": np.zeros((0, 4), np.int32),
        "names äö": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::2],
        "bits": np.array([[np.nan, -0.0, np.inf]], ">f4"),
    }
    content = safetensors(arrays)
    back = read_safetensors(content, "here")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
    assert (8 + int.from_bytes(content[:8], "little")) % 8 == 0
    other = pytest.importorskip("safetensors.numpy").load(content)
    for name, array in other.items():
        np.testing.assert_array_equal(array, back[name])


def test_other_types_and_files_are_refused():
    with pytest.raises(ExportError, match="array 'x': type complex128"):
        safetensors({"x": np.zeros(2, complex)})
    for content in (b"", b"12345678", b"\x02" + b"\0" * 7 + b"[]", safetensors({"x": np.zeros(9)})[:-8]):
        with pytest.raises(ExportError, match="here: not a safetensors file"):
            read_safetensors(content, "here")


@pytest.mark.parametrize("kind", ["RandomForestClassifier", "ExtraTreesClassifier", "RandomForestRegressor"])
@pytest.mark.parametrize("leaves", [None, 9])
def test_forest_arrays_lead_to_the_same_leaves(kind, leaves):
    random = np.random.default_rng(3)
    matrix = random.normal(size=(200, 4)).astype(np.float32)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    target = np.digitize(np.nan_to_num(matrix).sum(axis=1), [-1, 1])
    model = getattr(ensemble, kind)(5, max_leaf_nodes=leaves, random_state=1).fit(matrix, target)
    arrays = forest_arrays([tree.tree_ for tree in model.estimators_])
    assert arrays["value"].shape == (arrays["offsets"][-1], 1 if kind.endswith("Regressor") else 3)
    for row, expected in zip(matrix, model.apply(matrix)):
        for tree, leaf in enumerate(expected):
            start, node = arrays["offsets"][tree], 0
            while arrays["left"][start + node] >= 0:
                at = start + node
                value = row[arrays["feature"][at]]
                left = arrays["missing_left"][at] if np.isnan(value) else value <= arrays["threshold"][at]
                node = arrays["left" if left else "right"][at]
            assert node == leaf
            np.testing.assert_array_equal(arrays["value"][start + node], model.estimators_[tree].tree_.value[leaf, 0])


def test_children_before_their_parent_are_refused():
    one = {name: np.zeros(3) for name in ("feature", "threshold", "value")}
    with pytest.raises(ExportError, match="tree 0: a left child is not after its parent"):
        join_trees([{**one, "left": np.array([-1, 0, -1]), "right": np.array([-1, 2, -1])}])
