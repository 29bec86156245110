# shellcheck shell=bash
# What the benchmarks share: starting and ending processes, counting calls at
# the backends, and reading what a process has cost. Sourced, never run.
#
# The load generator is h2load, which knows HTTP and not gRPC: a call counts as
# made only if a backend says that it answered it with OK.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly ROOT
readonly UNARY=/layerlab.echo.v1.Echo/Unary

# Every process that was started and not yet ended.
started=()
work=

die() { printf 'error: %s\n' "$1" >&2 && exit 1; }
note() { printf '%s\n' "$1" >&2; }

# begin: a folder for this run's files, and the promise to leave nothing behind.
begin() {
  work=$(mktemp -d)
  trap 'clean_up' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

clean_up() {
  local pid
  for pid in ${started+"${started[@]}"}; do
    end "$pid"
  done
  rm -rf "$work"
}

# tree PID: it and all its descendants. nginx and nghttpx do their work in a
# child.
tree() {
  local pid=$1 child children
  printf '%s\n' "$pid"
  children=$(cat "/proc/$pid/task/"*/children 2>/dev/null) || true
  for child in $children; do
    tree "$child"
  done
}

# end PID: asks, waits, then insists. The tree is read first: the children of a
# process that is gone can't be told.
end() {
  local pid=$1 pids tries
  pids=$(tree "$pid")
  kill -CONT "$pid" 2>/dev/null || true
  kill -TERM "$pid" 2>/dev/null || true
  for ((tries = 0; tries < 20; tries++)); do
    is_gone "$pid" && break
    sleep 0.05
  done
  # shellcheck disable=SC2086 # a list of words
  kill -KILL $pids 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  local kept=() other
  for other in "${started[@]}"; do
    [ "$other" = "$pid" ] || kept+=("$other")
  done
  started=(${kept+"${kept[@]}"})
}

is_gone() {
  local state
  state=$(awk '$1 == "State:" { print $2 }' "/proc/$1/status" 2>/dev/null) || return 0
  [ -z "$state" ] || [ "$state" = Z ]
}

# The range below the one the kernel hands out, so that no connection of ours
# takes the port between this look and its use.
next_port=$((20000 + RANDOM % 10000))
free_port() {
  local hex
  while :; do
    next_port=$((next_port + 1))
    hex=$(printf '%04X' "$next_port")
    if ! awk -v port=":$hex" '$2 ~ port "$" { found = 1 } END { exit !found }' /proc/net/tcp; then
      port=$next_port
      return
    fi
  done
}

# wait_for_port PORT PID LOG
wait_for_port() {
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
      return
    fi
    if is_gone "$2"; then
      break
    fi
    sleep 0.05
  done
  sed 's/^/  | /' "$3" >&2
  return 1
}

# start_backends COUNT CORE [FLAG...]: sets backend_ports, metrics_ports and
# backend_pids.
start_backends() {
  local count=$1 core=$2 index
  shift 2
  backend_ports=() metrics_ports=() backend_pids=()
  for ((index = 0; index < count; index++)); do
    start_backend "$index" "$core" "$@"
  done
}

# start_backend INDEX CORE [FLAG...]
start_backend() {
  local index=$1 core=$2
  shift 2
  free_port && backend_ports[index]=$port
  free_port && metrics_ports[index]=$port
  # A long queue and no service time: the backend is to be no bottleneck.
  taskset -c "$core" "$BIN/echo-backend" --listen "127.0.0.1:${backend_ports[index]}" \
    --metrics-listen "127.0.0.1:${metrics_ports[index]}" --id "b$index" --threads 1 \
    --concurrency 1000 "$@" >"$work/backend-$index.log" 2>&1 &
  backend_pids[index]=$!
  started+=("${backend_pids[index]}")
  wait_for_port "${backend_ports[index]}" "${backend_pids[index]}" "$work/backend-$index.log" ||
    die "backend $index did not start (its output is above)"
}

# start_peer PEER POLICY CORE: sets peer_pid and peer_port. Ours are named
# l4, l7:hyper, l7:relay; the others are folders of scenarios/peers.
start_peer() {
  local peer=$1 policy=$2 core=$3 index log=$work/peer.log
  local words=() variables=() backends=()
  free_port && peer_port=$port
  case $peer in
    l4 | l7:*)
      words=("$BIN/${peer%%:*}-proxy" --listen "127.0.0.1:$peer_port" --policy "$policy" --threads 1)
      [ "$peer" = l4 ] || words+=(--data-plane "${peer#l7:}")
      for index in "${!backend_ports[@]}"; do
        words+=("--backend=127.0.0.1:${backend_ports[index]}")
      done
      ;;
    *)
      local folder kind value
      folder=$(mktemp -d -p "$work")
      for index in "${!backend_ports[@]}"; do
        backends+=(--backend "b$index=127.0.0.1:${backend_ports[index]}")
      done
      "$BIN/examples/render_peer" "$peer" --dir "$folder" --listen "127.0.0.1:$peer_port" \
        --policy "$policy" "${backends[@]}" >"$folder/.words" || return 1
      while read -r kind value; do
        case $kind in
          env) variables+=("$value") ;;
          arg) words+=("$value") ;;
        esac
      done <"$folder/.words"
      ;;
  esac
  env ${variables+"${variables[@]}"} taskset -c "$core" "${words[@]}" >"$log" 2>&1 </dev/null &
  peer_pid=$!
  started+=("$peer_pid")
  wait_for_port "$peer_port" "$peer_pid" "$log"
}

# make_request FILE BYTES: a gRPC message that holds an EchoRequest with that
# much payload, and asks for as much back.
make_request() {
  local file=$1 bytes=$2 size length
  size=$(varint "$bytes")
  # Twice a tag of one byte and the size, and the payload.
  length=$((bytes + 2 + 2 * ${#size} / 4))
  {
    # shellcheck disable=SC2059 # the format is the data
    printf "$(printf '\\x00\\x%02x\\x%02x\\x%02x\\x%02x\\x12' $((length >> 24)) \
      $((length >> 16 & 255)) $((length >> 8 & 255)) $((length & 255)))$size"
    head -c "$bytes" /dev/zero | tr '\0' x
    # shellcheck disable=SC2059 # the format is the data
    printf "\\x18$size"
  } >"$file"
}

# varint NUMBER: as escapes for printf.
varint() {
  local rest=$1
  while [ "$rest" -ge 128 ]; do
    printf '\\x%02x' $((rest & 127 | 128))
    rest=$((rest >> 7))
  done
  printf '\\x%02x' "$rest"
}

# load CORE PORT REQUEST FLAG...: h2load's words to $work/h2load.log.
load() {
  local core=$1 port=$2 request=$3
  shift 3
  taskset -c "$core" "$H2LOAD" -H 'content-type: application/grpc' -H 'te: trailers' \
    -d "$request" "$@" "http://127.0.0.1:$port$UNARY" >"$work/h2load.log" 2>&1
}

# metrics INDEX: a backend's metrics, read without a tool that may be missing.
metrics() {
  exec 3<>"/dev/tcp/127.0.0.1/${metrics_ports[$1]}"
  printf 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' \
    "${metrics_ports[$1]}" >&3
  cat <&3
  exec 3>&-
}

# calls OUTCOME: how many calls ended so at each backend, as words.
calls() {
  local index
  for index in "${!metrics_ports[@]}"; do
    metrics "$index" | awk -v outcome="outcome=\"$1\"" '
      /^echo_calls_ended_total/ && index($0, outcome) { sum += $NF } END { printf "%d ", sum }'
  done
}

# connections: how many connections each backend has accepted, as words.
connections() {
  local index
  for index in "${!metrics_ports[@]}"; do
    metrics "$index" | awk '/^echo_connections_accepted_total/ { sum += $NF } END { printf "%d ", sum }'
  done
}

# difference BEFORE AFTER: word by word.
difference() {
  awk -v before="$1" -v after="$2" 'BEGIN {
    count = split(after, a, " "); split(before, b, " ")
    for (i = 1; i <= count; i++) printf "%d ", a[i] - b[i] }'
}

total() { awk '{ for (i = 1; i <= NF; i++) sum += $i } END { printf "%d", sum }' <<<"$1"; }

# cpu_ns PID: nanoseconds on a core, over the process tree. The scheduler's own
# count; the usual one in /proc/PID/stat ticks at a hundredth of a second.
cpu_ns() {
  local pid
  for pid in $(tree "$1"); do
    cat "/proc/$pid/task/"*/schedstat 2>/dev/null || true
  done | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# is_there PEER: whether its program is found; says what to do if not.
is_there() {
  case $1 in
    l4 | l7:hyper) return 0 ;;
    l7:*)
      # clap lists values as `- name: what it is`.
      if [[ "$("$BIN/l7-proxy" --help)" != *"- ${1#l7:}: "* ]]; then
        note "l7-proxy has no data plane ${1#l7:}"
        return 1
      fi
      ;;
    *) "$BIN/examples/render_peer" "$1" --version >/dev/null ;;
  esac
}

# build: what is measured. The dev profile is optimised; PROFILE=release adds
# link-time optimisation. Sets BIN and H2LOAD.
build() {
  local profile=${PROFILE:-dev} folder=debug
  [ "$profile" = dev ] || folder=$profile
  (cd "$ROOT" && cargo build --quiet --profile "$profile" -p l7-proxy -p l4-proxy -p echo-backend &&
    cargo build --quiet --profile "$profile" -p scenario --example render_peer) ||
    die "the build failed"
  BIN=${CARGO_TARGET_DIR:-$ROOT/target}/$folder
  H2LOAD=$ROOT/peers/bin/h2load
  [ -x "$H2LOAD" ] || H2LOAD=$(command -v h2load) ||
    die "h2load is missing; run scripts/install-peers.sh h2load"
}
