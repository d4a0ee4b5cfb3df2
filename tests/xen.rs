//! Xen for real, on an emulated machine: the hypervisor, a privileged domain (dom0) with this program and `xl` in it, and the
//! domains that the `xen` runner makes there.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::emulated::{self, copy, copy_libraries, output, read_from};

/// Programs of dom0, with the libraries that they ask for. Most are for the scripts that `xl` runs.
const PROGRAMS: &[&str] = &[
    "bash",
    "sh",
    "mount",
    "modprobe",
    "ip",
    "mkfs.ext4",
    "losetup",
    "flock",
    "logger",
    "ln",
    "mkdir",
    "mkfifo",
    "rm",
    "cat",
    "cut",
    "sed",
    "grep",
    "expr",
    "stat",
    "readlink",
    "dirname",
    "basename",
    "sleep",
    "ls",
    "xenstore-read",
    "xenstore-write",
    "xenstore-rm",
    "xenstore-list",
    "xenstore-exists",
];

/// What Debian's packages `xen-utils-4.17`, `xen-utils-common` and `qemu-system-xen` bring, whole.
const FOLDERS: &[&str] = &["/etc/xen", "/usr/lib/xen-4.17", "/usr/lib/xen-common"];

/// Of those, the programs that run in dom0.
const TOOLS: &[&str] = &["xl", "xenconsole", "xenconsoled", "xenstored", "xen-init-dom0"];

/// QEMU as a disk's back end.
const QEMU: &str = "/usr/libexec/xen-qemu-system-i386";

const HYPERVISOR: &str = "/boot/xen-4.17-amd64.gz";

/// What of the kernels' modules dom0 and the domains need.
const MODULES: &[&str] = &[
    "arch",
    "crypto",
    "drivers/block",
    "drivers/net",
    "drivers/nvme",
    "drivers/xen",
    "fs",
    "lib",
    "net/ipv6",
    "net/sched",
];

/// From power on to power off.
const PATIENCE: Duration = Duration::from_secs(1800);

const INIT: &str = r#"#!/bin/bash
export PATH=/usr/sbin:/usr/bin HOME=/tmp
tools=/usr/lib/xen-4.17/bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
mkdir -p /run/xen /run/lock /var/log/xen /var/lib/xen
ln -s /run /var/run; ln -s /run/lock /var/lock
for module in nvme ext4 loop veth xenfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xen-blkback xen-netback; do
  modprobe $module
done
mount -t xenfs xenfs /proc/xen
for _ in {1..100}; do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done
mount -t ext4 /dev/nvme0n1 /data
ip link set lo up
$tools/xenstored --pid-file /run/xenstored.pid
until xenstore-exists /tool; do sleep 0.1; done
$tools/xen-init-dom0
$tools/xenconsoled --pid-file=/run/xenconsoled.pid
cd /data
tarebench run --env bare --env xen:disk.size=64MiB --env xen:disk.size=64MiB,type=pvh,disk=qdisk \
  --workload sqlite/commit --workload disk/fsync --workload net/rr --blocks 1 --store /data/store.db --data-dir /data
echo "$?" > /data/code
tarebench report latest --store /data/store.db --format json -o /data/report.json
{ xl list; ls /tmp /var/log/xen; losetup --all; ip netns list; } > /data/left
echo s > /proc/sysrq-trigger
cd /; mount -o remount,ro /data
echo o > /proc/sysrq-trigger
while :; do sleep 1; done
"#;

#[test]
#[ignore = "boots Xen and its domains on an emulated machine, which takes 5 to 20 minutes and Debian's xen-system-amd64, \
            qemu-system-xen, linux-image-amd64 and cpio: cargo test --test xen -- --ignored"]
fn domains_of_both_types_are_measured_beside_dom0() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let [root, image, console] = ["root", "data.img", "console"].map(|name| folder.path().join(name));
    // Kernels for clouds can't be dom0; they can be in a domain.
    let kernel = emulated::kernel(|path| !path.contains("cloud"), "linux-image-amd64");
    let initramfs = make_initramfs(&root, &kernel);
    output(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).arg("1G"));
    emulated::boot(machine(folder.path(), &kernel, &initramfs, &image), &console, PATIENCE);

    let console = fs::read_to_string(&console).unwrap_or_default();
    let tail: Vec<_> = console.lines().rev().take(40).collect();
    // One block is never conclusive (4), and on a busy machine its rounds may be void.
    let code = read_from(&image, "/code");
    assert!(matches!(code.trim(), "0" | "4"), "exit code {code}: {tail:#?}");
    let report: Value = serde_json::from_str(&read_from(&image, "/report.json")).expect("a report");
    let environments = report["environments"].as_array().expect("environments");
    let domains: Vec<&Value> = environments.iter().filter(|e| e["runner"] == "xen").collect();
    assert_eq!(domains.len(), 2, "{environments:#?}");
    let cells = report["cells"].as_array().expect("cells");
    for domain in domains {
        println!("{}", serde_json::to_string_pretty(domain).expect("JSON"));
        assert_eq!(domain["network"], "vif");
        assert!(domain["start_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{domain}");
        for workload in ["sqlite/commit", "disk/fsync", "net/rr"] {
            let measured =
                |c: &Value| c["environment"] == domain["name"] && c["workload"] == workload && !c["gross"].is_null();
            assert!(cells.iter().any(measured), "{workload} in {}: {:#?}", domain["name"], report["voids"]);
        }
    }
    assert_eq!(report["failures"], serde_json::json!([]), "every workload did its work and was verified");
    let left = read_from(&image, "/left");
    println!("{left}");
    assert!(left.contains("Domain-0") && !left.contains("tarebench"), "what is left in dom0: {left}");
}

/// Dom0's whole file system, as an initramfs.
fn make_initramfs(root: &Path, kernel: &Path) -> PathBuf {
    emulated::make_root(root);
    PROGRAMS.iter().for_each(|program| emulated::copy_program(program, root));
    for folder in FOLDERS {
        output(Command::new("cp").args(["-a", "--parents", folder]).arg(root));
    }
    output(Command::new("cp").args(["-a", "--parents", "/usr/sbin/xl"]).arg(root));
    TOOLS.iter().for_each(|tool| copy_libraries(&Path::new("/usr/lib/xen-4.17/bin").join(tool), root));
    copy(Path::new(QEMU), root);
    copy_libraries(Path::new(QEMU), root);
    copy(kernel, root);
    let modules = Path::new("/usr/lib/modules").join(emulated::release(kernel));
    for part in MODULES {
        let part = modules.join("kernel").join(part);
        output(Command::new("cp").args(["-a", "--parents"]).arg(&part).arg(root));
    }
    for list in ["modules.builtin", "modules.order"] {
        copy(&modules.join(list), root);
    }
    output(Command::new("depmod").arg("-b").arg(root).arg(emulated::release(kernel)));
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("usr/bin/tarebench")).expect("copied");
    emulated::write_init(root, INIT);
    let archive = root.with_extension("cpio");
    let pack = r#"cd "$1" && find . | cpio --quiet -o -H newc > "$2""#;
    output(Command::new("dash").args(["-c", pack, "pack"]).arg(root).arg(&archive));
    archive
}

fn machine(folder: &Path, kernel: &Path, initramfs: &Path, image: &Path) -> Command {
    let hypervisor = folder.join("xen");
    let unpack = r#"gzip -dc "$1" > "$2""#;
    output(Command::new("dash").args(["-c", unpack, "unpack", HYPERVISOR]).arg(&hypervisor));
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-no-reboot"]).args(["-display", "none"]);
    // With SMAP a PV kernel dies at its first interrupt; RDTSCP in a PVH guest is intercepted and Xen can't tell its length.
    // Both are the emulation's doing (QEMU 7.2).
    command.args(["-accel", "tcg,thread=multi"]).args(["-cpu", "max,-smap,-smep,-rdtscp"]).args(["-M", "q35"]);
    command.args(["-m", "4096"]).args(["-smp", "2"]).arg("-kernel").arg(hypervisor);
    command.args(["-append", "console=com1 com1=115200 dom0_mem=2048M,max:2048M loglvl=warning"]);
    let words = "console=hvc0 quiet panic=-1 cryptomgr.notests=1 mitigations=off";
    command.arg("-initrd").arg(format!("{} {words},{}", kernel.display(), initramfs.display()));
    command.arg("-drive").arg(format!("file={},if=none,id=data,format=raw,cache=unsafe", image.display()));
    command.args(["-device", "nvme,drive=data,serial=data"]).args(["-serial", "stdio"]);
    command
}
