// Calls the echo service with JavaScript's grpc-js, through whatever is given.
//
//     client.js GROUP[=VALUE] NAME=HOST:PORT [NAME=HOST:PORT ...]
//
// Prints a line a case and target, `CLIENT | TARGET | CASE | OUTCOME`, and exits
// with 1 if any failed. The groups of cases are at the end of this file; what
// each is about is said in `client.py`, whose cases have the same names.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const net = require("node:net");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const echo = require("./echo.js");

// Far above what anything takes; a bound and no measure.
const PATIENCE_MS = 60_000;
const LARGE_BYTES = 4 << 20;
const SIZES = [[27182, 31415], [8, 9], [1828, 2653], [45904, 58979]];
const OPTIONS = { ...echo.OPTIONS, "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0 };
// With retries on come those of calls that no server has looked at, and no others
// are asked for. Node.js needs them when it is sent GOAWAY: it drops the requests
// of the same turn of its loop, unsent.
const RESENDS_UNSEEN = { "grpc.enable_retries": 1 };
const [, , argument = "", ...targets] = process.argv;
const [group, value] = argument.split("=");

const Client = grpc.makeGenericClientConstructor({
  ...echo.SERVICE,
  missingMethod: echo.method("/layerlab.echo.v1.Echo/Missing", false, false),
  missingService: echo.method("/layerlab.Missing/Unary", false, false),
}, "Echo");
const connect = (address, more) =>
  Object.assign(new Client(address, grpc.credentials.createInsecure(), { ...OPTIONS, ...more }), { address });

function request(sequence, payload = Buffer.alloc(0), responseBytes = payload.length, responseCount = 0) {
  return echo.encode({
    [echo.SEQUENCE]: sequence,
    [echo.PAYLOAD]: payload,
    [echo.RESPONSE_BYTES]: responseBytes,
    [echo.RESPONSE_COUNT]: responseCount,
  });
}

function check(data, sequence, payload) {
  const fields = echo.decode(data);
  assert.strictEqual(fields[echo.SEQUENCE] ?? 0, sequence);
  assert.ok((fields[echo.PAYLOAD] ?? Buffer.alloc(0)).equals(payload), "the payload changed on its way");
  assert.strictEqual(fields[echo.BACKEND].toString(), "interop");
}

// Metadata of pairs.
function asking(...pairs) {
  const metadata = new grpc.Metadata();
  for (const [name, one] of pairs) metadata.add(name, one);
  return metadata;
}

const within = (ms = PATIENCE_MS) => ({ deadline: Date.now() + ms });
// A call with one response: that, the initial metadata, and the status.
const whole = (client, name, message, metadata = asking(), options = within()) =>
  new Promise((resolve, reject) => {
    const outcome = {};
    const call = client[name](message, metadata, options, (error, data) => {
      Object.assign(outcome, { error, data });
    });
    call.on("metadata", (initial) => { outcome.initial = initial; });
    call.on("status", (status) => {
      outcome.status = status;
      // The callback comes beside the status, before or after it.
      setImmediate(() => (outcome.error ? reject(outcome.error) : resolve(outcome)));
    });
  });
const unary = async (...given) => (await whole(given[0], "unary", ...given.slice(1))).data;
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
// The rest of a stream: its messages, its initial metadata, and its status.
const rest = (stream) =>
  new Promise((resolve) => {
    const outcome = { messages: [] };
    stream.on("error", () => {});
    stream.on("data", (data) => outcome.messages.push(data));
    stream.on("metadata", (initial) => { outcome.initial = initial; });
    stream.once("status", (status) => resolve({ ...outcome, status }));
    stream.resume();
  });
const sent = (stream, ...messages) => {
  for (const message of messages) stream.write(message);
  stream.end();
  return rest(stream);
};
const rejected = async (code, promise) => {
  const error = await promise.then(() => assert.fail(`code ${code} was expected`), (error) => error);
  assert.strictEqual(error.code, code, String(error));
  return error;
};

const EVERYWHERE = {
  async empty_unary(client) {
    check(await unary(client, Buffer.alloc(0)), 0, Buffer.alloc(0));
  },
  async large_unary(client) {
    check(await unary(client, request(1, Buffer.alloc(271828), 314159)), 1, Buffer.alloc(314159));
  },
  async many_in_turn(client) {
    const hello = Buffer.from("hello");
    for (let n = 0; n < 50; n++) check(await unary(client, request(n, hello)), n, hello);
  },
  async many_at_once(client) {
    await Promise.all(Array.from({ length: 300 }, async (_, n) =>
      check(await unary(client, request(n, Buffer.alloc(n, 1))), n, Buffer.alloc(n, 1))));
  },
  async many_channels(client) {
    for (let n = 0; n < 20; n++) {
      const another = connect(client.address);
      check(await unary(another, request(n)), n, Buffer.alloc(0));
      another.close();
    }
  },
  async client_streaming(client) {
    const data = await new Promise((resolve, reject) => {
      const stream = client.clientStream(asking(), within(),
        (error, data) => (error ? reject(error) : resolve(data)));
      for (const [size] of SIZES) stream.write(request(size, Buffer.alloc(size)));
      stream.end();
    });
    check(data, SIZES.at(-1)[0], Buffer.alloc(SIZES.at(-1)[0]));
  },
  async server_streaming(client) {
    for (const [n, [, size]] of SIZES.entries()) {
      const { messages, status } = await rest(
        client.serverStream(request(n, undefined, size, 25), asking(), within()));
      assert.strictEqual(status.code, grpc.status.OK, status.details);
      assert.strictEqual(messages.length, 25);
      for (const data of messages) check(data, n, Buffer.alloc(size));
    }
  },
  // Each response is awaited before the next request is made.
  async ping_pong(client) {
    const stream = client.bidi(asking(), within());
    for (let n = 0; n < 100; n++) {
      const [size, wanted] = SIZES[n % SIZES.length];
      stream.write(request(n, Buffer.alloc(size), wanted));
      check(await next(stream), n, Buffer.alloc(wanted));
    }
    assert.strictEqual((await sent(stream)).status.code, grpc.status.OK);
  },
  async empty_stream(client) {
    const { messages, status } = await sent(client.bidi(asking(), within()));
    assert.strictEqual(status.code, grpc.status.OK, status.details);
    assert.strictEqual(messages.length, 0);
  },
  async large_messages(client) {
    const payload = Buffer.alloc(LARGE_BYTES, "0123456789abcde");
    check(await unary(client, request(1, payload)), 1, payload);
    const requests = [0, 1, 2].map((n) => request(n, payload));
    const { messages, status } = await sent(client.bidi(asking(), within()), ...requests);
    assert.strictEqual(status.code, grpc.status.OK, status.details);
    assert.strictEqual(messages.length, 3);
    messages.forEach((data, n) => check(data, n, payload));
  },
  async metadata_is_taken(client) {
    const every = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
    const metadata = asking(["x-text", "plain"], ["x-twice", "1"], ["x-twice", "2"], ["x-data-bin", every]);
    check(await unary(client, request(1, Buffer.from("m")), metadata), 1, Buffer.from("m"));
  },
  async invalid_argument(client) {
    const tooLarge = request(1, undefined, 2 ** 30);
    const error = await rejected(grpc.status.INVALID_ARGUMENT, unary(client, tooLarge));
    assert.match(error.details, /response_bytes/);
  },
  async unimplemented_method(client) {
    await rejected(grpc.status.UNIMPLEMENTED, whole(client, "missingMethod", Buffer.alloc(0)));
  },
  async unimplemented_service(client) {
    await rejected(grpc.status.UNIMPLEMENTED, whole(client, "missingService", Buffer.alloc(0)));
  },
  async cancel_after_begin(client) {
    await rejected(grpc.status.CANCELLED, new Promise((resolve, reject) => {
      client.clientStream(asking(), within(), (error, data) => (error ? reject(error) : resolve(data))).cancel();
    }));
    await EVERYWHERE.empty_unary(client);
  },
  async cancel_after_first_response(client) {
    const stream = client.bidi(asking(), within());
    stream.write(request(1, Buffer.from("one")));
    check(await next(stream), 1, Buffer.from("one"));
    const end = rest(stream);
    stream.cancel();
    assert.strictEqual((await end).status.code, grpc.status.CANCELLED);
    // The connection is none the worse.
    await EVERYWHERE.empty_unary(client);
  },
  async timeout_on_open_stream(client) {
    const stream = client.bidi(asking(), within(500));
    stream.write(request(1, Buffer.from("one")));
    check(await next(stream), 1, Buffer.from("one"));
    assert.strictEqual((await rest(stream)).status.code, grpc.status.DEADLINE_EXCEEDED);
  },
};

const BY_METADATA = {
  async timeout_on_sleeping_server(client) {
    const sleepy = asking(["x-delay-ms", "20000"]);
    await rejected(grpc.status.DEADLINE_EXCEEDED, unary(client, request(1), sleepy, within(100)));
    await EVERYWHERE.empty_unary(client);
  },
  async custom_metadata(client) {
    const trailing = [Buffer.from(Array.from({ length: 256 }, (_, n) => n)), Buffer.from("ababab", "hex")];
    const metadata = asking(["x-initial", "first, of two"], ["x-initial", "second"],
      ...trailing.map((one) => ["x-trailing-bin", one]));
    const outcomes = [
      await whole(client, "unary", request(1), metadata),
      await sent(client.bidi(metadata, within()), request(1)),
    ];
    for (const { initial, status } of outcomes) {
      assert.strictEqual(status.code, grpc.status.OK, status.details);
      // Repeated values may come as one, joined by commas.
      assert.match(initial.get("x-initial").join(", "), /^first, of two, ?second$/);
      assert.deepStrictEqual(status.metadata.get("x-trailing-bin"), trailing);
    }
  },
  async status_code_and_message(client) {
    for (let code = 1; code <= 16; code++) {
      const details = `test status message ${code}`;
      const metadata = asking(["x-status", String(code)], ["x-message-bin", Buffer.from(details)]);
      const error = await rejected(code, unary(client, request(1), metadata));
      assert.strictEqual(error.details, details);
      const { status } = await sent(client.bidi(metadata, within()), request(1));
      assert.strictEqual(status.code, code, status.details);
      assert.strictEqual(status.details, details);
    }
  },
  async special_status_message(client) {
    const details = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈 and 100 %\t\n";
    const metadata = asking(["x-status", "2"], ["x-message-bin", Buffer.from(details)]);
    const error = await rejected(grpc.status.UNKNOWN, unary(client, request(1), metadata));
    assert.strictEqual(error.details, details);
  },
  async status_after_responses(client) {
    const why = Buffer.from("\0why");
    const metadata = asking(["x-status", "9"], ["x-message-bin", Buffer.from("too late")], ["x-trailing-bin", why]);
    const { messages, status } = await rest(
      client.serverStream(request(1, Buffer.from("r"), 1, 5), metadata, within()));
    assert.strictEqual(messages.length, 5);
    assert.strictEqual(status.code, grpc.status.FAILED_PRECONDITION, status.details);
    assert.strictEqual(status.details, "too late");
    assert.deepStrictEqual(status.metadata.get("x-trailing-bin"), [why]);
  },
  async deadline_is_passed_on(client) {
    const remaining = async (options) =>
      (await whole(client, "unary", request(1), asking(), options)).status.metadata.get("x-remaining-ms");
    const [ms] = await remaining(within());
    assert.ok(ms > 0 && ms <= PATIENCE_MS * 1.01, ms);
    assert.deepStrictEqual(await remaining({}), []);
  },
  async compressed_messages(client) {
    const another = connect(client.address,
      { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip });
    const payload = Buffer.alloc(100_000);
    const requests = [0, 1, 2].map((n) => request(n, payload));
    const { messages, status } = await sent(another.bidi(asking(), within()), ...requests);
    another.close();
    assert.strictEqual(status.code, grpc.status.OK, status.details);
    assert.strictEqual(messages.length, 3);
    messages.forEach((data, n) => check(data, n, payload));
  },
};

// Fails unless there was at least one call and each of them is well.
function summarise(errors) {
  const outcomes = {};
  const failed = errors.filter((error) => error);
  for (const error of failed) {
    const outcome = String(error.message ?? error).slice(0, 150);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  const most = Object.entries(outcomes).sort((a, b) => b[1] - a[1]).slice(0, 3);
  assert.ok(errors.length > 0 && failed.length === 0,
    `${failed.length} of ${errors.length} calls: ${JSON.stringify(Object.fromEntries(most))}`);
}
const outcome = (promise) => promise.then(() => null, (error) => error);

const burst = (count) => async (client) => {
  await EVERYWHERE.empty_unary(client);
  summarise(await Promise.all(Array.from({ length: count }, (_, n) =>
    outcome(unary(client, request(n, Buffer.from("x")), asking(["x-delay-ms", "200"]))))));
};

// Listens for one client and connects it to `address`, whose bytes it takes at
// this rate. Gives the address to use.
function slowly(address, bytesPerSecond) {
  const server = net.createServer((client) => {
    const [host, port] = address.split(":");
    const proxy = net.connect(port, host);
    client.pipe(proxy);
    proxy.on("data", (data) => {
      client.write(data);
      proxy.pause();
      setTimeout(() => proxy.resume(), (data.length / bytesPerSecond) * 1000);
    });
    for (const socket of [client, proxy]) socket.on("error", () => {});
    proxy.on("close", () => client.destroy());
    client.on("close", () => proxy.destroy());
  });
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve({ server, address: `127.0.0.1:${server.address().port}` })));
}

// Many large responses, for which the client's windows have room at once, and
// its socket has not.
async function slow_reader(client) {
  const { server, address } = await slowly(client.address, 40e6);
  const reader = connect(address, { "grpc-node.flow_control_window": 1 << 30 });
  await EVERYWHERE.empty_unary(reader);
  const payload = Buffer.alloc(100 << 10, "0123456789abcde");
  summarise(await Promise.all(Array.from({ length: 1000 }, (_, n) =>
    outcome(unary(reader, request(n, payload.subarray(0, 15), payload.length), asking(), within(5 * PATIENCE_MS))
      .then((data) => check(data, n, payload))))));
  reader.close();
  server.close();
}

async function quiet_stream(client) {
  const silence = asking(["x-delay-ms", String(Number(value) * 1000)]);
  const { messages, status } = await rest(client.serverStream(request(1, undefined, 0, 2), silence));
  assert.strictEqual(status.code, grpc.status.OK, status.details);
  assert.strictEqual(messages.length, 2);
}

async function after_silence(client) {
  await sleep(Number(value) * 1000);
  for (let n = 0; n < 4; n++) await CALLS.ofItsOwnConnection(client);
}

async function accept_queue(client) {
  const clients = Array.from({ length: Number(value) }, () => connect(client.address, RESENDS_UNSEEN));
  const calls = clients.map((one) => outcome(unary(one, request(1))));
  console.log("under way");
  summarise(await Promise.all(calls));
  for (const one of clients) one.close();
}

const CALLS = {
  short: (client) => unary(client, request(1), asking(["x-delay-ms", "50"])),
  async stream(client) {
    const { messages, status } = await rest(
      client.serverStream(request(1, undefined, 0, 10), asking(["x-delay-ms", "50"]), within()));
    if (status.code !== grpc.status.OK) throw new Error(`${status.code} ${status.details}`);
    assert.strictEqual(messages.length, 10);
  },
  async ofItsOwnConnection(client) {
    const another = connect(client.address, RESENDS_UNSEEN);
    try {
      await CALLS.short(another);
    } finally {
      another.close();
    }
  },
};

const load = (...workers) => async ({ address }) => {
  const client = connect(address, RESENDS_UNSEEN);
  const errors = [];
  let waiting = workers.length;
  await Promise.all(workers.map(async (worker) => {
    for (let nth = 0; nth === 0 || !fs.existsSync(value); nth++) {
      errors.push(await outcome(worker(client)));
      if (nth === 0 && --waiting === 0) console.log("under way");
    }
  }));
  client.close();
  summarise(errors);
};

const shared = [...Array(16).fill(CALLS.short), ...Array(4).fill(CALLS.stream)];
const own = Array(4).fill(CALLS.ofItsOwnConnection);
const GROUPS = {
  everywhere: EVERYWHERE,
  by_metadata: BY_METADATA,
  bursts: { burst_550: burst(550), burst_1000: burst(1000) },
  slow_reader: { slow_reader },
  quiet_stream: { quiet_stream },
  after_silence: { after_silence },
  accept_queue: { accept_queue },
  drain: { drain: load(...shared, ...own) },
  drain_own_connections: { drain_own_connections: load(...own) },
  backends_restart: { backends_restart: load(...shared, ...own) },
};

async function main(cases) {
  let failed = 0;
  for (const target of targets) {
    const [name, address] = target.split("=");
    for (const [label, run] of Object.entries(cases)) {
      const client = connect(address);
      let result = "ok";
      try {
        await run(client);
      } catch (error) {
        failed++;
        result = `FAILED: ${error}`.replaceAll("\n", " ");
      }
      client.close();
      console.log(`grpc-js | ${name} | ${label} | ${result}`);
    }
  }
  return failed ? 1 : 0;
}

if (!GROUPS[group] || targets.length === 0) {
  console.error(`usage: client.js GROUP[=VALUE] NAME=HOST:PORT ...; groups: ${Object.keys(GROUPS).join(", ")}`);
  process.exit(2);
}
main(GROUPS[group]).then((code) => process.exit(code));
