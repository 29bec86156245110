#!/usr/bin/env bash
# Checks the proxies with gRPC of other implementations: Python's grpcio (on
# gRPC's C core), JavaScript's grpc-js, and grpc-go where there is a Go toolchain.
# Each is a client, and a backend beside our own. What is checked, through the L4
# proxy and the L7 proxy with each of its data planes: the cases of gRPC's interop
# tests, written anew; bursts of 1,000 calls; clients that read slowly; streams
# that are silent; SIGTERM to proxies and to backends under load, and to a proxy
# with connections in its accept queue. Retries are off.
#
#   scripts/interop.sh [--long] [grpcio|grpc-js|grpc-go ...]
#
# Runs all clients unless told which; --long adds streams that are silent for 6
# minutes. What is installed lands below target/, in the versions pinned here and
# in interop/go/go.mod. Needs python3 with venv, and node with npm. Prints what
# fails, the counts, and what was skipped; exits with 1 if a case failed that
# interop/exceptions.txt doesn't name.
set -euo pipefail
cd "$(dirname "$0")/.."

GRPCIO_VERSION=1.85.1
GRPC_JS_VERSION=1.14.7
home=$PWD/target/interop
mkdir -p "$home"

python="$home/python/bin/python"
if [ "$("$python" -c 'import grpc; print(grpc.__version__)' 2>/dev/null)" != "$GRPCIO_VERSION" ]; then
  python3 -m venv --clear "$home/python"
  "$home/python/bin/pip" install --quiet --disable-pip-version-check "grpcio==$GRPCIO_VERSION"
fi
installed="$home/node/node_modules/@grpc/grpc-js/package.json"
if ! grep -q "\"version\": \"$GRPC_JS_VERSION\"" "$installed" 2>/dev/null; then
  npm install --silent --no-save --prefix "$home/node" "@grpc/grpc-js@$GRPC_JS_VERSION"
fi
rm -f "$home/grpc-go"
if command -v go >/dev/null; then
  go -C scripts/interop/go build -o "$home/grpc-go" .
fi
cargo build --quiet -p echo-backend -p l4-proxy -p l7-proxy

NODE_PATH="$home/node/node_modules" GO_PROGRAM="$home/grpc-go" \
  exec "$python" scripts/interop/run.py "${CARGO_TARGET_DIR:-target}/debug" "$@"
