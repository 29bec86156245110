#!/usr/bin/env bash
# The gate: what CI runs, and what a change must pass before it lands.
# Everything is built in the profile `gate`, which is optimised little. No step has a
# timing threshold.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$1"; }
skipped=()

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --profile gate --workspace --all-targets --quiet -- -D warnings

step "tests"
# A test that can't be run on this machine says so in a line of its own: for want
# of privilege, mostly, which nothing can be installed for. It is a failure with
# LAYERLAB_REQUIRE_NAMESPACES=1. Most tests of the lab wait for its processes, so that there is
# room for more of them than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) > 4 ? $(nproc) : 4))}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# One that fails does not hide what others find.
cargo test --profile gate --workspace --all-targets --no-fail-fast 2>&1 | tee "$log"
while read -r reason; do
  skipped+=("test ${reason#NOT RUN: }")
done < <(grep -o 'NOT RUN: .*' "$log" || true)

step "documentation tests"
cargo test --profile gate --workspace --doc --quiet

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --profile gate --workspace --no-deps --quiet

step "dependencies"
if cargo deny --version >/dev/null 2>&1; then
  cargo deny --log-level warn check bans licenses sources
elif [ "${LAYERLAB_REQUIRE_ALL:-}" = 1 ]; then
  echo "error: cargo-deny is missing; install it with: cargo install cargo-deny --locked" >&2
  exit 1
else
  skipped+=("dependencies: cargo-deny is missing (cargo install cargo-deny --locked)")
fi

step "scenarios, in their short form"
results=$(mktemp -d)
trap 'rm -rf "$results" "$log"' EXIT
cargo build --quiet --profile gate -p loadgen
readonly loadgen=target/gate/loadgen

# Two at a time, since most of them wait for their clocks. What does not come out beside
# another is run alone: there who served a call and whether it failed is judged once. A few
# seconds on a machine with other work can't judge what time or CPU something took, so a run
# of which claims about these alone failed is made again, up to twice.
tries=()
short_form() {
  "$loadgen" --scenario "$1" --short --out "$results/$1" "${@:2}" >"$results/$1.log" 2>&1
}
ended() {
  printf -- '-- %s\n' "$1"
  cat "$results/$1.log"
}
# Whether network namespaces can be made, and what the peers are.
"$loadgen" peers >"$log"
namespaces=$(sed -n 's/^network = "namespaces" *MISSING: //p' "$log")
links=$(sed -n 's/^\[\[link\]\] *MISSING: //p' "$log")
quota=$(sed -n 's/^placement.proxy_quota *MISSING: //p' "$log")
nft=$(sed -n '/^kernel-l4 /{n;s/^ *MISSING: //p}' "$log")
names=()
for file in scenarios/*.toml; do
  name=$(basename "$file" .toml)
  if [ -n "$namespaces" ] && grep -q '^network = "namespaces"' "$file"; then
    skipped+=("scenario $name: $namespaces")
  elif [ -n "$links" ] && grep -q '^\[\[link\]\]' "$file"; then
    skipped+=("scenario $name: $links")
  elif [ -n "$quota" ] && grep -q '^proxy_quota' "$file"; then
    skipped+=("scenario $name: $quota")
  else
    names+=("$name")
    if [ -n "$nft" ] && grep -q '"kernel-l4"' "$file"; then
      skipped+=("peer kernel-l4 of $name: $nft")
    fi
  fi
done
alone=()
declare -A running=()
reap() {
  local pid name code=0
  wait -n -p pid || code=$?
  name=${running[$pid]}
  [ $code = 0 ] || alone+=("$name")
  unset "running[$pid]"
  ended "$name"
}
for name in "${names[@]}"; do
  [ ${#running[@]} -lt 2 ] || reap
  short_form "$name" &
  running[$!]=$name
done
while [ ${#running[@]} -gt 0 ]; do
  reap
done
for name in ${alone+"${alone[@]}"}; do
  tries+=("scenario $name: $(grep -m 1 'FAILED\|^error: ' "$results/$name.log" || true)")
  short_form "$name" --retries 2 || { ended "$name"; echo "error: scenario $name does not come out" >&2; exit 1; }
  ended "$name"
  while read -r retry; do
    tries+=("scenario $name: $retry")
  done < <(grep -o '^RETRY .*' "$results/$name.log" || true)
done

step "manifests for Kubernetes"
if command -v kubernetes-validate >/dev/null; then
  kubernetes-validate --strict crates/scenario/tests/golden/agents.yaml
else
  skipped+=("manifests: kubernetes-validate is missing (pip install kubernetes-validate)")
fi

step "three nodes of Slurm"
for name in single-conn-flood cost-of-l7; do
  code=0
  scripts/slurm-here.sh "$loadgen" --scenario "$name" --short --retries 2 \
    --on slurm --nodes 3 --out "$results" 2>&1 | tee "$log" || code=${PIPESTATUS[0]}
  while read -r retry; do
    tries+=("scenario $name on Slurm: $retry")
  done < <(grep -o '^RETRY .*' "$log" || true)
  if [ "$code" = 77 ]; then
    skipped+=("Slurm: $(sed -n 's/^slurm-here: //p' "$log")")
    break
  elif [ "$code" != 0 ]; then
    echo "error: scenario $name does not come out on Slurm" >&2 && exit 1
  fi
done

printf '\n== all checks passed\n'
for reason in ${tries+"${tries[@]}"}; do
  printf 'TRIED AGAIN: %s\n' "$reason"
done
for reason in ${skipped+"${skipped[@]}"}; do
  printf 'NOT RUN: %s\n' "$reason"
done
