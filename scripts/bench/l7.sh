#!/usr/bin/env bash
# What a call costs in each proxy, measured side by side: CPU, system calls,
# allocations, added latency, and memory of idle connections.
#
# A trial is a fresh process, warmed up, under one load. Peers take turns within
# every repeat, forwards and backwards, so that a slow minute of the machine
# falls on all of them; ratios are taken within a repeat. A trial counts only if
# every call was answered with a gRPC status of OK by a backend.
set -euo pipefail
# shellcheck source=scripts/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh l7 [OPTION...]

Measures the L7 data planes beside real proxies and prints the table of bars.

  --repeats N      trials of each peer and workload (5)
  --calls N        calls of a trial with small messages; 16 KiB takes a third (30000)
  --peers LIST     folders of scenarios/peers, l4, l7:hyper, l7:relay, and direct for
                   no proxy; all that are there, unless named
  --workloads LIST of a,b,c,d,e (all)
  --parts LIST     of cost,latency,syscalls,allocations,idle (all)
  --rate N         calls per second of the latency part (half of the median of what
                   the L7 peers do in b)
  --idle N         connections of the idle part (10000)
  --out DIR        where raw figures go (target/bench/l7-<time>)

Workloads, unary calls with as many bytes back as forth:
  a  1 connection x 32 streams, 32 B
  b  8 connections x 16 streams, 32 B
  c  8 connections x 16 streams, 16 KiB
  d  1,000 connections x 4 streams, 32 B
  e  8 connections x 16 bidirectional streams, 100 messages of 32 B each way, sent
     without waiting for answers; figures are per message. By loadgen: h2load
     makes unary calls only

Environment: PROFILE=release, PROXY_CORE (1), LOAD_CORE (0), and LAYERLAB_ENVOY and
the like for a program of your own.
USAGE
}

repeats=5
calls_small=30000
peers=()
workloads=(a b c d e)
parts=(cost latency syscalls allocations idle)
rate=
idle_connections=10000
out=
readonly PROXY_CORE=${PROXY_CORE:-1} LOAD_CORE=${LOAD_CORE:-0}
readonly ALL=(direct l4 l7:hyper l7:relay haproxy-l7 nghttpx-l7 envoy-l7 nginx-l7 caddy-l7)

main() {
  read_arguments "$@"
  begin
  build
  (cd "$ROOT" && cargo build --quiet --profile "${PROFILE:-dev}" -p loadgen --bin loadgen) ||
    die "the build failed"
  check_machine
  choose_peers
  make_request "$work/small" 32
  make_request "$work/large" 16384
  open_out
  start_backends 4 "$LOAD_CORE"
  local part
  for part in "${parts[@]}"; do
    case $part in
      cost) measure_in_turns cost "${workloads[@]}" ;;
      latency)
        choose_rate
        measure_in_turns latency b
        ;;
      syscalls) measure_once syscalls ;;
      allocations) measure_allocations ;;
      idle) measure_once idle ;;
    esac
  done
  awk -v folder="$out" -f "$ROOT/scripts/bench/l7-table.awk" | tee "$out/table.md"
  note "raw figures, versions and configurations: ${out#"$ROOT/"}"
}

read_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --repeats | --calls | --peers | --workloads | --parts | --rate | --idle | --out)
        [ $# -ge 2 ] || die "$1 needs a value"
        ;;
      *) usage >&2 && die "unknown option: $1" ;;
    esac
    case $1 in
      --repeats) repeats=$(number "$1" "$2") ;;
      --calls) calls_small=$(number "$1" "$2") ;;
      --peers) IFS=, read -r -a peers <<<"$2" ;;
      --workloads) IFS=, read -r -a workloads <<<"$2" ;;
      --parts) IFS=, read -r -a parts <<<"$2" ;;
      --rate) rate=$(number "$1" "$2") ;;
      --idle) idle_connections=$(number "$1" "$2") ;;
      --out) out=$2 ;;
    esac
    shift 2
  done
}

number() {
  [[ $2 =~ ^[1-9][0-9]*$ ]] || die "$1 takes a number above zero, not $2"
  printf '%s' "$2"
}

check_machine() {
  command -v taskset >/dev/null || die "taskset is missing (Debian: apt-get install util-linux)"
  local core
  for core in "$PROXY_CORE" "$LOAD_CORE"; do
    taskset -c "$core" true 2>/dev/null || die "there is no core $core; set PROXY_CORE and LOAD_CORE"
  done
  ulimit -n "$(ulimit -Hn)"
  local most=$(($(ulimit -n) - 200))
  if [ "$idle_connections" -gt "$most" ]; then
    note "NOTE: idle connections: $most rather than $idle_connections (ulimit -n is $(ulimit -n))"
    idle_connections=$most
  fi
}

# Those asked for that are there. What is missing is said, and stays said in the
# table.
choose_peers() {
  local asked=("${ALL[@]}") peer
  [ ${#peers[@]} -eq 0 ] || asked=("${peers[@]}")
  peers=()
  for peer in "${asked[@]}"; do
    if [ "$peer" = direct ] || is_there "$peer" 2>"$work/why"; then
      peers+=("$peer")
    else
      printf 'NOT MEASURED: %s: %s\n' "$peer" "$(tail -n 1 "$work/why")" >>"$work/missing"
      tail -n 1 "$work/missing" >&2
    fi
  done
  [ ${#peers[@]} -gt 0 ] || die "no peer is there"
}

open_out() {
  local peer
  out=${out:-$ROOT/target/bench/l7-$(date -u +%Y%m%dT%H%M%SZ)}
  mkdir -p "$out/configs"
  touch "$work/missing" && cp "$work/missing" "$out/missing"
  {
    printf 'date %s\n' "$(date -u +%FT%TZ)"
    printf 'revision %s\n' "$(git -C "$ROOT" describe --always --dirty 2>/dev/null || echo unknown)"
    printf 'profile %s\n' "${PROFILE:-dev}"
    printf 'kernel %s\n' "$(uname -sr)"
    printf 'cores %s\n' "$(nproc)"
    printf 'load_average %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
    printf 'repeats %s\n' "$repeats"
    printf 'h2load %s\n' "$("$H2LOAD" --version | awk '{ print $NF }')"
    for peer in "${peers[@]}"; do
      [ "$peer" = direct ] || printf 'peer %s %s\n' "$peer" "$(version "$peer")"
    done
  } >"$out/environment"
  for peer in "${peers[@]}"; do
    [ -d "$ROOT/scenarios/peers/$peer" ] && cp -r "$ROOT/scenarios/peers/$peer" "$out/configs/"
  done
  printf 'repeat,peer,workload,calls,answered,valid,proxy_ns,user_ticks,system_ticks,backends_ns,load_ns,calls_per_s,why\n' >"$out/cost.csv"
  printf 'repeat,peer,workload,rate,calls,valid,p50_us,p99_us,why\n' >"$out/latency.csv"
  printf 'peer,workload,calls,valid,syscalls,with\n' >"$out/syscalls.csv"
  printf 'peer,workload,calls,valid,allocations\n' >"$out/allocations.csv"
  printf 'peer,connections,valid,before_kib,after_kib\n' >"$out/idle.csv"
}

# measure_in_turns PART WORKLOAD...
measure_in_turns() {
  local part=$1 repeat turn peer workload
  shift
  for ((repeat = 1; repeat <= repeats; repeat++)); do
    for turn in "${!peers[@]}"; do
      # Every other repeat runs backwards, so that nobody always follows the same
      # peer.
      ((repeat % 2)) || turn=$((${#peers[@]} - 1 - turn))
      peer=${peers[turn]}
      for workload in "$@"; do
        note "$part $workload, repeat $repeat of $repeats: $peer"
        [ "$workload" = e ] && with_peer "$peer" streams_trial "$repeat" && continue
        with_peer "$peer" "${part}_trial" "$repeat" "$workload"
      done
    done
  done
}

measure_once() {
  local part=$1 peer
  for peer in "${peers[@]}"; do
    [ "$peer" = direct ] && continue
    note "$part: $peer"
    with_peer "$peer" "${part}_trial"
  done
}

# with_peer PEER FUNCTION ARGUMENT...: calls FUNCTION PEER ARGUMENT... while the peer
# runs.
with_peer() {
  local peer=$1 trial=$2
  shift 2
  if [ "$peer" = direct ]; then
    peer_port=${backend_ports[0]} peer_pid=
    "$trial" "$peer" "$@"
    return
  fi
  if ! start_peer "$peer" round_robin "$PROXY_CORE"; then
    note "NOTE: $peer did not start; this trial is missing (its output is above)"
    return
  fi
  "$trial" "$peer" "$@"
  end "$peer_pid"
}

# shape WORKLOAD: sets request, flags and calls.
shape() {
  request=$work/small calls=$calls_small
  case $1 in
    a) flags=(-c 1 -m 32) ;;
    b) flags=(-c 8 -m 16) ;;
    c) flags=(-c 8 -m 16) request=$work/large calls=$((calls_small / 3)) ;;
    d) flags=(-c 1000 -m 4) ;;
    *) die "unknown workload: $1" ;;
  esac
}

proxy_ns() { if [ -n "$peer_pid" ]; then cpu_ns "$peer_pid"; else printf 0; fi; }
proxy_ticks() { if [ -n "$peer_pid" ]; then user_system "$peer_pid"; else printf '0 0'; fi; }

backends_ns() {
  local pid
  for pid in "${backend_pids[@]}"; do
    cpu_ns "$pid" && echo
  done | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# cost_trial PEER REPEAT WORKLOAD
cost_trial() {
  local peer=$1 repeat=$2 workload=$3 before ns ticks backends load_ns ticks_after answered why TIMEFORMAT='%U %S'
  shape "$workload"
  # The warm-up is long enough for buffers, tables and connections to exist.
  load "$LOAD_CORE" "$peer_port" "$request" "${flags[@]}" -n $((calls / 5 + 1000)) || true
  before=$(calls ok)
  ns=$(proxy_ns) ticks=$(proxy_ticks) backends=$(backends_ns)
  { time load "$LOAD_CORE" "$peer_port" "$request" "${flags[@]}" -n "$calls" 2>/dev/null || true; } \
    2>"$work/time"
  ns=$(($(proxy_ns) - ns)) backends=$(($(backends_ns) - backends))
  read -r -a ticks_after <<<"$(proxy_ticks)"
  read -r -a ticks <<<"$ticks"
  load_ns=$(awk 'NF == 2 { printf "%.0f", ($1 + $2) * 1e9 }' "$work/time")
  answered=$(difference "$before" "$(calls ok)")
  why=$(doubts "$peer" "$calls" "$answered")
  printf '%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s\n' "$repeat" "$peer" "$workload" "$calls" \
    "$(total "$answered")" "$(valid "$why")" "$ns" $((ticks_after[0] - ticks[0])) \
    $((ticks_after[1] - ticks[1])) "$backends" "$load_ns" "$(load_rate)" "$why" >>"$out/cost.csv"
}

readonly MESSAGES=100

# streams COUNT: makes that many streaming calls, and a few before them.
streams() {
  cat >"$work/streams.toml" <<SCENARIO
question = "What does a message of a long stream cost?"
[load]
loop = "closed"
call = "bidi"
messages = $MESSAGES
connections = 8
streams = 16
payload = "32B"
calls = $1
warm_up = "100ms"
[run]
repeats = 1
SCENARIO
  taskset -c "$LOAD_CORE" "$BIN/loadgen" --scenario "$work/streams.toml" --out "$work/streams" \
    --target "127.0.0.1:$peer_port" >"$work/loadgen.log" 2>&1
}

# streams_trial PEER REPEAT: cost_trial for e. Calls of loadgen's warm-up count too.
streams_trial() {
  local peer=$1 repeat=$2 before ns ticks ticks_after backends answered why=''
  streams 100 || true
  before=$(calls ok)
  ns=$(proxy_ns) ticks=$(proxy_ticks) backends=$(backends_ns)
  streams $((calls_small / MESSAGES)) || why="loadgen: $(tail -n 1 "$work/loadgen.log" | tr , ';')"
  ns=$(($(proxy_ns) - ns)) backends=$(($(backends_ns) - backends))
  read -r -a ticks_after <<<"$(proxy_ticks)"
  read -r -a ticks <<<"$ticks"
  answered=$(difference "$before" "$(calls ok)")
  if [ -z "$why" ] && [[ $peer == *l7* ]] && ! is_even "$answered"; then
    why="streams are not spread evenly: $answered"
  fi
  printf '%s,%s,e,%s,%s,%s,%s,%s,%s,%s,,,%s\n' "$repeat" "$peer" $(($(total "$answered") * MESSAGES)) \
    "$(total "$answered")" "$(valid "$why")" "$ns" $((ticks_after[0] - ticks[0])) \
    $((ticks_after[1] - ticks[1])) "$backends" "$why" >>"$out/cost.csv"
}

# doubts PEER CALLS ANSWERED: why a trial doesn't count, or nothing.
doubts() {
  local peer=$1 calls=$2 answered=$3 succeeded
  succeeded=$(load_succeeded)
  if [ "${succeeded:-0}" -ne "$calls" ]; then
    printf 'h2load counts %s of %s calls' "${succeeded:-0}" "$calls"
  elif [ "$(total "$answered")" -ne "$calls" ]; then
    printf 'backends answered %s of %s calls with OK' "$(total "$answered")" "$calls"
  elif [[ $peer == *l7* ]] && ! is_even "$answered"; then
    printf 'calls are not spread evenly: %s' "$answered"
  fi
}

valid() { [ -z "$1" ] && printf 1 || printf 0; }

# Round robin per call: within a hundredth of each other.
is_even() {
  awk '{ for (i = 1; i <= NF; i++) { sum += $i; if (i == 1 || $i < min) min = $i; if ($i > max) max = $i } }
    END { exit !(max - min <= sum / 100 + 2) }' <<<"$1"
}

# The same rate for all, or latencies could not be compared. A peer that can't
# keep it is named as doubtful; half of what the slowest does would leave all the
# others idle.
choose_rate() {
  [ -z "$rate" ] || return 0
  rate=$(awk -F, 'NR > 1 && $3 == "b" && $6 == 1 && $2 ~ /l7/ { print $12 }' "$out/cost.csv" |
    sort -n | awk '{ all[NR] = $1 } END { if (NR) printf "%d", all[int((NR + 1) / 2)] / 2 }')
  if [ -z "$rate" ] || [ "$rate" -lt 8 ]; then
    rate=1000
    note "NOTE: latency at 1000 calls/s; the cost part says nothing of b, so half load is not known"
  fi
}

# latency_trial PEER REPEAT WORKLOAD
latency_trial() {
  local peer=$1 repeat=$2 workload=$3 before answered why='' p50 p99
  shape "$workload"
  before=$(calls ok)
  rm -f "$work/latencies"
  load "$LOAD_CORE" "$peer_port" "$request" "${flags[@]}" -D 3 --warm-up-time 1 \
    --rps "$(awk -v rate="$rate" 'BEGIN { printf "%.3f", rate / 8 }')" \
    --log-file "$work/latencies" || true
  answered=$(total "$(difference "$before" "$(calls ok)")")
  if [ "$(load_failed)" != 0 ] || [ "$answered" -lt "$(load_succeeded)" ]; then
    why="backends answered $answered calls with OK, and h2load counts $(load_succeeded)"
  elif awk -v rate="$rate" -v seen="$(load_rate)" 'BEGIN { exit !(seen < 0.95 * rate) }'; then
    why="only $(load_rate) calls/s were made"
  fi
  read -r p50 p99 < <(cut -f3 "$work/latencies" | sort -n |
    awk '{ all[NR] = $1 } END { print all[int((NR - 1) * 0.5) + 1], all[int((NR - 1) * 0.99) + 1] }')
  printf '%s,%s,%s,%s,%s,%s,%s,%s,%s\n' "$repeat" "$peer" "$workload" "$rate" "$answered" \
    "$(valid "$why")" "$p50" "$p99" "$why" >>"$out/latency.csv"
}

# syscalls_trial PEER: in b. perf counts without slowing the proxy; strace slows
# it, which lets more work gather for each call and flatters the figure.
syscalls_trial() {
  local peer=$1 before counter pids count with why
  shape b
  load "$LOAD_CORE" "$peer_port" "$request" "${flags[@]}" -n 2000 || true
  pids=$(tree "$peer_pid" | paste -sd,)
  before=$(calls ok)
  rm -f "$work/count"
  if command -v perf >/dev/null && perf stat -e raw_syscalls:sys_enter true >/dev/null 2>&1; then
    with=perf
    perf stat -x, -e raw_syscalls:sys_enter -p "$pids" -o "$work/count" &
  elif command -v strace >/dev/null; then
    with=strace
    strace -qq -c -f -o "$work/count" -p "$pids" 2>/dev/null &
  else
    note "NOTE: system calls are not counted; perf or strace is needed"
    return
  fi
  counter=$!
  started+=("$counter")
  # It says nothing when it is attached; calls made before would be missed.
  sleep 0.5
  load "$LOAD_CORE" "$peer_port" "$request" "${flags[@]}" -n "$calls" || true
  kill -INT "$counter" 2>/dev/null || true
  wait "$counter" || true
  end "$counter"
  case $with in
    perf) count=$(awk -F, '/sys_enter/ { print $1 }' "$work/count") ;;
    strace) count=$(awk '$NF == "total" { print $4 }' "$work/count") ;;
  esac
  why=$(doubts "$peer" "$calls" "$(difference "$before" "$(calls ok)")")
  printf '%s,b,%s,%s,%s,%s\n' "$peer" "$calls" "$(valid "$why")" "${count:-0}" "$with" >>"$out/syscalls.csv"
}

# In b, by our own data planes: those of a long run less those of a short one, so
# that what is made once doesn't count. valgrind counts what is asked of the
# allocator.
measure_allocations() {
  local peer calls before short long why
  command -v valgrind >/dev/null || {
    note "NOTE: allocations are not counted; valgrind is needed"
    return
  }
  for peer in "${peers[@]}"; do
    [[ $peer == l7:* ]] || continue
    note "allocations: $peer"
    why=''
    allocations_of "$peer" 2000 && short=$allocations
    allocations_of "$peer" 7000 && long=$allocations
    printf '%s,b,5000,%s,%s\n' "$peer" "$(valid "$why")" $((long - short)) >>"$out/allocations.csv"
  done
}

# allocations_of PEER CALLS: sets allocations, and why if the trial doesn't count.
allocations_of() {
  local peer=$1 calls=$2 flags request
  under=(valgrind --tool=memcheck --leak-check=no --undef-value-errors=no "--log-file=$work/heap")
  start_peer "$peer" round_robin "$PROXY_CORE" || die "$peer did not start under valgrind"
  under=()
  flags=(-c 8 -m 16) request=$work/small
  before=$(calls ok)
  load "$LOAD_CORE" "$peer_port" "$request" "${flags[@]}" -n "$calls" || true
  why=$why$(doubts "$peer" "$calls" "$(difference "$before" "$(calls ok)")")
  # Its count is printed at its end, which comes slowly.
  kill -TERM "$peer_pid"
  wait "$peer_pid" || true
  end "$peer_pid"
  allocations=$(awk '/total heap usage:/ { gsub(",", "", $5); print $5 }' "$work/heap")
  [ -n "$allocations" ] || die "valgrind printed no count for $peer"
}

# idle_trial PEER: memory of connections that have made one call and now wait.
idle_trial() {
  local peer=$1 before after count most first holder tries seen=0
  # Others than ours may take, or set aside, two descriptors for each client: an
  # L4 proxy, HAProxy, and nginx, whose file allows 16,384.
  count=$idle_connections most=$(((($(ulimit -n) > 16384 ? 16384 : $(ulimit -n)) - 1000) / 2))
  if [[ $peer != l7:* ]] && [ "$count" -gt "$most" ]; then
    count=$most
  fi
  load "$LOAD_CORE" "$peer_port" "$work/small" -n 2000 -c 8 -m 16 || true
  before=$(memory_kib "$peer_pid")
  first=$(total "$(calls ok)")
  taskset -c "$LOAD_CORE" "$H2LOAD" -H 'content-type: application/grpc' -H 'te: trailers' \
    -d "$work/small" -c "$count" -D 120 --rps 0.001 "http://127.0.0.1:$peer_port$UNARY" \
    >"$work/idle.log" 2>&1 &
  holder=$!
  started+=("$holder")
  for ((tries = 0; tries < 300; tries++)); do
    seen=$(($(total "$(calls ok)") - first))
    [ "$seen" -ge "$count" ] && break
    sleep 0.1
  done
  # What is freed after the burst is not held by idle connections.
  sleep 1
  after=$(memory_kib "$peer_pid")
  end "$holder"
  # Memory is shared out over the connections that made their call. A few may
  # fail in the burst (Caddy's do, one or two of a thousand); more are another
  # question.
  local is_most=0
  [ $((seen * 100)) -lt $((count * 99)) ] || is_most=1
  printf '%s,%s,%s,%s,%s\n' "$peer" "$((is_most ? seen : count))" "$is_most" "$before" "$after" >>"$out/idle.csv"
}

main "$@"
