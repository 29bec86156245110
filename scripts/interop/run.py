"""Runs the clients through the proxies; `interop.sh` calls it and says how.

    run.py PROGRAMS [--long] [CLIENT ...]

PROGRAMS is the folder of the built programs. The targets are named PATH/BACKEND,
as in relay/grpc-js: what a client calls through, and whose backend answers. A
case that fails and is not in `exceptions.txt` fails the run.
"""

import argparse
import concurrent.futures
import contextlib
import fnmatch
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
GO = os.environ["GO_PROGRAM"]
CLIENTS = {
    "grpcio": [sys.executable, HERE / "client.py"],
    "grpc-js": ["node", HERE / "client.js"],
    "grpc-go": [GO],
}
SKIPPED = []
if not os.path.exists(GO):
    del CLIENTS["grpc-go"]
    SKIPPED.append("grpc-go (no Go toolchain)")

parser = argparse.ArgumentParser(prog="interop.sh")
parser.add_argument("--long", action="store_true", help="with streams that are silent for 6 minutes")
parser.add_argument("--only", default="*", metavar="GROUP", help="only these groups of cases, as in drain*")
parser.add_argument("programs", type=pathlib.Path, help=argparse.SUPPRESS)
parser.add_argument("clients", nargs="*", choices=[*CLIENTS, []], metavar="CLIENT")
ARGUMENTS = parser.parse_intermixed_args()
PROGRAMS = ARGUMENTS.programs
# Far above what anything takes; a bound and no measure.
PATIENCE_S = 300
UPDATE_PAUSE_S = 1
SLOWLY = {"direct/echo", "l4/echo", "relay/echo", "hyper/echo", "relay/grpcio", "hyper/grpcio"}
QUIET_S = 370 if ARGUMENTS.long else 15
if not ARGUMENTS.long:
    SKIPPED.append("streams that are silent for 6 minutes (--long)")

BACKENDS = {
    "echo": [PROGRAMS / "echo-backend", "--id=interop", "--listen"],
    "grpcio": [sys.executable, HERE / "server.py"],
    "grpc-js": ["node", HERE / "server.js"],
    "grpc-go": [GO, "serve"],
}
# grpc-core's server ends calls that come in after SIGTERM as CANCELLED, also
# without a proxy, so grpcio's is not among those that are restarted.
RESTARTED = {"echo", "grpc-js", "grpc-go"}
PATHS = {
    "l4": [PROGRAMS / "l4-proxy"],
    "relay": [PROGRAMS / "l7-proxy", "--data-plane=relay"],
    "hyper": [PROGRAMS / "l7-proxy", "--data-plane=hyper"],
}
ANY = "127.0.0.1:0"


def wait_for(what, condition):
    """Waits until `condition` gives something, and gives that."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"waited {PATIENCE_S} s in vain: {what}")


class Process:
    """A server of ours, which is ready once it is made."""

    def __init__(self, command, log):
        self.log = log
        with log.open("w") as out:
            self.child = subprocess.Popen(command, stdout=out, stderr=out)
        self.address = wait_for(f"{command} listens", self.find_address)

    def find_address(self):
        text = self.log.read_text()
        if found := re.search(r"(?:listening|listens) on ([0-9.]+:[0-9]+)", text):
            return found[1]
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.child.args} did not start: {text}")

    def signal(self, number):
        self.child.send_signal(number)

    def drain(self):
        self.signal(signal.SIGTERM)
        self.await_end()

    def await_end(self):
        code = self.child.wait(PATIENCE_S)
        assert code == 0, f"{self.child.args} ended with {code}: {self.log.read_text()}"


class Suite:
    """What runs, and what became of it."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.rows, self.numbers = [], itertools.count()
        lines = (HERE / "exceptions.txt").read_text().splitlines()
        rows = (line.split(" | ") for line in lines if line and not line.startswith("#"))
        self.exceptions = [(*(part.strip() for part in row[:3]), row[3].strip()) for row in rows]

    def new_file(self):
        return self.folder / str(next(self.numbers))

    def start(self, command):
        process = Process(command, self.new_file())
        self.stack.callback(process.child.wait)
        self.stack.callback(process.child.kill)
        return process

    def backend(self, kind, address=ANY):
        return self.start([*BACKENDS[kind], address])

    def proxy(self, path, *backends, listen=ANY, flags=()):
        lists = [f"--backend={one.address}" for one in backends]
        return self.start([*PATHS[path], f"--listen={listen}", *lists, *flags])

    def run(self, client, group, targets, during=None):
        """Runs a group of cases; `during` once the client says `under way`."""
        if not fnmatch.fnmatchcase(group.partition("=")[0], ARGUMENTS.only):
            return
        command = [*CLIENTS[client], group, *(f"{name}={address}" for name, address in targets.items())]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        limit = threading.Timer(PATIENCE_S * len(targets) + QUIET_S, child.kill)
        limit.daemon = True
        limit.start()
        rows, other = [], []
        for line in child.stdout:
            if line == "under way\n" and during:
                try:
                    during()
                except Exception as error:
                    rows.append([client, *targets, group, f"FAILED: {error}"])
            elif len(row := line.rstrip("\n").split(" | ", 3)) == 4:
                rows.append(row)
            else:
                other.append(line)
        child.wait()
        limit.cancel()
        if child.returncode not in (0, 1) or not rows:
            rows.append([client, " ".join(targets), group, f"FAILED: ended with {child.returncode}: {''.join(other)}"])
        self.record(rows)

    def record(self, rows):
        for client, target, case, outcome in rows:
            if outcome != "ok" and (reason := self.known(client, target, case)):
                outcome = f"known: {reason}"
            self.rows.append((client, target, case, outcome))
            print(f"{client:8} {target:14} {case:26} {outcome}", flush=True)

    def known(self, *row):
        for *patterns, reason in self.exceptions:
            if all(map(fnmatch.fnmatchcase, row, patterns)):
                return reason
        return None


def cases(suite, client, backends, proxies):
    """Every case that answers a request for itself, on every path."""
    direct = {f"direct/{kind}": backend.address for kind, backend in backends.items()}
    through = {f"{path}/{kind}": proxy.address for (path, kind), proxy in proxies.items()}
    targets = {**direct, **through}
    by_metadata = {name: address for name, address in targets.items() if not name.endswith("/echo")}
    suite.run(client, "everywhere", targets)
    suite.run(client, "by_metadata", by_metadata)
    suite.run(client, "bursts", by_metadata)
    if client == "grpc-js":
        suite.run(client, "slow_reader", {name: address for name, address in targets.items() if name in SLOWLY})


def proxy_is_replaced(suite, client, path, backend):
    """SIGTERM to a proxy under load, beside a new one on its port."""
    threads = ("--threads=2",)  # what makes ours share a port
    old = suite.proxy(path, backend, flags=threads)
    stop = suite.new_file()

    def replace():
        try:
            new = suite.proxy(path, backend, listen=old.address, flags=threads)
            old.drain()
            assert new.child.poll() is None, "the new proxy ended as well"
        finally:
            stop.touch()

    # What is inside a connection is nothing to l4: it can't send it elsewhere.
    group = "drain_own_connections" if path == "l4" else "drain"
    suite.run(client, f"{group}={stop}", {path: old.address}, during=replace)


def accept_queue_is_served(suite, client, path, backend, count=300):
    """SIGTERM to a proxy with connections that it has not accepted yet."""
    threads = ("--threads=2",)
    old = suite.proxy(path, backend, flags=threads)
    old.signal(signal.SIGSTOP)

    def replace():
        try:
            wait_for("connections wait", lambda: waiting(old.address) >= count)
            suite.proxy(path, backend, listen=old.address, flags=threads)
            # Only once: a second signal ends a drain.
            old.signal(signal.SIGTERM)
        finally:
            old.signal(signal.SIGCONT)
        old.await_end()

    suite.run(client, f"accept_queue={count}", {path: old.address}, during=replace)


def waiting(address):
    """Connections in the accept queues of this port."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    sockets = (line.split() for line in lines)
    return sum(
        int(one[4].partition(":")[2], 16) for one in sockets if one[1].endswith(port) and one[3] == "0A"
    )


def backends_restart(suite, client, path, kind):
    """Three backends, each ended by SIGTERM and started again, one by one, with the
    pause between them that rolling updates have for a new one to prove itself."""
    backends = [suite.backend(kind) for _ in range(3)]
    proxy = suite.proxy(path, *backends)
    stop = suite.new_file()

    def restart():
        try:
            for one in backends:
                one.drain()
                suite.backend(kind, one.address)
                time.sleep(UPDATE_PAUSE_S)
        finally:
            stop.touch()

    suite.run(client, f"backends_restart={stop}", {f"{path}/{kind}": proxy.address}, during=restart)


def in_the_background(suite, clients, backends, proxies):
    """What mostly waits: (function, arguments) of runs beside all others."""
    for client in clients:
        for path in ("relay", "hyper"):
            proxy = suite.proxy(path, backends["grpcio"], flags=["--write-stall-timeout=2s"])
            yield suite.run, client, "after_silence=4", {path: proxy.address}
    if ARGUMENTS.long:
        for (path, kind), proxy in proxies.items():
            if kind != "echo":
                yield suite.run, clients[0], f"quiet_stream={QUIET_S}", {f"{path}/{kind}": proxy.address}
        return
    option = "grpc.http2.min_ping_interval_without_data_ms=1000"
    strict = suite.start([*BACKENDS["grpcio"], ANY, option])
    for path in ("relay", "hyper"):
        proxy = suite.proxy(path, strict, flags=["--backend-keepalive-interval=1500ms"])
        yield suite.run, clients[0], f"quiet_stream={QUIET_S}", {path: proxy.address}


def main(clients):
    kinds = [kind for kind in BACKENDS if kind == "echo" or kind in CLIENTS]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interop-")))
        suite = Suite(folder, stack)
        backends = {kind: suite.backend(kind) for kind in kinds}
        proxies = {(path, kind): suite.proxy(path, backends[kind]) for path in PATHS for kind in kinds}
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(64))
        beside = [pool.submit(*work) for work in in_the_background(suite, clients, backends, proxies)]
        for client in clients:
            cases(suite, client, backends, proxies)
            for path in PATHS:
                proxy_is_replaced(suite, client, path, backends["grpcio"])
                accept_queue_is_served(suite, client, path, backends["grpcio"])
            for path in ("relay", "hyper"):
                for kind in RESTARTED & backends.keys():
                    backends_restart(suite, client, path, kind)
        for work in beside:
            work.result()
    return summary(suite.rows)


def summary(rows):
    for key in sorted({row[:2] for row in rows}):
        outcomes = [outcome for *of, _, outcome in rows if tuple(of) == key]
        print(f"{key[0]:8} {key[1]:14} {outcomes.count('ok')} of {len(outcomes)}")
    well = sum(outcome == "ok" for *_, outcome in rows)
    known = sum(outcome.startswith("known") for *_, outcome in rows)
    print(f"interop: {well} of {len(rows)} cases, and {known} failures that are known")
    for skipped in SKIPPED:
        print(f"skipped: {skipped}")
    return 0 if rows and well + known == len(rows) else 1


if __name__ == "__main__":
    # An end by a signal ends what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(ARGUMENTS.clients or [*CLIENTS]))
