"""Call a running understudy-server as gRPC's published interoperability cases do, as far as they apply to it.

usage: check_grpcio.py ADDRESS [overloaded]
With `overloaded` only what it does when calls are refused, which takes a server that lets in few. The client is
grpcio's (C core); messages are written byte by byte, so that nothing of the product takes part. Prints one line for
each check, `ok NAME: ...` or `FAIL NAME: ...`; exits 1 when one failed.
"""

import sys
import time

import grpc

INFERENCE, PREDICTION = "/inference.GRPCInferenceService/", "/understudy.v1.PredictionService/"
HEALTH = "/grpc.health.v1.Health/"
SERVING, SERVICE_UNKNOWN = 1, 3
# Of understudy.v1.PredictRequest, Row and Value.
NUMBERS = {"model": 1, "rows": 3, "values": 1, "integer": 2, "text": 3}
SPECIAL = "\t\n100 % of BMP ☺ and non-BMP 😈 and whitespace\r\n\t"
ROW = {
    "age": 39,
    "workclass": "State-gov",
    "education": "Bachelors",
    "education_num": 13,
    "marital_status": "Never-married",
    "occupation": "Adm-clerical",
    "relationship": "Not-in-family",
    "race": "White",
    "sex": "Male",
    "capital_gain": 2174,
    "capital_loss": 0,
    "hours_per_week": 40,
    "native_country": "United-States",
}


def varint(number):
    """Base 128, least significant group first."""
    out = bytearray()
    while number > 127:
        out.append(number % 128 | 128)
        number //= 128
    return bytes(out + bytes([number]))


def field(number, content):
    """A field with a length."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def predict(row=None, rows=1, model="adult", padding=0):
    """understudy.v1.PredictRequest."""
    message = field(NUMBERS["model"], model)
    for _ in range(rows):
        values = b""
        for name, value in (row or ROW).items():
            if isinstance(value, int):
                kind = varint(NUMBERS["integer"] << 3) + varint(value)
            else:
                kind = field(NUMBERS["text"], value)
            values += field(NUMBERS["values"], field(1, name) + field(2, kind))
        message += field(NUMBERS["rows"], values)
    # A field from the future.
    return message + (field(1000, b"x" * padding) if padding else b"")


class Client:
    """Raw bytes in, raw bytes out."""

    def __init__(self, address, *options, **more):
        """Connects at the first call; `options` are the channel's."""
        self.address = address
        self.channel = grpc.insecure_channel(address, options=options, **more)

    def call(self, method, message=b"", **options):
        """A unary call with ten seconds."""
        return self.channel.unary_unary(method)(message, **{"timeout": 10, **options})

    def watch(self, name, **options):
        """Health/Watch."""
        return self.channel.unary_stream(HEALTH + "Watch")(field(1, name), **options)


def fails(code, call):
    """The error of a call that must fail with `code`."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"expected {code}, got {error.code()}: {error.details()}"
        return error
    raise AssertionError(f"expected {code}, got an answer")


def empty_unary(client):
    """A message of no bytes."""
    answer = client.call(INFERENCE + "ServerLive")
    assert answer == b"\x08\x01", answer
    return "ServerLive: live"


def large_unary(client):
    """Close to the limit of a message."""
    message = predict(rows=100)
    message = predict(rows=100, padding=1_000_000 - len(message))
    answer = client.call(PREDICTION + "Predict", message)
    return f"{len(message)} bytes there, {len(answer)} back"


def compressed_unary(client):
    """As a client with gzip switched on sends it."""
    answer = client.call(PREDICTION + "Predict", predict(rows=50), compression=grpc.Compression.Gzip)
    assert b">50K" in answer
    return f"{len(answer)} bytes back"


def status_code_and_message(client):
    """What went wrong arrives as it was meant."""
    error = fails(grpc.StatusCode.NOT_FOUND, lambda: client.call(PREDICTION + "Predict", predict(model="adlut")))
    assert "adlut" in error.details(), error.details()
    return error.details()


def special_status_message(client):
    """A text that needs percent-encoding, escaped where it would steer a terminal."""
    request = predict(row={**ROW, "age": SPECIAL})
    error = fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: client.call(PREDICTION + "Predict", request))
    text = error.details()
    assert "100 % of BMP ☺ and non-BMP 😈" in text and r"\t\n" in text and "\n" not in text, text
    return text


def unimplemented_method(client):
    """Of a service that there is."""
    return fails(grpc.StatusCode.UNIMPLEMENTED, lambda: client.call(INFERENCE + "Train")).details()


def unimplemented_service(client):
    """Of none."""
    return fails(grpc.StatusCode.UNIMPLEMENTED, lambda: client.call("/nobody.Nothing/Do")).details()


def custom_metadata(client):
    """Headers that nobody knows, text and binary."""
    metadata = [("x-grpc-test-echo-initial", "test_initial_metadata_value"), ("x-grpc-test-bin", b"\x0a\xbb\x0a\xbb")]
    client.call(PREDICTION + "Predict", predict(), metadata=metadata)
    return "accepted"


def timeout_on_open_stream(client):
    """A stream ends by its deadline."""
    begun = time.monotonic()
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(client.watch("", timeout=0.3)))
    return f"after {time.monotonic() - begun:.2f} s of 0.3"


def cancel_after_first_response(client):
    """And the connection goes on."""
    stream = client.watch("")
    next(stream)
    stream.cancel()
    fails(grpc.StatusCode.CANCELLED, lambda: list(stream))
    client.call(PREDICTION + "Predict", predict())
    return "cancelled, the next call answered"


def concurrent_calls(client):
    """More than the streams of a connection."""
    calls = [client.channel.unary_unary(PREDICTION + "Predict").future(predict(), timeout=30) for _ in range(1_000)]
    answers = [call.result() for call in calls]
    return f"{len(answers)} at once on one connection"


def more_than_can_be_done(client):
    """All are answered or refused in a moment, and whoever is let in among the refused may send all of its message.

    The server must let in few calls of a client: no Python client asks for more than it can do.
    """
    request, calls = predict(rows=100), 3_200
    options = ("grpc.use_local_subchannel_pool", 1)
    clients = [Client(client.address, options) for _ in range(16)]
    begun = [c.channel.unary_unary(PREDICTION + "Predict").future(request, timeout=20) for c in clients * (calls // 16)]
    codes = [call.code() for call in begun]
    refused = [call for call, code in zip(begun, codes, strict=True) if code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    answered = codes.count(grpc.StatusCode.OK)
    assert answered + len(refused) == calls, f"{ {str(code): codes.count(code) for code in set(codes)} }"
    assert answered and refused, f"{answered} answered, {len(refused)} refused"
    for call in refused:
        assert "grpc-retry-pushback-ms" in dict(call.trailing_metadata())
    for again in clients:
        assert len(again.call(PREDICTION + "Predict", request)) > 100
    return f"{calls} calls of 100 rows on 16 connections: {answered} answered, {len(refused)} refused, told when to try"


def keepalive(client):
    """PINGs as a client may be configured to send them, are no flood."""
    stream = client.watch("")
    next(stream)
    time.sleep(6)
    client.call(PREDICTION + "Predict", predict())
    assert stream.is_active(), "the stream that was open has ended"
    stream.cancel()
    return "a PING a second for 6 s: the connection is the same"


def health(client):
    """Check and Watch."""
    for name in ("", "liveness", "readiness", "model/adult"):
        answer = client.call(HEALTH + "Check", field(1, name))
        assert answer == bytes([8, SERVING]), (name, answer)
    fails(grpc.StatusCode.NOT_FOUND, lambda: client.call(HEALTH + "Check", field(1, "nope")))
    for name, status in (("", SERVING), ("nope", SERVICE_UNKNOWN)):
        stream = client.watch(name, timeout=10)
        answer = next(stream)
        assert answer == bytes([8, status]), (name, answer)
        stream.cancel()
    return "Check SERVING and NOT_FOUND, Watch SERVING and SERVICE_UNKNOWN"


CHECKS = (
    empty_unary, large_unary, compressed_unary, status_code_and_message, special_status_message, unimplemented_method,
    unimplemented_service, custom_metadata, timeout_on_open_stream, cancel_after_first_response, concurrent_calls,
    health,
)  # fmt: skip


def main():
    """Runs all checks; the number of those that failed decides the exit code."""
    client = Client(sys.argv[1])
    pinging = Client(
        sys.argv[1],
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    )
    checks = [*((check, client) for check in CHECKS), (keepalive, pinging)]
    if sys.argv[2:] == ["overloaded"]:
        checks = [(more_than_can_be_done, client)]
    failed = 0
    for check, with_client in checks:
        name = "grpcio-" + check.__name__.replace("_", "-")
        try:
            print(f"ok {name}: {check(with_client)}", flush=True)
        except (AssertionError, grpc.RpcError, StopIteration) as error:
            text = f"{error.code()}: {error.details()}" if isinstance(error, grpc.RpcError) else repr(error)
            print(f"FAIL {name}: {text[:300]}", flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
