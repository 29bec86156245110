"""The echo service's messages, by hand: what `client.py` and `server.py` share.

No generated code and no protoc, which also keeps the clients independent of the
code under test. A message is a dictionary from the numbers of `proto/echo.proto`
to integers and bytes; a field that is left out is zero or empty.
"""

SERVICE = "/layerlab.echo.v1.Echo/"
SEQUENCE, PAYLOAD, RESPONSE_BYTES, RESPONSE_COUNT = 1, 2, 3, 4  # of a request
BACKEND = 3  # of a response, whose first two are as a request's
MAX_MESSAGE_BYTES = 16 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]


def varint(value):
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def encode(fields):
    out = []
    for number, value in fields.items():
        if isinstance(value, int):
            out += [varint(number << 3), varint(value)]
        else:
            out += [varint(number << 3 | 2), varint(len(value)), value]
    return b"".join(out)


def decode(data):
    fields = {}
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
