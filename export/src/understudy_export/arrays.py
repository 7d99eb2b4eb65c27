"""Arrays of a package: the safetensors file, and the nodes of a forest as FORMAT.md lays them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from understudy_export.errors import ExportError

# The types of the format's arrays, by the name that safetensors has for them.
DTYPES = {"<f8": "F64", "<f4": "F32", "<i8": "I64", "<i4": "I32", "<u4": "U32", "|u1": "U8"}
ALIGNMENT = 8


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """A safetensors file: the header's length as a 64-bit integer, the header in JSON, the values in little-endian.

    The widest types come first and the header is padded to 8 bytes, so that every value is aligned in the file.
    Raises ExportError for a type that the format has no use for.
    """
    ready = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
        if array.dtype.str not in DTYPES:
            raise ExportError(f"array {name!r}: type {array.dtype}; expected one of {', '.join(DTYPES.values())}")
        ready[name] = array
    header: dict = {}
    content = []
    start = 0
    for name, array in sorted(ready.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        end = start + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.str], "shape": list(array.shape), "data_offsets": [start, end]}
        content.append(array.tobytes())
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *content])


def read_safetensors(content: bytes, where: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name; only the types that `safetensors` writes.

    Raises ExportError, naming `where`, for another file.
    """
    kinds = {name: np.dtype(kind) for kind, name in DTYPES.items()}
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        arrays = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            kind = kinds[entry["dtype"]]
            arrays[name] = np.frombuffer(content[8 + length + start : 8 + length + end], kind).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{where}: not a safetensors file of {', '.join(kinds)}: {error!r}") from error
    return arrays


def forest_arrays(
    trees: Sequence,
    leaf: Callable[[np.ndarray], np.ndarray] | None = None,
    outputs: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of a `forest` node from scikit-learn's `tree_` objects.

    leaf: from a tree's `value` [nodes, 1, width] to the format's [nodes, W]; default: as it is (probabilities of all
    classes, or one number). outputs: for one number a leaf, the output that each tree adds to. Raises ExportError for a
    tree with several targets, or with children before their parent.
    """
    parts = []
    for position, tree in enumerate(trees):
        value = np.asarray(tree.value, np.float64)
        if value.shape[1] != 1:
            raise ExportError(f"tree {position}: {value.shape[1]} targets; the format takes one")
        leaves = np.asarray(tree.children_left) < 0
        part = {
            "left": np.where(leaves, -1, tree.children_left),
            "right": np.where(leaves, -1, tree.children_right),
            "feature": np.where(leaves, 0, tree.feature),
            "threshold": np.where(leaves, 0.0, tree.threshold),
            "value": value[:, 0, :] if leaf is None else leaf(value),
        }
        missing = getattr(tree, "missing_go_to_left", None)
        part["missing_left"] = np.zeros(len(leaves)) if missing is None else np.where(leaves, 0, missing)
        parts.append(part)
    return join_trees(parts, outputs)


def join_trees(parts: Sequence[dict[str, np.ndarray]], outputs: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a `forest` node from one dictionary of them for each tree, `offsets` excepted.

    Numbers in inner nodes' `value` are set to 0. Raises ExportError for a child that is not after its parent.
    """
    kinds = {
        "left": np.int32,
        "right": np.int32,
        "feature": np.int32,
        "threshold": np.float64,
        "missing_left": np.uint8,
        "category": np.int32,
        "value": np.float64,
    }
    for position, part in enumerate(parts):
        here = np.arange(len(part["left"]))
        inner = np.asarray(part["left"]) >= 0
        for side in ("left", "right"):
            child = np.asarray(part[side])
            if not ((child > here) & (child < len(here)) | ~inner & (child == -1)).all():
                raise ExportError(f"tree {position}: a {side} child is not after its parent")
    arrays = {
        name: np.concatenate([np.asarray(part[name]) for part in parts]).astype(kind)
        for name, kind in kinds.items()
        if name in parts[0]
    }
    arrays["value"][arrays["left"] >= 0] = 0.0
    arrays["offsets"] = np.cumsum([0, *(len(part["left"]) for part in parts)]).astype(np.int64)
    if outputs is not None:
        arrays["output"] = np.asarray(outputs, np.int32)
    return arrays
