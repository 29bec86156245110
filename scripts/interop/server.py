"""The echo service on Python's grpcio: server.py [HOST:PORT [OPTION=NUMBER ...]]

Metadata of a call ask for what the echo backend can't do:

    x-delay-ms     wait before each response, but not before a stream's first
    x-status       end with this code, after the responses of a stream
    x-message-bin  ... and with this message
    x-initial      comes back, each value, in the initial metadata
    x-trailing-bin comes back, each value, in the trailing metadata

and each call's trailing metadata has x-remaining-ms: the time that was left of
its deadline, if it has one. Prints `listening on ADDR`; SIGTERM drains.
"""

import asyncio
import signal
import sys

import grpc

import echo

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Call:
    """One call, and what its metadata ask for."""

    def __init__(self, context):
        self.context = context
        self.metadata = list(context.invocation_metadata())
        self.delay_s = int(self.asked("x-delay-ms", 0)) / 1000
        self.code = int(self.asked("x-status", 0))
        self.trailing = self.all("x-trailing-bin")
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            self.trailing += (("x-remaining-ms", str(int(remaining_s * 1000))),)

    def all(self, name):
        return tuple((key, value) for key, value in self.metadata if key == name)

    def asked(self, name, otherwise):
        return next((value for _, value in self.all(name)), otherwise)

    async def begin(self):
        self.context.set_trailing_metadata(self.trailing)
        if initial := self.all("x-initial"):
            await self.context.send_initial_metadata(initial)
        return self

    async def answer(self, data, wait=True):
        if wait:
            await asyncio.sleep(self.delay_s)
        request = echo.decode(data)
        payload, wanted = request.get(echo.PAYLOAD, b""), request.get(echo.RESPONSE_BYTES, 0)
        if wanted > echo.MAX_MESSAGE_BYTES - 1024:
            message = f"response_bytes is {wanted}, which is too many"
            await self.context.abort(grpc.StatusCode.INVALID_ARGUMENT, message, self.trailing)
        payload = (payload or b"\0") * (wanted // max(1, len(payload)) + 1)
        return echo.encode(
            {
                echo.SEQUENCE: request.get(echo.SEQUENCE, 0),
                echo.PAYLOAD: payload[:wanted],
                echo.BACKEND: b"interop",
            }
        )

    async def end(self):
        if self.code:
            message = bytes(self.asked("x-message-bin", b"")).decode()
            await self.context.abort(CODES[self.code], message, self.trailing)


async def unary(request, context):
    call = await Call(context).begin()
    response = await call.answer(request)
    await call.end()
    return response


async def server_stream(request, context):
    call = await Call(context).begin()
    for nth in range(max(1, echo.decode(request).get(echo.RESPONSE_COUNT, 0))):
        yield await call.answer(request, wait=nth > 0)
    await call.end()


async def client_stream(requests, context):
    call = await Call(context).begin()
    last = b""
    async for last in requests:
        pass
    response = await call.answer(last)
    await call.end()
    return response


async def bidi(requests, context):
    call = await Call(context).begin()
    async for request in requests:
        yield await call.answer(request)
    await call.end()


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
}


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method.removeprefix(echo.SERVICE))


async def main(address="127.0.0.1:0", *more):
    options = [(name, int(value)) for name, value in (option.split("=") for option in more)]
    server = grpc.aio.server(options=[*echo.OPTIONS, ("grpc.so_reuseport", 0), *options])
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port(address)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print(f"listening on {address.rsplit(':', 1)[0]}:{port}", flush=True)
    await ended.wait()
    await server.stop(grace=10)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
