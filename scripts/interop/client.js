// Calls the echo service with JavaScript's grpc-js, through whatever is given.
//
//     client.js NAME=HOST:PORT [NAME=HOST:PORT ...]
//
// No generated code: the two messages of `proto/echo.proto` are encoded by
// hand, which also keeps this independent of the code under test. Prints a line
// a case and target, and exits with 1 if any failed.
"use strict";

const assert = require("node:assert");
const grpc = require("@grpc/grpc-js");
const { version } = require("@grpc/grpc-js/package.json");

const SERVICE = "/layerlab.echo.v1.Echo/";
// Far above what anything takes; a bound and no measure.
const PATIENCE_MS = 60_000;
const LARGE_BYTES = 4 << 20;
const OPTIONS = {
  "grpc.max_receive_message_length": 16 << 20,
  "grpc.max_send_message_length": 16 << 20,
  "grpc.use_local_subchannel_pool": 1,
};

function varint(value) {
  const out = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  out.push(value);
  return Buffer.from(out);
}

// An encoded EchoRequest.
function request(sequence, payload = Buffer.alloc(0), more = {}) {
  const { responseBytes = payload.length, responseCount = 0 } = more;
  return Buffer.concat([
    varint(1 << 3), varint(sequence),
    varint(3 << 3), varint(responseBytes),
    varint(4 << 3), varint(responseCount),
    varint((2 << 3) | 2), varint(payload.length), payload,
  ]);
}

// The fields of an encoded EchoResponse, by number.
function response(data) {
  const fields = { 1: 0, 2: Buffer.alloc(0), 3: Buffer.alloc(0) };
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

function check(data, sequence, payload) {
  const fields = response(data);
  assert.strictEqual(fields[1], sequence);
  assert.ok(fields[2].equals(payload), "the payload changed on its way");
  assert.strictEqual(fields[3].toString(), "interop");
}

const bytes = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: SERVICE + name,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
const Client = grpc.makeGenericClientConstructor({
  unary: method("Unary", false, false),
  serverStream: method("ServerStream", false, true),
  clientStream: method("ClientStream", true, false),
  bidi: method("Bidi", true, true),
  missing: method("Missing", false, false),
}, "Echo");

const patient = () => ({ deadline: Date.now() + PATIENCE_MS });
const call = (client, name, message, metadata = new grpc.Metadata()) =>
  new Promise((resolve, reject) =>
    client[name](message, metadata, patient(), (error, data) => (error ? reject(error) : resolve(data))));
const next = (stream) =>
  new Promise((resolve, reject) => {
    const fail = (error) => reject(error);
    stream.once("error", fail);
    stream.once("data", (data) => {
      stream.pause();
      stream.off("error", fail);
      resolve(data);
    });
    stream.resume();
  });
const ended = (stream) =>
  new Promise((resolve) => {
    stream.on("error", () => {});
    stream.once("status", resolve);
    stream.resume();
  });
const rejected = async (code, promise) => {
  const error = await promise.then(() => assert.fail(`code ${code} was expected`), (error) => error);
  assert.strictEqual(error.code, code, String(error));
  return error;
};

const CASES = {
  async unary(client) {
    const hello = Buffer.from("hello");
    for (let n = 0; n < 50; n++) check(await call(client, "unary", request(n, hello)), n, hello);
  },
  async many_at_once(client) {
    await Promise.all(Array.from({ length: 300 }, async (_, n) =>
      check(await call(client, "unary", request(n, Buffer.alloc(n, 1))), n, Buffer.alloc(n, 1))));
  },
  async server_stream(client) {
    const stream = client.serverStream(
      request(7, Buffer.from("abc"), { responseCount: 100 }), new grpc.Metadata(), patient());
    let count = 0;
    stream.on("data", (data) => { check(data, 7, Buffer.from("abc")); count++; });
    assert.strictEqual((await ended(stream)).code, grpc.status.OK);
    assert.strictEqual(count, 100);
  },
  async client_stream(client) {
    const data = await new Promise((resolve, reject) => {
      const stream = client.clientStream(new grpc.Metadata(), patient(),
        (error, data) => (error ? reject(error) : resolve(data)));
      for (let n = 0; n < 100; n++) stream.write(request(n, Buffer.from("abc")));
      stream.end();
    });
    check(data, 99, Buffer.from("abc"));
  },
  // Each response is awaited before the next request is made.
  async bidi(client) {
    const stream = client.bidi(new grpc.Metadata(), patient());
    for (let n = 0; n < 100; n++) {
      stream.write(request(n, Buffer.from("ping")));
      check(await next(stream), n, Buffer.from("ping"));
    }
    const status = ended(stream);
    stream.end();
    assert.strictEqual((await status).code, grpc.status.OK);
  },
  async metadata(client) {
    const metadata = new grpc.Metadata();
    metadata.set("x-text", "plain");
    metadata.add("x-twice", "1");
    metadata.add("x-twice", "2");
    metadata.set("x-data-bin", Buffer.from(Array.from({ length: 256 }, (_, n) => n)));
    check(await call(client, "unary", request(1, Buffer.from("m")), metadata), 1, Buffer.from("m"));
  },
  async large_messages(client) {
    const payload = Buffer.alloc(LARGE_BYTES, "0123456789abcde");
    check(await call(client, "unary", request(1, payload)), 1, payload);
    const stream = client.bidi(new grpc.Metadata(), patient());
    for (let n = 0; n < 3; n++) {
      stream.write(request(n, payload));
      check(await next(stream), n, payload);
    }
    const status = ended(stream);
    stream.end();
    assert.strictEqual((await status).code, grpc.status.OK);
  },
  async errors(client) {
    const tooLarge = request(1, undefined, { responseBytes: 2 ** 30 });
    const error = await rejected(grpc.status.INVALID_ARGUMENT, call(client, "unary", tooLarge));
    assert.match(error.details, /response_bytes/);
    await rejected(grpc.status.UNIMPLEMENTED, call(client, "missing", Buffer.alloc(0)));
  },
  async deadline(client) {
    const stream = client.bidi(new grpc.Metadata(), { deadline: Date.now() + 300 });
    stream.write(request(1, Buffer.from("one")));
    check(await next(stream), 1, Buffer.from("one"));
    assert.strictEqual((await ended(stream)).code, grpc.status.DEADLINE_EXCEEDED);
  },
  async cancellation(client) {
    const stream = client.bidi(new grpc.Metadata(), patient());
    stream.write(request(1, Buffer.from("one")));
    check(await next(stream), 1, Buffer.from("one"));
    const status = ended(stream);
    stream.cancel();
    assert.strictEqual((await status).code, grpc.status.CANCELLED);
    // The connection is none the worse.
    check(await call(client, "unary", request(2, Buffer.from("two"))), 2, Buffer.from("two"));
  },
};

async function main(targets) {
  let failed = 0;
  for (const target of targets) {
    const [name, address] = target.split("=");
    const client = new Client(address, grpc.credentials.createInsecure(), OPTIONS);
    for (const [label, run] of Object.entries(CASES)) {
      let outcome = "ok";
      try {
        await run(client);
      } catch (error) {
        failed++;
        outcome = `FAILED: ${error}`;
      }
      console.log(`grpc-js ${version}  ${name.padEnd(10)}  ${label.padEnd(15)}  ${outcome}`);
    }
    client.close();
  }
  return failed ? 1 : 0;
}

main(process.argv.slice(2)).then((code) => process.exit(code));
