#!/usr/bin/env bash
# What a call costs the load generator itself, beside h2load.
set -euo pipefail
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh generator [--repeats N] [--seconds N]

Drives one backend, without a proxy, in a closed loop with loadgen (either client)
and with h2load, and prints the generator's CPU per call of each and the ratio to
h2load's, taken repeat by repeat (medians, with their range). loadgen records every
call's latency and backend and checks its status; h2load counts answers.

  --repeats N   trials of each generator and workload (5)
  --seconds N   length of a trial (3)

Workloads, unary calls of 32 B: a is 1 connection x 32 streams, b is 8 x 16.
The generator has one core, the backend the other (LOAD_CORE, PROXY_CORE).
USAGE
}

repeats=5
seconds=3
readonly PROXY_CORE=${PROXY_CORE:-1} LOAD_CORE=${LOAD_CORE:-0}
readonly GENERATORS=(h2load wire tonic)

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --repeats) repeats=${2:?--repeats needs a number} ;;
    --seconds) seconds=${2:?--seconds needs a number} ;;
    *) usage >&2 && die "unknown option: $1" ;;
  esac
  shift 2
done

# shape WORKLOAD: sets connections and streams.
shape() {
  case $1 in
    a) connections=1 streams=32 ;;
    b) connections=8 streams=16 ;;
  esac
}

# Nanoseconds of CPU and calls of one trial.
h2load_trial() {
  local TIMEFORMAT='%U %S' calls
  { time load "$LOAD_CORE" "${backend_ports[0]}" "$work/small" -c "$connections" -m "$streams" \
    -D "$seconds" --warm-up-time 0 2>/dev/null; } 2>"$work/time"
  calls=$(load_succeeded)
  [ "$(load_failed)" = 0 ] || die "h2load counts failed calls"
  awk -v calls="$calls" 'NF == 2 { printf "%.0f %d\n", ($1 + $2) * 1e9, calls }' "$work/time"
}

# loadgen_trial CLIENT
loadgen_trial() {
  local client=$1 out=$work/out
  rm -rf "$out"
  cat >"$work/generator.toml" <<SCENARIO
question = "What does a call cost the generator?"
[load]
loop = "closed"
client = "$client"
connections = $connections
streams = $streams
payload = "32B"
duration = "${seconds}s"
warm_up = "300ms"
[run]
repeats = 1
SCENARIO
  taskset -c "$LOAD_CORE" "$BIN/loadgen" --scenario "$work/generator.toml" --out "$out" \
    --target "127.0.0.1:${backend_ports[0]}" >"$work/loadgen.log" 2>&1 ||
    { cat "$work/loadgen.log" >&2 && die "loadgen failed"; }
  "$BIN/loadgen" export "$out"/generator/* --out "$work/export" >/dev/null
  awk '/^layerlab_trial_cpu_seconds/ && /process="generator"/ { cpu += $NF }
    /^layerlab_trial_latency_seconds_count/ { calls = $NF }
    END { printf "%.0f %d\n", cpu * 1e9, calls }' "$work/export/summary.prom"
}

trial() {
  case $1 in
    h2load) h2load_trial ;;
    *) loadgen_trial "$1" ;;
  esac
}

begin
build
(cd "$ROOT" && cargo build --quiet --profile "${PROFILE:-dev}" -p loadgen --bin loadgen) ||
  die "the build failed"
make_request "$work/small" 32
start_backends 1 "$PROXY_CORE"
for ((repeat = 1; repeat <= repeats; repeat++)); do
  for turn in "${!GENERATORS[@]}"; do
    ((repeat % 2)) || turn=$((${#GENERATORS[@]} - 1 - turn))
    generator=${GENERATORS[turn]}
    for workload in a b; do
      shape "$workload"
      note "repeat $repeat of $repeats: $generator, $workload"
      read -r ns calls < <(trial "$generator")
      printf '%s %s %s %s %s\n' "$repeat" "$generator" "$workload" "$ns" "$calls" >>"$work/raw"
    done
  done
done
awk '
  function median(list, n, i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
      t = list[j]; list[j] = list[j - 1]; list[j - 1] = t
    }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
  }
  { cost[$1, $2, $3] = $4 / $5 / 1000; repeats = $1 > repeats ? $1 : repeats; names[$2]; loads[$3] }
  END {
    printf "%-10s %-8s %12s %22s\n", "generator", "workload", "us a call", "of h2load'"'"'s (range)"
    for (load in loads) for (name in names) {
      for (i = 1; i <= repeats; i++) {
        us[i] = cost[i, name, load]; ratio[i] = us[i] / cost[i, "h2load", load]
      }
      printf "%-10s %-8s %12.2f", name, load, median(us, repeats)
      middle = median(ratio, repeats)
      printf " %10.2f (%.2f-%.2f)\n", middle, ratio[1], ratio[repeats]
    }
  }' "$work/raw" | sort
