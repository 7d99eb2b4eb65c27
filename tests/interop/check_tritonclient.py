"""Ask a running understudy-server for predictions with NVIDIA's own client, and compare them with LightGBM's.

usage: check_tritonclient.py ADDRESS UNIX_SOCKET EXAMPLES [--all]
ADDRESS is IP:PORT of the server that serves EXAMPLES/models/adult. With --all each row is also sent alone.
Prints one line for each check, `ok NAME: ...` or `FAIL NAME: ...`; exits 1 when one failed.
"""

import argparse
import queue
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

import adult

MODEL, BATCH = "adult", 100

# Triton's, not part of the Open Inference Protocol: a server may leave them out.
EXTENSIONS = ("tritonclient-repository", "tritonclient-stream")


def columns(data, shape):
    """One tensor for each feature, named after it; `shape` is (-1,) for [N] or (-1, 1) for [N,1]."""
    tensors = []
    for name, values, datatype in data.columns:
        values = values.reshape(shape)
        tensor = grpc.InferInput(name, values.shape, datatype)
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    return tensors


def matrix(data, dtype):
    """All features in one tensor [N,13] of numbers."""
    values = data.matrix.astype(dtype)
    tensor = grpc.InferInput("input", values.shape, "FP64" if dtype is np.float64 else "FP32")
    tensor.set_data_from_numpy(values)
    return [tensor]


def batches(data, make, size=BATCH):
    """The inputs of one request after the other."""
    for start in range(0, len(data.matrix), size):
        yield make(data.part(start, start + size))


def probabilities(results):
    """Column 1, P(>50K), of many answers; complains about what is not [N,2] FP64 with rows that sum to one."""
    parts = [result.as_numpy("probabilities") for result in results]
    for part in parts:
        assert part is not None, "the answer has no output `probabilities`"
        assert part.dtype == np.float64 and part.shape[1:] == (2,), f"got {part.dtype} {list(part.shape)}"
    both = np.concatenate(parts)
    assert np.abs(both.sum(axis=1) - 1).max() < 1e-12, "probabilities do not sum to one"
    return both[:, 1]


def same(got, expected):
    """Bit by bit; returns what to say."""
    assert got.shape == expected.shape, f"{got.shape[0]} answers for {expected.shape[0]} rows"
    different = np.flatnonzero(got.view(np.uint64) != expected.view(np.uint64))
    if different.size:
        row = different[0]
        gap = np.abs(got - expected).max()
        raise AssertionError(
            f"{different.size} of {got.size} rows differ, at most by {gap:.3g}; "
            f"row {row}: got {got[row]!r}, LightGBM says {expected[row]!r}"
        )
    return f"{got.size} rows, every bit as LightGBM"


def refused(call, status):
    """Expects that the call fails with `status`; returns what to say."""
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", f"expected {status}, got {error.status()}: {error.message()}"
        return f"{status}: {error.message()[:120]}"
    raise AssertionError(f"expected {status}, but the call succeeded")


class Checks:
    """All checks; each method `check_*` returns what was seen or raises."""

    def __init__(self, address, socket, examples, every_row):
        """Connects and reads the rows and the answers."""
        self.client = grpc.InferenceServerClient(address)
        self.address, self.socket, self.examples, self.every_row = address, socket, examples, every_row
        self.data = adult.Rows.read(examples)
        self.expected = adult.answers(examples)

    def infer(self, make, **options):
        """Predicts all rows in batches of 100."""
        return [self.client.infer(MODEL, inputs, **options) for inputs in batches(self.data, make)]

    def check_live_ready(self):
        """ServerLive, ServerReady, ModelReady; an unknown model is not ready."""
        assert self.client.is_server_live(), "not live"
        assert self.client.is_server_ready(), "not ready"
        assert self.client.is_model_ready(MODEL), "model adult is not ready"
        assert self.client.is_model_ready(MODEL, "1"), "model adult, version 1, is not ready"
        return "server live and ready, model adult ready"

    def check_unix_socket(self):
        """The same service on the Unix socket.

        gRPC's C core, and so Python's client, names the socket's path as the authority; h2 refuses that as malformed
        (hyperium/h2#487). Such a client has to set the authority itself.
        """
        authority = [("grpc.default_authority", "localhost")]
        with grpc.InferenceServerClient(f"unix:{self.socket}", channel_args=authority) as client:
            assert client.is_server_ready(), "not ready"
            got = probabilities([client.infer(MODEL, matrix(self.data.part(0, BATCH), np.float64))])
        return f"{same(got, self.expected[:BATCH])}; the client must set grpc.default_authority"

    def check_server_metadata(self):
        """ServerMetadata."""
        found = self.client.get_server_metadata()
        assert found.name and found.version, f"name or version is empty: {found}"
        return f"{found.name} {found.version}, extensions {', '.join(found.extensions) or 'none'}"

    def check_model_metadata(self):
        """ModelMetadata: the features of the schema and their types, the outputs and theirs."""
        found = self.client.get_model_metadata(MODEL)
        assert found.name == MODEL and list(found.versions) == ["1"], f"got {found.name} {list(found.versions)}"
        inputs = {tensor.name: tensor.datatype for tensor in found.inputs}
        outputs = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in found.outputs}
        for name, _, datatype in self.data.columns:
            assert inputs.get(name) == datatype, f"input {name}: expected {datatype}, got {inputs.get(name)}"
        assert outputs.get("probabilities") == ("FP64", [-1, 2]), f"probabilities: {outputs.get('probabilities')}"
        assert outputs.get("label", [""])[0] == "BYTES", f"label: {outputs.get('label')}"
        return f"{len(inputs)} inputs, outputs {', '.join(outputs)}"

    def check_repository(self):
        """RepositoryIndex, ModelConfig and ModelStatistics, Triton's extensions."""
        index = {model.name: model.state for model in self.client.get_model_repository_index().models}
        assert index.get(MODEL) == "READY", f"index says {index}"
        name = self.client.get_model_config(MODEL).config.name
        assert name == MODEL, f"configuration is of {name!r}"
        statistics = self.client.get_inference_statistics(MODEL).model_stats
        assert [entry.name for entry in statistics] == [MODEL], f"statistics of {[s.name for s in statistics]}"
        return f"index {index}, configuration, statistics"

    def check_columns_n(self):
        """Columns of shape [N]."""
        return same(probabilities(self.infer(lambda data: columns(data, (-1,)))), self.expected)

    def check_columns_n1(self):
        """Columns of shape [N,1]."""
        return same(probabilities(self.infer(lambda data: columns(data, (-1, 1)))), self.expected)

    def check_matrix_fp64(self):
        """One FP64 matrix."""
        return same(probabilities(self.infer(lambda data: matrix(data, np.float64))), self.expected)

    def check_matrix_fp32(self):
        """One FP32 matrix."""
        return same(probabilities(self.infer(lambda data: matrix(data, np.float32))), self.expected)

    def check_gzip(self):
        """Requests and answers compressed."""
        make = lambda data: columns(data, (-1,))  # noqa: E731
        return same(probabilities(self.infer(make, compression_algorithm="gzip")), self.expected)

    def check_single_rows(self):
        """Each row alone: all with --all, else the first hundred."""
        data = self.data if self.every_row else self.data.part(0, BATCH)
        results = [self.client.infer(MODEL, inputs) for inputs in batches(data, lambda d: columns(d, (-1,)), 1)]
        return same(probabilities(results), self.expected[: len(data.matrix)])

    def check_stream(self):
        """ModelStreamInfer: the answers come back with the ids of their requests."""
        answers, found = queue.Queue(), {}

        def take():
            result, error = answers.get(timeout=30)
            if error is not None:
                raise error
            found[int(result.get_response().id)] = result

        with grpc.InferenceServerClient(self.address) as client:
            client.start_stream(lambda result, error: answers.put((result, error)))
            requests = list(batches(self.data, lambda data: columns(data, (-1,))))
            for number, inputs in enumerate(requests):
                try:
                    client.async_stream_infer(MODEL, inputs, request_id=str(number))
                except InferenceServerException:  # the stream has ended; the callback was told why
                    take()
                    raise
            while len(found) < len(requests):
                take()
            client.stop_stream()
        return same(probabilities([found[number] for number in range(len(requests))]), self.expected)

    def check_label(self):
        """The output `label`, alone: BYTES, the class with the larger probability."""
        wanted = [grpc.InferRequestedOutput("label")]
        results = self.infer(lambda data: columns(data, (-1,)), outputs=wanted)
        names = {output.name for result in results for output in result.get_response().outputs}
        assert names == {"label"}, f"asked for `label` only, got {sorted(names)}"
        got = np.concatenate([result.as_numpy("label").ravel() for result in results])
        expected = np.where(self.expected > 0.5, b">50K", b"<=50K")
        wrong = np.flatnonzero(got != expected)
        assert wrong.size == 0, f"{wrong.size} differ; row {wrong[0]}: got {got[wrong[0]]}, want {expected[wrong[0]]}"
        return f"{got.size} labels, no other output"

    def check_ids(self):
        """The id of a request comes back; the output `prediction_id` is different for every row."""
        result = self.client.infer(MODEL, columns(self.data.part(0, BATCH), (-1,)), request_id="interop-1")
        assert result.get_response().id == "interop-1", f"id is {result.get_response().id!r}"
        ids = result.as_numpy("prediction_id")
        assert ids is not None and len(set(ids.ravel())) == BATCH, "no prediction_id, or not one for each row"
        return f"id echoed, {BATCH} distinct prediction ids"

    def check_live_lightgbm(self):
        """LightGBM itself, here and now, on the served model file."""
        try:
            import lightgbm
        except (ImportError, OSError) as error:
            return f"skipped: {error}"
        (path,) = (self.examples / "models/adult/1/nodes").glob("*/model.txt")
        live = lightgbm.Booster(model_file=path).predict(self.data.matrix, num_threads=1)
        got = probabilities(self.infer(lambda data: columns(data, (-1,))))
        return f"{same(got, live)} {lightgbm.__version__} predicts now"

    def check_unknown_model(self):
        """A model that is not there."""
        inputs = columns(self.data.part(0, 1), (-1,))
        return refused(lambda: self.client.infer("nope", inputs), "NOT_FOUND")

    def check_wrong_shape(self):
        """Tensors of different lengths, and a matrix that lacks a column."""
        mixed = columns(self.data.part(0, 3), (-1,))
        mixed[-1] = columns(self.data.part(0, 2), (-1,))[-1]
        refused(lambda: self.client.infer(MODEL, mixed), "INVALID_ARGUMENT")
        narrow = grpc.InferInput("input", [1, 12], "FP64")
        narrow.set_data_from_numpy(self.data.matrix[:1, :12])
        return refused(lambda: self.client.infer(MODEL, [narrow]), "INVALID_ARGUMENT")


def main():
    """Runs every check, also after one has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("socket")
    parser.add_argument("examples", type=Path)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    checks = Checks(arguments.address, arguments.socket, arguments.examples, arguments.all)
    failed = False
    for method in [name for name in vars(Checks) if name.startswith("check_")]:
        name = f"tritonclient-{method.removeprefix('check_').replace('_', '-')}"
        try:
            seen = getattr(checks, method)()
        except Exception as error:  # whatever went wrong, the other checks still run
            if name in EXTENSIONS and "UNIMPLEMENTED" in str(error):
                print(f"skipped: {name}: the server does not serve this extension (UNIMPLEMENTED)", flush=True)
                continue
            failed = True
            text = " ".join(str(error).split()) or type(error).__name__
            print(f"FAIL {name}: {text[:400]}", flush=True)
        else:
            skipped = seen.startswith("skipped: ")
            print(f"skipped: {name}: {seen[9:]}" if skipped else f"ok {name}: {seen}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
