#!/usr/bin/env bash
# What L4 balancers cost, measured side by side: ours on each data plane beside
# HAProxy, nginx and Envoy. Everything is pinned (the proxy alone on one core,
# load and backends on the other), interleaved, and repeated; the table gives
# medians with their spread, and ratios that are taken repeat by repeat.
#
#   scripts/bench.sh l4 [--repeats N] [--workloads a,b,c,...] [--peers NAME,...]
#
#   a, b, c    unary gRPC: 1 x 32 streams of 32 B, 8 x 16 of 32 B, 8 x 16 of 16 KiB
#   bulk       unary gRPC with messages of 1 MiB
#   rawbulk    TCP as fast as it goes, both ways
#   half-load  latency at --rate calls a second
#   churn      connections: open, one call, close
#   idle       memory of --idle-connections that are open and silent
#   memory     memory after the first tenth and the last of --connections
#   threads    calls a second of two threads and of one, each held to --share of a
#              core (0.015) by a control group, so that the proxy is what runs out
#
# Peers are the folders of scenarios/peers/*-l4 with the lab's own templates, and
# ours by data plane; l4-threads-1 and l4-threads-2 (what `threads` compares, as
# root) have both cores. Missing ones are named and left out. PROFILE, PROXY_CORE and LOAD_CORE as in scripts/bench.sh.
# On a machine with other work, start it with `nice -n -10`, or latencies are
# those of waiting for a core.
# Needs python3 and taskset, and h2load for the gRPC workloads.
set -euo pipefail
cd "$(dirname "$0")/../.."

case " $* " in
  *" -h "* | *" --help "*)
    sed -n '2,/^set -e/s/^# \{0,1\}//p' scripts/bench/l4.sh
    exit
    ;;
esac

profile=${PROFILE:-dev}
cargo build --quiet --profile "$profile" -p l4-proxy -p echo-backend --bins
cargo build --quiet --profile "$profile" -p l4-proxy --example load
cargo build --quiet --profile "$profile" -p scenario --example render_peer
directory=$([ "$profile" = dev ] && echo debug || echo "$profile")
export PATH="$PWD/peers/bin:$PATH"
exec python3 scripts/bench/l4.py --binaries "target/$directory" "$@"
