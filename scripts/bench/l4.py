"""Measures L4 balancers side by side; see l4.sh, which builds and starts this.

CPU is that of the proxy's whole process tree, in nanoseconds from
/proc/PID/task/*/schedstat, before and after a load. Peers take turns within a
repeat and the order turns around from one repeat to the next, so that a slow
drift of the machine hits all of them. Ratios are taken within a repeat.
"""

import argparse
import json
import os
import random
import re
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import tomllib

PROXY_CORE = os.environ.get("PROXY_CORE", "1")
LOAD_CORE = os.environ.get("LOAD_CORE", "0")
BACKENDS = 4
PATH = "/layerlab.echo.v1.Echo/Unary"


def free_port():
    """Below the range that the kernel hands out, so that no connection of ours
    takes the port between this look and its use."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def await_port(port, process):
    for _ in range(2_000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                sys.exit(f"error: {process.args} ended with {process.returncode} at its start")
            time.sleep(0.005)
    sys.exit(f"error: nothing listens on port {port}: {process.args}")


def tree(pid):
    """The process and all below it."""
    pids = [pid]
    for parent in pids:
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except FileNotFoundError:
            continue
        for task in tasks:
            try:
                with open(f"/proc/{parent}/task/{task}/children") as f:
                    pids += [int(child) for child in f.read().split()]
            except FileNotFoundError:
                pass
    return pids


def cpu_ns(pid):
    total = 0
    for each in tree(pid):
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
        except FileNotFoundError:
            pass
    return total


def rss_bytes(pid):
    """Resident memory that is the processes' own: anonymous pages."""
    total = 0
    for each in tree(pid):
        with open(f"/proc/{each}/status") as f:
            total += sum(int(kib) for kib in re.findall(r"RssAnon:\s+(\d+) kB", f.read())) * 1024
    return total


class Peers:
    """The proxies that were found, and how each is started: ours by data
    plane, the others by their folders under scenarios/peers, so that what is
    measured is what the lab runs and publishes."""

    def __init__(self, binaries, directory):
        self.binaries, self.directory = binaries, directory

    def describe(self, name):
        path = os.path.join("scenarios/peers", name, "peer.toml")
        if not os.path.exists(path):
            sys.exit(f"error: there is no {path}; ours are l4-auto, l4-copy, l4-splice, l4-threads-N")
        with open(path, "rb") as f:
            return tomllib.load(f)

    def program(self, name):
        if name in PLANES or name.startswith("l4-threads-"):
            return os.path.join(self.binaries, "l4-proxy")
        for place in self.describe(name)["find"]:
            kind, where = place.split(":", 1)
            path = {
                "env": lambda: os.environ.get(where),
                "peers": lambda: os.path.abspath(os.path.join("peers", where)),
                "path": lambda: shutil.which(where, path=os.environ["PATH"] + ":/usr/sbin"),
            }[kind]()
            if path and os.access(path, os.X_OK):
                return path
        return None

    def command(self, name, port, backends):
        program = self.program(name)
        if name in PLANES or name.startswith("l4-threads-"):
            threads = name.split("-")[2] if name.startswith("l4-threads-") else 1
            plane = PLANES.get(name, "auto")
            ours = [program, f"--listen=127.0.0.1:{port}", f"--data-plane={plane}"]
            return ours + [f"--threads={threads}"] + [f"--backend=127.0.0.1:{b}" for b in backends]
        words = [os.path.join(self.binaries, "examples", "render_peer"), name]
        words += ["--dir", self.directory, "--listen", f"127.0.0.1:{port}", "--policy", "round_robin"]
        for index, backend in enumerate(backends, 1):
            words += ["--backend", f"b{index}=127.0.0.1:{backend}"]
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        told = [line.split(" ", 1) for line in said.splitlines()]
        variables = [value for kind, value in told if kind == "env"]
        command = [value for kind, value in told if kind == "arg"]
        return ["env", *variables, *command] if variables else command


PLANES = {"l4-auto": "auto", "l4-copy": "copy", "l4-splice": "splice"}


class Running:
    """A process pinned to cores, ended with the block."""

    def __init__(self, command, cores, **options):
        command = ["taskset", "-c", cores, *command]
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        self.process = subprocess.Popen(command, **options)

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def grpc_body(path, payload_bytes):
    """One length-prefixed EchoRequest {sequence: 1, payload, response_bytes}."""

    def varint(n):
        out = b""
        while n > 0x7F:
            out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
        return out + bytes([n])

    payload = bytes(i & 0xFF for i in range(payload_bytes))
    message = b"\x08\x01\x12" + varint(payload_bytes) + payload + b"\x18" + varint(payload_bytes)
    with open(path, "wb") as f:
        f.write(b"\0" + struct.pack(">I", len(message)) + message)
    return path


def h2load(port, body, clients, streams, calls, extra=(), log=None):
    command = [
        "taskset", "-c", LOAD_CORE, "h2load", "-t1", f"-c{clients}", f"-m{streams}",
        f"-n{calls}", "-w30", "-W30", "-d", body, "-H", "content-type: application/grpc",
        "-H", "te: trailers", *extra, f"http://127.0.0.1:{port}{PATH}",
    ]
    if log:
        command.insert(4, f"--log-file={log}")
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = int(re.search(r"(\d+) 2xx", out).group(1))
    seconds = re.search(r"finished in ([\d.]+)(m?s)", out)
    if done != calls:
        sys.exit(f"error: {calls - done} of {calls} calls failed\n{out}")
    return float(seconds.group(1)) * (0.001 if seconds.group(2) == "ms" else 1)


class Quota:
    """A bound on the CPU time of a process, by a control group of its own, so
    that on a machine whose load needs more than the proxy it is the proxy that
    runs out. Ends the group with the block; needs root."""

    # The kernel takes no quota below 1 ms, which is what the least share gets.
    PERIOD_US = 70_000

    def __init__(self, pid, share_of_a_core):
        quota_us = int(self.PERIOD_US * share_of_a_core)
        v1, v2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"
        is_v1 = os.path.exists(f"{v1}/cgroup.procs")
        self.directory = f"{v1 if is_v1 else v2}/layerlab-{pid}"
        settings = {"cpu.cfs_period_us": self.PERIOD_US, "cpu.cfs_quota_us": quota_us}
        if not is_v1:
            settings = {"cpu.max": f"{quota_us} {self.PERIOD_US}"}
        try:
            os.mkdir(self.directory)
            for name, value in [*settings.items(), ("cgroup.procs", pid)]:
                with open(f"{self.directory}/{name}", "w") as f:
                    f.write(str(value))
        except OSError as e:
            self.__exit__()
            sys.exit(f"error: {e}; `threads` needs root and the cpu controller of control groups")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A group can be removed once its processes are elsewhere.
        try:
            parent = os.path.join(os.path.dirname(self.directory), "cgroup.procs")
            with open(f"{self.directory}/cgroup.procs") as inside:
                for pid in inside.read().split():
                    with open(parent, "w") as f:
                        f.write(pid)
            os.rmdir(self.directory)
        except FileNotFoundError:
            pass


class Bench:
    def __init__(self, arguments, directory):
        self.arguments, self.directory = arguments, directory
        self.peers = Peers(arguments.binaries, directory)
        self.load = os.path.join(arguments.binaries, "examples", "load")
        self.bodies = {
            size: grpc_body(f"{directory}/body-{size}", size) for size in (32, 16 << 10, 1 << 20)
        }

    def spawn_backends(self, stack, grpc):
        ports = [free_port() for _ in range(BACKENDS)]
        if grpc:
            program = os.path.join(self.arguments.binaries, "echo-backend")
            commands = [
                [program, f"--listen=127.0.0.1:{port}", "--threads=1", "--concurrency=1000",
                 "--max-message-bytes=4194304"]
                for port in ports
            ]
        else:
            commands = [[self.load, "echo"] + [f"127.0.0.1:{port}" for port in ports]]
        for command in commands:
            stack.append(Running(command, LOAD_CORE))
        for port in ports:
            await_port(port, stack[-1].process)
        return ports

    def calls(self, clients, streams, size, calls):
        def measure(pid, port):
            h2load(port, self.bodies[size], clients, streams, max(calls // 10, clients))
            before = cpu_ns(pid)
            seconds = h2load(port, self.bodies[size], clients, streams, calls)
            spent = cpu_ns(pid) - before
            return {"us_per_call": spent / calls / 1e3, "calls_per_s": calls / seconds}

        return measure

    def threads(self, pid, port):
        """Throughput when each thread has a little of a core and no more: what
        two threads carry beside one, on a machine where the load takes the rest
        of both cores. It counts only where the quota was used up."""
        with open(f"/proc/{pid}/cmdline") as f:
            threads = int(re.search(r"--threads=(\d+)", f.read()).group(1))
        quota = threads * self.arguments.share
        # Enough calls at once to keep it busy from one period to the next.
        clients, streams, calls = 128, 32, self.arguments.calls
        with Quota(pid, quota):
            h2load(port, self.bodies[32], clients, streams, calls // 10)
            before, began = cpu_ns(pid), time.monotonic()
            h2load(port, self.bodies[32], clients, streams, calls)
            seconds = time.monotonic() - began
            used = (cpu_ns(pid) - before) / 1e9 / seconds / quota
        if used < 0.9:
            print(f"DOUBTFUL: {threads} threads used {used:.2f} of their quota: lower --share")
        return {"calls_per_s": calls / seconds, "used_of_quota": used}

    def churn(self, pid, port):
        command = ["taskset", "-c", LOAD_CORE, self.load, "churn", f"127.0.0.1:{port}"]
        count = self.arguments.connections
        subprocess.run([*command, f"--connections={count // 10}"], capture_output=True, check=True)
        before = cpu_ns(pid)
        out = subprocess.run(
            [*command, f"--connections={count}"], capture_output=True, text=True, check=True
        )
        spent = cpu_ns(pid) - before
        result = json.loads(out.stdout)
        if result["failed"]:
            sys.exit(f"error: connections failed: {result}")
        return {
            "us_per_connection": spent / count / 1e3,
            "connections_per_s": count / result["seconds"],
            "p99_us": result["p99_us"],
        }

    def bulk(self, pid, port):
        command = ["taskset", "-c", LOAD_CORE, self.load, "bulk", f"127.0.0.1:{port}"]
        subprocess.run([*command, "--mib=64"], capture_output=True, check=True)
        before = cpu_ns(pid)
        out = subprocess.run([*command, "--mib=2048"], capture_output=True, text=True, check=True)
        spent = cpu_ns(pid) - before
        result = json.loads(out.stdout)
        gib = 2 * result["bytes"] / (1 << 30)
        return {"ms_per_gib": spent / gib / 1e6, "gib_per_s": gib / result["seconds"]}

    def idle(self, pid, port):
        count = self.arguments.idle_connections
        before = rss_bytes(pid)
        command = [self.load, "idle", f"127.0.0.1:{port}", f"--connections={count}"]
        with Running(
            command, LOAD_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            is_ready, _, _ = select.select([process.stdout], [], [], 120)
            if not is_ready or not process.stdout.readline():
                sys.exit(f"error: {count} idle connections could not be opened")
            return {"bytes_per_connection": (rss_bytes(pid) - before) / count}

    def memory(self, pid, port):
        """Whether memory grows over many short connections: after the first
        tenth of them, which fills what is kept for reuse, and after the last."""
        after = []
        for _ in range(10):
            count = self.arguments.connections // 10
            out = subprocess.run(
                ["taskset", "-c", LOAD_CORE, self.load, "churn", f"127.0.0.1:{port}",
                 f"--connections={count}"],
                capture_output=True, text=True, check=True,
            )
            if json.loads(out.stdout)["failed"]:
                sys.exit(f"error: connections failed: {out.stdout}")
            after.append(rss_bytes(pid))
        return {"first_tenth_kib": after[0] / 1024, "last_tenth_kib": after[-1] / 1024}

    def half_load(self, pid, port):
        """Latency at a fixed rate, about half of what the slowest peer can do."""
        log = os.path.join(self.directory, "h2load.log")
        if os.path.exists(log):
            os.remove(log)
        rate, seconds = self.arguments.rate, 4
        h2load(
            port, self.bodies[32], 8, 16, rate * seconds, ["--rps", str(rate // 8)], log=log
        )
        with open(log) as f:
            times = sorted(int(line.split("\t")[2]) for line in f)
        return {
            "p50_us": times[len(times) // 2],
            "p99_us": times[int(len(times) * 0.99)],
        }

    def workloads(self):
        n = self.arguments.calls
        return {
            "a": (True, self.calls(1, 32, 32, n)),
            "b": (True, self.calls(8, 16, 32, n)),
            "c": (True, self.calls(8, 16, 16 << 10, n // 4)),
            "bulk": (True, self.calls(8, 2, 1 << 20, n // 100)),
            "rawbulk": (False, self.bulk),
            "half-load": (True, self.half_load),
            "churn": (False, self.churn),
            "idle": (False, self.idle),
            "memory": (False, self.memory),
            "threads": (True, self.threads),
        }

    def run(self, workload, names):
        grpc, measure = self.workloads()[workload]
        results = {name: [] for name in names}
        for repeat in range(self.arguments.repeats):
            for name in names if repeat % 2 == 0 else reversed(names):
                stack = []
                try:
                    backends = self.spawn_backends(stack, grpc)
                    port = free_port()
                    if name == "direct":
                        process, port = stack[0].process, backends[0]
                    else:
                        command = self.peers.command(name, port, backends)
                        # Threads are compared with both cores at their disposal.
                        cores = PROXY_CORE
                        if name.startswith("l4-threads-"):
                            cores = f"{PROXY_CORE},{LOAD_CORE}"
                        stack.append(Running(command, cores))
                        process = stack[-1].process
                        await_port(port, process)
                    results[name].append(measure(process.pid, port))
                finally:
                    for running in reversed(stack):
                        running.__exit__()
        return results


def table(workload, results):
    """Medians with their range, and the ratio to each other peer in the same
    repeat."""
    first = next(iter(results))
    print(f"\n## {workload}")
    for metric in next(iter(results.values()))[0]:
        print(f"{metric:>22} {'median':>10} {'least':>10} {'most':>10}   {first} / it (median, range)")
        for name, rows in results.items():
            values = [row[metric] for row in rows]
            ratios = [a[metric] / row[metric] for a, row in zip(results[first], rows) if row[metric]]
            ratio = (
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                if ratios else "-"
            )
            print(
                f"{name:>22} {statistics.median(values):>10.2f} {min(values):>10.2f} "
                f"{max(values):>10.2f}   {ratio}"
            )
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=20_000)
    # Two descriptors a connection; HAProxy keeps half a one more for pipes, and
    # lets whoever is beyond its limit wait.
    parser.add_argument("--idle-connections", type=int, default=7_000)
    parser.add_argument("--share", type=float, default=0.015)
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--workloads", default="a,b,c,bulk,half-load,churn,idle")
    parser.add_argument("--peers", default="l4-auto,l4-copy,l4-splice,haproxy-l4,nginx-l4,envoy-l4")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(arguments, directory)
        names, raw = [], {}
        for name in arguments.peers.split(","):
            if name == "direct" or bench.peers.program(name):
                names.append(name)
            else:
                install = bench.peers.describe(name)["install"]
                print(f"NOT MEASURED: {name} is missing; get it with {install}")
        print(f"load average {os.getloadavg()[0]:.1f}, {arguments.repeats} repeats, {names}")
        for workload in arguments.workloads.split(","):
            ours = ["l4-threads-2", "l4-threads-1"]
            results = bench.run(workload, ours if workload == "threads" else names)
            table(workload, results)
            raw[workload] = results
        os.makedirs("target/bench", exist_ok=True)
        path = time.strftime("target/bench/l4-%Y%m%dT%H%M%SZ.json", time.gmtime())
        with open(path, "w") as f:
            json.dump(raw, f, indent=1)
        print(f"\nraw figures: {path}")


if __name__ == "__main__":
    main()
