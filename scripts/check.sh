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
# LAYERLAB_REQUIRE_NAMESPACES=1.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --profile gate --workspace --all-targets 2>&1 | tee "$log"
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

# Who served a call and whether it failed is judged once. A few seconds on a machine
# with other work can't judge what time or CPU something took, so a run of which claims
# about these alone failed is made again, up to twice.
tries=()
short_form() {
  echo "-- $1"
  cargo run --quiet --profile gate -p loadgen -- --scenario "$1" --short --retries 2 --out "$results" 2>&1 |
    tee "$log" || return 1
  while read -r retry; do
    tries+=("scenario $1: $retry")
  done < <(grep -o '^RETRY .*' "$log" || true)
}
# Whether network namespaces can be made, and what the peers are.
cargo run --quiet --profile gate -p loadgen -- peers >"$log"
namespaces=$(sed -n 's/^network = "namespaces" *MISSING: //p' "$log")
links=$(sed -n 's/^\[\[link\]\] *MISSING: //p' "$log")
quota=$(sed -n 's/^placement.proxy_quota *MISSING: //p' "$log")
nft=$(sed -n '/^kernel-l4 /{n;s/^ *MISSING: //p}' "$log")
for file in scenarios/*.toml; do
  name=$(basename "$file" .toml)
  if [ -n "$namespaces" ] && grep -q '^network = "namespaces"' "$file"; then
    skipped+=("scenario $name: $namespaces")
    continue
  fi
  if [ -n "$links" ] && grep -q '^\[\[link\]\]' "$file"; then
    skipped+=("scenario $name: $links")
    continue
  fi
  if [ -n "$quota" ] && grep -q '^proxy_quota' "$file"; then
    skipped+=("scenario $name: $quota")
    continue
  fi
  if [ -n "$nft" ] && grep -q '"kernel-l4"' "$file"; then
    skipped+=("peer kernel-l4 of $name: $nft")
  fi
  short_form "$name" || { echo "error: scenario $name does not come out" >&2 && exit 1; }
done

step "manifests for Kubernetes"
if command -v kubernetes-validate >/dev/null; then
  kubernetes-validate --strict crates/scenario/tests/golden/agents.yaml
else
  skipped+=("manifests: kubernetes-validate is missing (pip install kubernetes-validate)")
fi

step "three nodes of Slurm"
cargo build --quiet --profile gate -p loadgen
for name in single-conn-flood cost-of-l7; do
  code=0
  scripts/slurm-here.sh target/gate/loadgen --scenario "$name" --short --retries 2 \
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
