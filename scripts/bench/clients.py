"""The runs of clients.sh as a table in Markdown: a line for each scenario, peer and client.

Shares and lost calls are those of all trials together; how soon calls were in balance is
what `loadgen decide --json` says of the same runs.
"""

import json
import sys
from pathlib import Path

HEAD = [
    "scenario",
    "peer",
    "client",
    "share of each backend, %",
    "calls lost",
    "in balance after each change",
]


def shares(trials):
    """The share of each backend, the largest first."""
    calls = [sum(counts) for counts in zip(*([b["calls"] for b in t["backends"]] for t in trials))]
    whole = sum(calls) or 1
    return " ".join(f"{100 * count / whole:.0f}" for count in sorted(calls, reverse=True))


def lost(trials):
    counts = [trial["counts"] for trial in trials]
    failed = sum(kind["calls"] for one in counts for kind in one["failed"])
    failed += sum(one["unfinished"] for one in counts)
    return f"{failed} of {sum(one['scheduled'] for one in counts)}"


def balance(faults):
    """The middle repeat of each change."""

    def middle(fault):
        times = sorted(9e9 if time is None else time for time in fault["until_balance_s"])
        if not times:
            return f"{fault['action']}: too short to tell"
        time = times[(len(times) - 1) // 2]
        return f"{fault['action']}: {'never' if time > 1e9 else f'{time:.1f} s'}"

    return ", ".join(map(middle, faults)) or "–"


def rows(folder, decision):
    # Each run has one point at most, so that a folder and a peer name what came of changes.
    changes = {(c["evidence"]["folder"], c["peer"]): c["faults"] for c in decision["changes"]}
    for run in sorted(Path(folder).glob("*/*/run.json")):
        record = json.loads(run.read_text())
        trials = [json.loads(path.read_text()) for path in sorted(run.parent.glob("trials/*.json"))]
        trials = [trial for trial in trials if trial["outcome"]["kind"] == "complete"]
        at = str(run.parent.relative_to(folder))
        for peer in (peer["name"] for peer in record["peers"]):
            own = [trial for trial in trials if trial["peer"] == peer]
            if own:
                point = own[0].get("point")
                scenario = f"{record['scenario']}, {point}" if point else record["scenario"]
                settled = balance(changes.get((at, peer), []))
                client = record["load"]["client"]
                yield [scenario, f"`{peer}`", client, shares(own), lost(own), settled]


def main(folder, decision):
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for row in sorted(rows(folder, json.loads(Path(decision).read_text()))):
        print(f"| {' | '.join(row)} |")


main(*sys.argv[1:])
