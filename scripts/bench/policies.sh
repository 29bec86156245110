#!/usr/bin/env bash
# Whether each policy that a peer file claims is the one that the proxy does.
#
# A proxy takes a wrong word for a policy without complaint, and then a report
# compares two policies by one name. So each pair is driven into corners where
# policies differ by what they can't help doing:
#
# Calls (L7), one after another: only round robin comes out exactly even, and
#   what is drawn by chance comes out as chance has it.
# Calls, with one backend of four stopped: a call sent there never ends. Chance
#   sends a quarter there, and soon all 40 streams are stuck. The lesser of two
#   picks it hardly ever.
# Calls, with three stopped: the least loaded is the one that goes on for ever;
#   the lesser of two is stuck when both of two drawn are stopped.
# Connections (L4): 400 are held open, then the first backend's hundred close, and
#   100 more are opened. Chance and round robin give the first 25 of them, the
#   lesser of two about half, and the least loaded all.
# Hashes (L4): one address, one backend; many addresses, several.
set -euo pipefail
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh policies [PEER...]

Checks that each policy a peer claims in scenarios/peers/ is what it does, by
calls that only that policy spreads so. PEER is a folder's name, or l4, l7:hyper,
l7:relay; all unless named. Ends with 1 if one does something else.
USAGE
}

failed=0

main() {
  local peers=() peer policy
  case ${1:-} in
    -h | --help) usage && exit 0 ;;
  esac
  begin
  build
  make_request "$work/request" 32
  peers=("$@")
  if [ ${#peers[@]} -eq 0 ]; then
    peers=(l4 l7:hyper l7:relay)
    for peer in "$ROOT"/scenarios/peers/*-l[47]/; do
      peers+=("$(basename "$peer")")
    done
  fi
  printf '%-12s %-13s %-46s %s\n' peer policy seen verdict
  for peer in "${peers[@]}"; do
    if ! is_there "$peer" 2>"$work/why"; then
      printf '%-12s NOT CHECKED: %s\n' "$peer" "$(tail -n 1 "$work/why")"
      continue
    fi
    for policy in $("$BIN/examples/render_peer" "${peer%%:*}" --policies); do
      check "$peer" "$policy"
    done
  done
  return "$failed"
}

check() {
  local peer=$1 policy=$2 seen=''
  case $peer:$policy in
    # No corner is known where these must differ from p2c, or, where backends report
    # nothing, from another one.
    *:peak_ewma | *:least_request | *:weighted_round_robin | *:prequal) verdict=skipped ;;
    # Without a header to hash there is no key.
    l7:*_hash | l7:*maglev) verdict=skipped ;;
    # With many connections its load is bounded, so that one address has several.
    *:bounded_ring_hash) verdict=skipped ;;
    l4:*_hash | l4:maglev | *-l4:*_hash | *-l4:maglev) hashed "$peer" "$policy" ;;
    l4:* | *-l4:*) connections_picked "$peer" "$policy" ;;
    *) calls_picked "$peer" "$policy" ;;
  esac
  [ "$verdict" = skipped ] || [ "$verdict" = ok ] || failed=1
  printf '%-12s %-13s %-46s %s\n' "$peer" "$policy" "$seen" "$verdict"
}

# judge POLICY CONDITION: the condition is awk's.
judge() { if awk "BEGIN { exit !($1) }"; then verdict=ok; else verdict=WRONG; fi; }

even() { awk '{ for (i = 2; i <= NF; i++) if ($i - $1 > 1 || $1 - $i > 1) odd = 1 } END { print !odd }' <<<"$1"; }

# Within four and a half standard deviations of a quarter of 400.
by_chance() { awk '{ for (i = 1; i <= NF; i++) if ($i < 61 || $i > 139) odd = 1 } END { print !odd }' <<<"$1"; }

calls_picked() {
  local peer=$1 policy=$2 before spread one three
  start_backends 4 0
  start_peer "$peer" "$policy" 1 || die "$peer did not start with $policy"
  before=$(calls ok)
  load 0 "$peer_port" "$work/request" -n 400 -c 1 -m 1
  spread=$(difference "$before" "$(calls ok)")
  # Its connections exist now, so a backend that stops is one that was in use.
  kill -STOP "${backend_pids[3]}"
  one=$(calls_until_stuck "$before" 0 1 2)
  restart_peer "$peer" "$policy"
  kill -STOP "${backend_pids[1]}" "${backend_pids[2]}" "${backend_pids[3]}"
  three=$(calls_until_stuck "$before" 0)
  kill -CONT "${backend_pids[@]}"
  end_all
  seen="${spread}| ${one} | ${three}"
  case $policy in
    round_robin) judge "$(even "$spread") && $one < 400" ;;
    random) judge "!$(even "$spread") && $(by_chance "$spread") && $one < 300" ;;
    p2c) judge "$(by_chance "$spread") && $one > 300 && $three < 400" ;;
    least_loaded) judge "$one > 1000 && $three > 1000" ;;
    pick_first) judge "$(backends_used "$spread") == 1" ;;
    *) verdict=skipped ;;
  esac
}

# calls_until_stuck BEFORE BACKEND...: calls that those answered in a while, of 40
# streams.
calls_until_stuck() {
  local index sum=0 first last
  shift
  first=$(sum_of "$@")
  load 0 "$peer_port" "$work/request" -D 1500ms -c 1 -m 40 || true
  last=$(sum_of "$@")
  sum=$((last - first))
  printf '%s' "$sum"
}

# Only backends that run can be asked.
sum_of() {
  local index sum=0 count
  for index in "$@"; do
    count=$(metrics "$index" | awk '/^echo_calls_started_total/ { sum += $NF } END { printf "%d", sum }')
    sum=$((sum + count))
  done
  printf '%s' "$sum"
}

# A fresh proxy that has used all backends once more.
restart_peer() {
  kill -CONT "${backend_pids[@]}"
  end "$peer_pid"
  start_peer "$1" "$2" 1 || die "$1 did not start with $2"
  load 0 "$peer_port" "$work/request" -n 100 -c 1 -m 1
}

connections_picked() {
  local peer=$1 policy=$2 before held more tries
  start_backends 4 0
  end "${backend_pids[0]}"
  # The first backend sends its connections away at this age.
  start_backend 0 0 --max-connection-age 2s
  start_peer "$peer" "$policy" 1 || die "$peer did not start with $policy"
  before=$(connections)
  taskset -c 0 "$H2LOAD" -H 'content-type: application/grpc' -H 'te: trailers' \
    -d "$work/request" -c 400 -D 30 --rps 0.5 "http://127.0.0.1:$peer_port$UNARY" \
    >"$work/held.log" 2>&1 &
  local holder=$!
  started+=("$holder")
  for ((tries = 0; tries < 100; tries++)); do
    held=$(difference "$before" "$(connections)")
    [ "$(total "$held")" -ge 400 ] && break
    sleep 0.05
  done
  for ((tries = 0; tries < 200; tries++)); do
    [ "$(open_connections 0)" -eq 0 ] && break
    sleep 0.05
  done
  before=$(connections)
  load 0 "$peer_port" "$work/request" -D 500ms --rps 1 -c 100 || true
  more=$(difference "$before" "$(connections)")
  end "$holder"
  end_all
  seen="${held}| ${more}"
  local first=${more%% *}
  case $policy in
    round_robin) judge "$(even "$held") && $(even "$more")" ;;
    random) judge "!$(even "$held") && $first >= 10 && $first <= 40" ;;
    p2c) judge "$first >= 32 && $first <= 68" ;;
    least_loaded) judge "$first >= 98" ;;
    pick_first) judge "$(backends_used "$held") == 1" ;;
    *) verdict=skipped ;;
  esac
}

open_connections() { metrics "$1" | awk '/^echo_connections_open/ { sum += $NF } END { printf "%d", sum }'; }

hashed() {
  local peer=$1 policy=$2 before same many index
  if ! command -v curl >/dev/null; then
    verdict=skipped
    seen="curl is missing, which can choose its address"
    return
  fi
  start_backends 4 0
  start_peer "$peer" "$policy" 1 || die "$peer did not start with $policy"
  before=$(connections)
  load 0 "$peer_port" "$work/request" -n 40 -c 40 -m 1
  same=$(difference "$before" "$(connections)")
  before=$(connections)
  for ((index = 1; index <= 60; index++)); do
    curl --silent --output /dev/null --http2-prior-knowledge --max-time 5 \
      --interface "127.0.3.$index" "http://127.0.0.1:$peer_port/" || true
  done
  many=$(difference "$before" "$(connections)")
  end_all
  seen="${same}| ${many}"
  judge "$(backends_used "$same") == 1 && $(backends_used "$many") >= 3"
}

backends_used() { awk '{ for (i = 1; i <= NF; i++) used += $i > 0 } END { print used }' <<<"$1"; }

end_all() {
  local pid
  end "$peer_pid"
  for pid in "${backend_pids[@]}"; do
    end "$pid"
  done
}

main "$@"
