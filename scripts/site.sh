#!/usr/bin/env bash
# Measures what the findings in the README rest on, on a machine that is quiet, and keeps
# the pages in docs/site. About a quarter of an hour. Needs root, for what a core carries.
set -euo pipefail
cd "$(dirname "$0")/.."

# Together with the decision they have to stay below this.
readonly BYTES_MAX=3000000

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cargo build --quiet -p loadgen
loadgen=${CARGO_TARGET_DIR:-target}/debug/loadgen
run() {
  "$loadgen" --out "$out" --scenario "$@"
}
run single-conn-flood --repeats 5
run connection-sweep
run scale-out
run slow-backend
run many-balancers
run capacity --peers l4,l7,haproxy-l4,haproxy-l7,nginx-l4,nginx-l7,envoy-l7
"$loadgen" decide "$out" --calculator "$out"/connection-sweep/*

rm -rf docs/site
mkdir docs/site
cp "$out/decision.html" "$out/index.html" docs/site/
for page in "$out"/*/*/report.html; do
  name=$(basename "$(dirname "$(dirname "$page")")")
  cp "$page" "docs/site/$name.html"
done
# One page a scenario, by its name, and not in the folders of runs; and no path of this machine.
sed -E -i -e "s#$PWD/##g" -e 's#([a-z0-9-]+)/[0-9]{8}T[0-9]{6}Z-[0-9]+/report\.html#\1.html#g
  s#\.\./\.\./(decision|index)\.html#\1.html#g' docs/site/*.html
bytes=$(find docs/site -type f -printf '%s\n' | awk "{ sum += \$1 } END { print sum }")
if [ "$bytes" -gt "$BYTES_MAX" ]; then
  echo "error: docs/site has $bytes bytes, and may have $BYTES_MAX" >&2
  exit 1
fi
