#!/usr/bin/env bash
# Feeds everything that reads a stranger's bytes with what no stranger would send.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
usage: scripts/fuzz.sh [--minutes N] [TARGET...]

Runs the fuzz targets (crates/*/fuzz/fuzz_targets), one after the other, for N
minutes in all (10). TARGET is a target's name; all of them, unless named. Each
starts from what it found the last time (target/fuzz/corpus). Exit code 1 when one
of them failed: its input is then a file in target/fuzz/found, and belongs into a
test of the crate.

Needs a nightly toolchain (`rustup toolchain install nightly`); cargo-fuzz is
installed when it is missing.
USAGE
}

minutes=10
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --minutes) minutes=${2:?--minutes needs a number} && shift ;;
    -*) echo "error: unknown option $1; see --help" >&2 && exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
if ! [[ $minutes =~ ^[0-9]+$ ]] || [ "$minutes" -eq 0 ]; then
  echo "error: --minutes $minutes: expected a whole number from 1" >&2
  exit 2
fi

cargo +nightly --version >/dev/null 2>&1 || {
  echo 'error: no nightly toolchain; run `rustup toolchain install nightly`' >&2
  exit 2
}
cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz

# Where each target lies: crate and name.
declare -A crate_of
for file in crates/*/fuzz/fuzz_targets/*.rs; do
  crate=${file%/fuzz/fuzz_targets/*}
  crate_of[$(basename "$file" .rs)]=$crate
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(printf '%s\n' "${!crate_of[@]}" | sort)
for target in "${targets[@]}"; do
  [ -n "${crate_of[$target]:-}" ] || {
    echo "error: no fuzz target $target; there are: ${!crate_of[*]}" >&2
    exit 2
  }
done

export CARGO_TARGET_DIR=$PWD/target/fuzz/build
found=$PWD/target/fuzz/found
mkdir -p "$found"
seconds=$((minutes * 60 / ${#targets[@]}))
failed=()
for target in "${targets[@]}"; do
  crate=${crate_of[$target]}
  corpus=$PWD/target/fuzz/corpus/$target
  mkdir -p "$corpus"
  echo "== $target of $crate, $seconds s"
  (
    cd "$crate"
    cargo +nightly fuzz run "$target" "$corpus" -- \
      -artifact_prefix="$found/$target-" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
  ) 2>&1 | grep -vE '^(#|INFO|	NEW_FUNC)' || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
