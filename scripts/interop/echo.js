// The echo service's messages, by hand: what `client.js` and `server.js` share.
//
// No generated code, which also keeps the clients independent of the code under
// test. A message is an object from the numbers of `proto/echo.proto` to integers
// and buffers; a field that is left out is zero or empty.
"use strict";

const assert = require("node:assert");

const MAX_MESSAGE_BYTES = 16 << 20;
const OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
};
// Of a request; a response's first two are the same, and its third is BACKEND.
const [SEQUENCE, PAYLOAD, RESPONSE_BYTES, RESPONSE_COUNT] = [1, 2, 3, 4];
const BACKEND = 3;

function varint(value) {
  const out = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  out.push(value);
  return Buffer.from(out);
}

function encode(fields) {
  return Buffer.concat(Object.entries(fields).flatMap(([number, value]) =>
    typeof value === "number"
      ? [varint(number << 3), varint(value)]
      : [varint((number << 3) | 2), varint(value.length), value]));
}

function decode(data) {
  const fields = {};
  let at = 0;
  const integer = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = data[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < data.length) {
    const key = integer();
    if ((key & 7) === 0) {
      fields[key >> 3] = integer();
    } else {
      assert.strictEqual(key & 7, 2);
      const length = integer();
      fields[key >> 3] = data.subarray(at, at + length);
      at += length;
    }
  }
  return fields;
}

const bytes = (value) => value;
const method = (path, requestStream, responseStream) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
const SERVICE = {
  unary: method("/layerlab.echo.v1.Echo/Unary", false, false),
  serverStream: method("/layerlab.echo.v1.Echo/ServerStream", false, true),
  clientStream: method("/layerlab.echo.v1.Echo/ClientStream", true, false),
  bidi: method("/layerlab.echo.v1.Echo/Bidi", true, true),
};

module.exports = {
  BACKEND, MAX_MESSAGE_BYTES, OPTIONS, PAYLOAD, RESPONSE_BYTES, RESPONSE_COUNT, SEQUENCE, SERVICE,
  decode, encode, method,
};
