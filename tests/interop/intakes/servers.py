"""Servers of the Open Inference Protocol that are not ours, with a LightGBM model out of an example's package.

Each takes the rows as one matrix and gives P(>50K) in one column; what that means the sidecar is told by its settings.
"""

import json
import sysconfig
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from processes import free_port, running

FEATURES = 13
TRITON_CONFIG = """\
backend: "python"
max_batch_size: 100
input {{ name: "input" data_type: TYPE_FP64 dims: [ {features} ] }}
output {{ name: "p" data_type: TYPE_FP64 dims: [ 1 ] }}
instance_group {{ kind: KIND_CPU }}
"""
TRITON_MODEL = """\
import sys

sys.path.append({packages!r})  # the backend's interpreter does not look at PYTHONPATH

import lightgbm
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, arguments):
        self.model = lightgbm.Booster(model_file={model!r})

    def execute(self, requests):
        answers = []
        for request in requests:
            rows = triton.get_input_tensor_by_name(request, "input").as_numpy()
            scores = self.model.predict(rows, num_threads=1).reshape(-1, 1)
            answers.append(triton.InferenceResponse([triton.Tensor("p", scores)]))
        return answers
"""


def trees(package):
    """The text model in a package."""
    (path,) = package.glob("nodes/*/model.txt")
    return path


def ready(port, path="/v2/health/ready"):
    """Whether the server says so over HTTP."""

    def ask():
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False

    return ask


@contextmanager
def mlserver(venv, place, package, name):
    """MLServer with its own LightGBM runtime, which calls its output `predict`."""
    http, grpc = free_port(), free_port()
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "parallel_workers": 0}
    settings["metrics_endpoint"] = None
    model = {
        "name": name,
        "implementation": "mlserver_lightgbm.LightGBMModel",
        "inputs": [{"name": "input", "datatype": "FP64", "shape": [-1, FEATURES]}],
        "outputs": [{"name": "predict", "datatype": "FP64", "shape": [-1, 1]}],
        "parameters": {"uri": str(trees(package)), "version": "1"},
    }
    (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (place / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    command = [venv / "bin/mlserver", "start", place]
    # Worker threads of LightGBM's would only fight over the cores that everybody here shares.
    environment = {"OMP_NUM_THREADS": "1", "PATH": f"{venv / 'bin'}:/usr/bin:/bin"}
    with running("mlserver", command, place, ready(http, f"/v2/models/{name}/ready"), environment):
        yield f"127.0.0.1:{grpc}"


@contextmanager
def triton(venv, place, package, name):
    """Triton, as the nvidia-pytriton wheel has it, with its Python backend; the output is called `p`."""
    http, grpc = free_port(), free_port()
    (packages,) = venv.glob("lib/python*/site-packages")
    home = packages / "pytriton/tritonserver"
    version = place / name / "1"
    version.mkdir(parents=True)
    (place / name / "config.pbtxt").write_text(TRITON_CONFIG.format(features=FEATURES), encoding="utf-8")
    source = TRITON_MODEL.format(model=str(trees(package)), packages=str(packages))
    (version / "model.py").write_text(source, encoding="utf-8")
    command = [home / "bin/tritonserver", "--model-repository", place, "--backend-directory", home / "backends"]
    command += ["--grpc-address", "127.0.0.1", "--grpc-port", grpc, "--http-address", "127.0.0.1", "--http-port", http]
    command += ["--allow-metrics", "false", "--allow-gpu-metrics", "false", "--disable-auto-complete-config"]
    # The library of the interpreter in the backend's stub.
    environment = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
    with running("triton", command, place, ready(http), environment):
        yield f"127.0.0.1:{grpc}"
