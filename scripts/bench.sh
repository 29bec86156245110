#!/usr/bin/env bash
# The benchmarks, by name: which scenario, with which load and peers. loadgen measures,
# and its reports have the medians, intervals and ratios.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
readonly here root

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh WHAT [OPTION...]

  l7        the L7 data planes beside real proxies
  l4        the L4 proxy beside real proxies and the kernel
  outside   the same costs by h2load, which shares no code with the lab
  truth     the lab where theory knows the answer: measured beside theory
  compare   whether a slowdown is found, and none where there is none
  policies  whether each proxy's policies are what its peer file claims
  clients   the lab's own client beside real ones: what they do when backends change

l7 and l4 take [--peers LIST] [--repeats N] [--out DIR] [WORKLOAD...]; the workloads
are, unary unless said otherwise, with as many bytes back as forth:

  a        1 connection x 32 streams, 32 B
  b        8 connections x 16 streams, 32 B
  c        8 connections x 16 streams, 16 KiB
  d        1,000 connections x 4 streams, 32 B
  e        8 connections x 16 bidirectional streams, 100 messages of 32 B each way
  bulk     8 connections x 4 streams, 1 MiB
  churn    8 connections, one call each before the next is made
  latency  an open loop of 4,000 calls/s on 8 connections
  capacity-a, -b, -c
           calls (of c, GiB too) per second of a core at saturation: the proxy is held
           to a part of a core by a control group, as root

All of them unless named. Each is a run of loadgen, release build, 7 repeats,
interleaved, the proxy alone on a core: scripts/bench/*.toml. Reports go to
target/bench/WHAT-<time>/. After each, what our proxy takes beside every other is
printed as a ratio with its interval. l4-floor and l7-floor are the least that such a hop
can cost on this kernel (crates/loadgen/examples/floor); they serve unary calls that fit a
window, and are left out of e and bulk. scripts/bench.sh WHAT --help explains the others.
Real proxies come from scripts/install-peers.sh; those that are missing are left out, and
the report says so.
USAGE
}

readonly WORKLOADS=(a b c d e bulk churn latency capacity-a capacity-b capacity-c)

# workload NAME: sets scenario, settings, the figures that count, and whether a floor can serve it.
workload() {
  scenario=cost settings=() figures=proxy_cpu_per_call has_floor=yes
  case $1 in
    capacity-*)
      workload "${1#capacity-}"
      scenario=capacity figures=proxy_calls_per_core
      # Of 32 B a call, nobody asks for GiB.
      [ "$1" != capacity-c ] || figures+=,proxy_gib_per_core
      # As long as it takes, and not so many calls.
      settings=(${settings+"${settings[@]/load.calls=*/}"})
      ;;
    a) settings=(load.connections=1 load.streams=32) ;;
    b) ;;
    c) settings=(load.payload=16KiB load.calls=10000) ;;
    d) settings=(load.connections=1000 load.streams=4) ;;
    e) has_floor='' settings=(load.call=bidi load.messages=100 load.calls=500) ;;
    bulk) has_floor='' settings=(load.streams=4 load.payload=1MiB load.calls=500) ;;
    churn) settings=(load.streams=1 load.connection_calls=1 load.calls=5000) ;;
    latency) scenario=latency figures=latency_p50,latency_p99,proxy_cpu_per_call ;;
    *) printf 'error: unknown workload: %s\n' "$1" >&2 && exit 2 ;;
  esac
}

# proxies LAYER PEERS [OPTION...]
proxies() {
  local layer=$1 peers=$2 repeats=7 out names=() name setting flags among file
  local scenario settings figures has_floor
  shift 2
  out=$root/target/bench/$layer-$(date -u +%Y%m%dT%H%M%SZ)
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && return ;;
      --peers) peers=${2:?--peers needs a list} && shift ;;
      --repeats) repeats=${2:?--repeats needs a number} && shift ;;
      --out) out=${2:?--out needs a folder} && shift ;;
      *) workload "$1" && names+=("$1") ;;
    esac
    shift
  done
  [ ${#names[@]} -gt 0 ] || names=("${WORKLOADS[@]}")
  local loadgen=${LOADGEN:-$root/target/release/loadgen}
  if [ -z "${LOADGEN:-}" ]; then
    (cd "$root" && cargo build --quiet --release -p loadgen --bin loadgen --example floor)
    export LAYERLAB_FLOOR=$root/target/release/examples/floor
  fi
  for name in "${names[@]}"; do
    workload "$name"
    flags=()
    for setting in ${settings+"${settings[@]}"}; do
      [ -z "$setting" ] || flags+=(--set "$setting")
    done
    among=$peers
    [ -n "$has_floor" ] || among=${peers/$layer-floor,/}
    printf '\n== %s, workload %s\n' "$layer" "$name"
    file=$here/bench/$scenario.toml
    [ -e "$file" ] || file=$root/scenarios/$scenario.toml
    "$loadgen" --scenario "$file" --peers "$among" --repeats "$repeats" \
      --out "$out/$name" ${flags+"${flags[@]}"}
    "$loadgen" report "$out/$name/$scenario"/* --beside "$layer" --figures "$figures"
  done
}

case ${1:-} in
  -h | --help | '') usage ;;
  l7) shift && proxies l7 direct,l7,l7-floor,l7-hyper,haproxy-l7,nghttpx-l7,envoy-l7,nginx-l7,caddy-l7 "$@" ;;
  l4) shift && proxies l4 direct,l4,l4-floor,haproxy-l4,nginx-l4,envoy-l4 "$@" ;;
  clients | compare | outside | policies | truth)
    what=$1
    shift
    exec bash "$here/bench/$what.sh" "$@"
    ;;
  *)
    usage >&2
    printf 'error: unknown benchmark: %s\n' "$1" >&2
    exit 2
    ;;
esac
