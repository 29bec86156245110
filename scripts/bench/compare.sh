#!/usr/bin/env bash
# Whether `loadgen compare` finds what is there, and nothing where nothing is.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-} in
  -h | --help)
    cat <<'USAGE'
usage: scripts/bench.sh compare [TIMES]

Runs one scenario TIMES times over (10 unless given) as it is, once more as it is,
and with backends that are 10 % slower, and compares each with the first: equal
runs must show no regression, and the slower ones must. About 40 s a time. Exit
code 1 unless every verdict was right.

REALTIME=1 runs the lab in real time (chrt -f, as root).
USAGE
    exit 0
    ;;
esac

readonly TIMES=${1:-10}
cargo build --quiet -p loadgen --bin loadgen
readonly LOADGEN=$PWD/${CARGO_TARGET_DIR:-target}/debug/loadgen
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
realtime=()
[ -z "${REALTIME:-}" ] || realtime=(chrt -f 10)

cat >"$home/pair.toml" <<'SCENARIO'
question = "Is it slower than it was?"
[backends]
count = 2
concurrency = 64
service_time = "constant:5ms"
[load]
loop = "open"
connections = 4
arrivals = "constant"
rate = 500
duration = "1500ms"
warm_up = "300ms"
[run]
peers = ["direct", "l7"]
repeats = 5
SCENARIO

# Runs the scenario with what is given; prints the run's folder.
measure() {
  local out
  out=$(mktemp -d -p "$home")
  ${realtime+"${realtime[@]}"} "$LOADGEN" --scenario "$home/pair.toml" --out "$out" "$@" >"$home/said" 2>&1 ||
    { cat "$home/said" >&2 && exit 3; }
  echo "$out"/pair/*
}

# 0 when no regression was found, 1 when one was.
compare() {
  "$LOADGEN" compare "$1" "$2" >"$home/compared" 2>&1
}

equal=0
slower=0
for ((time = 1; time <= TIMES; time++)); do
  before=$(measure)
  again=$(measure)
  worse=$(measure --set backends.service_time=constant:5.5ms)
  if compare "$before" "$again"; then
    equal=$((equal + 1))
  else
    echo "time $time: a regression between equal runs" && cat "$home/compared"
  fi
  code=0
  compare "$before" "$worse" || code=$?
  if [ "$code" -eq 1 ]; then
    slower=$((slower + 1))
  else
    echo "time $time: the slower backends were not found" && cat "$home/compared"
  fi
done
echo "nothing found between equal runs: $equal of $TIMES"
echo "backends 10 % slower found:       $slower of $TIMES"
[ "$equal" -eq "$TIMES" ] && [ "$slower" -eq "$TIMES" ]
