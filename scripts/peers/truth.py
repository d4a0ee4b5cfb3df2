"""`scripts/bench --truth`: does tarebench find what was put in? Copies of bare behind limits of known size (behind.py) go through the
runner `exec`, as anybody's box does; what they cost is known beforehand, and it is counted in how many runs it lies inside the 95 %
interval. Eight copies of bare without any limit say how often something is claimed where nothing is, and one that costs 5 % more how
often that is found."""

import contextlib
import datetime
import hashlib
import json
import math
import operator
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import remains
from .shared import CPU, ROOT, Failed, build, file_system, interval, machine, matches, middle, run, splice

PACKAGES = ["iproute2", "util-linux"]
RUNS = 40
BEHIND = ROOT / "scripts/peers/behind.py"
# What the aims of a share of runs are: truths inside their intervals, effects found where the run says that it could see them,
# and runs that claim anything where nothing is (at most).
INSIDE, FOUND, CLAIMED = 0.95, 0.80, 0.05
# And of eight copies of bare in the workloads of quick: half of the interval in the middle workload and in the widest, and seconds.
MIDDLE, WIDEST, SECONDS = 0.02, 0.05, 100
# A cost that is to be found, and the smallest visible change of the runs that count for it.
EFFECT = 0.05


# ---- What is put in ------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """A copy of bare whose cost is known."""

    name: str
    environment: str
    # What goes before the agent's command line.
    before: list
    # Nanoseconds of an operation, by those that it takes on bare and by what its reference found.
    cost: Callable
    # Where what is put in is itself measured, by a program of ours that knows nothing of tarebench: what follows from its two numbers,
    # behind the limit and without it.
    reference: Callable = None
    # That program, and its argument.
    program: tuple = None
    # Whether the environment's sentence has to begin with it.
    first: bool = False
    # Whether it is small, and asked for is only that it is found.
    effect: bool = False


@dataclass
class Suite:
    """Truths that are measured together, by the same work."""

    name: str
    workload: str
    settings: dict
    # Lines of the suite's head.
    head: dict
    truths: list
    link: "Link" = None


# Periods of the quotas, microseconds, and bursts of whole ones: 240 ms is 32, 16 or 10 times what a period of 30 ms lets through
# (docs/truth.md says why that matters). What is to be waited in each must be longer than a tick of the kernel's, and the warm-up,
# a quarter of the burst, at least twice what a period lets through: only then has it used up what was saved.
PERIOD, BURST = 30_000, "240ms"
PERIOD_OF_EFFECT, BURST_OF_EFFECT = 100_000, f"{round(800 / (1 + EFFECT))}ms"
# Blocks a second: blk-throttle hands out a tenth of a second's at a time, so bursts are of whole tenths (see docs/truth.md).
IOPS, BLOCK, BLOCKS = 1000, 128 << 10, 500
# Bits a second of the shaped link, for blocks of a stream and for datagrams there and back.
STREAM, DATAGRAMS = 200_000_000, 1_000_000
# What the link of the stream saves up, bytes, which the warm-up has used up. The kernel wakes up for each frame, and what it comes
# later than this is worth the link loses: with a bucket of one frame it let through a fifth less on a guest that is made to wait.
BUCKET = 64 << 10
# Bytes of a frame with a full segment, and of its payload (TCP with timestamps over IPv4, Ethernet); of a frame with a datagram of 64.
FRAME, SEGMENT, DATAGRAM = 1514, 1448, 64 + 8 + 20 + 14
# Instructions of the filters of system calls.
FILTERS = (1000, 4000, 16000)


def suites(place):
    behind = lambda words: [sys.executable, str(BEHIND), words]
    common = dict(blocks=8, rounds=1, burst_max="20s")
    # Where it is said how many operations a burst has, this is only how long the pass before it is on bare: behind a link of ours it
    # takes 50 times as long. Some rounds are void where a hypervisor takes CPU time, and each block needs one that isn't.
    brief = dict(burst="3ms", rounds=8)

    def slowed(name, environment, share, period, **more):
        # How much more CPU time the same work takes; the time until it is granted is the quota's own word.
        return Truth(name, environment, behind(f"quota={share:.6f},{period}"), lambda net, dearer: net * dearer / share,
                     operator.truediv, ("spin", 100), **more)

    yield Suite(
        "quota", "control/cpu", {}, common | dict(burst=BURST),
        [slowed(f"CPU quota of {percent} %", f"quota-{percent}", percent / 100, PERIOD, first=percent == 50) for percent in (25, 50, 80)],
    )
    yield Suite(
        "effect", "control/cpu", {}, common | dict(burst=BURST_OF_EFFECT),
        [slowed("CPU cost of 5 % more", "plus-5", 1 / (1 + EFFECT), PERIOD_OF_EFFECT, effect=True)],
    )
    yield Suite(
        "iops", "disk/randread", dict(size=16 << 20, direct=True), common | dict(operations=8 * IOPS // 10),
        [Truth(f"{IOPS} reads a second", f"iops-{IOPS}", behind(f"io={place.box},riops={IOPS}"),
               lambda net, _: max(net, 1e9 / IOPS), first=True)],
    )
    yield Suite(
        "bandwidth", "disk/seqread", dict(size=16 << 20, block=BLOCK, direct=True), common | dict(operations=8 * BLOCKS // 10),
        [Truth(f"{BLOCKS * BLOCK / 1e6:.1f} MB/s of reads", "bandwidth", behind(f"io={place.box},rbps={BLOCKS * BLOCK}"),
               lambda net, _: max(net, 1e9 / BLOCKS))],
    )
    stream, datagrams = place.links
    yield Suite(
        "stream", "net/stream", dict(block=64 << 10), common | brief | dict(operations=40),
        [Truth(f"link of {STREAM / 1e6:.0f} Mbit/s, a TCP stream", "link-stream", stream.inside(),
               lambda net, _: max(net, (64 << 10) * FRAME / SEGMENT * 8e9 / STREAM))],
        stream,
    )
    yield Suite(
        "datagrams", "net/rr", dict(protocol="udp", size=64), common | brief | dict(operations=200),
        [Truth(f"link of {DATAGRAMS / 1e6:.0f} Mbit/s, UDP ping-pong", "link-rr", datagrams.inside(),
               lambda net, _: max(net, DATAGRAM * 8e9 / DATAGRAMS))],
        datagrams,
    )
    yield Suite(
        "filters", "control/syscall", {}, common | dict(rounds=2, burst="20ms", burst_max="2s"),
        [Truth(f"filter of {count:,} instructions on each system call", f"filter-{count}", behind(f"filters={count}"),
               lambda net, more: net + more, operator.sub, ("getppid", 8)) for count in FILTERS],
    )


class Link:
    """A namespace that is joined to the host, and sends to it through a token bucket (tbf)."""

    def __init__(self, nth, rate, bucket):
        self.name = f"tarebench-truth-{os.getpid()}-{nth}"
        self.devices = [f"tartr{os.getpid() % 100000}{side}{nth}" for side in "np"]
        # Of TEST-NET-1: tarebench's own links are elsewhere.
        self.near, self.far = (f"192.0.2.{4 * nth + host}" for host in (1, 2))
        self.rate, self.bucket = rate, bucket

    def inside(self):
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def make(self):
        near, far = self.devices
        run(["ip", "netns", "add", self.name])
        run(["ip", "link", "add", far, "type", "veth", "peer", "name", near, "netns", self.name])
        for words, device, address in [(["-n", self.name], near, self.near), ([], far, self.far)]:
            run(["ip", *words, "link", "set", device, "addrgenmode", "none"])
            run(["ip", *words, "addr", "add", f"{address}/30", "dev", device])
            run(["ip", *words, "link", "set", device, "up"])
        # A queue that never drops.
        run(["tc", "-n", self.name, "qdisc", "add", "dev", near, "root", "tbf", "rate", self.rate, "burst", self.bucket, "limit", 16 << 20])

    def remove(self):
        if Path("/run/netns", self.name).exists():
            subprocess.run(["ip", "netns", "delete", self.name])


@dataclass
class Place:
    """Where all of it happens."""

    binary: Path
    folder: Path
    links: list

    @property
    def box(self):
        """Where the copies of bare have their data: on the same disk."""
        return self.folder / "box"

    def compile(self, name):
        """A program of ours in C."""
        if not (self.folder / name).exists():
            run(["cc", "-O2", "-static", ROOT / f"scripts/peers/{name}.c", "-o", self.folder / name])

    def command(self, truth):
        """What becomes the agent behind the limit; where that is measured, it has a program of ours run behind it and without it first."""
        if not truth.program:
            return truth.before
        program, argument = truth.program
        return [*truth.before, f"beside={self.numbers(truth.environment)},{self.folder / program},{argument}"]

    def numbers(self, environment):
        """Where what such a program said is kept during a run."""
        return self.folder / f"truth.{environment}"


# ---- A run ---------------------------------------------------------------------------------------------------------


def measure(place, text, environments=()):
    """A run of a suite: its report, for every workload, environment and block the nanoseconds of an operation, and for those of the
    environments that have a reference its pairs of numbers."""
    suite, store, report = (place.folder / f"truth.{ending}" for ending in ("toml", "db", "json"))
    suite.write_text(text)
    try:
        # 4: too restless for a verdict. It counts all the same: its intervals have to hold.
        run([place.binary, "run", suite, "--store", store, "--data-dir", place.folder, "--report", report], good=(0, 4))
        with contextlib.closing(sqlite3.connect(store)) as db:
            rows = db.execute(
                "SELECT workload, environment, block, SUM(elapsed_ns), SUM(operations) FROM burst WHERE NOT EXISTS (SELECT 1 FROM void"
                " WHERE (void.block, void.round, void.workload) = (burst.block, burst.round, burst.workload)) GROUP BY 1, 2, 3"
            ).fetchall()
        costs = {(workload, environment, block): ns / operations for workload, environment, block, ns, operations in rows if operations}
        files = {environment: place.numbers(environment) for environment in environments}
        pairs = {environment: [tuple(map(float, line.split())) for line in file.read_text().splitlines()]
                 for environment, file in files.items() if file.exists()}
        return json.loads(report.read_text()), costs, pairs
    finally:
        for left in place.folder.glob("truth.*"):
            left.unlink()


def text_of(suite, place):
    quoted = lambda value: f'"{value}"' if isinstance(value, str) else str(value).lower()
    lines = ['baseline = "bare"', *(f"{key} = {quoted(value)}" for key, value in suite.head.items()), "[environments.bare]"]
    for truth in suite.truths:
        lines += [f"[environments.{truth.environment}]", 'runner = "exec"', f'command = "{" ".join(map(str, place.command(truth)))} {{run}}"',
                  'copy = "cp {binary} {agent}"', f'data = "{place.box}"', *([f'peer = "{suite.link.far}"'] if suite.link else [])]
    lines += [f'[workloads."{suite.workload}"]', *(f"{key} = {quoted(value)}" for key, value in suite.settings.items())]
    return "\n".join(lines) + "\n"


@dataclass
class Found:
    """What a run said of a truth."""

    expected: float
    # Half of the 95 % interval of what was expected, on a logarithmic scale: 0 where it isn't measured.
    doubt: float
    value: float
    low: float
    high: float
    # The change that the run says it would see four times in five; None where it can't tell.
    visible: float
    # Whether the environment's sentence begins with this figure.
    said: bool

    @property
    def inside(self):
        """Whether they agree: the difference is at most the errors of both together (the E_n number of ISO 13528)."""
        difference = math.log(self.expected / self.value)
        own = math.log((self.high if difference > 0 else self.low) / self.value)
        return abs(difference) <= math.hypot(own, self.doubt)


def look(suite, truth, report, costs, pairs):
    """The cell of a truth beside what it should be. The truth is of a cost, and a report's figure a ratio: so it is divided by bare's
    in each block, and the blocks come together as those of the report do."""
    metric = dict(environment=truth.environment, metric="throughput")
    cell = next((c for c in report["cells"] if all(c[key] == value for key, value in metric.items())), None)
    if not cell or cell["low"] is None:
        why = next((e["because"] for e in report["environments"] if e["name"] == truth.environment), None)
        raise Failed(f"{truth.name}: {why or 'it has no interval'}")
    nets = [costs[suite.workload, truth.environment, block["block"]] / block["ratio"] for block in cell["ratios"]]
    reference, ends = None, []
    if truth.reference:
        if len(pairs) < 6:
            raise Failed(f"{truth.name}: its reference was measured {len(pairs)} times, and an interval needs 6")
        reference, *ends = middle([truth.reference(*pair) for pair in pairs])
    expected = interval([truth.cost(net, reference) / net for net in nets])[0]
    net = statistics.median(nets)
    doubt = math.log(truth.cost(net, ends[1]) / truth.cost(net, ends[0])) / 2 if ends else 0.0
    visible = next((r["smallest_visible"] for r in report["resolution"] if r["metric"] == "throughput"), None)
    sentence = next(e["sentence"] for e in report["environments"] if e["name"] == truth.environment)
    said = re.match(rf"{re.escape(suite.workload)} (?:does|takes) ([\d.]+)×", sentence)
    return Found(expected, doubt, cell["overhead"], cell["low"], cell["high"], visible,
                 bool(said) and cell["low"] * 0.95 <= float(said[1]) <= cell["high"] * 1.05)


@dataclass
class Nothing:
    """What a run of copies of bare without any limit said."""

    # Cells that claim something, in words.
    claims: list
    # Half of the interval of the cost, by workload: the median over the copies.
    widths: dict
    seconds: float
    # Lines for --keep: block, workload, metric, and what each copy cost, as times what bare metal took.
    blocks: list


def nothing(place):
    """Eight copies of bare in the workloads of quick."""
    quick = (ROOT / "suites/quick.toml").read_text()
    head, workloads = quick[: quick.index("[environments")], quick[quick.index("[workloads") :]
    copies = "".join(f'[environments.copy-{nth}]\nrunner = "bare"\n' for nth in range(1, 9))
    report, *_ = measure(place, f"{head}[environments.bare]\n{copies}{workloads}")
    claims = [f"{c['workload']} of {c['environment']} {c['claim']}, {c['metric']} {c['overhead']:.3f}" for c in report["cells"] if c["claim"] != "none"]
    widths = {}
    for cell in report["cells"]:
        if cell["metric"] == "throughput" and cell["low"]:
            widths.setdefault(cell["workload"], []).append(math.sqrt(cell["high"] / cell["low"]) - 1)
    return Nothing(claims, {workload: statistics.median(all_of) for workload, all_of in widths.items()}, report["run"]["seconds"],
                   ratios_of(report))


def ratios_of(report):
    """What the copies cost in each block, in the order of their names, where all of them have been measured in it."""
    series = {}
    for cell in report["cells"]:
        if cell["metric"] in ("throughput", "p50") and cell["low"]:
            for block in cell["ratios"]:
                series.setdefault((block["block"], cell["workload"], cell["metric"]), {})[cell["environment"]] = block["ratio"]
    copies = {environment for row in series.values() for environment in row}
    return [",".join([*map(str, key), *(f"{row[copy]:.5f}" for copy in sorted(copies))])
            for key, row in sorted(series.items()) if set(row) == copies]


# ---- What was found before -------------------------------------------------------------------------------------------


class Book:
    """What the runs found, one line of JSON for each suite of each: an hour or two go on where an earlier one ended. Without a file
    nothing is kept."""

    def __init__(self, file, place):
        self.file = file and Path(file)
        self.where = dict(machine=machine(), disk=file_system(place.folder))
        self.build = f"{run([place.binary, '--version']).strip()} {hashlib.sha256(place.binary.read_bytes()).hexdigest()[:12]}"
        self.found, self.dates, self.builds = {}, set(), set()
        for nth, line in enumerate(self.file.read_text().splitlines() if self.file and self.file.exists() else [], 1):
            try:
                entry = json.loads(line)
                where = {key: entry[key] for key in self.where}
                self.take(entry)
            except (ValueError, KeyError, TypeError) as why:
                raise Failed(f"{file}, line {nth}, is none that --resume wrote ({type(why).__name__}: {why}): take it out, or give another file") from None
            if where != self.where:
                raise Failed(f"{file}, line {nth}, is of {where['machine']} on {where['disk']}, and here is {self.where['machine']} on "
                             f"{self.where['disk']}: what is counted together is of one machine; give another file")

    def take(self, entry):
        self.found[entry["run"], entry["suite"]] = entry["found"]
        self.dates.add(entry["date"])
        self.builds.add(entry["build"])

    def keep(self, nth, suite, found):
        entry = dict(run=nth, suite=suite, date=str(datetime.date.today()), build=self.build, **self.where, found=found)
        self.take(entry)
        if self.file:
            with open(self.file, "a") as file:
                file.write(json.dumps(entry) + "\n")

    def times(self):
        """When, and where that matters by how many builds."""
        dates = self.dates or {str(datetime.date.today())}
        first, last = min(dates), max(dates)
        return (first if first == last else f"{first} to {last}") + (f", {len(self.builds)} builds," if len(self.builds) > 1 else "")


# ---- The table -----------------------------------------------------------------------------------------------------


def share(count, of):
    """The exact 95 % interval of a share (Clopper and Pearson)."""
    def tail(p, counts):
        return sum(math.comb(of, k) * p**k * (1 - p) ** (of - k) for k in counts)

    def solve(above):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if above(middle) else (middle, high)
        return low

    return (0.0 if count == 0 else solve(lambda p: tail(p, range(count, of + 1)) > 0.025),
            1.0 if count == of else solve(lambda p: tail(p, range(count + 1)) < 0.025))


def counted(count, of):
    low, high = share(count, of)
    return f"{count} of {of} ({low:.0%} to {high:.0%})"


@dataclass
class Line:
    """A row of the table."""

    name: str
    expected: str
    found: str
    width: str
    counted: str
    aim: str
    verdict: str

    def words(self):
        return [self.name, self.expected, self.found, self.width, self.counted, self.aim, self.verdict]


def line_of(truth, seen):
    """How a truth fared over all runs."""
    median = lambda part: statistics.median(part(found) for found in seen)
    doubt = math.expm1(median(lambda f: f.doubt))
    figures = (f"{median(lambda f: f.expected):.3f}" + (f" ± {doubt:.1%}" if doubt else ""), f"{median(lambda f: f.value):.3f}",
               f"{median(lambda f: math.sqrt(f.high / f.low) - 1):.1%}")
    if truth.effect:
        could = [found for found in seen if found.visible is not None and found.visible <= EFFECT]
        count = sum(found.low > 1 for found in could)
        if not could:
            yield Line(f"{truth.name}: found", *figures, "no run could see it", f">= {FOUND:.0%}", "miss")
        else:
            yield Line(f"{truth.name}: found", *figures, counted(count, len(could)), f">= {FOUND:.0%}",
                       "met" if count >= FOUND * len(could) else "miss")
    inside = sum(found.inside for found in seen)
    yield Line(truth.name, *figures, counted(inside, len(seen)), f">= {INSIDE:.0%}", "met" if inside >= INSIDE * len(seen) else "miss")
    if truth.first:
        said = sum(found.said for found in seen)
        yield Line(f"{truth.name}: said first", "", "", "", counted(said, len(seen)), "all", "met" if said == len(seen) else "miss")


def lines_of_nothing(seen):
    """How copies of bare fared: what was claimed of them, how narrow their intervals were, and how long that took."""
    def met(yes):
        return "met" if yes else "miss"

    name, count = "eight copies of bare", sum(bool(found.claims) for found in seen)
    yield Line(f"{name}: runs with a claim", "", "", "", counted(count, len(seen)), f"<= {CLAIMED:.0%}", met(count <= CLAIMED * len(seen)))
    workloads = {workload for found in seen for workload in found.widths}
    widths = {w: statistics.median(found.widths[w] for found in seen if w in found.widths) for w in workloads}
    if widths:
        middle, widest = statistics.median(widths.values()), max(widths, key=widths.get)
        yield Line(f"{name}: the middle workload", "", "", f"{middle:.1%}", "", f"<= {MIDDLE:.0%}", met(middle <= MIDDLE))
        yield Line(f"{name}: the widest, {widest}", "", "", f"{widths[widest]:.1%}", "", f"<= {WIDEST:.0%}", met(widths[widest] <= WIDEST))
    seconds = statistics.median(found.seconds for found in seen)
    yield Line(f"{name}: seconds of a run", "", f"{seconds:.0f} s", "", "", f"<= {SECONDS} s", met(seconds <= SECONDS))


HEAD = ["what was put in", "expected", "found", "interval", "runs", "aim", ""]
WIDTHS = [52, 16, 10, 10, 28, 8, 5]
COLUMNS = ["put in", "expected", "found", "half of the interval", "inside (share, 95 %)", "aim", "met"]


def say(words):
    print("".join(word.ljust(width) for word, width in zip(words, WIDTHS)).rstrip(), flush=True)


def markdown(lines, failed, runs, book):
    table = [f"Measured {book.times()} on {book.where['machine']}, data on {book.where['disk']}: {runs} runs of each; "
             f"`scripts/bench --truth --runs {runs}`. {aims(lines)}.", "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for line in lines:
        words = line.words()
        words[-1] = "**miss**" if words[-1] == "miss" else words[-1]
        table.append("| " + " | ".join(words) + " |")
    return "\n".join([*table, "", *(f"* Not measured: {why}." for why in failed)])


def aims(lines):
    return f"{sum(line.verdict == 'met' for line in lines)} of {len(lines)} aims are met"


def prove(args):
    if os.geteuid() != 0:
        raise Failed("limits of known size are cgroups and links: needs root")
    subprocess.run(["scripts/engines", *(["--no-install"] if args.no_install else []), *PACKAGES], check=True)
    binary = build()
    runs = args.runs or RUNS
    with remains.own_folder(args.dir) as folder:
        if re.search(r"[,\s]", str(Path(folder).resolve())):
            raise Failed(f"--dir {args.dir}: a comma or a space in the path can't be given to behind.py")
        place = Place(binary, Path(folder).resolve(), [Link(1, STREAM, BUCKET), Link(2, DATAGRAMS, 2000)])
        place.box.mkdir()
        chosen = [suite for suite in suites(place) if matches(args.only, suite.name)]
        with_nothing = matches(args.only, "nothing")
        if not chosen and not with_nothing:
            raise Failed(f"nothing matches {args.only}; there are: {', '.join(suite.name for suite in suites(place))}, nothing")
        print(f"{run([binary, '--version']).strip()} on {machine()}; work on CPU {CPU}, data in {args.dir}; {runs} runs of "
              + ", ".join([suite.name for suite in chosen] + (["nothing"] if with_nothing else [])), flush=True)
        book = Book(args.resume, place)
        seen, copies, failed, whole = go_through(place, chosen, with_nothing, runs, args.keep, book)
        lines = [line for suite in chosen for truth in suite.truths if seen[truth.environment]
                 for line in line_of(truth, seen[truth.environment])]
        lines += lines_of_nothing(copies) if copies else []
        print()
        say(HEAD)
        for line in lines:
            say(line.words())
        if args.markdown:
            print(f"\n{markdown(lines, failed, runs, book)}\n")
        if args.splice and whole:
            splice(args.splice, "truths", markdown(lines, failed, runs, book))
    missed = [line.name for line in lines if line.verdict == "miss"]
    print(f"\n{aims(lines)}" + "".join(f"\n  missed: {name}" for name in missed))
    return 1 if missed or failed else 0


def go_through(place, chosen, with_nothing, runs, keep, book):
    """All runs, one after the other, each of all suites: so that a rough hour hits all of them alike. What fails in one is said, and the
    others go on."""
    seen = {truth.environment: [] for suite in chosen for truth in suite.truths}
    copies, failed, whole = [], [], True
    try:
        for link in {id(suite.link): suite.link for suite in chosen if suite.link}.values():
            link.make()
        for nth in range(1, runs + 1):
            began = time.monotonic()
            for suite in chosen:
                try:
                    if (nth, suite.name) not in book.found:
                        book.keep(nth, suite.name, {truth.environment: asdict(found) for truth, found in truths_of(place, suite)})
                    of = book.found[nth, suite.name]
                    for truth in suite.truths:
                        if truth.environment not in of:
                            raise Failed(f"what was kept of it lacks {truth.environment}: take that line out of {book.file}")
                        found = Found(**of[truth.environment])
                        seen[truth.environment].append(found)
                        print(f"{nth:3}  {truth.name:<48}{found.expected:9.3f} expected, {found.value:9.3f} ({found.low:.3f} to {found.high:.3f})"
                              f"{'' if found.inside else '  outside'}{'' if found.said or not truth.first else '  not said first'}", flush=True)
                except Failed as why:
                    failed.append(f"run {nth} of {suite.name}: {' '.join(str(why).split())[-300:]}")
                    print(f"{nth:3}  NOT MEASURED: {failed[-1]}", flush=True)
            try:
                if with_nothing:
                    if (nth, "nothing") not in book.found:
                        book.keep(nth, "nothing", asdict(nothing(place)))
                        if keep:
                            with open(keep, "a") as file:
                                file.writelines(f"{nth},{line}\n" for line in book.found[nth, "nothing"]["blocks"])
                    copies.append(Nothing(**book.found[nth, "nothing"]))
                    print(f"{nth:3}  eight copies of bare: {'; '.join(copies[-1].claims) or 'no claim'}", flush=True)
            except Failed as why:
                failed.append(f"run {nth} of eight copies of bare: {' '.join(str(why).split())[-300:]}")
                print(f"{nth:3}  NOT MEASURED: {failed[-1]}", flush=True)
            print(f"{nth:3}  {time.monotonic() - began:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("interrupted: what follows is of the runs until now, and nothing is written into a document", flush=True)
        whole = False
    finally:
        for link in place.links:
            link.remove()
    return seen, copies, failed, whole


def truths_of(place, suite):
    """What one run of a suite says of each of its truths."""
    for truth in suite.truths:
        if truth.program:
            place.compile(truth.program[0])
    report, costs, pairs = measure(place, text_of(suite, place), [truth.environment for truth in suite.truths])
    return [(truth, look(suite, truth, report, costs, pairs.get(truth.environment, []))) for truth in suite.truths]
