#!/usr/bin/env bash
# Checks the proxies with gRPC clients of other implementations: Python's grpcio
# (on gRPC's C core) and JavaScript's grpc-js. Builds the programs, starts one
# backend, the L4 proxy, and the L7 proxy with each of its data planes on free
# ports, runs each client against each of them, and ends what it started.
#
#   scripts/interop.sh [python|node ...]    both, unless told which
#
# The clients are installed below target/, in the versions pinned here. Needs
# python3 with venv, and node with npm.
set -euo pipefail
cd "$(dirname "$0")/.."

GRPCIO_VERSION=1.85.1
GRPC_JS_VERSION=1.14.7
home=target/interop
mkdir -p "$home"
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(python node)

cargo build --quiet -p echo-backend -p l4-proxy -p l7-proxy
bin="${CARGO_TARGET_DIR:-target}/debug"

started=()
logs=$(mktemp -d)
finish() {
  for pid in ${started+"${started[@]}"}; do kill "$pid" 2>/dev/null || true; done
  for pid in ${started+"${started[@]}"}; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$logs"
}
trap finish EXIT

# start NAME PROGRAM [ARG...]: starts it and puts its address into $address.
start() {
  local name=$1 out
  shift
  out="$logs/$name"
  "$@" >"$out" 2>"$out.err" &
  started+=($!)
  for _ in $(seq 300); do
    address=$(sed -nE 's/.*(listening|listens) on ([0-9.]+:[0-9]+).*/\2/p' "$out" "$out.err" | head -n 1)
    [ -z "$address" ] || return 0
    kill -0 "${started[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "error: $name did not start: $(cat "$out.err")" >&2
  return 1
}

python_client() {
  local python="$home/python/bin/python"
  if [ "$("$python" -c 'import grpc; print(grpc.__version__)' 2>/dev/null)" != "$GRPCIO_VERSION" ]; then
    python3 -m venv --clear "$home/python"
    "$home/python/bin/pip" install --quiet --disable-pip-version-check "grpcio==$GRPCIO_VERSION"
  fi
  "$python" scripts/interop/client.py "$@"
}

node_client() {
  local installed="$home/node/node_modules/@grpc/grpc-js/package.json"
  if ! grep -q "\"version\": \"$GRPC_JS_VERSION\"" "$installed" 2>/dev/null; then
    npm install --silent --no-save --prefix "$home/node" "@grpc/grpc-js@$GRPC_JS_VERSION"
  fi
  NODE_PATH="$home/node/node_modules" node scripts/interop/client.js "$@"
}

start backend "$bin/echo-backend" --id interop
backend=$address
targets=("direct=$backend")
start l4 "$bin/l4-proxy" --backend "$backend"
targets+=("l4=$address")
# The help lists the data planes, so a new one is checked from its first day.
planes=$("$bin/l7-proxy" -h | tr -s ' \n' ' ' |
  sed -nE 's/.*--data-plane <NAME>[^]]*\[default: [a-z]+\] \[possible values: ([a-z, ]+)\].*/\1/p' |
  tr -d ,)
[ -n "$planes" ] || { echo "error: l7-proxy's help lists no data plane" >&2; exit 1; }
for plane in $planes; do
  start "l7-$plane" "$bin/l7-proxy" --data-plane "$plane" --backend "$backend"
  targets+=("l7-$plane=$address")
done

failed=0
for client in "${clients[@]}"; do
  case "$client" in
  python | node) "${client}_client" "${targets[@]}" || failed=1 ;;
  *) echo "error: no client \`$client\`; there are python and node" >&2; exit 2 ;;
  esac
done
exit "$failed"
