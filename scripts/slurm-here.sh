#!/usr/bin/env bash
# A Slurm of three nodes on this machine, for tests, and a command in it:
#
#   scripts/slurm-here.sh COMMAND...
#
# Runs the command with `srun` at hand and ends all of it when the command has ended. It
# needs root and Debian's slurm-wlm and munge, which it does not install; says so and exits
# with 77 where they are not there. Nothing outside of a temporary folder is changed.
#
# Each node is a `slurmd -N` in a network namespace of its own, joined to the one of the
# command by a veth link, and goes by a name and an address of its own. Where no namespaces
# can be made nodes are told apart by their ports, and the script says so. All share the
# machine, so what is run here shows that it works and is no measurement.
set -euo pipefail

missing() {
  echo "slurm-here: $1" >&2
  exit 77
}

[ $# -gt 0 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || missing "slurmd has to be root"
PATH=$PATH:/usr/sbin:/sbin
for program in slurmctld slurmd srun munged mungekey; do
  command -v "$program" >/dev/null || missing "$program is missing (apt-get install slurm-wlm munge)"
done

# The command's own namespaces: whatever is changed in them is gone with it.
if [ -z "${SLURM_HERE_APART:-}" ]; then
  new=(unshare --net --uts --mount)
  if "${new[@]}" ip link add slurm0 type veth peer name slurm1 2>/dev/null; then
    SLURM_HERE_APART=yes exec "${new[@]}" "$0" "$@"
  fi
  echo "slurm-here: no network namespaces can be made (unshare, ip): nodes share the loopback" >&2
  SLURM_HERE_APART=no
fi
is_apart() { [ "$SLURM_HERE_APART" = yes ]; }

nodes=${SLURM_HERE_NODES:-3}
work=$(mktemp -d /tmp/slurm-here.XXXXXX)
chmod 755 "$work"
pids=()
finish() {
  code=$?
  # A step that still ends when its daemon is gone would wait for it.
  for _ in $(seq 100); do
    [ -n "$(squeue -h 2>/dev/null)" ] || break
    sleep 0.1
  done
  # Slurm's daemons end in order when they are asked to.
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  for pid in $(pgrep -x slurmstepd || true); do
    if grep -qz "^SLURM_CONF=$work/" "/proc/$pid/environ" 2>/dev/null; then
      kill -KILL "$pid" 2>/dev/null || true
    fi
  done
  if [ "$code" != 0 ] && [ -n "${SLURM_HERE_LOGS:-}" ]; then cp -r "$work" "$SLURM_HERE_LOGS"; fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Who is who: a key and a socket of our own, so that a munged of the machine is left alone.
# Both are written for root, which runs everything here.
mungekey --create --keyfile "$work/munge.key"
munged --foreground --force --num-threads=1 --key-file="$work/munge.key" \
  --socket="$work/munge.socket" --pid-file="$work/munge.pid" --log-file="$work/munge.log" \
  --seed-file="$work/munge.seed" >"$work/munged.out" 2>&1 &
pids+=($!)

if is_apart; then
  hostname login
  ip link set lo up
  ip address add 198.18.0.1/32 dev lo
  echo 1 >/proc/sys/net/ipv4/ip_forward
  {
    echo "127.0.0.1 localhost"
    echo "198.18.0.1 login"
    for ((node = 0; node < nodes; node++)); do echo "198.18.$((node + 1)).2 here$node"; done
  } >"$work/hosts"
  mount --bind "$work/hosts" /etc/hosts
fi

host=$(hostname -s)
cpus=$(nproc)
names=
{
  echo "ClusterName=here"
  if is_apart; then
    echo "SlurmctldHost=$host"
  else
    echo "SlurmctldHost=$host(127.0.0.1)"
    echo "SlurmctldPort=$(free_port)"
  fi
  echo "SlurmUser=root"
  echo "SlurmdUser=root"
  echo "AuthType=auth/munge"
  echo "AuthInfo=socket=$work/munge.socket"
  echo "CredType=cred/munge"
  echo "StateSaveLocation=$work/state"
  echo "SlurmdSpoolDir=$work/spool.%n"
  echo "SlurmctldPidFile=$work/slurmctld.pid"
  echo "SlurmdPidFile=$work/slurmd.%n.pid"
  echo "SlurmctldLogFile=$work/slurmctld.log"
  echo "SlurmdLogFile=$work/slurmd.%n.log"
  # Cgroups of a machine that is shared are not ours to make.
  echo "ProctrackType=proctrack/linuxproc"
  echo "TaskPlugin=task/none"
  echo "JobAcctGatherType=jobacct_gather/none"
  echo "AccountingStorageType=accounting_storage/none"
  echo "MpiDefault=none"
  echo "SwitchType=switch/none"
  echo "SelectType=select/cons_tres"
  echo "SelectTypeParameters=CR_CPU"
  echo "ReturnToService=2"
  echo "KillWait=2"
  for ((node = 0; node < nodes; node++)); do
    if is_apart; then
      echo "NodeName=here$node CPUs=$cpus State=UNKNOWN"
    else
      echo "NodeName=here$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=$cpus State=UNKNOWN"
    fi
    names+=${names:+,}here$node
  done
  echo "PartitionName=here Nodes=$names Default=YES MaxTime=60 State=UP OverSubscribe=NO"
} >"$work/slurm.conf"
export SLURM_CONF=$work/slurm.conf
mkdir "$work/state"

# What is waited for happens soon, or the daemon's log says why not.
wait_for() {
  for _ in $(seq 300); do
    if "${@:2}" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "slurm-here: $1 is not up" >&2
  tail -n 5 "$work"/*.log >&2
  exit 1
}

# Runs the daemon of a node once it has its link to here.
start_apart() {
  local name=here$1 net=198.18.$(($1 + 1))
  # shellcheck disable=SC2016
  unshare --net --uts sh -c 'hostname "$1"; touch "$2/$1.made"
    until [ -e "$2/$1.linked" ]; do sleep 0.1; done
    exec slurmd -D -N "$1" -f "$2/slurm.conf"' \
    sh "$name" "$work" >"$work/slurmd.$name.out" 2>&1 &
  pids+=($!)
  wait_for "the namespace of $name" test -e "$work/$name.made"
  ip link add "$name" type veth peer name eth0 netns "${pids[-1]}"
  ip address add "$net.1/24" dev "$name"
  ip link set "$name" up
  nsenter --net --target "${pids[-1]}" sh -c "ip link set lo up
    ip address add $net.2/24 dev eth0
    ip link set eth0 up
    ip route add default via $net.1"
  touch "$work/$name.linked"
}

wait_for munged test -S "$work/munge.socket"
slurmctld -D -f "$SLURM_CONF" >"$work/slurmctld.out" 2>&1 &
pids+=($!)
for ((node = 0; node < nodes; node++)); do
  mkdir "$work/spool.here$node"
  if is_apart; then
    start_apart "$node"
  else
    slurmd -D -N "here$node" -f "$SLURM_CONF" >"$work/slurmd.here$node.out" 2>&1 &
    pids+=($!)
  fi
done
are_idle() { [ "$(sinfo -h -N -o '%t' | grep -c '^idle$')" = "$nodes" ]; }
wait_for "a node" are_idle

"$@"
