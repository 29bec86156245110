#!/usr/bin/env bash
# What L4 balancers cost, measured side by side: ours on each data plane beside
# HAProxy, nginx and Envoy. Everything is pinned (the proxy alone on one core,
# load and backends on the other), interleaved, and repeated; the table gives
# medians with their spread, and ratios that are taken repeat by repeat.
#
#   scripts/bench/l4.sh [--repeats 5] [--workloads a,b,c,bulk,...] [--peers ...]
#
# Proxies are looked for in peers/ and on PATH; missing ones are named and left
# out. Needs python3, taskset, and h2load for the gRPC workloads.
set -euo pipefail
cd "$(dirname "$0")/../.."

profile=${BENCH_PROFILE:-dev}
cargo build --quiet --profile "$profile" -p l4-proxy -p echo-backend --bins
cargo build --quiet --profile "$profile" -p l4-proxy --example load
directory=$([ "$profile" = dev ] && echo debug || echo "$profile")
exec python3 scripts/bench/l4.py --binaries "target/$directory" "$@"
