"""What the tables of scripts/bench share: running a program, intervals, the machine in words."""

import contextlib
import itertools
import math
import os
import re
import signal
import statistics
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# As tarebench has it for an environment of one CPU: the work on the first, harness and peer on the next.
CPU, PEER_CPU = "0", "1"
# As long as tarebench may take to remove what it made.
TO_TIDY_UP = 60
# Seconds that a program that is asked for bursts may take for an answer.
PATIENCE = 300


def listen():
    """Has the first signal that would end us unwind: what was made is removed. Those that follow change nothing any more."""

    def unwind(*_):
        for each in ends:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for each in ends:
        signal.signal(each, unwind)


def run(words, patience=600, good=(0,), **more):
    """What a program printed. It is given so many seconds, and ends with one of the good codes."""
    words = [str(word) for word in words]
    # In a session of its own: what ends us is handed on by `end`, once, and a second signal would leave what a run made.
    own = {"start_new_session": True} | more
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **own) as program:
        try:
            out, errors = program.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            end(program)
            raise Failed(f"{' '.join(words)} did not end within {patience} s") from None
        except BaseException:
            end(program)
            raise
    if program.returncode not in good:
        raise Failed(f"{' '.join(words)} ended with {program.returncode}:\n{out[-2000:]}{errors[-2000:]}")
    return out


def file_system(folder):
    """Its kind, in one word."""
    return run(["stat", "-f", "-c", "%T", folder]).strip()


def end(program):
    """Asks it to end, and kills it only where it doesn't: tarebench killed leaves what it made."""
    program.terminate()
    try:
        program.communicate(timeout=TO_TIDY_UP)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()


@contextlib.contextmanager
def ended_when_late(program):
    """Kills a program that takes longer than `PATIENCE` to get ready, or for a burst: whoever reads from it sees the end."""
    watchdog = threading.Timer(PATIENCE, program.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        # A thread that is still there when the next program is started could hold what that one needs.
        watchdog.join()


class Failed(Exception):
    """A program that didn't do what it was asked for; a row of the table and not the end of it."""


def middle(values):
    """Hodges-Lehmann estimate and exact 95 % signed-rank interval of the median; no interval from fewer than 6."""
    n = len(values)
    walsh = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    null = [1.0]
    for i in range(1, n + 1):
        null = [((null[w] if w < len(null) else 0) + (null[w - i] if 0 <= w - i < len(null) else 0)) / 2 for w in range(len(null) + i)]
    below, k = 0.0, 0
    for probability in null:
        below += probability
        if 2 * below > 0.05:
            break
        k += 1
    estimate = statistics.median(walsh)
    return (estimate, walsh[k - 1], walsh[len(walsh) - k]) if k else (estimate, math.nan, math.nan)


def interval(ratios):
    """The same of ratios, on a logarithmic scale."""
    return tuple(math.exp(value) for value in middle([math.log(ratio) for ratio in ratios]))


def build():
    """Our program as it is released."""
    subprocess.run(["cargo", "build", "--release", "--locked"], check=True)
    return max(ROOT.glob("target/*/release/tarebench"), key=lambda path: path.stat().st_mtime)


def splice(document, part, text):
    """Writes what was measured into a document, between `<!-- PART: written by ... -->` and `<!-- end of PART -->`."""
    document = Path(document)
    pattern = re.compile(rf"(<!-- {re.escape(part)}: [^\n]*-->\n).*?(<!-- end of {re.escape(part)} -->)", re.DOTALL)
    written, times = pattern.subn(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", document.read_text())
    if times != 1:
        raise Failed(f"{document} has {times or 'no'} places for `{part}`: it needs `<!-- {part}: ... -->` and `<!-- end of {part} -->`")
    document.write_text(written)


def machine():
    """What it was measured on, in words."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), os.uname().machine)
    return f"{cpu}, {os.cpu_count()} CPUs, Linux {os.uname().release.split('-')[0]}"


def matches(pattern, *texts):
    return any(re.search(pattern, text, re.IGNORECASE) for text in texts)


def pinned(cpu=CPU):
    return ["taskset", "-c", cpu]
