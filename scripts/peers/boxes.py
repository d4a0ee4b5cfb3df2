"""Every engine used by hand, at its least: what starts the smallest program in it. Nothing here comes from tarebench's runners,
so that a start which they make dearer than need be shows.

Where an engine can do without a network namespace of its own, or without a terminal, it is told so. What holds for every
environment of tarebench's holds here too: one CPU, limited memory, in a cgroup; the engine's own groups are below it.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from .shared import CPU, PEER_CPU, ROOT, Failed, run

# More than any of these takes on a busy machine, seconds.
PATIENCE = 60
MEMORY_MIB = 512


@dataclass
class Box:
    """An environment and the engine's minimum for it."""

    name: str
    # From a Hands: the command line that starts /hello in the engine; None where nobody has written one.
    minimum: object = None
    # Whether it boots a kernel.
    machine: bool = False
    settings: dict = field(default_factory=dict)
    # What makes it ready, and what goes away afterwards, as a context manager from a Hands and the box.
    premises: object = None
    # Directories in which the engine keeps what it forgets to remove: it is given an empty one.
    hidden: tuple = ()
    # A command that tarebench is run by.
    within: tuple = ()


class Hands:
    """What starting by hand needs: the programs, a root file system, a folder, a name that nobody else has."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.name = f"tarebench-bench-{os.getpid()}"
        self.root = self.folder / "root"
        self.launcher = self.folder / "firstbyte"
        self.guest = None
        self.starts = 0
        # Runtimes make these although they are told to use others.
        self.strays = [path for path in (Path("/run/runc"), Path("/run/crun")) if not path.exists()]
        for directory in ("data", "proc", "sys", "dev", "tmp", "etc", "usr"):
            (self.root / directory).mkdir(parents=True)
        run(["cc", "-O2", "-static", ROOT / "scripts/peers/hello.c", "-o", self.root / "hello"])
        run(["cc", "-O2", ROOT / "scripts/peers/firstbyte.c", "-o", self.launcher])
        os.link(self.root / "hello", self.root / "init")
        # Of the cgroups that everything by hand is in, as cgroup paths and as what is written to for entering them.
        self.group = f"/{self.name}/hand"
        self.entrances = self.limit() if os.geteuid() == 0 else []

    def limit(self):
        """Makes the groups, in either version; v1's are entered by the thread that writes, as tarebench does."""
        base = Path("/sys/fs/cgroup")
        v2 = (base / "cgroup.controllers").exists()
        entrances = []
        for hierarchy in [""] if v2 else ["cpu", "cpuacct", "cpuset", "memory"]:
            group = base / hierarchy / self.group.strip("/")
            if not (base / hierarchy).is_dir():
                continue
            group.mkdir(parents=True)
            if v2:
                (group.parent / "cgroup.subtree_control").write_text("+cpu +cpuset +memory")
            for name, value in (("cpuset.mems", "0"), ("cpuset.cpus", CPU), ("memory.limit_in_bytes", f"{MEMORY_MIB}M"), ("memory.max", f"{MEMORY_MIB}M")):
                # In v1 a set of CPUs begins empty, the one above it too.
                for directory in (group.parent, group) if name.startswith("cpuset") and not v2 else (group,):
                    if (directory / name).exists():
                        (directory / name).write_text(value)
            if v2:
                # Groups with processes in them have none below: engines make theirs beside this one.
                (group / "front").mkdir()
                group = group / "front"
            entrances.append(group / ("cgroup.procs" if v2 else "tasks"))
            if (group / "cgroup.clone_children").exists():
                (group / "cgroup.clone_children").write_text("1")
        return entrances

    def start(self, box):
        """Milliseconds from before the fork to the byte."""
        self.starts += 1
        hidden = [word for directory in box.hidden if os.geteuid() == 0 and Path(directory).is_dir() for word in ("--hide", directory)]
        entered = [word for file in self.entrances for word in ("--enter", file)]
        words = [*box.within, self.launcher, PATIENCE, CPU, PEER_CPU, *entered, *hidden, "--", *box.minimum(self)]
        return int(run(words, patience=PATIENCE + 30, cwd=self.folder)) / 1e6

    def fresh(self):
        """A name for this start."""
        return f"{self.name}-{self.starts}"

    def bundle(self, network=False):
        """What `runc spec` writes, with our process and our group, without a terminal, and as asked without a network namespace."""
        bundle = self.folder / f"bundle-{self.starts}"
        bundle.mkdir()
        run(["runc", "spec", "--bundle", bundle])
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": ["/hello"]}
        config["root"] = {"path": str(self.root), "readonly": True}
        if self.entrances:
            config["linux"]["cgroupsPath"] = f"{self.group}/{self.fresh()}"
        if not network:
            config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def sweep(self):
        """Empty folders of runtimes; our groups, and those that engines were told to make below them, in every hierarchy."""
        for path in self.strays:
            with contextlib.suppress(OSError):
                path.rmdir()
        for path in sorted(Path("/sys/fs/cgroup").glob(f"**/{self.name}"), reverse=True):
            for directory, _, _ in os.walk(path, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)


def bare(hands):
    return [hands.root / "hello"]


def chroot(hands):
    return ["chroot", hands.root, "/hello"]


def namespaces(hands):
    return ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--ipc", "--uts", f"--root={hands.root}", "/hello"]


def bubblewrap(hands):
    return ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", hands.root, "/", "--proc", "/proc", "--dev", "/dev", "/hello"]


def firejail(hands):
    return ["firejail", "--quiet", "--noprofile", "--keep-var-tmp", "--private-dev", "--ipc-namespace", "--caps.drop=all", "--nonewprivs",
            "--seccomp", hands.root / "hello"]


def nspawn(hands):
    return ["systemd-nspawn", "--quiet", "--directory", hands.root, "--machine", hands.fresh(), "--settings=no", "--register=no",
            "--keep-unit", "--as-pid2", "--pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "/hello"]


def lxc(hands):
    name = hands.fresh()
    config = hands.folder / name / "config"
    config.parent.mkdir()
    groups = "".join(f"lxc.cgroup.dir.{key} = {hands.group.strip('/')}/{name}/{word}\n"
                     for key, word in (("container", "payload"), ("monitor", "monitor"), ("monitor.pivot", "pivot")))
    config.write_text(f"lxc.rootfs.path = dir:{hands.root}\nlxc.net.0.type = none\nlxc.autodev = 1\nlxc.mount.auto = proc:mixed sys:ro\n"
                      f"lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp\n{groups}")
    return ["lxc-execute", "--lxcpath", config.parent, "--name", name, "--rcfile", config, "--", "/hello"]


def runc(hands):
    return ["runc", "--root", hands.folder / "runc", "run", "--bundle", hands.bundle(), hands.fresh()]


def crun(hands):
    # It refuses an empty cgroup v2 beside v1, so where there is one it must not see it.
    hidden = "/sys/fs/cgroup/unified"
    without = ["unshare", "--mount", "sh", "-c", f'umount {hidden} && exec "$@"', "sh"]
    return [*(without if os.path.ismount(hidden) else []), "crun", "--root", hands.folder / "crun", "run", "--bundle", hands.bundle(), hands.fresh()]


def gvisor(hands):
    """With its own network stack, as it has it by default, on an empty network namespace."""
    return ["runsc", f"--root={hands.folder / 'runsc'}", "--ignore-cgroups", "run", f"--bundle={hands.bundle(network=True)}", hands.fresh()]


def podman(hands):
    """With a store of its own, which is warm from the second start on, as tarebench's is."""
    home = hands.folder / "podman"
    if not home.exists():
        home.mkdir()
        (home / "containers.conf").write_text('[engine]\nlock_type = "file"\n')
    limits = [f"--ulimit={name}={soft}:{hard}" for name, (soft, hard) in (("nofile", limit("NOFILE")), ("nproc", limit("NPROC")))]
    return ["env", f"CONTAINERS_CONF={home / 'containers.conf'}", "podman", "--root", home / "storage", "--runroot", home / "run",
            "--tmpdir", home / "tmp", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc",
            "--runtime-flag", f"root={home / 'runtime'}", "run", "--interactive", "--rm", "--log-driver", "passthrough", "--network", "host",
            "--no-hosts", "--cgroup-parent", hands.group, "--cgroups", "no-conmon", *limits, "--rootfs", hands.root, "/hello"]


def limit(name):
    """Our own limits: podman asks for more than it may raise."""
    import resource

    most = int(Path("/proc/sys/kernel/pid_max").read_text()) if name == "NPROC" else None
    both = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    unlimited = resource.RLIM_INFINITY
    return [most if value == unlimited and most else -1 if value == unlimited else min(value, most or value) for value in both]


def docker(hands):
    """With the network that `docker run` makes where it is told nothing, which is tarebench's default, too."""
    parent = ["--cgroup-parent", hands.group] if hands.entrances else []
    return ["docker", "run", "--interactive", "--rm", "--log-driver", "none", *parent, "hello", "/hello"]


@contextlib.contextmanager
def daemon(hands, box):
    """A Docker daemon that answers, else one of our own in namespaces of its own; the image in it."""
    def answers():
        return subprocess.run(["docker", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL).returncode == 0

    def image():
        run(["tar", "-C", hands.root, "-cf", hands.folder / "image.tar", "."])
        run(["docker", "import", hands.folder / "image.tar", "hello"])

    if shutil.which("docker") and answers():
        image()
        try:
            yield
        finally:
            run(["docker", "image", "rm", "--force", "hello"])
        return
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        raise Failed("no Docker daemon answers, and there is none to start: that needs dockerd and root")
    home = hands.folder / "docker"
    home.mkdir()
    (home / "none.json").write_text("{}")
    socket = f"unix://{home / 'socket'}"
    # What it mounts, what it leaves in /run and the key that it writes into /etc/docker go with its namespaces.
    script = ('ip link set lo up && mount -t tmpfs none /run && { [ ! -d /etc/docker ] || mount -t tmpfs none /etc/docker; } && exec "$@"')
    words = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh", "dockerd", "--data-root", home / "data",
             "--exec-root", home / "exec", "--pidfile", home / "pid", "--host", socket, "--config-file", home / "none.json"]
    with open(home / "log", "w") as log:
        dockerd = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
    os.environ["DOCKER_HOST"] = socket
    try:
        until = time.monotonic() + 30
        while not answers():
            if dockerd.poll() is not None or time.monotonic() > until:
                raise Failed(f"dockerd does not answer:\n{(home / 'log').read_text()[-1000:]}")
            time.sleep(0.1)
        image()
        box.within = ("nsenter", f"--net=/proc/{dockerd.pid}/ns/net")
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        box.within = ()
        dockerd.terminate()
        try:
            dockerd.wait(20)
        except subprocess.TimeoutExpired:
            dockerd.kill()
            dockerd.wait()


def die_with_parent():
    """PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def qemu(hands):
    """The machine, processor, memory, kernel and kernel arguments that tarebench has by default, and no device but a console."""
    if hands.guest is None:
        raise Failed("which kernel and accelerator tarebench uses is not known before its first start")
    kernel, initramfs, accelerator = hands.guest
    accelerate = ["-accel", "kvm", "-cpu", "host"] if accelerator == "KVM" else ["-accel", "tcg,tb-size=128", "-cpu", "qemu64,+rdrand"]
    firmware = "/usr/share/qemu/qboot.rom"
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35",
            *(["-bios", firmware] if Path(firmware).exists() else []), *accelerate, "-smp", "1", "-m", f"{MEMORY_MIB}M",
            "-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests=1", "-serial", "stdio"]


def guest(hands, version):
    """Kernel and initramfs for `qemu`, from what tarebench says of itself: `QEMU 7.2.1, guest Linux 6.1.0, auto is TCG (...)`."""
    found = re.search(r"guest Linux (\S+), auto is (KVM|TCG)", version)
    if not found:
        raise Failed(f"no kernel in `{version}`")
    release, accelerator = found.groups()
    packed = next((p for p in (Path(f"/boot/vmlinuz-{release}"), Path(f"/lib/modules/{release}/vmlinuz")) if p.exists()), None)
    if packed is None:
        raise Failed(f"the kernel {release} is not where kernels are")
    kernel, initramfs = hands.folder / "kernel", hands.folder / "initramfs"
    kernel.write_bytes(unpack(packed.read_bytes()))
    initramfs.write_bytes(archive("init", (hands.root / "hello").read_bytes()))
    hands.guest = (kernel, initramfs, accelerator)


def unpack(image):
    """The ELF file in a bzImage, which QEMU boots without the guest's having to unpack it; the image where it can't be told."""
    if image[0x202:0x206] != b"HdrS":
        return image
    at = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[at + offset : at + offset + length - 4]
    programs = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"\x1f\x8b\x08\x00": "gzip"}
    program = programs.get(payload[:4])
    if program is None or not shutil.which(program):
        raise Failed(f"the kernel is packed by {program or 'something unknown'}, which is not installed")
    # What follows the payload makes some of them complain after they have written all of it.
    return subprocess.run([program, "-dc"], input=payload, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def archive(name, content):
    """A newc archive with one program in it."""
    def entry(name, mode, content):
        name = name.encode() + b"\0"
        head = b"070701" + b"".join(b"%08x" % n for n in (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0))
        pad = lambda text: text + b"\0" * (-len(text) % 4)
        return pad(head + name) + pad(content)

    return entry(name, 0o100755, content) + entry("TRAILER!!!", 0, b"")


def uml(hands):
    """A console where tarebench has a serial line, the same memory, no disk and no network."""
    return ["env", "TMPDIR=/dev/shm", "linux.uml", "rootfstype=hostfs", "rw", "init=/init", f"rootflags={hands.root}", f"mem={MEMORY_MIB}M",
            "con=null", "con0=fd:0,fd:1", "quiet", "panic=-1", "noreboot", f"uml_dir={hands.folder}", f"umid={hands.fresh()}"]


def boxes():
    yield Box("bare", bare)
    yield Box("chroot", chroot)
    yield Box("namespaces", namespaces)
    yield Box("bubblewrap", bubblewrap)
    yield Box("firejail", firejail, hidden=("/run/firejail",))
    yield Box("nspawn", nspawn, hidden=("/run/systemd/nspawn",))
    yield Box("lxc", lxc, hidden=("/run/lxc",))
    yield Box("runc", runc)
    yield Box("crun", crun)
    # Old releases of runsc take every network namespace for the host's where this can be seen.
    yield Box("gvisor", gvisor, hidden=("/proc/sys/net",))
    yield Box("podman", podman)
    yield Box("docker", docker, premises=daemon)
    yield Box("qemu", qemu, machine=True)
    yield Box("uml", uml, machine=True)
    yield Box("firecracker", machine=True)
    yield Box("cloud-hypervisor", machine=True)
