"""Calls the echo service with Python's grpcio, through whatever is given.

    client.py GROUP[=VALUE] NAME=HOST:PORT [NAME=HOST:PORT ...]

Prints a line a case and target, `CLIENT | TARGET | CASE | OUTCOME`, and exits
with 1 if any failed. The groups of cases are at the end of this file; `run.py`
knows which of them goes where. Most cases are those of gRPC's interop tests,
written anew for the echo service.
"""

import collections
import os
import queue
import sys
import threading
import time

import grpc

from echo import BACKEND, OPTIONS, PAYLOAD, RESPONSE_BYTES, RESPONSE_COUNT, SEQUENCE, SERVICE
from echo import decode, encode

# Far above what anything takes; a bound and no measure.
PATIENCE_S = 60
LARGE_BYTES = 4 << 20
# Sizes of requests and of responses, as gRPC's interop cases have them.
SIZES = [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]
# Targets on one machine must not share connections.
OPTIONS = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]


def request(sequence, payload=b"", response_bytes=None, response_count=0):
    wanted = len(payload) if response_bytes is None else response_bytes
    fields = {SEQUENCE: sequence, PAYLOAD: payload, RESPONSE_BYTES: wanted}
    return encode({**fields, RESPONSE_COUNT: response_count})


class Echo:
    """The four kinds of call, on bytes, over one channel. Retries are off, so that
    whatever fails is seen."""

    def __init__(self, address, retries=0):
        self.address = address
        options = [*OPTIONS, ("grpc.enable_retries", retries)]
        self.channel = grpc.insecure_channel(address, options=options)
        self.unary = self.channel.unary_unary(SERVICE + "Unary")
        self.server_stream = self.channel.unary_stream(SERVICE + "ServerStream")
        self.client_stream = self.channel.stream_unary(SERVICE + "ClientStream")
        self.bidi = self.channel.stream_stream(SERVICE + "Bidi")
        self.missing_method = self.channel.unary_unary(SERVICE + "Missing")
        self.missing_service = self.channel.unary_unary("/layerlab.Missing/Unary")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def check(data, sequence, payload):
    fields = decode(data)
    assert fields.get(SEQUENCE, 0) == sequence, (fields.get(SEQUENCE), sequence)
    assert fields.get(PAYLOAD, b"") == payload, "the payload changed on its way"
    assert fields[BACKEND] == b"interop", fields[BACKEND]


def expect(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError(f"{code} was expected, and the call went well")


def held(first):
    """Requests that never end: the first ones, and a function that lets go."""
    release = threading.Event()

    def requests():
        yield from first
        release.wait(PATIENCE_S)

    return requests(), release.set


def pairs(metadata, name):
    return [value for key, value in metadata if key == name]


def empty_unary(echo):
    check(echo.unary(b"", timeout=PATIENCE_S), 0, b"")


def large_unary(echo):
    data = echo.unary(request(1, bytes(271828), 314159), timeout=PATIENCE_S)
    check(data, 1, bytes(314159))


def many_in_turn(echo):
    for sequence in range(50):
        check(echo.unary(request(sequence, b"hello"), timeout=PATIENCE_S), sequence, b"hello")


def many_at_once(echo):
    calls = [echo.unary.future(request(n, b"x" * n), timeout=PATIENCE_S) for n in range(300)]
    for sequence, call in enumerate(calls):
        check(call.result(), sequence, b"x" * sequence)


def many_channels(echo):
    for sequence in range(20):
        with Echo(echo.address) as another:
            check(another.unary(request(sequence, b"a"), timeout=PATIENCE_S), sequence, b"a")


def client_streaming(echo):
    requests = (request(size, bytes(size)) for size, _ in SIZES)
    check(echo.client_stream(requests, timeout=PATIENCE_S), SIZES[-1][0], bytes(SIZES[-1][0]))


def server_streaming(echo):
    for sequence, (_, size) in enumerate(SIZES):
        data = list(echo.server_stream(request(sequence, b"", size, 25), timeout=PATIENCE_S))
        assert len(data) == 25, len(data)
        for one in data:
            check(one, sequence, bytes(size))


def ping_pong(echo):
    """Each response is awaited before the next request is made."""
    requests = queue.Queue()
    responses = echo.bidi(iter(requests.get, None), timeout=PATIENCE_S)
    for sequence, (sent, wanted) in enumerate(SIZES * 25):
        requests.put(request(sequence, bytes(sent), wanted))
        check(next(responses), sequence, bytes(wanted))
    requests.put(None)
    assert next(responses, None) is None
    assert responses.code() == grpc.StatusCode.OK


def empty_stream(echo):
    responses = echo.bidi(iter([]), timeout=PATIENCE_S)
    assert list(responses) == [] and responses.code() == grpc.StatusCode.OK


def large_messages(echo):
    payload = bytes(range(256)) * (LARGE_BYTES // 256)
    check(echo.unary(request(1, payload), timeout=PATIENCE_S), 1, payload)
    requests = iter([request(n, payload) for n in range(3)])
    for sequence, data in enumerate(echo.bidi(requests, timeout=PATIENCE_S)):
        check(data, sequence, payload)


def metadata_is_taken(echo):
    sent = [("x-text", "plain"), ("x-twice", "1"), ("x-twice", "2"), ("x-data-bin", bytes(range(256)))]
    check(echo.unary(request(1, b"m"), metadata=sent, timeout=PATIENCE_S), 1, b"m")


def invalid_argument(echo):
    too_large = request(1, response_bytes=1 << 30)
    call = lambda: echo.unary(too_large, timeout=PATIENCE_S)
    error = expect(grpc.StatusCode.INVALID_ARGUMENT, call)
    assert "response_bytes" in error.details(), error.details()


def unimplemented_method(echo):
    call = lambda: echo.missing_method(b"", timeout=PATIENCE_S)
    expect(grpc.StatusCode.UNIMPLEMENTED, call)


def unimplemented_service(echo):
    call = lambda: echo.missing_service(b"", timeout=PATIENCE_S)
    expect(grpc.StatusCode.UNIMPLEMENTED, call)


def cancel_after_begin(echo):
    requests, release = held([])
    call = echo.client_stream.future(requests, timeout=PATIENCE_S)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED, call.code()
    release()
    empty_unary(echo)


def cancel_after_first_response(echo):
    requests, release = held([request(1, b"one")])
    responses = echo.bidi(requests, timeout=PATIENCE_S)
    check(next(responses), 1, b"one")
    responses.cancel()
    expect(grpc.StatusCode.CANCELLED, lambda: next(responses))
    release()
    # The connection is none the worse.
    empty_unary(echo)


def timeout_on_open_stream(echo):
    requests, release = held([request(1, b"one")])
    responses = echo.bidi(requests, timeout=0.5)
    check(next(responses), 1, b"one")
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(responses))
    release()


def timeout_on_sleeping_server(echo):
    call = lambda: echo.unary(request(1), metadata=[("x-delay-ms", "20000")], timeout=0.1)
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, call)
    empty_unary(echo)


def custom_metadata(echo):
    """Values come back whole and in order, of both kinds of call."""
    initial = [("x-initial", "first, of two"), ("x-initial", "second")]
    trailing = [("x-trailing-bin", bytes(range(256))), ("x-trailing-bin", b"\xab\xab\xab"), ("x-trailing-bin", b"")]
    _, unary = echo.unary.with_call(request(1), metadata=initial + trailing, timeout=PATIENCE_S)
    bidi = echo.bidi(iter([request(1)]), metadata=initial + trailing, timeout=PATIENCE_S)
    assert len(list(bidi)) == 1
    for call in (unary, bidi):
        # Repeated values may come as one, joined by commas.
        values = ", ".join(pairs(call.initial_metadata(), "x-initial"))
        assert values.replace(",second", ", second") == "first, of two, second", values
        back = pairs(call.trailing_metadata(), "x-trailing-bin")
        assert back == [value for _, value in trailing], back


def status_code_and_message(echo):
    """Every code passes as it is, of unary calls and of streams that ended."""
    for code in list(grpc.StatusCode)[1:]:
        message = f"test status message {code.name}"
        metadata = [("x-status", str(code.value[0])), ("x-message-bin", message.encode())]
        for call in (
            lambda: echo.unary(request(1), metadata=metadata, timeout=PATIENCE_S),
            lambda: list(echo.bidi(iter([request(1)]), metadata=metadata, timeout=PATIENCE_S)),
        ):
            error = expect(code, call)
            assert error.details() == message, error.details()


def special_status_message(echo):
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈 and 100 %\t\n"
    metadata = [("x-status", "2"), ("x-message-bin", message.encode())]
    call = lambda: echo.unary(request(1), metadata=metadata, timeout=PATIENCE_S)
    error = expect(grpc.StatusCode.UNKNOWN, call)
    assert error.details() == message, repr(error.details())


def status_after_responses(echo):
    metadata = [("x-status", "9"), ("x-message-bin", b"too late"), ("x-trailing-bin", b"\0why")]
    responses = echo.server_stream(request(1, b"r", None, 5), metadata=metadata, timeout=PATIENCE_S)
    for _ in range(5):
        check(next(responses), 1, b"r")
    error = expect(grpc.StatusCode.FAILED_PRECONDITION, lambda: next(responses))
    assert error.details() == "too late", error.details()
    assert pairs(responses.trailing_metadata(), "x-trailing-bin") == [b"\0why"]


def deadline_is_passed_on(echo):
    _, call = echo.unary.with_call(request(1), timeout=PATIENCE_S)
    (remaining_ms,) = pairs(call.trailing_metadata(), "x-remaining-ms")
    # grpc-core rounds it up.
    assert 0 < int(remaining_ms) <= PATIENCE_S * 1010, remaining_ms
    _, call = echo.unary.with_call(request(1))
    assert pairs(call.trailing_metadata(), "x-remaining-ms") == []


def compressed_messages(echo):
    requests = iter([request(n, bytes(100_000)) for n in range(3)])
    responses = echo.bidi(requests, compression=grpc.Compression.Gzip, timeout=PATIENCE_S)
    for sequence, data in enumerate(responses):
        check(data, sequence, bytes(100_000))
    assert responses.code() == grpc.StatusCode.OK


def burst(count):
    """All at once on one channel, at a backend that takes 0.2 s for each."""

    def case(echo):
        empty_unary(echo)
        metadata = [("x-delay-ms", "200")]
        calls = [
            echo.unary.future(request(n, b"x"), metadata=metadata, timeout=PATIENCE_S)
            for n in range(count)
        ]
        summarise(call.exception() for call in calls)

    case.__name__ = f"burst_{count}"
    return case


def summarise(errors):
    """Fails unless there was at least one outcome and each of them is None."""
    outcomes = collections.Counter(
        error and f"{error.code().name} {error.details()[:150]}" for error in errors
    )
    calls, failed = outcomes.total(), outcomes.total() - outcomes.pop(None, 0)
    assert calls and not failed, f"{failed} of {calls} calls: {dict(outcomes.most_common(3))}"


def quiet_stream(echo):
    """A message, silence for so many seconds, another message."""
    silence = [("x-delay-ms", str(int(float(value) * 1000)))]
    assert len(list(echo.server_stream(request(1, b"", None, 2), metadata=silence))) == 2


def after_silence(echo):
    """The first connections after so many seconds without one."""
    time.sleep(float(value))
    for _ in range(4):
        with Echo(echo.address) as another:
            empty_unary(another)


def connections(echo):
    """So many connections at once, with a call each. A server that says GOAWAY at
    once sends their calls elsewhere, which takes retries to be on: with them come
    those of calls that no server has looked at, and no others are asked for."""
    channels = [Echo(echo.address, retries=1) for _ in range(int(value))]
    calls = [one.unary.future(request(1, b"x"), timeout=PATIENCE_S) for one in channels]
    print("under way", flush=True)
    summarise(call.exception() for call in calls)
    for one in channels:
        one.channel.close()


def load(*workers):
    """Calls until the file `value` is there, by so many workers of each kind.
    Says `under way` once each of them has made a call."""

    def case(echo):
        errors, ready, unexpected = [], threading.Barrier(len(workers) + 1), []

        def work(worker):
            is_first = True
            while is_first or not os.path.exists(value):
                try:
                    worker(echo)
                    errors.append(None)
                except grpc.RpcError as error:
                    errors.append(error)
                except Exception as error:
                    unexpected.append(error)
                if is_first:
                    ready.wait()
                    is_first = False

        threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        ready.wait()
        print("under way", flush=True)
        for thread in threads:
            thread.join()
        assert not unexpected, unexpected[0]
        summarise(errors)

    return case


def short_call(echo):
    echo.unary(request(1, b"x"), metadata=[("x-delay-ms", "50")], timeout=PATIENCE_S)


def short_stream(echo):
    call = echo.server_stream(request(1, b"x", None, 10), metadata=[("x-delay-ms", "50")], timeout=PATIENCE_S)
    assert len(list(call)) == 10, "messages were lost"


def call_of_its_own_connection(echo):
    # A drain may meet it before its call: see `connections`.
    with Echo(echo.address, retries=1) as another:
        short_call(another)


# What any backend can serve.
EVERYWHERE = [
    empty_unary,
    large_unary,
    many_in_turn,
    many_at_once,
    many_channels,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    large_messages,
    metadata_is_taken,
    invalid_argument,
    unimplemented_method,
    unimplemented_service,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_open_stream,
]
# What takes a backend that goes by metadata, as `server.py` does.
BY_METADATA = [
    timeout_on_sleeping_server,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    status_after_responses,
    deadline_is_passed_on,
    compressed_messages,
]
SHARED, OWN = [short_call] * 16 + [short_stream] * 4, [call_of_its_own_connection] * 4
GROUPS = {
    "everywhere": {case.__name__: case for case in EVERYWHERE},
    "by_metadata": {case.__name__: case for case in BY_METADATA},
    "bursts": {f"burst_{count}": burst(count) for count in (550, 1000)},
    "quiet_stream": {"quiet_stream": quiet_stream},
    "after_silence": {"after_silence": after_silence},
    "accept_queue": {"accept_queue": connections},
    "drain": {"drain": load(*SHARED, *OWN)},
    "drain_own_connections": {"drain_own_connections": load(*OWN)},
    "backends_restart": {"backends_restart": load(*SHARED, *OWN)},
}


def main(cases, targets):
    failed = 0
    for target in targets:
        name, address = target.split("=", 1)
        for label, case in cases.items():
            try:
                with Echo(address) as echo:
                    case(echo)
                outcome = "ok"
            except Exception as error:  # every kind of failure is a line
                failed += 1
                outcome = f"FAILED: {type(error).__name__}: {error}".replace("\n", " ")
            print(f"grpcio | {name} | {label} | {outcome}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1].split("=")[0] not in GROUPS:
        sys.exit(f"{__doc__}\nGroups: {', '.join(GROUPS)}")
    group, _, value = sys.argv[1].partition("=")
    sys.exit(main(GROUPS[group], sys.argv[2:]))
