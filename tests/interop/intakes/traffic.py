"""The rows of examples/adult as traffic, from NVIDIA's client, and what LightGBM itself answers to them."""

import threading
import time

import numpy as np
import tritonclient.grpc as grpc

import adult

IN_FLIGHT = 16
TIMEOUT = 30
# Outputs in which servers give P(>50K): one column, or the second of two.
PROBABILITY = ("probabilities", "predict", "p")


def column(name, values, datatype):
    """A tensor [1]."""
    tensor = grpc.InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values)
    return tensor


class Traffic:
    """Requests of one row each."""

    def __init__(self, examples):
        """Reads rows and answers."""
        self.rows = adult.Rows.read(examples)
        header, answers = adult.read(examples / "adult/answers.csv")
        self.answers = {name: np.array([float(row[i]) for row in answers]) for i, name in enumerate(header)}

    def agreed(self, model, requests):
        """How often `model` has the primary's label on the first `requests` rows."""
        primary, other = (self.answers[name][self.numbers(requests)] > 0.5 for name in ("adult", model))
        return int((primary == other).sum())

    def numbers(self, requests):
        """The row of each request: after the last one comes the first."""
        return np.arange(requests) % len(self.rows.matrix)

    def inputs(self, row, matrix):
        """One row as a matrix of numbers, or as a tensor for each feature."""
        if matrix:
            tensor = grpc.InferInput("input", [1, self.rows.matrix.shape[1]], "FP64")
            tensor.set_data_from_numpy(self.rows.matrix[row : row + 1])
            return [tensor]
        return [column(*feature) for feature in self.rows.part(row, row + 1).columns]

    def send(self, address, model, requests, *, matrix_only=False, a_second=None):
        """Sends that many, `a_second` at most; each answer has to be LightGBM's to the bit."""
        client = grpc.InferenceServerClient(address)
        places, lock, wrong, answered = threading.Semaphore(IN_FLIGHT), threading.Lock(), [], [0]

        def take(row, result, error):
            try:
                got = None if error else probability(result)
                expected = self.answers["adult"][row]
                with lock:
                    answered[0] += 1
                    if error:
                        wrong.append(f"row {row}: {error}")
                    elif got != expected:
                        wrong.append(f"row {row}: got {got!r}, LightGBM says {expected!r}")
            except Exception as broken:  # in a thread of the client's, where nobody would hear of it
                wrong.append(f"row {row}: {broken}")
            finally:
                places.release()

        begin = time.monotonic()
        for number, row in enumerate(self.numbers(requests)):
            if not places.acquire(timeout=TIMEOUT):
                wrong.append(f"request {number} found no place within {TIMEOUT} s")
                break
            inputs = self.inputs(row, matrix_only or number % 2 == 0)
            callback = lambda result, error, row=row: take(row, result, error)  # noqa: E731
            client.async_infer(model, inputs, callback, client_timeout=TIMEOUT)
            if a_second:
                time.sleep(max(0, begin + (number + 1) / a_second - time.monotonic()))
        for _ in range(IN_FLIGHT):
            places.acquire(timeout=TIMEOUT)
        client.close()
        assert not wrong, f"{len(wrong)} of {answered[0]} answers are wrong: {wrong[0]}"
        assert answered[0] == requests, f"{answered[0]} of {requests} requests were answered"


def probability(result):
    """P(>50K) of the one row of an answer."""
    for name in PROBABILITY:
        values = result.as_numpy(name)
        if values is not None:
            return values.ravel()[-1]
    names = [output.name for output in result.get_response().outputs]
    raise LookupError(f"none of the outputs {names} is one of {', '.join(PROBABILITY)}")
