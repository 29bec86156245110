// The echo service on JavaScript's grpc-js: server.js [HOST:PORT]
//
// Goes by the metadata that `server.py` names, which calls ask with for what the
// echo backend can't do. Prints `listening on ADDR`; SIGTERM drains.
"use strict";

const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const echo = require("./echo.js");

// What a call's metadata ask for.
function asked(call) {
  const one = (name, otherwise) => call.metadata.get(name)[0] ?? otherwise;
  const back = (name) => {
    const metadata = new grpc.Metadata();
    for (const value of call.metadata.get(name)) metadata.add(name, value);
    return metadata;
  };
  const [initial, trailing] = [back("x-initial"), back("x-trailing-bin")];
  if (initial.get("x-initial").length > 0) call.sendMetadata(initial);
  const remainingMs = call.getDeadline() - Date.now();
  if (Number.isFinite(remainingMs)) trailing.set("x-remaining-ms", String(Math.floor(remainingMs)));
  const code = Number(one("x-status", 0));
  const details = one("x-message-bin", Buffer.alloc(0)).toString();
  return {
    delayMs: Number(one("x-delay-ms", 0)),
    trailing,
    error: code && { code, details, metadata: trailing },
  };
}

async function answer(data, delayMs) {
  if (delayMs) await sleep(delayMs);
  const request = echo.decode(data);
  const payload = request[echo.PAYLOAD] ?? Buffer.alloc(0);
  const wanted = request[echo.RESPONSE_BYTES] ?? 0;
  if (wanted > echo.MAX_MESSAGE_BYTES - 1024) {
    const details = `response_bytes is ${wanted}, which is too many`;
    throw { code: grpc.status.INVALID_ARGUMENT, details };
  }
  return echo.encode({
    [echo.SEQUENCE]: request[echo.SEQUENCE] ?? 0,
    [echo.PAYLOAD]: Buffer.alloc(wanted, payload.length > 0 ? payload : 0),
    [echo.BACKEND]: Buffer.from("interop"),
  });
}

// A call that ends with one response, made of what `last` gives.
const single = (last) => async (call, callback) => {
  try {
    const { delayMs, trailing, error } = asked(call);
    const response = await answer(await last(call), delayMs);
    callback(error || null, response, trailing);
  } catch (error) {
    callback(error);
  }
};
// A call whose responses `write` writes.
const streaming = (write) => async (call) => {
  call.on("error", () => {});
  try {
    const { delayMs, trailing, error } = asked(call);
    await write(call, delayMs);
    if (error) throw error;
    call.end(trailing);
  } catch (error) {
    call.emit("error", error);
  }
};
async function send(call, response) {
  if (!call.write(response)) await new Promise((resolve) => call.once("drain", resolve));
}

const server = new grpc.Server(echo.OPTIONS);
server.addService(echo.SERVICE, {
  unary: single((call) => call.request),
  clientStream: single(async (call) => {
    let last = Buffer.alloc(0);
    for await (last of call);
    return last;
  }),
  serverStream: streaming(async (call, delayMs) => {
    const count = Math.max(1, echo.decode(call.request)[echo.RESPONSE_COUNT] ?? 0);
    for (let nth = 0; nth < count; nth++) {
      await send(call, await answer(call.request, nth > 0 ? delayMs : 0));
    }
  }),
  bidi: streaming(async (call, delayMs) => {
    // Its writable half is still in use when the requests are over.
    const requests = call.iterator({ destroyOnReturn: false });
    for await (const request of requests) await send(call, await answer(request, delayMs));
  }),
});
const address = process.argv[2] ?? "127.0.0.1:0";
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`listening on ${address.split(":")[0]}:${port}`);
});
process.once("SIGTERM", () => server.tryShutdown(() => process.exit(0)));
