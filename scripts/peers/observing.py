"""`scripts/bench --observing`: what it costs to observe. The host's counters are read before and after each burst, and in none of it;
every run says how long these looks took, as a share of the time of the bursts between them."""

import datetime
import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import remains
from .shared import CPU, Failed, build, machine, matches, middle, run, splice

# Runs of each environment: 6 are the least that have an interval. And bursts of a run.
RUNS, BURSTS = 6, 4
# The most that looks may take, as a share of the time of the bursts.
AIM = 0.01
# By name, with what has to be installed. They differ in the threads and groups that are looked at.
ENVIRONMENTS = {"bare": None, "namespaces": None, "runc": "runc", "gvisor": "runsc", "podman": "podman", "qemu": "qemu-system-x86"}
WORKLOADS = ["control/syscall", "disk/fsync", "net/rr"]
# Bursts are as long as in a suite that doesn't say.
SUITE = """baseline = "bare"
blocks = 1
rounds = {bursts}
[environments.bare]
{environment}
[workloads."control/syscall"]
[workloads."disk/fsync"]
[workloads."net/rr"]
"""
HEAD = ["environment", *WORKLOADS, "aim", "met"]
WIDTHS = [14, 28, 28, 28, 10, 5]


@dataclass
class Line:
    """A row of the table: of each workload the share with its interval."""

    environment: str
    shares: list

    @property
    def met(self):
        return all(high <= AIM for _, _, high in self.shares)

    def words(self):
        return [self.environment, *(percent(share) for share in self.shares), f"<= {AIM:.0%}", "met" if self.met else "miss"]


def percent(share):
    value, low, high = (f"{100 * part:.2f}" for part in share)
    return f"{value} %" if math.isnan(share[1]) else f"{value} % ({low} to {high})"


def looks(binary, folder, environment):
    """The shares of one run, one for each workload."""
    suite, store = folder / "observing.toml", folder / "observing.db"
    suite.write_text(SUITE.format(bursts=BURSTS, environment="" if environment == "bare" else f"[environments.{environment}]"))
    try:
        # 4: too restless for a verdict on the workload, which nobody asks for here.
        run([binary, "run", suite, "--store", store, "--data-dir", folder], good=(0, 4))
        report = json.loads(run([binary, "report", "latest", "--store", store, "--format", "json"]))
    finally:
        for left in folder.glob("observing.*"):
            left.unlink()
    why = next((e["because"] for e in report["environments"] if e["name"] == environment and e["because"]), None)
    seen = {d["workload"]: d["seen"]["looks"] for d in report["distributions"] if d["environment"] == environment}
    if why or not all(seen.get(name) for name in WORKLOADS):
        raise Failed(why or "it has no bursts")
    return [seen[name] for name in WORKLOADS]


def say(words):
    print("".join(word.ljust(width) for word, width in zip(words, WIDTHS)).rstrip(), flush=True)


def markdown(lines, absent, args):
    """The table as a document has it, with date and machine."""
    table = [f"Measured {datetime.date.today()} on {machine()}: {args.runs or RUNS} runs of {BURSTS} bursts each; `scripts/bench --observing --markdown`. "
             f"{sum(line.met for line in lines)} of {len(lines)} aims are met.", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for line in lines:
        name, *words, met = line.words()
        table.append("| " + " | ".join([f"`{name}`", *words, "**miss**" if met == "miss" else met]) + " |")
    return "\n".join([*table, "", *(f"* `{name}`: not measured: {why}." for name, why in absent)])


def prove(args):
    chosen = [name for name in ENVIRONMENTS if matches(args.only, name)]
    if not chosen:
        raise Failed(f"no environment matches {args.only}; there are:\n" + "\n".join(ENVIRONMENTS))
    packages = [ENVIRONMENTS[name] for name in chosen if ENVIRONMENTS[name]]
    subprocess.run(["scripts/engines", *(["--no-install"] if args.no_install else []), "iproute2", *packages], check=True)
    binary = build()
    print(f"{run([binary, '--version']).strip()} on {machine()}; boxes on CPU {CPU}, data in {args.dir}")
    say(HEAD)
    lines, absent = [], []
    with remains.own_folder(args.dir) as own:
        folder = Path(own)
        for name in chosen:
            try:
                shares = zip(*(looks(binary, folder, name) for _ in range(args.runs or RUNS)))
                lines.append(Line(name, [middle(values) for values in shares]))
                say(lines[-1].words())
            except Failed as why:
                absent.append((name, " ".join(str(why).split())[-300:].rstrip(".")))
                print(f"{name}: NOT MEASURED: {absent[-1][1]}", flush=True)
    if args.markdown:
        print(f"\n{markdown(lines, absent, args)}\n")
    if args.splice and lines:
        splice(args.splice, "observing", markdown(lines, absent, args))
    return 0 if lines else 1
