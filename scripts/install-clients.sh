#!/usr/bin/env bash
# Gets the real gRPC clients that `load.client` can name, in the versions pinned here, into
# peers/ of the checkout, which git ignores: grpcio in a virtual environment of python3,
# grpc-js by npm, tonic's channel by cargo, and grpc-go where there is a Go toolchain, both
# in the versions of their folders in scenarios/clients/.
# Running it again fetches only what is missing or of another version.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GRPCIO=1.85.1 GRPC_JS=1.14.7
readonly home=$PWD/peers
mkdir -p "$home"

python=$home/grpcio/bin/python
if [ "$("$python" -c 'import grpc; print(grpc.__version__)' 2>/dev/null)" != "$GRPCIO" ]; then
  python3 -m venv --clear "$home/grpcio"
  "$home/grpcio/bin/pip" install --quiet --disable-pip-version-check "grpcio==$GRPCIO"
fi
installed=$home/grpc-js/node_modules/@grpc/grpc-js/package.json
if ! grep -q "\"version\": \"$GRPC_JS\"" "$installed" 2>/dev/null; then
  npm install --silent --no-save --prefix "$home/grpc-js" "@grpc/grpc-js@$GRPC_JS"
fi
printf 'grpcio %s\ngrpc-js %s\n' "$GRPCIO" "$GRPC_JS"
tonic=$home/tonic-channel
cargo build --quiet --release --locked --target-dir "$tonic/target" \
  --manifest-path scenarios/clients/tonic-channel/Cargo.toml
cp "$tonic/target/release/tonic-channel" "$tonic/client"
printf 'tonic-channel %s\n' "$("$tonic/client" --version)"
if command -v go >/dev/null; then
  go -C scenarios/clients/grpc-go build -o "$home/grpc-go/client" .
  printf 'grpc-go %s\n' "$("$home/grpc-go/client" --version)"
else
  echo 'grpc-go: left out, there is no `go` in PATH'
fi
