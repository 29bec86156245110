"""What clients.sh measured as a table in Markdown: a column for each client.

Calls and shares are those of all repeats together. How soon calls were in balance is what
`loadgen decide --json` says of the same trials, and the middle repeat of it; so are the figures
of the stream limit.
"""

import json
import sys
from pathlib import Path

MISSING = "–"


class Cell:
    """A scenario with one client."""

    def __init__(self, folder):
        self.reason = read(folder / "reason", str.strip)
        self.summary = read(folder / "summary.json", json.loads)
        decision = read(folder / "decision.json", json.loads)
        self.is_done = decision is not None and self.summary is not None
        changes = decision["changes"] if self.is_done else []
        self.changes = {change["peer"]: change["faults"] for change in changes}

    def peers(self):
        return [peer["peer"] for peer in self.summary["peers"]] if self.is_done else []

    def peer(self, name):
        """What there is of a peer: at the one point, where the scenario is a sweep."""
        for peer in self.summary["peers"]:
            if peer["peer"] == name:
                found = peer["points"][0] if peer["points"] else peer
                return found if found["trials"] else None
        return None


def read(path, parse):
    try:
        return parse(path.read_text())
    except (OSError, ValueError):
        return None


def shares(peer):
    """The share of each backend, the largest first."""
    calls = sorted(peer["calls_per_backend"], reverse=True)
    whole = sum(calls) or 1
    return " ".join(f"{100 * count / whole:.0f}" for count in calls) + " %"


def lost(peer):
    rates = [peer["figures"].get(name) for name in ("error_rate", "unfinished_rate")]
    rates = [rate for rate in rates if rate]
    if not rates:
        return MISSING
    middle, high = (sum(rate[of] for rate in rates) for of in ("median", "high"))
    return f"{100 * middle:.2g} %" + (f", at most {100 * high:.2g} %" if high > middle else "")


def settled(fault):
    """The middle repeat."""
    times = sorted(9e9 if time is None else time for time in fault["until_balance_s"])
    if not times:
        return "too short to tell"
    middle = times[(len(times) - 1) // 2]
    return "never" if middle > 1e9 else f"{middle:.1f} s"


def balance(faults):
    """How soon after each change, those of a kind together."""
    by_action = {}
    for fault in faults:
        by_action.setdefault(fault["action"], []).append(settled(fault))
    return "; ".join(f"{action} {', '.join(times)}" for action, times in by_action.items())


def figure(peer, name, show):
    found = peer["figures"].get(name)
    return show(found["median"]) if found else MISSING


def rows(scenario, peer, cells):
    """The lines of a peer: what they are about, and what each client has there."""
    found = [cell.peer(peer) if cell.is_done else None for cell in cells]
    yield "share of each backend", [shares(one) if one else MISSING for one in found]
    yield "calls lost", [lost(one) if one else MISSING for one in found]
    faults = [cell.changes.get(peer, []) for cell in cells]
    if any(faults):
        yield "in balance after", [balance(one) or MISSING for one in faults]
    if scenario.startswith("stream-limit"):
        for what, name, show in [
            ("calls/s", "throughput", lambda rate: f"{rate:.0f}"),
            ("p50", "latency_p50", lambda ns: f"{ns / 1e6:.0f} ms"),
        ]:
            yield what, [figure(one, name, show) if one else MISSING for one in found]


def label(cells, client):
    """The client with its version, as a run has it."""
    for cell in cells:
        if cell.is_done:
            record = read(Path(cell.summary["folder"]) / "run.json", json.loads)
            if record:
                return record["load"]["client"]
    return client


def main(out, *clients):
    out = Path(out)
    names = []
    for client in clients:
        for folder in sorted((out / client).glob("*/")):
            if folder.name not in names:
                names.append(folder.name)
    table = {name: [Cell(out / client / name) for client in clients] for name in names}
    labels = [
        label([cells[index] for cells in table.values()], client)
        for index, client in enumerate(clients)
    ]
    head = ["scenario", "peer", "", *labels]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, cells in table.items():
        peers = list(dict.fromkeys(peer for cell in cells for peer in cell.peers()))
        for peer in peers:
            for what, values in rows(name, peer, cells):
                print(f"| `{name}` | `{peer}` | {what} | {' | '.join(values)} |")
    for name, cells in table.items():
        for client, cell in zip(clients, cells):
            if not cell.is_done:
                print(f"\n{name}, {client}: {cell.reason or 'it was not run to its end'}")


main(*sys.argv[1:])
