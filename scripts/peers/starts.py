"""`scripts/bench --start`: what an empty box costs. Time from launch to the agent's first words, as tarebench measures it in every
run, against the smallest program in the same engine started by hand (boxes.py), in turns; and the memory that a box holds before it
has done anything."""

import contextlib
import datetime
import json
import math
import os
import sqlite3
import statistics
import subprocess
from dataclasses import dataclass

from . import boxes, remains
from .boxes import Hands
from .shared import CPU, PEER_CPU, Failed, build, file_system, machine, matches, middle, run, splice

PACKAGES = ["lz4", "util-linux"]
# What our start may take beyond the engine's own, milliseconds.
AIM, AIM_MACHINE = 30, 300
# So that all of it takes under four minutes on an idle machine; 6 pairs are the least that have an interval.
PAIRS, PASSES, PASSES_MACHINE = 7, 2, 1
# The least that a run can do: what is asked for are its starts.
SUITE = """baseline = "bare"
blocks = {blocks}
rounds = 1
burst = "10ms"
burst_max = "1s"
operations = 1
resources = {{ cpus = 1, memory = "{memory}MiB" }}
[environments.bare]
{environment}
[workloads."control/syscall"]
"""


def tarebench(binary, hands, box, blocks):
    """Milliseconds of every start of the environment in one run, and the bytes it held after each."""
    suite, store = hands.folder / "start.toml", hands.folder / "start.db"
    settings = "".join(f'{key} = "{value}"\n' for key, value in box.settings.items())
    environment = "" if box.name == "bare" else f"[environments.{box.name}]\n{settings}"
    suite.write_text(SUITE.format(blocks=blocks, memory=boxes.MEMORY_MIB, environment=environment))
    try:
        # 4: too restless for a verdict on the workload, which nobody asks for here. 7: something failed, which is a row.
        run([*box.within, binary, "run", suite, "--store", store, "--data-dir", hands.folder], good=(0, 4, 7))
        with contextlib.closing(sqlite3.connect(store)) as db:
            rows = db.execute("SELECT start_ns, memory_bytes, message FROM start WHERE environment = ?", [box.name]).fetchall()
            plans = json.loads(db.execute("SELECT environments FROM run").fetchone()[0])
    finally:
        for left in hands.folder.glob("start.*"):
            left.unlink()
    plan = next(plan for plan in plans if plan["name"] == box.name)
    why = plan.get("skipped") or next((message for _, _, message in rows if message), None)
    if why or not rows:
        raise Failed(why or "it was not started")
    if box.name == "qemu" and hands.guest is None:
        boxes.guest(hands, plan["version"])
    return [ns / 1e6 for ns, _, _ in rows], [memory for _, memory, _ in rows if memory]


@dataclass
class Line:
    """A row of the table: milliseconds with their intervals, bytes."""

    box: boxes.Box
    start: tuple
    minimum: tuple
    more: tuple
    memory: float

    @property
    def aim(self):
        return AIM_MACHINE if self.box.machine else AIM

    @property
    def met(self):
        return self.more[0] <= self.aim

    def words(self):
        if self.minimum is None:
            return [self.box.name, span(self.start), "", "", "", mebibytes(self.memory), ""]
        return [self.box.name, span(self.start), span(self.minimum), span(self.more, "+"), f"<= {self.aim} ms", mebibytes(self.memory),
                "met" if self.met else "miss"]


def span(values, sign=""):
    """Milliseconds with their interval."""
    digits = 0 if abs(values[0]) >= 100 else 1
    value, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{value} ms" if math.isnan(values[1]) else f"{value} ms ({low} to {high})"


def mebibytes(memory):
    return f"{memory / (1 << 20):.1f} MiB" if memory else "not known"


HEAD = ["environment", "start (95 %)", "engine's minimum", "more", "aim", "memory", ""]
WIDTHS = [18, 28, 28, 28, 11, 12, 5]


def say(words):
    print("".join(word.ljust(width) for word, width in zip(words, WIDTHS)).rstrip(), flush=True)


def measure(binary, hands, box, pairs, passes):
    """All pairs. A pass of each goes before them: it finds out whether the environment works, and fills stores and caches."""
    tarebench(binary, hands, box, 1)
    if box.minimum:
        hands.start(box)
    seen, held = [], []
    for pair in range(pairs):
        both = [None, None]
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            if side == 0:
                both[0], memory = tarebench(binary, hands, box, passes)
                held += memory
            elif box.minimum:
                both[1] = [hands.start(box) for _ in range(passes)]
        seen.append([side and statistics.mean(side) for side in both])
    ours, least = zip(*seen)
    memory = statistics.median(held) if held else 0
    if not box.minimum:
        return Line(box, middle(ours), None, None, memory)
    return Line(box, middle(ours), middle(least), middle([a - b for a, b in seen]), memory)


def markdown(lines, absent, hands, args):
    """The table as a document has it, with date and machine."""
    disk = file_system(hands.folder)
    table = [f"Measured {datetime.date.today()} on {machine()}: {args.pairs or PAIRS} pairs, data on {disk}; `scripts/bench --start --markdown`. "
             f"{aims(lines)}.", "", "| " + " | ".join([*HEAD[:-1], "met"]) + " |", "|" + "---|" * len(HEAD)]
    for line in lines:
        words = line.words()
        words[0] = f"`{words[0]}`"
        words[-1] = "**miss**" if words[-1] == "miss" else words[-1]
        table.append("| " + " | ".join(words) + " |")
    return "\n".join([*table, "", *(f"* `{name}`: not measured: {why}." for name, why in absent)])


def aims(lines):
    aimed = [line for line in lines if line.minimum]
    return f"{sum(line.met for line in aimed)} of {len(aimed)} aims are met"


def prove(args):
    subprocess.run(["scripts/engines", *(["--no-install"] if args.no_install else []), *PACKAGES], check=True)
    binary = build()
    chosen = [box for box in boxes.boxes() if matches(args.only, box.name)]
    if not chosen:
        raise Failed(f"no environment matches {args.only}; there are:\n" + "\n".join(box.name for box in boxes.boxes()))
    print(f"{run([binary, '--version']).strip()} on {machine()}; boxes on CPU {CPU}, who waits for them on CPU {PEER_CPU}, data in {args.dir}")
    say(HEAD)
    lines, absent = [], []
    with remains.own_folder(args.dir) as folder:
        hands = Hands(folder)
        try:
            for box in chosen:
                passes = args.passes or (PASSES_MACHINE if box.machine else PASSES)
                try:
                    with box.premises(hands, box) if box.premises else contextlib.nullcontext():
                        lines.append(measure(binary, hands, box, args.pairs or PAIRS, passes))
                    say(lines[-1].words())
                except Failed as why:
                    absent.append((box.name, reason(str(why))))
                    print(f"{box.name}: NOT MEASURED: {absent[-1][1]}", flush=True)
            if args.markdown:
                print(f"\n{markdown(lines, absent, hands, args)}\n")
            if args.splice and lines:
                splice(args.splice, "starts", markdown(lines, absent, hands, args))
        finally:
            hands.sweep()
    aimed = [line for line in lines if line.minimum]
    missed = [line.box.name for line in aimed if not line.met]
    print(f"\n{len(aimed) - len(missed)} of {len(aimed)} aims met" + "".join(f"\n  missed: {name}" for name in missed))
    return 1 if not lines else 0


def reason(why):
    """Without what tarebench says around it."""
    return " ".join(why.split())[-600:].rstrip(".")
