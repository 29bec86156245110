#!/usr/bin/env bash
# What a call costs by h2load, which shares no code with the lab: in a proxy, and in
# the generator itself beside loadgen's. A check of the lab, not a second laboratory:
# it prints what each trial cost, and leaves medians and intervals to loadgen.
set -euo pipefail
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh outside [--repeats N] [--calls N] [--peers LIST]

Drives four backends with h2load, through each peer and without one (direct), and
prints CPU per call of the proxy and of the generator, trial by trial. For `direct`
loadgen's own clients, wire and tonic, take their turns too: the generator's cost of
the same calls. Compare with `proxy CPU per call` of scripts/bench.sh l7 b.

  --repeats N   trials of each (5)
  --calls N     calls of a trial (30000)
  --peers LIST  folders of scenarios/peers, l4, l7:hyper, l7:relay (l4,l7:relay)

8 connections x 16 streams, 32 B. PROFILE=release measures with link-time
optimisation; the generator and the backends have LOAD_CORE (0), the proxy PROXY_CORE (1).
USAGE
}

repeats=5
calls=30000
peers=(l4 l7:relay)
readonly PROXY_CORE=${PROXY_CORE:-1} LOAD_CORE=${LOAD_CORE:-0}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --repeats) repeats=${2:?--repeats needs a number} ;;
    --calls) calls=${2:?--calls needs a number} ;;
    --peers) IFS=, read -r -a peers <<<"${2:?--peers needs a list}" ;;
    *) usage >&2 && die "unknown option: $1" ;;
  esac
  shift 2
done

# say PEER GENERATOR PROXY_NS GENERATOR_NS CALLS
say() {
  awk -v peer="$1" -v by="$2" -v proxy="$3" -v generator="$4" -v calls="$5" 'BEGIN {
    printf "%-12s %-8s %14.2f %18.2f\n", peer, by, proxy / calls / 1000, generator / calls / 1000 }'
}

# h2load_trial PEER: a call counts only if a backend answered it with OK.
h2load_trial() {
  local before ns=0 TIMEFORMAT='%U %S' answered
  [ -z "$peer_pid" ] || ns=$(cpu_ns "$peer_pid")
  before=$(calls ok)
  { time load "$LOAD_CORE" "$peer_port" "$work/small" -c 8 -m 16 -n "$calls" 2>/dev/null; } 2>"$work/time"
  [ -z "$peer_pid" ] || ns=$(($(cpu_ns "$peer_pid") - ns))
  answered=$(total "$(difference "$before" "$(calls ok)")")
  [ "$answered" -eq "$calls" ] || die "$1: backends answered $answered of $calls calls with OK"
  say "$1" h2load "$ns" "$(awk 'NF == 2 { printf "%.0f", ($1 + $2) * 1e9 }' "$work/time")" "$calls"
}

# loadgen_trial CLIENT
loadgen_trial() {
  local ns made
  rm -rf "$work/out"
  taskset -c "$LOAD_CORE" "$BIN/loadgen" --scenario "$ROOT/scripts/bench/cost.toml" --repeats 1 \
    --set "load.client=$1" --set "load.calls=$calls" --out "$work/out" --rate scenario \
    --target "127.0.0.1:${backend_ports[0]}" >"$work/loadgen.log" 2>&1 ||
    { cat "$work/loadgen.log" >&2 && die "loadgen failed"; }
  "$BIN/loadgen" export "$work"/out/cost/* --out "$work/export" >/dev/null
  read -r ns made < <(awk '/^layerlab_trial_cpu_seconds/ && /process="generator"/ { cpu += $NF }
    /^layerlab_trial_latency_seconds_count/ { calls = $NF }
    END { printf "%.0f %d\n", cpu * 1e9, calls }' "$work/export/summary.prom")
  say direct "$1" 0 "$ns" "$made"
}

begin
build
(cd "$ROOT" && cargo build --quiet --profile "${PROFILE:-dev}" -p loadgen --bin loadgen) ||
  die "the build failed"
make_request "$work/small" 32
start_backends 4 "$LOAD_CORE"
printf '%-12s %-8s %14s %18s\n' peer by 'proxy us/call' 'generator us/call'
for ((repeat = 1; repeat <= repeats; repeat++)); do
  peer_port=${backend_ports[0]} peer_pid=
  h2load_trial direct
  loadgen_trial wire
  loadgen_trial tonic
  for peer in "${peers[@]}"; do
    is_there "$peer" || continue
    start_peer "$peer" round_robin "$PROXY_CORE" || die "$peer did not start"
    load "$LOAD_CORE" "$peer_port" "$work/small" -c 8 -m 16 -n $((calls / 5 + 1000)) || true
    h2load_trial "$peer"
    end "$peer_pid"
  done
done
