#!/usr/bin/env python3
"""Puts itself behind a limit of known size and becomes the agent: what `scripts/bench --truth` gives the runner `exec` as its
command. What a copy of bare costs there is known beforehand.

usage: behind.py quota=SHARE,PERIOD_US COMMAND...   so much of one CPU, anew in each period (cgroup's cpu controller)
       behind.py io=DIRECTORY,KEY=N[,KEY=N] COMMAND...   the disk under a directory, with io.max's keys (blkio.throttle.* in v1)
       behind.py filters=N COMMAND...   each system call is first looked at by N instructions (seccomp)
       behind.py LIMIT beside=FILE,PROGRAM,ARGUMENT COMMAND...   the same, and a line in a file: what a program that prints one number
                                         says behind the limit, and what it says without

As root, started by tarebench: the group with the limit is made inside the environment's own and goes with it."""

import ctypes
import functools
import os
import struct
import subprocess
import sys
from pathlib import Path

# No folder of compiled Python in the source tree.
sys.dont_write_bytecode = True
from groups import hand_down, mounts

# The names of io.max in cgroup v1.
BLKIO = {"rbps": "read_bps", "wbps": "write_bps", "riops": "read_iops", "wiops": "write_iops"}


def own_group():
    """The group that tarebench made for this environment: `tarebench-<run>/<environment>`."""
    for line in open("/proc/self/cgroup"):
        parts = line.strip().split(":", 2)[2].strip("/").split("/")
        if parts[0].startswith("tarebench-") and len(parts) >= 2:
            return f"{parts[0]}/{parts[1]}"
    sys.exit("behind.py: not in a group of tarebench's: it has to be started by a run, as root")


def enter(v1, v2, limits):
    """Makes a group below the environment's with the limits, a pair of names (v1, v2) and a text each, and enters it."""
    there, name = mounts(), own_group()
    group = there[v1 if v1 in there else ""] / name / "limited"
    if v1 not in there:
        hand_down(there[""], f"{name}/limited", [v2])
    group.mkdir(parents=True, exist_ok=True)
    for names, text in limits:
        (group / names[v1 not in there]).write_text(text)
    (group / "cgroup.procs").write_text("0")


def quota(share, period_us):
    period = int(period_us)
    used = round(float(share) * period)
    words = [(("cpu.cfs_period_us", None), str(period)), (("cpu.cfs_quota_us", None), str(used))]
    enter("cpu", "cpu", words if "cpu" in mounts() else [((None, "cpu.max"), f"{used} {period}")])


def disk_of(directory):
    """MAJOR:MINOR of the whole disk under a directory: limits are not for partitions."""
    number = os.stat(directory).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    return ((device.parent if (device / "partition").exists() else device) / "dev").read_text().strip()


def io(directory, *pairs):
    disk = disk_of(directory)
    pairs = [pair.split("=") for pair in pairs]
    one_by_one = [((f"blkio.throttle.{BLKIO[key]}_device", None), f"{disk} {value}") for key, value in pairs]
    together = [((None, "io.max"), f"{disk} " + " ".join(f"{key}={value}" for key, value in pairs))]
    enter("blkio", "io", one_by_one if "blkio" in mounts() else together)


def filters(instructions):
    """A filter that loads an argument again and again and lets everything pass. The kernel remembers the answer of one that looks
    at no argument, and runs it no more. A filter has 4096 instructions at most, and there may be several."""
    libc = ctypes.CDLL(None, use_errno=True)
    left = int(instructions)
    load, allow = struct.pack("HBBI", 0x20, 0, 0, 16), struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    while left > 0:
        count = min(left, 4096)
        code = ctypes.create_string_buffer(load * (count - 1) + allow)
        program = struct.pack("HxxxxxxP", count, ctypes.addressof(code))
        if libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            raise OSError(ctypes.get_errno(), "seccomp")
        left -= count


def compare(limit, file, *program):
    """What a limit does to a program, where and just before the agent meets it: an hour's or a minute's change of the machine is in both."""
    def enter():
        # Between fork and exec: what goes wrong here is said by nobody else.
        try:
            limit()
        except BaseException as why:
            os.write(2, f"behind.py: {why}\n".encode())
            raise

    def of(first):
        return float(subprocess.run(program, stdout=subprocess.PIPE, check=True, preexec_fn=first).stdout)

    outer, inner, again, last = (of(first) for first in (None, enter, enter, None))
    with open(file, "a") as lines:
        lines.write(f"{(inner + again) / 2} {(outer + last) / 2}\n")


def main():
    kind, _, words = sys.argv[1].partition("=")
    beside, command = (sys.argv[2], sys.argv[3:]) if sys.argv[2].startswith("beside=") else (None, sys.argv[2:])
    # What only takes away what an agent has left needs no limit, and has no group of tarebench's to make one in.
    if command[1:2] != ["leave"]:
        limit = functools.partial({"quota": quota, "io": io, "filters": filters}[kind], *words.split(","))
        if beside:
            compare(limit, *beside.removeprefix("beside=").split(","))
        limit()
    os.execv(command[0], command)


main()
