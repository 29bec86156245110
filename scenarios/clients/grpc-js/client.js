// The calls of a scenario by grpc-js. What it reads and writes is in ../README.md.
"use strict";

const path = require("node:path");
const readline = require("node:readline");

// Where scripts/install-clients.sh puts it, or anywhere Node.js looks by itself.
const installed = path.join(__dirname, "../../../peers/grpc-js/node_modules");
const places = { paths: [installed, __dirname, ...module.paths, ...nodePath()] };
// The lookup of the system, which it uses otherwise, knows no name server of the lab's.
process.env.GRPC_NODE_USE_ALTERNATIVE_RESOLVER = "true";
const grpc = require(require.resolve("@grpc/grpc-js", places));

const METHOD = "/layerlab.echo.v1.Echo/Unary";
const MAX_MESSAGE_BYTES = 16 << 20;
const READY_TIMEOUT_MS = 20000;
const WRONG_ANSWER = -1;

function nodePath() {
  return (process.env.NODE_PATH || "").split(path.delimiter).filter(Boolean);
}

function varint(value) {
  const out = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  out.push(value);
  return Buffer.from(out);
}

// An EchoRequest of proto/echo.proto: sequence, payload, response_bytes.
function request(sequence, requestBytes, responseBytes) {
  return Buffer.concat([
    Buffer.from([0x08]), varint(sequence),
    Buffer.from([0x12]), varint(requestBytes), Buffer.alloc(requestBytes),
    Buffer.from([0x18]), varint(responseBytes),
  ]);
}

// The fields of a message by their numbers: integers and buffers.
function fields(message) {
  const found = {};
  let at = 0;
  const integer = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const key = integer();
    let value = integer();
    if ((key & 7) === 2) {
      value = message.subarray(at, at + value);
      at += value.length;
    }
    found[key >> 3] = value;
  }
  return found;
}

function options(policy, settings) {
  // gRFC A8.
  const keepalive = settings.keepalive_time_ms === null ? {} : {
    "grpc.keepalive_time_ms": settings.keepalive_time_ms,
    "grpc.keepalive_timeout_ms": settings.keepalive_timeout_ms,
  };
  return {
    ...keepalive,
    "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ [policy]: {} }] }),
    "grpc.service_config_disable_resolution": 1,
    "grpc.dns_min_time_between_resolutions_ms": settings.resolve_interval_ms,
    "grpc.initial_reconnect_backoff_ms": settings.initial_backoff_ms,
    // Channels to the same addresses would otherwise share connections.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  };
}

// A client with its channels, which it uses in turn.
class Client {
  constructor({ target, policy }, settings) {
    const chosen = options(policy, settings);
    const channel = () => new grpc.Client(target, grpc.credentials.createInsecure(), chosen);
    this.channels = Array.from({ length: settings.channels }, channel);
    this.turn = 0;
  }

  connected() {
    const ready = (channel) => new Promise((resolve, reject) =>
      channel.waitForReady(Date.now() + READY_TIMEOUT_MS, (error) =>
        error ? reject(error) : resolve()));
    return Promise.all(this.channels.map(ready));
  }

  call(message, done) {
    const channel = this.channels[this.turn];
    this.turn = (this.turn + 1) % this.channels.length;
    const bytes = (value) => value;
    channel.makeUnaryRequest(METHOD, bytes, bytes, message, done);
  }
}

function outcome(error, message, sequence, responseBytes) {
  if (error) return `${error.code} - 0 0`;
  const answer = fields(message);
  const length = answer[2] ? answer[2].length : 0;
  const isRight = (answer[1] || 0) === sequence && length === responseBytes;
  const status = isRight ? grpc.status.OK : WRONG_ANSWER;
  return `${status} ${answer[3] || "-"} ${answer[4] || 0} ${answer[5] || 0}`;
}

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const hello = JSON.parse((await lines.next()).value);
  if (hello.settings.max_connections > 1) {
    throw new Error("grpc-js has one connection to an address (no gRFC A105)");
  }
  const clients = hello.clients.map((client) => new Client(client, hello.settings));
  await Promise.all(clients.map((client) => client.connected()));
  process.stdout.write("ready\n");
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const [number, slot, sequence, requestBytes, responseBytes] =
      line.value.split(" ").slice(1).map(Number);
    const message = request(sequence, requestBytes, responseBytes);
    clients[number].call(message, (error, answer) => {
      const came = outcome(error, answer, sequence, responseBytes);
      process.stdout.write(`done ${number} ${slot} ${came}\n`);
    });
  }
  process.exit(0);
}

if (process.argv[2] === "--version") {
  const about = require.resolve("@grpc/grpc-js/package.json", places);
  console.log(require(about).version);
} else {
  main().catch((error) => {
    console.error(error);
    process.exit(1);
  });
}
