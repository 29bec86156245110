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
stream-limit with each CLIENT (wire, grpcio, grpc-js, grpc-go and tonic-channel unless named),
and prints a table in Markdown. How long it takes is said first. What can't be run, or takes far longer than
it should, leaves a dash with its reason under the table.

The same --out again goes on where it was stopped, and repeats what failed.
scripts/install-clients.sh gets the real clients. LOADGEN names the lab's program.
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
[[ $repeats =~ ^[1-9][0-9]*$ ]] || { usage >&2 && exit 2; }
[ ${#clients[@]} -gt 0 ] || clients=(wire grpcio grpc-js grpc-go tonic-channel)
mkdir -p "$out"
out=$(cd "$out" && pwd)
loadgen=${LOADGEN:-$root/target/release/loadgen}
[ -n "${LOADGEN:-}" ] || (cd "$root" && cargo build --quiet --release -p loadgen --bin loadgen)
loadgen=$(realpath "$loadgen")
cd "$root"

# cells WHAT: does WHAT with each cell of a client's column: its name, the seconds that a trial
# of it takes from start to end, its scenario, the peers, and settings.
cells() {
  local both=client-dns,client-dns:pick_first rate=load.rate=400/s
  local slow=backends.service_time=exponential:400ms
  "$1" scale-out 8 scale-out "$both" $rate
  "$1" scale-out-with-age 10 scale-out-with-age "$both" $rate 'sweep.values=["2s"]'
  "$1" backend-crash 10 backend-crash "$both" $rate
  "$1" rolling-restart 10 rolling-restart "$both" $rate
  "$1" max-connection-age 8 max-connection-age client-dns,l4 $rate
  "$1" stream-limit 8 stream-limit client-dns:pick_first,l4 $slow 'sweep.values=[1]'
  # One connection to an address is all that some have.
  "$1" stream-limit-10 8 stream-limit client-dns:pick_first,l4 $slow 'sweep.values=[10]'
}

# seconds PER_TRIAL PEERS: what a cell takes.
seconds() {
  local commas=${2//[!,]/}
  echo $(($1 * (${#commas} + 1) * repeats))
}

is_done() { [ -s "$out/$client/$1/decision.json" ]; }

count() {
  all=$((all + 1))
  if is_done "$1"; then
    before=$((before + 1))
  else
    left_s=$((left_s + $(seconds "$2" "$4")))
  fi
}

# run NAME PER_TRIAL SCENARIO PEERS [SETTING...]: claims are about the scenario as it stands,
# so that one that does not hold is no failure here.
run() {
  local name=$1 scenario=$3 peers=$4 setting flags=() code=0
  local cell=$out/$client/$name limit_s=$((3 * $(seconds "$2" "$4") + 60))
  is_done "$name" && return
  shift 4
  for setting in "$@"; do
    flags+=(--set "$setting")
  done
  printf '%s  %s, %s\n' "$(date +%H:%M:%S)" "$client" "$name" >&2
  rm -rf "$cell"
  mkdir -p "$cell"
  timeout --kill-after=20 "$limit_s" "$loadgen" --scenario "$scenario" --peers "$peers" \
    --repeats "$repeats" --out "$cell/results" --set "load.client=$client" "${flags[@]}" --json \
    >"$cell/summary.json" 2>"$cell/log" || code=$?
  # Whoever started this has given up.
  case $code in 130 | 143) exit $code ;; esac
  if [ $code -le 1 ]; then
    "$loadgen" decide "$cell/results" --json >"$cell/decision.part" 2>>"$cell/log" || code=2
  fi
  if [ $code -le 1 ]; then
    mv "$cell/decision.part" "$cell/decision.json"
  elif [ $code -eq 124 ] || [ $code -eq 137 ]; then
    echo "it was stopped after $limit_s s" >"$cell/reason"
  else
    sed -n 's/^error: //p' "$cell/log" | tail -1 >"$cell/reason"
    [ -s "$cell/reason" ] || echo "loadgen ended with $code" >"$cell/reason"
  fi
  [ ! -s "$cell/reason" ] || printf '          %s\n' "$(cat "$cell/reason")" >&2
}

all=0 before=0 left_s=0
for client in "${clients[@]}"; do
  cells count
done
printf '%s cells in %s, %s of them done; the others take about %s minutes\n' \
  "$all" "$out" "$before" $(((left_s + 59) / 60)) >&2
for client in "${clients[@]}"; do
  cells run
done
exec python3 "$root/scripts/bench/clients.py" "$out" "${clients[@]}"
