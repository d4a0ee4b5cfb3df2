"""Control groups as tarebench makes them for an environment: in cgroup v1's hierarchies, or in v2."""

import contextlib
import itertools
import os
from pathlib import Path


def mounts():
    """Where hierarchies are mounted: by controller in v1, under "" in v2."""
    found = {}
    for line in open("/proc/self/mountinfo"):
        left, right = line.split(" - ")
        kind, _, options = right.split()[:3]
        if kind == "cgroup":
            found |= {controller: Path(left.split()[4]) for controller in options.split(",")}
        elif kind == "cgroup2":
            found[""] = Path(left.split()[4])
    return found


def hand_down(point, name, controllers):
    """Has the groups on the way to this one, in v2, hand these controllers down."""
    above = point
    for part in ("", *name.split("/")[:-1]):
        above = above / part
        above.mkdir(exist_ok=True)
        for controller in controllers:
            (above / "cgroup.subtree_control").write_text(f"+{controller}")


class Bare:
    """A group with the limits of bare's (one CPU, memory), for a peer: a process in a group pays for being counted."""

    def __init__(self, cpu, memory):
        there, name = mounts(), f"tarebench-bench-{os.getpid()}/peer"
        if "memory" in there:
            self.groups = [point / name for point in {there[c] for c in ("cpu", "cpuacct", "cpuset", "memory") if c in there}]
        else:
            hand_down(there[""], name, ["cpuset", "cpu", "memory"])
            self.groups = [there[""] / name]
        try:
            for group in self.groups:
                self.fill(group, cpu, memory)
        except OSError:
            self.remove()
            raise

    @staticmethod
    def fill(group, cpu, memory):
        group.mkdir(parents=True, exist_ok=True)
        if (group / "cgroup.clone_children").exists():
            # cgroup v1 begins with no CPUs and no memory nodes, and lets nothing in.
            for above, file in itertools.product((group.parent, group), ("cpuset.cpus", "cpuset.mems")):
                if (above / file).exists() and not (above / file).read_text().strip():
                    (above / file).write_text((above.parent / file).read_text())
            # Nor any priority, for which cyclictest asks though it uses none.
            for above in (group.parent, group):
                if (above / "cpu.rt_runtime_us").exists():
                    (above / "cpu.rt_runtime_us").write_text("1000")
        for file, text in [("cpuset.cpus", cpu), ("memory.limit_in_bytes", memory), ("memory.max", memory)]:
            if (group / file).exists():
                (group / file).write_text(str(text))

    def enter(self):
        """Between fork and exec of the peer."""
        for group in self.groups:
            (group / "cgroup.procs").write_text("0")

    def remove(self):
        for group in self.groups:
            for each in (group, group.parent):
                with contextlib.suppress(OSError):
                    each.rmdir()
