"""The calls of a scenario by grpcio. What it reads and writes is in ../README.md."""

import asyncio
import json
import sys

import grpc

METHOD = "/layerlab.echo.v1.Echo/Unary"
MAX_MESSAGE_BYTES = 16 << 20
READY_TIMEOUT_S = 20
WRONG_ANSWER = -1


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def request(sequence, request_bytes, response_bytes):
    """An EchoRequest of proto/echo.proto: sequence, payload, response_bytes."""
    payload = b"\x12" + varint(request_bytes) + bytes(request_bytes)
    return b"\x08" + varint(sequence) + payload + b"\x18" + varint(response_bytes)


def fields(message):
    """The fields of a message by their numbers: integers and bytes."""
    found, at = {}, 0

    def integer():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = integer()
        value = integer()
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        found[key >> 3] = value
    return found


def options(policy, settings):
    config = {"loadBalancingConfig": [{policy: {}}]}
    if settings["max_connections"] > 1:
        # gRFC A105.
        most = settings["max_connections"]
        config["connectionScaling"] = {"maxConnectionsPerSubchannel": most}
    keepalive = []
    if settings["keepalive_time_ms"] is not None:
        # gRFC A8.
        keepalive = [
            ("grpc.keepalive_time_ms", settings["keepalive_time_ms"]),
            ("grpc.keepalive_timeout_ms", settings["keepalive_timeout_ms"]),
        ]
    return keepalive + [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.dns_min_time_between_resolutions_ms", settings["resolve_interval_ms"]),
        ("grpc.initial_reconnect_backoff_ms", settings["initial_backoff_ms"]),
        # Channels to the same addresses would otherwise share connections.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]


class Client:
    """A client with its channels, which it uses in turn."""

    def __init__(self, described, settings):
        chosen = options(described["policy"], settings)
        self.channels = [
            grpc.aio.insecure_channel(described["target"], chosen)
            for _ in range(settings["channels"])
        ]
        self.calls = [channel.unary_unary(METHOD) for channel in self.channels]
        self.turn = 0

    async def connected(self):
        for channel in self.channels:
            await asyncio.wait_for(channel.channel_ready(), READY_TIMEOUT_S)

    def next_call(self):
        call = self.calls[self.turn]
        self.turn = (self.turn + 1) % len(self.calls)
        return call


async def make(client, number, slot, sequence, request_bytes, response_bytes):
    backend, queued_ns, service_ns = "-", 0, 0
    try:
        answer = fields(await client.next_call()(request(sequence, request_bytes, response_bytes)))
        is_right = answer.get(1, 0) == sequence and len(answer.get(2, b"")) == response_bytes
        status = 0 if is_right else WRONG_ANSWER
        backend = answer.get(3, b"-").decode()
        queued_ns, service_ns = answer.get(4, 0), answer.get(5, 0)
    except grpc.aio.AioRpcError as error:
        status = error.code().value[0]
    sys.stdout.write(f"done {number} {slot} {status} {backend} {queued_ns} {service_ns}\n")
    sys.stdout.flush()


async def main():
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    hello = json.loads(await lines.readline())
    clients = [Client(described, hello["settings"]) for described in hello["clients"]]
    for client in clients:
        await client.connected()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    under_way = set()
    while line := await lines.readline():
        number, slot, *sizes = map(int, line.split()[1:])
        task = asyncio.create_task(make(clients[number], number, slot, *sizes))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


asyncio.run(main())
