#!/usr/bin/env bash
# Runs httpwg-cli, a port of h2spec's cases, against the side of the L7 proxy
# that clients see, over each data plane. A case that fails and is not in
# conformance/exceptions.txt fails the script. Needs node for the backend; the
# tool is installed below target/, in the version pinned here.
set -euo pipefail
cd "$(dirname "$0")/.."

HTTPWG_VERSION=0.2.5
tools=target/tools
export TERM=dumb NO_COLOR=1

if ! grep -qs "\"httpwg-cli $HTTPWG_VERSION " "$tools/.crates.toml"; then
  cargo install --quiet --locked --root "$tools" --target-dir "$tools-build" \
    "httpwg-cli@$HTTPWG_VERSION"
fi
cargo build --quiet -p l7-proxy
bin="${CARGO_TARGET_DIR:-target}/debug/l7-proxy"

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
  local out="$logs/$1"
  shift
  "$@" >"$out" 2>&1 &
  started+=($!)
  for _ in $(seq 300); do
    address=$(sed -nE 's/.*listening on ([0-9.]+:[0-9]+).*/\1/p' "$out" | head -n 1)
    [ -z "$address" ] || return 0
    kill -0 "${started[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "error: $1 did not start: $(cat "$out")" >&2
  return 1
}

start backend node scripts/conformance/backend.js
backend=$address
planes=$("$bin" -h | tr -s ' \n' ' ' |
  sed -nE 's/.*--data-plane <NAME>[^]]*\[default: [a-z]+\] \[possible values: ([a-z, ]+)\].*/\1/p' |
  tr -d ,)
[ -n "$planes" ] || { echo "error: l7-proxy's help lists no data plane" >&2; exit 1; }

unexpected=0
for plane in $planes; do
  start "$plane" "$bin" --data-plane "$plane" --forward-http --backend "$backend"
  # It exits with an error when a case fails; which ones is what counts. Waits
  # are long, since the machine may be busy.
  timeout 300 "$tools/bin/httpwg" --address "$address" --frame-timeout 2000 -v \
    >"$logs/cases" 2>&1 || true
  sed -i 's/\x1b\[[0-9;]*m//g' "$logs/cases"
  grep -oE 'Passed [0-9]+/[0-9]+' "$logs/cases" | sed "s/^/$plane: /"
  # A case that panics is no line of its own; it is the one that did not end.
  sed -nE 's/.*Running test: RFC 9113 :: (.*)/\1/p' "$logs/cases" | sort -u >"$logs/begun"
  sed -nE 's/.*Test passed: RFC 9113 :: (.*)/\1/p' "$logs/cases" | sort -u >"$logs/passed"
  [ -s "$logs/begun" ] || { echo "error: no case was run" >&2; exit 1; }
  while read -r case; do
    if reason=$(grep -F "$plane | $case |" scripts/conformance/exceptions.txt); then
      echo "$plane: known: $case:${reason##*|}"
    else
      echo "$plane: FAILED: $case"
      unexpected=1
    fi
  done < <(comm -23 "$logs/begun" "$logs/passed")
done
exit "$unexpected"
