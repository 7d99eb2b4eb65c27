"""The tree models of `evaluator`: LightGBM text, XGBoost, CatBoost JSON and forest arrays, with numpy."""

import json
import math
from pathlib import Path

import numpy as np

MASK = np.uint64(2**64 - 1)


@np.vectorize(otypes=[float])
def exp(x):
    """The C library's, as LightGBM and CatBoost call it: numpy's own differs in the last bit on some processors."""
    return math.exp(x) if x < 709.0 else float(np.exp(x))


def walk(left, right, decide, roots, rows):
    """The leaf (negative number, complement) of each row; decide(nodes, rows) says which go left."""
    place = np.full(rows, roots)
    active = np.arange(rows)[place >= 0]
    while active.size:
        node = place[active]
        place[active] = np.where(decide(node, active), left[node], right[node])
        active = active[place[active] >= 0]
    return place


def lightgbm(path):
    text = Path(path).read_text(encoding="utf-8")
    head, *rest = text.split("\nTree=")
    header = dict(line.partition("=")[::2] for line in head.splitlines())
    trees = []
    for block in rest:
        keys = dict(line.partition("=")[::2] for line in block.split("end of trees")[0].splitlines())
        keys = {k: np.array([float(x) for x in v.split()]) for k, v in keys.items() if k and v and k[0] != "["}
        trees.append(keys)
    width = int(header["num_tree_per_iteration"])
    objective = header.get("objective", "").split()

    def predict(matrix):
        sums = np.zeros((len(matrix), width))
        for number, tree in enumerate(trees):
            sums[:, number % width] += lightgbm_tree(tree, matrix)
        if "average_output" in header:
            sums /= len(trees) // width
        if objective and objective[0] == "binary":
            sigmoid = float(objective[1].split(":")[1])
            return 1 / (1 + exp(-sigmoid * sums))
        if objective and objective[0] == "multiclass":
            powers = exp(sums - sums.max(axis=1, keepdims=True))
            total = np.zeros(len(sums))
            for column in powers.T:
                total = total + column
            return powers / total[:, None]
        return exp(sums) if objective and objective[0] in ("poisson", "gamma", "tweedie") else sums

    return predict


def lightgbm_tree(tree, matrix):
    values = tree["leaf_value"]
    if len(values) == 1:
        return np.full(len(matrix), values[0])
    left, right = tree["left_child"].astype(int), tree["right_child"].astype(int)
    feature, kind = tree["split_feature"].astype(int), tree["decision_type"].astype(int)
    threshold = tree["threshold"]
    bounds = tree.get("cat_boundaries", np.zeros(1)).astype(int)
    words = tree.get("cat_threshold", np.zeros(0)).astype(np.int64)

    def decide(node, rows):
        x = matrix[rows, feature[node]]
        missing_type = (kind[node] >> 2) & 3
        nan = np.isnan(x)
        default_left = (kind[node] & 2) > 0
        value = np.where(nan & (missing_type != 2), 0.0, x)
        absent = np.where(missing_type == 2, nan, (missing_type == 1) & (np.abs(value) <= 1e-35))
        go = np.where(absent, default_left, value <= threshold[node])
        categorical = (kind[node] & 1) > 0
        if categorical.any():
            at = np.flatnonzero(categorical)
            which = threshold[node[at]].astype(int)
            code = np.where(nan[at], -1, np.trunc(np.where(nan[at], 0, x[at]))).astype(np.int64)
            start, size = bounds[which], bounds[which + 1] - bounds[which]
            good = (code >= 0) & (code // 32 < size)
            word = words[np.where(good, start + code // 32, 0)]
            go[at] = good & ((word >> np.where(good, code % 32, 0)) & 1 > 0)
        return go

    return values[~walk(left, right, decide, 0, len(matrix))]


def forest(node, arrays, matrix):
    x = matrix.astype(np.float32).astype(np.float64) if node["input"] == "float" else matrix
    offsets, left, right = arrays["offsets"], arrays["left"], arrays["right"]
    sums = np.tile(np.array(node["start"], float), (len(x), 1))
    for tree in range(len(offsets) - 1):
        part = slice(offsets[tree], offsets[tree + 1])
        down, up, feature, limit = left[part], right[part], arrays["feature"][part], arrays["threshold"][part]
        absent = arrays["missing_left"][part] if "missing_left" in arrays else np.zeros(len(down))
        place = np.zeros(len(x), int)
        active = np.flatnonzero(down[place] >= 0)
        while active.size:
            node_here = place[active]
            value = x[active, feature[node_here]]
            go = np.where(np.isnan(value), absent[node_here] > 0, value <= limit[node_here])
            if "category" in arrays:
                which = arrays["category"][part][node_here]
                for i in np.flatnonzero(which >= 0):
                    code = value[i]
                    if not np.isnan(code):
                        inside = 0 <= code < 256
                        go[i] = inside and arrays["sets"][which[i], int(code) // 32] >> (int(code) % 32) & 1
            place[active] = np.where(go, down[node_here], up[node_here])
            active = active[down[place[active]] >= 0]
        leaves = arrays["value"][part][place]
        if "output" in arrays:
            sums[:, arrays["output"][tree]] += leaves[:, 0]
        else:
            sums += leaves
    return sums / (len(offsets) - 1) if node.get("average") else sums


def xgboost(path):
    content = Path(path).read_bytes()
    if content[:1] == b"{" and content[1:2] in (b"L", b"l", b"i", b"I", b"U"):
        import xgboost as library

        content = bytes(library.Booster(model_file=bytearray(content)).save_raw("json"))
    learner = json.loads(content)["learner"]
    model = learner["gradient_booster"]["model"]
    objective = learner["objective"]["name"]
    base = learner["learner_model_param"]["base_score"]
    starts = np.array(json.loads(base) if base.startswith("[") else [float(base)], np.float32)
    parameters = learner["learner_model_param"]
    groups = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    exponential = objective in ("count:poisson", "reg:gamma", "reg:tweedie")
    if "logistic" in objective:
        p = starts.astype(np.float32)
        starts = -np.log((np.float32(1) / p - np.float32(1)).astype(np.float64)).astype(np.float32)
    if exponential:
        starts = np.log(starts.astype(np.float64)).astype(np.float32)

    def predict(matrix, expf):
        x = matrix.astype(np.float32)
        sums = np.tile(starts if len(starts) == groups else np.repeat(starts, groups), (len(x), 1)).astype(np.float32)
        for number, tree in enumerate(model["trees"]):
            left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
            feature, limit = np.array(tree["split_indices"]), np.array(tree["split_conditions"], np.float32)
            default = np.array(tree["default_left"]) > 0
            place = np.zeros(len(x), int)
            active = np.flatnonzero(left[place] >= 0)
            while active.size:
                node = place[active]
                value = x[active, feature[node]]
                go = np.where(np.isnan(value), default[node], value < limit[node])
                place[active] = np.where(go, left[node], right[node])
                active = active[left[place[active]] >= 0]
            group = model["tree_info"][number]
            sums[:, group] = sums[:, group] + limit[place]
        if "logistic" in objective:
            clipped = np.minimum(-sums, np.float32(88.7))
            return np.float32(1) / (expf(clipped) + np.float32(1.0) + np.float32(1e-16))
        if objective.startswith("multi:"):
            powers = expf(sums - sums.max(axis=1, keepdims=True))
            total = np.zeros(len(sums))
            for column in powers.T:
                total = total + column.astype(np.float64)
            return powers / total.astype(np.float32)[:, None]
        return expf(sums) if exponential else sums

    return predict


def catboost(path):
    model = json.loads(Path(path).read_text(encoding="utf-8"))
    info = model["features_info"]
    floats = info.get("float_features", [])
    categories = info.get("categorical_features", [])
    ctrs = info.get("ctrs", [])
    loss = model["model_info"]["params"]["loss_function"]["type"]
    tables = {}
    for name, entry in model.get("ctr_data", {}).items():
        stride = entry["hash_stride"]
        flat = entry["hash_map"]
        rows = {int(flat[i]): flat[i + 1 : i + stride] for i in range(0, len(flat), stride)}
        rows.pop(2**64 - 1, None)
        tables[name] = (rows, entry)

    def predict(matrix, features, hashes):
        x = matrix.astype(np.float32)
        hashed = {}
        for entry in categories:
            flat = entry["flat_feature_index"]
            known = hashes[features[flat]]
            column = matrix[:, flat]
            out = np.empty(len(column), np.uint32)
            for i, value in enumerate(column):
                inside = value == value and 0 <= value < len(known["codes"])
                absent = known["missing"] if value != value else known["unseen"]
                out[i] = known["codes"][int(value)] if inside else absent
            hashed[entry["feature_index"]] = out
        by_index = {entry["feature_index"]: entry for entry in floats}

        def above(entry, border):
            value = x[:, entry["flat_feature_index"]]
            treat = entry.get("nan_value_treatment", "AsIs")
            return np.where(np.isnan(value), treat == "AsTrue", value > np.float32(border))

        splits = []
        for entry in floats:
            splits += [above(entry, border) for border in entry["borders"] or []]
        for entry in categories:
            for value in entry.get("values", []):
                splits.append(hashed[entry["feature_index"]] == np.uint32(value & 0xFFFFFFFF))
        for ctr in ctrs:
            value = catboost_ctr(ctr, tables[ctr["identifier"]], hashed, by_index, above, len(x))
            splits += [value > np.float32(border) for border in ctr["borders"]]
        scale, bias = model["scale_and_bias"]
        bias = np.atleast_1d(bias)
        width = len(bias)
        sums = np.zeros((len(x), width))
        for tree in model.get("trees", []):
            for row in range(len(x)):
                node = tree
                while "value" not in node:
                    node = node["right" if splits[node["split"]["split_index"]][row] else "left"]
                sums[row] += node["value"]
        for tree in model.get("oblivious_trees", []):
            leaf = np.zeros(len(x), int)
            for bit, split in enumerate(tree["splits"] or []):
                leaf |= splits[split["split_index"]].astype(int) << bit
            sums += np.array(tree["leaf_values"]).reshape(-1, width)[leaf]
        sums = scale * sums + bias
        if loss in ("Poisson", "Tweedie"):
            return catboost_exp(sums)
        if loss in ("Logloss", "CrossEntropy", "MultiClassOneVsAll"):
            return 1 / (1 + exp(-sums))
        if loss == "MultiClass":
            powers = catboost_exp(sums - sums.max(axis=1, keepdims=True))
            total = np.zeros(len(sums))
            for column in powers.T:
                total = total + column
            return powers / total[:, None]
        return sums

    return predict


def catboost_exp(x):
    """CatBoost's own exponential of numbers of ordinary size: a power of two by table, a polynomial for the rest."""
    scale = 2048 / np.log(2.0)
    shifted = x * scale + float(3 << 51)
    bits = shifted.view(np.uint64)
    powers = np.array([math.pow(2.0, part / 2048) for part in range(2048)])
    fraction = powers.view(np.uint64) & np.uint64((1 << 52) - 1)
    exponent = (bits + np.uint64((1 << 21) - (1 << 11)) >> np.uint64(11)) << np.uint64(52)
    rest = (shifted - float(3 << 51)) * (1.0 / scale) - x
    polynomial = (3.0000000027955394 - rest) * (rest * rest) * 0.16666666685227835 - rest + 1.0
    return polynomial * (exponent | fraction[bits & np.uint64(2047)]).view(np.float64)


def catboost_ctr(ctr, table, hashed, floats, above, rows):
    key = np.zeros(rows, np.uint64)
    multiplier = np.uint64(0x4906BA494954CB65)
    for element in ctr["elements"]:
        kind = element["combination_element"]
        if kind == "cat_feature_value":
            part = hashed[element["cat_feature_index"]].astype(np.int32).astype(np.int64).astype(np.uint64)
        elif kind == "float_feature":
            part = above(floats[element["float_feature_index"]], element["border"]).astype(np.uint64)
        else:
            wanted = np.uint32(element["value"] & 0xFFFFFFFF)
            part = (hashed[element["cat_feature_index"]] == wanted).astype(np.uint64)
        key = multiplier * (key + multiplier * part)
    counts, entry = table
    kind = ctr["ctr_type"]
    border = ctr.get("target_border_idx", 0)
    denominator = entry.get("counter_denominator", 0)
    distinct, inverse = np.unique(key, return_inverse=True)
    values = np.empty(len(distinct), np.float32)
    for i, one in enumerate(distinct):
        found = counts.get(int(one))
        if kind in ("Counter", "FeatureFreq"):
            good, total = (found[0] if found else 0), denominator
        elif found is None:
            good, total = 0, 0
        elif kind == "Borders":
            good, total = sum(found[border + 1 :]), sum(found)
        elif kind == "Buckets":
            good, total = found[border], sum(found)
        else:
            good, total = found[0], found[1]
        f = np.float32
        ratio = (f(good) + f(ctr["prior_numerator"])) / (f(total) + f(ctr["prior_denomerator"]))
        values[i] = (ratio + f(ctr["shift"])) * f(ctr["scale"])
    return values[inverse]
