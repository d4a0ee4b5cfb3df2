"""Our criterion benches beside those of an earlier revision, in alternation: what `scripts/bench --self` does."""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from .shared import CPU, ROOT, Failed, interval, machine, pinned, run

# Rounds of all benches on both sides; 6 is the least that has an interval.
ROUNDS = 7
# A change that is no accident and no trifle.
CHANGE = 0.10


def base_revision(given):
    """The last tag, else where this branch left the main one."""
    if given:
        return run(["git", "rev-parse", "--verify", f"{given}^{{commit}}"]).strip()
    for words in (["describe", "--tags", "--abbrev=0"], ["merge-base", "HEAD", "origin/main"], ["merge-base", "HEAD", "main"]):
        done = subprocess.run(["git", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode == 0:
            return run(["git", "rev-parse", done.stdout.strip() + "^{commit}"]).strip()
    return run(["git", "rev-parse", "HEAD"]).strip()


def build_benches(tree, target):
    """The executables of all criterion benches of a source tree."""
    out = run(["cargo", "bench", "--package=tarebench-workloads", "--benches", "--no-run", "--locked", "--message-format=json",
               f"--target-dir={target}"], patience=3600, cwd=tree)
    messages = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    built = [m["executable"] for m in messages if m.get("executable") and "bench" in m["target"]["kind"]]
    if not built:
        raise Failed(f"{tree} has no benches")
    return built


def bench_once(programs, only, home):
    """One short round of all benches: nanoseconds by name."""
    for program in programs:
        run([*pinned(), program, "--bench", "--noplot", "--quiet", "--warm-up-time=0.1", "--measurement-time=0.3", "--sample-size=20",
             "--nresamples=1000", *([only] if only else [])], env=os.environ | {"CRITERION_HOME": str(home)})
    found = {}
    for estimates in home.glob("**/new/estimates.json"):
        name = json.loads((estimates.parent / "benchmark.json").read_text())["full_id"]
        found[name] = json.loads(estimates.read_text())["median"]["point_estimate"]
    shutil.rmtree(home, ignore_errors=True)
    return found


def compare(args):
    base = base_revision(args.base)
    print(f"the working tree against {run(['git', 'log', '-1', '--format=%h %s', base]).strip()}, on CPU {CPU}, {machine()}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-self-"))
    tree = folder / "base"
    try:
        run(["git", "worktree", "add", "--detach", tree, base])
        # The target directory stays: whoever compares with the same revision again needn't build it again.
        sides = [build_benches(tree, ROOT / "target/bench-base"), build_benches(ROOT, ROOT / "target")]
        only = "" if args.only == "." else args.only
        rounds = []
        for turn in range(ROUNDS):
            seen = [None, None]
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                seen[side] = bench_once(sides[side], only, folder / "criterion")
            rounds.append(seen)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["git", "worktree", "prune"])
        shutil.rmtree(folder, ignore_errors=True)
    return tell(rounds)


def tell(rounds):
    names = [set(rounds[0][side]) for side in (0, 1)]
    print(f"{'bench':<46}{'before':>12}{'now':>12}   now / before (95 %)")
    changed = []
    for name in sorted(names[0] & names[1]):
        before, now = (statistics.median(seen[side][name] for seen in rounds) for side in (0, 1))
        value, low, high = interval([seen[1][name] / seen[0][name] for seen in rounds])
        verdict = "SLOWER" if low > 1 + CHANGE else "FASTER" if high < 1 / (1 + CHANGE) else ""
        print(f"{name:<46}{before:>9.1f} ns{now:>9.1f} ns   {value:.3f} ({low:.3f} to {high:.3f}) {verdict}")
        if verdict:
            changed.append(name)
    for name in sorted(names[0] ^ names[1]):
        print(f"{name:<46}only {'before' if name in names[0] else 'now'}: not compared")
    if not names[0] & names[1]:
        print("no bench is on both sides: nothing was compared")
        return 1
    print(f"{len(changed)} of {len(names[0] & names[1])} changed by more than {CHANGE:.0%}" + "".join(f"\n  {name}" for name in changed))
    return 1 if changed else 0
