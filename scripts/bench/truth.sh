#!/usr/bin/env bash
# Measured beside theory: see crates/loadgen/examples/truth.rs.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-} in
  simulate)
    # Chance and arithmetic alone, so that a busy machine only makes it slower.
    exec cargo run --quiet --release -p simulate --example truth -- "${2:-1}" "${3:-}"
    ;;
  -h | --help)
    cat <<'USAGE'
usage: scripts/bench.sh truth [--quick] [--neighbour] [--table=FILE] [CASE...]
       scripts/bench.sh truth simulate [PART [WORD]]

Runs queues with a known answer through the lab and prints theory beside what was
measured: M/M/1 and M/D/1 without a balancer, random, round robin and p2c behind
the L7 proxy at loads 0.5, 0.7 and 0.85, connections placed by chance behind the
L4 proxy, and the percentiles of calls to a backend that is stopped. Besides that:
CPU time beside readings from outside (`cpu`, `machine`), calls that must not be early
(`early`), a backend that is offered twice what it can do (`overload`), latency on the
wire beside a packet capture (`wire`, as root where tcpdump is installed), pings, losses and
rates of links that take time (`distance`), and whether
`compare --rerun` finds a p99 that is 10 % higher, a proxy that costs 5 % more, and nothing
between equal sides (`detect`, up to 20 minutes a comparison). Simulated, in seconds: how often the intervals
that reports print hold the truth on a machine with phases of steal (`coverage`), and how often
`compare --rerun` finds a difference in its noise (`power`). --neighbour does all of it beside a process in a
control group of its own that is busy for 400 ms of every 2 s. --quick measures less often and shorter. CASE
is a part of a name, as in `M/M/1`, `connections` or `frozen`; all but `detect` take about
20 minutes with --quick. --table writes what was
found as Markdown. Exit code 1 when a figure is off by more than its bound, which
stands beside it.

`truth simulate` asks the simulator instead, of which nothing is measured: prints
what crates/simulate/tests/known/mod.rs knows beside what comes out, within 1 %. A
few minutes on two cores; PART, as in 0.1, makes it shorter.

REALTIME=1 runs all of the lab in real time (chrt -f, as root), so that other work on the
machine can't delay it: a queue that is fed late is another queue.
USAGE
    exit 0
    ;;
esac

cargo build --quiet -p loadgen --bin loadgen --example truth
realtime=()
[ -z "${REALTIME:-}" ] || realtime=(chrt -f 10)
exec ${realtime+"${realtime[@]}"} "${CARGO_TARGET_DIR:-target}/debug/examples/truth" "$@"
