"""Calls the echo service with Python's grpcio, through whatever is given.

    client.py NAME=HOST:PORT [NAME=HOST:PORT ...]

No generated code and no protoc: the two messages of `proto/echo.proto` are
encoded by hand, which also keeps this independent of the code under test.
Prints a line a case and target, and exits with 1 if any failed.
"""

import queue
import sys
import threading

import grpc

SERVICE = "/layerlab.echo.v1.Echo/"
# Far above what anything takes; a bound and no measure.
PATIENCE_S = 60
LARGE_BYTES = 4 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # Targets on one machine must not share connections.
    ("grpc.use_local_subchannel_pool", 1),
]


def varint(value):
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def request(sequence, payload=b"", response_bytes=None, response_count=0):
    """An encoded EchoRequest."""
    wanted = len(payload) if response_bytes is None else response_bytes
    fields = [(1, 0, varint(sequence)), (3, 0, varint(wanted)), (4, 0, varint(response_count))]
    out = b"".join(varint(number << 3 | kind) + value for number, kind, value in fields)
    return out + varint(2 << 3 | 2) + varint(len(payload)) + payload


def response(data):
    """The fields of an encoded EchoResponse, by number."""
    fields = {1: 0, 2: b"", 3: b"", 4: 0, 5: 0}
    at = 0

    def integer():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        key = integer()
        if key & 7 == 0:
            fields[key >> 3] = integer()
        elif key & 7 == 2:
            length = integer()
            fields[key >> 3] = data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {key & 7}")
    return fields


class Echo:
    """The four calls, on bytes."""

    def __init__(self, channel):
        self.unary = channel.unary_unary(SERVICE + "Unary")
        self.server_stream = channel.unary_stream(SERVICE + "ServerStream")
        self.client_stream = channel.stream_unary(SERVICE + "ClientStream")
        self.bidi = channel.stream_stream(SERVICE + "Bidi")
        self.missing = channel.unary_unary(SERVICE + "Missing")


def check(data, sequence, payload):
    fields = response(data)
    assert fields[1] == sequence, (fields[1], sequence)
    assert fields[2] == payload, "the payload changed on its way"
    assert fields[3] == b"interop", fields[3]


def unary(echo):
    for sequence in range(50):
        check(echo.unary(request(sequence, b"hello"), timeout=PATIENCE_S), sequence, b"hello")


def many_at_once(echo):
    calls = [echo.unary.future(request(n, b"x" * n), timeout=PATIENCE_S) for n in range(300)]
    for sequence, call in enumerate(calls):
        check(call.result(), sequence, b"x" * sequence)


def server_stream(echo):
    count = 0
    for data in echo.server_stream(request(7, b"abc", response_count=100), timeout=PATIENCE_S):
        check(data, 7, b"abc")
        count += 1
    assert count == 100, count


def client_stream(echo):
    requests = (request(sequence, b"abc") for sequence in range(100))
    check(echo.client_stream(requests, timeout=PATIENCE_S), 99, b"abc")


def bidi(echo):
    """Each response is awaited before the next request is made."""
    requests = queue.Queue()
    responses = echo.bidi(iter(requests.get, None), timeout=PATIENCE_S)
    for sequence in range(100):
        requests.put(request(sequence, b"ping"))
        check(next(responses), sequence, b"ping")
    requests.put(None)
    assert next(responses, None) is None
    assert responses.code() == grpc.StatusCode.OK


def metadata(echo):
    """The backend takes it; that it arrives byte for byte is tested elsewhere."""
    sent = [("x-text", "plain"), ("x-twice", "1"), ("x-twice", "2"), ("x-data-bin", bytes(range(256)))]
    data, call = echo.unary.with_call(request(1, b"m"), metadata=sent, timeout=PATIENCE_S)
    check(data, 1, b"m")
    assert call.code() == grpc.StatusCode.OK
    call.initial_metadata(), call.trailing_metadata()


def large_messages(echo):
    payload = bytes(range(256)) * (LARGE_BYTES // 256)
    check(echo.unary(request(1, payload), timeout=PATIENCE_S), 1, payload)
    for data in echo.bidi(iter([request(n, payload) for n in range(3)]), timeout=PATIENCE_S):
        assert response(data)[2] == payload


def expect(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError(f"{code} was expected, and the call went well")


def errors(echo):
    error = expect(
        grpc.StatusCode.INVALID_ARGUMENT,
        lambda: echo.unary(request(1, response_bytes=1 << 30), timeout=PATIENCE_S),
    )
    assert "response_bytes" in error.details(), error.details()
    expect(grpc.StatusCode.UNIMPLEMENTED, lambda: echo.missing(b"", timeout=PATIENCE_S))


def deadline(echo):
    """A stream that nobody ends."""
    hold = threading.Event()

    def requests():
        yield request(1, b"one")
        hold.wait(PATIENCE_S)

    responses = echo.bidi(requests(), timeout=0.3)
    check(next(responses), 1, b"one")
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(responses))
    hold.set()


def cancellation(echo):
    hold = threading.Event()

    def requests():
        yield request(1, b"one")
        hold.wait(PATIENCE_S)

    responses = echo.bidi(requests(), timeout=PATIENCE_S)
    check(next(responses), 1, b"one")
    responses.cancel()
    expect(grpc.StatusCode.CANCELLED, lambda: next(responses))
    hold.set()
    # The connection is none the worse.
    check(echo.unary(request(2, b"two"), timeout=PATIENCE_S), 2, b"two")


CASES = [
    unary,
    many_at_once,
    server_stream,
    client_stream,
    bidi,
    metadata,
    large_messages,
    errors,
    deadline,
    cancellation,
]


def main(targets):
    if not targets:
        sys.exit(__doc__)
    failed = 0
    for target in targets:
        name, address = target.split("=", 1)
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            for case in CASES:
                try:
                    case(Echo(channel))
                    outcome = "ok"
                except Exception as error:  # every kind of failure is a line
                    failed += 1
                    outcome = f"FAILED: {type(error).__name__}: {error}"
                print(f"grpcio {grpc.__version__}  {name:10}  {case.__name__:15}  {outcome}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
