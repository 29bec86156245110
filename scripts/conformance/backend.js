// A plain HTTP/2 server for the conformance cases, which are about HTTP and know
// nothing of gRPC: it takes a whole request and answers it with some text.
"use strict";

const server = require("node:http2").createServer();
server.on("stream", (stream) => {
  stream.on("error", () => {});
  stream.on("end", () => {
    if (stream.destroyed) return;
    stream.respond({ ":status": 200, "content-type": "text/plain" });
    stream.end("some text\n".repeat(120));
  });
  stream.resume();
});
server.on("sessionError", () => {});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
