"""What a run of scripts/bench that was killed left behind: the next one removes it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .groups import mounts

# As long as a killed process may take to be gone from its group.
PATIENCE = 5


def clear(folder):
    """Removes namespaces and groups with what still runs in them, and folders in this one."""
    namespaces = [path.name for path in left_in("/run/netns")]
    tops = [path for point in set(mounts().values()) for path in left_in(point)]
    # The innermost first.
    groups = [Path(group) for top in tops for group, _, _ in os.walk(top, topdown=False)]
    folders = left_in(folder)
    for pid in running(namespaces, groups):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while running([], groups) and time.monotonic() < until:
        time.sleep(0.01)
    for name in namespaces:
        subprocess.run(["ip", "netns", "delete", name])
    for group in groups:
        group.rmdir()
    for path in folders:
        shutil.rmtree(path)
    gone = sorted({*namespaces, *(path.name for path in tops + folders)})
    if gone:
        print(f"left by a run that was killed, and removed: {', '.join(gone)}", flush=True)


def left_in(folder):
    """What is in there that a run of ours made which is no more: the name tells which."""
    made = ((path, re.match(r"tarebench-(?:bench|truth)-(\d+)(?:-|$)", path.name)) for path in Path(folder).glob("tarebench-*"))
    return [path for path, by in made if by and path.stat().st_uid == os.geteuid() and not Path("/proc", by[1]).exists()]


def running(namespaces, groups):
    """The processes in them."""
    inside = [subprocess.run(["ip", "netns", "pids", name], stdout=subprocess.PIPE, text=True).stdout for name in namespaces]
    inside += [(group / "cgroup.procs").read_text() for group in groups]
    return set(" ".join(inside).split())
