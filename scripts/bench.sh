#!/usr/bin/env bash
# The benchmarks, by name. Each is a file of scripts/bench/, which see.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh WHAT [OPTION...]

  l7        the L7 data planes beside real proxies, against the bars set for them
  l4        the L4 data planes beside real proxies
  generator what a call costs the load generator, beside h2load
  truth     the lab where theory knows the answer: measured beside theory
  compare   whether a slowdown is found, and none where there is none
  policies  whether each proxy's policies are what its peer file claims

scripts/bench.sh WHAT --help explains each. Real proxies come from
scripts/install-peers.sh; those that are missing are left out with a line that
says so.

What they share: the proxy alone on one core, load and backends on another; one
worker each; peers interleaved within each repeat; medians with their range; raw
figures under target/bench/. Set PROFILE=release to measure with link-time
optimisation, PROXY_CORE and LOAD_CORE to choose cores (1 and 0).
USAGE
}

case ${1:-} in
  -h | --help | '') usage ;;
  compare | generator | l4 | l7 | policies | truth)
    what=$1
    shift
    if [ ! -e "$here/bench/$what.sh" ]; then
      printf 'error: there is no scripts/bench/%s.sh\n' "$what" >&2
      exit 1
    fi
    exec bash "$here/bench/$what.sh" "$@"
    ;;
  *)
    usage >&2
    printf 'error: unknown benchmark: %s\n' "$1" >&2
    exit 2
    ;;
esac
