#!/usr/bin/env bash
# The lab's own client beside real ones: who served, what failed, and when calls were in
# balance again, by the same scenarios with the same settings. Rates are low, since what is
# looked at is behaviour; the numbers of a real client are its program's as well.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh clients [--repeats N] [--out DIR] [CLIENT...]

Runs scale-out, scale-out-with-age, backend-crash, rolling-restart, max-connection-age and
stream-limit with each CLIENT (wire, grpcio and grpc-js unless named), and prints a table in
Markdown. scripts/install-clients.sh gets the real ones. LOADGEN names the lab's program.
USAGE
}

repeats=3
out=$root/target/bench/clients-$(date -u +%Y%m%dT%H%M%SZ)
clients=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --repeats) repeats=${2:?--repeats needs a number} && shift ;;
    --out) out=${2:?--out needs a folder} && shift ;;
    -*) usage >&2 && exit 2 ;;
    *) clients+=("$1") ;;
  esac
  shift
done
[ ${#clients[@]} -gt 0 ] || clients=(wire grpcio grpc-js)
loadgen=${LOADGEN:-$root/target/release/loadgen}
[ -n "${LOADGEN:-}" ] || (cd "$root" && cargo build --quiet --release -p loadgen --bin loadgen)
cd "$root"

# run CLIENT SCENARIO PEERS [SETTING...]: claims are about the scenario as it stands.
run() {
  local client=$1 scenario=$2 peers=$3 setting flags=()
  shift 3
  for setting in "$@"; do
    flags+=(--set "$setting")
  done
  printf '== %s, %s %s\n' "$scenario" "$client" "$*" >&2
  "$loadgen" --scenario "$scenario" --peers "$peers" --repeats "$repeats" --out "$out" \
    --set "load.client=$client" ${flags+"${flags[@]}"} >&2 || [ $? -eq 1 ]
}

for client in "${clients[@]}"; do
  both=client-dns,client-dns:pick_first
  slow=(load.rate=400/s)
  run "$client" scale-out "$both" "${slow[@]}"
  run "$client" scale-out-with-age "$both" "${slow[@]}" 'sweep.values=["2s"]'
  run "$client" backend-crash "$both" "${slow[@]}"
  run "$client" rolling-restart "$both" "${slow[@]}"
  run "$client" max-connection-age client-dns,l4 "${slow[@]}"
  slow=(backends.service_time=exponential:400ms)
  run "$client" stream-limit client-dns:pick_first,l4 "${slow[@]}" "sweep.values=[1]"
  # One connection to an address is all that the others have.
  case $client in
    wire | grpcio) run "$client" stream-limit client-dns:pick_first,l4 "${slow[@]}" "sweep.values=[10]" ;;
  esac
done
"$loadgen" decide "$out" --json >"$out/decision.json"
exec python3 "$root/scripts/bench/clients.py" "$out" "$out/decision.json"
