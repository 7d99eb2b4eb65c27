"""Compiles a model for the peers, and says how each peer is reached; a peer that fails is listed with the reason."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def version(package):
    return importlib.metadata.version(package)


def library(package, pattern):
    """A shared library inside an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise RuntimeError(f"{package} is not installed")
    found = sorted(Path(spec.submodule_search_locations[0]).rglob(pattern))
    if not found:
        raise RuntimeError(f"the wheel of {package} has no {pattern}")
    return found[0]


def tl2cgen(case, out):
    """C by tl2cgen with quantize=1 and branch annotation, compiled by gcc -O3."""
    import tl2cgen as generator
    import treelite

    target = out / f"{case['name']}.tl2cgen.so"
    kind = "f64" if case["library"] == "lightgbm" else "f32"
    if not target.is_file():
        print(f"compile {case['name']} with tl2cgen", flush=True)
        if case["library"] == "lightgbm":
            model = treelite.frontend.load_lightgbm_model(case["model"])
        else:
            model = treelite.frontend.load_xgboost_model(case["model"])
        directory = out / f"{case['name']}.tl2cgen"
        shutil.rmtree(directory, ignore_errors=True)
        rows = np.fromfile(case["rows"], dtype="<f8").reshape(-1, case["columns"])[:5000]
        rows = generator.DMatrix(rows.astype("<f8" if kind == "f64" else "<f4"))
        annotation = out / f"{case['name']}.annotation.json"
        generator.annotate_branch(model, rows, path=str(annotation))
        params = {"quantize": 1, "parallel_comp": 16, "annotate_in": str(annotation)}
        generator.generate_c_code(model, dirpath=str(directory), params=params)
        objects = []
        for source in sorted(directory.glob("*.c")):
            objects.append(source.with_suffix(".o"))
            command = ["gcc", "-O3", "-march=native", "-fPIC", "-std=c99", "-c", source, "-o", objects[-1]]
            subprocess.run(command, check=True)
        partial = target.with_suffix(".partial")
        subprocess.run(["gcc", "-shared", "-o", partial, *objects, "-lm"], check=True)
        partial.rename(target)
    return {"kind": "tl2cgen", "library": str(target), "entry": kind}


def lleaves(case, out, python):
    target = out / f"{case['name']}.lleaves.so"
    if not python.is_file():
        raise RuntimeError("its environment is not there")
    if not target.is_file():
        print(f"compile {case['name']} with lleaves", flush=True)
        subprocess.run([python, HERE / "compile_lleaves.py", case["model"], target], check=True)
    return {"kind": "lleaves", "library": str(target)}


def catboost_cpp(case, out):
    """The applicator that CatBoost exports as C++, compiled by g++ -O3, with a C function around it."""
    import catboost

    target = out / f"{case['name']}.catboost.so"
    if not target.is_file():
        print(f"compile {case['name']} as CatBoost exports it", flush=True)
        model = catboost.CatBoost()
        model.load_model(case["model"], format="json")
        source = out / f"{case['name']}.catboost.cpp"
        model.save_model(str(source), format="cpp")
        with source.open("a") as file:
            file.write(CATBOOST_ENTRY)
        subprocess.run(["g++", "-O3", "-march=native", "-shared", "-fPIC", "-o", target, source], check=True)
    return {"kind": "catboost_cpp", "library": str(target)}


CATBOOST_ENTRY = """
extern "C" void apply_rows(const double* rows, unsigned long count, unsigned long columns, double* out) {
    static thread_local std::vector<float> features;
    features.resize(columns);
    for (unsigned long row = 0; row < count; ++row, rows += columns) {
        for (unsigned long column = 0; column < columns; ++column) features[column] = (float)rows[column];
        out[row] = ApplyCatboostModel(features);
    }
}
"""


def onnx(case, out):
    """The model as ONNX: by the library itself (CatBoost) or by onnxmltools and skl2onnx."""
    target = out / f"{case['name']}.onnx"
    if not target.is_file():
        print(f"convert {case['name']} to ONNX", flush=True)
        if case["library"] == "catboost":
            import catboost

            model = catboost.CatBoost()
            model.load_model(case["model"], format="json")
            raw = target.with_suffix(".catboost.onnx")
            model.save_model(str(raw), format="onnx")
            target.write_bytes(plain_onnx(raw))
            return onnx_peer(case, target)
        import onnxmltools
        from skl2onnx.common.data_types import FloatTensorType as SklearnFloats
        from onnxmltools.convert.common.data_types import FloatTensorType

        floats = [("rows", FloatTensorType([None, case["columns"]]))]
        if case["library"] == "lightgbm":
            import lightgbm

            converted = onnxmltools.convert_lightgbm(
                lightgbm.Booster(model_file=case["model"]), initial_types=floats, zipmap=False
            )
        elif case["library"] == "xgboost":
            import xgboost

            booster = xgboost.Booster(model_file=case["model"])
            converted = onnxmltools.convert_xgboost(booster, initial_types=floats)
        else:
            import pickle

            from skl2onnx import to_onnx

            forest = pickle.loads(Path(case["model"]).read_bytes())
            floats = [("rows", SklearnFloats([None, case["columns"]]))]
            converted = to_onnx(forest, initial_types=floats, options={"zipmap": False})
        target.write_bytes(converted.SerializeToString())
    return onnx_peer(case, target)


def plain_onnx(path):
    """CatBoost's ONNX file with an input `rows` and an output `probabilities` that is a tensor, as the others have."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        graph.node.remove(node)
        [output] = [output for output in graph.output if output.name == node.output[0]]
        graph.output.remove(output)
        tensor = onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [None, 2])
        graph.output.append(tensor)
        for other in graph.node:
            other.output[:] = ["probabilities" if name == node.input[0] else name for name in other.output]
    for node in graph.node:
        node.input[:] = ["rows" if name == graph.input[0].name else name for name in node.input]
    graph.input[0].name = "rows"
    return model.SerializeToString()


def onnx_peer(_, target):
    return {"kind": "onnxruntime", "library": str(library("onnxruntime", "libonnxruntime.so*")), "model": str(target)}


def python(peer, **more):
    return {"kind": "python", "peer": peer, **more}


def peers(case, out, lleaves_python, without):
    """All peers of a case: `{"name", "kind", ...}`, or `{"name", "missing": why}`. without: words of names."""
    lightgbm, xgboost = case["library"] == "lightgbm", case["library"] == "xgboost"
    tries = []
    if lightgbm:
        path = lambda: {"kind": "lightgbm", "library": str(library("lightgbm", "lib_lightgbm.so")), "model": case["model"]}
        tries += [("LightGBM", "lightgbm", path), ("lleaves", None, lambda: lleaves(case, out, lleaves_python))]
    if xgboost:
        def path(kind):
            return {"kind": kind, "library": str(library("xgboost", "libxgboost.so")), "model": case["model"]}

        tries += [("XGBoost in place", "xgboost-cpu", lambda: path("xgboost"))]
        tries += [("XGBoost DMatrix", "xgboost-cpu", lambda: path("xgboost_dmatrix"))]
    if lightgbm or xgboost:
        tries.append(("tl2cgen", "tl2cgen", lambda: tl2cgen(case, out)))
    if case["library"] == "catboost":
        tries.append(("CatBoost exported C++", "catboost", lambda: catboost_cpp(case, out)))
        tries.append(("CatBoost (Python, Pool)", "catboost", lambda: version("catboost") and python("catboost")))
    if case["library"] == "forest":
        tries.append(("scikit-learn (Python)", "scikit-learn", lambda: version("scikit-learn") and python("sklearn")))
    tries.append(("ONNX Runtime", "onnxruntime", lambda: onnx(case, out)))
    if case["name"] in ("lgb_cat_300x63", "lgb_syn_500x63"):
        tries.append(("YDF (own model)", "ydf", lambda: version("ydf") and python("ydf", own_model=True)))
    found = []
    for name, package, attempt in tries:
        if any(word in name for word in without):
            found.append({"name": name, "missing": "not wanted (--without)"})
            continue
        try:
            label = f"{name} {version(package)}" if package else f"{name} 1.3"
            found.append({"name": label, **attempt()})
        except Exception as error:
            print(f"without {name} for {case['name']}: {error}", file=sys.stderr, flush=True)
            found.append({"name": name, "missing": f"{type(error).__name__}: {error}".splitlines()[0]})
    return found
