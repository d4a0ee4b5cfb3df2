"""What a run of scripts/bench that was killed left behind: the next one removes it."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
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
    folders = [path for path in left_in(folder) if not held(path)]
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


# Namespaces, groups and folders as scripts/bench calls them, with the process that made them: nobody else's look so.
MADE = re.compile(r"tarebench-(?:bench-(\d+)(?:-near|-far|-[a-z0-9_]{8})?|truth-(\d+)-\d+)")


@contextlib.contextmanager
def own_folder(beside):
    """A folder of ours, which is locked as long as we are there: from elsewhere our process may not be seen."""
    with tempfile.TemporaryDirectory(dir=beside, prefix=f"tarebench-bench-{os.getpid()}-") as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)


def held(folder):
    """Whether somebody has it locked, or it is no folder."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def left_in(folder):
    """What is in there that a run of ours made which is no more: the name tells which."""
    made = ((path, MADE.fullmatch(path.name)) for path in Path(folder).glob("tarebench-*"))
    ours = ((path, by[1] or by[2]) for path, by in made if by and path.lstat().st_uid == os.geteuid())
    return [path for path, pid in ours if not Path("/proc", pid).exists()]


def running(namespaces, groups):
    """The processes in them."""
    inside = [subprocess.run(["ip", "netns", "pids", name], stdout=subprocess.PIPE, text=True).stdout for name in namespaces]
    inside += [(group / "cgroup.procs").read_text() for group in groups]
    return set(" ".join(inside).split())
