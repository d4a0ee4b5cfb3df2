//! KVM for real where the host's own is missing or boots no guest: a first guest, emulated with a CPU that has hardware
//! virtualisation, holds this program, QEMU and a kernel, and measures a second guest under KVM. Firecracker and Cloud Hypervisor
//! are verified beside QEMU where `FIRECRACKER=PATH`, `JAILER=PATH` and `CLOUD_HYPERVISOR=PATH` say where they are, or PATH has them.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::emulated::{self, copy, output, read_from};

/// Programs of the first guest, with the libraries that they ask for.
const PROGRAMS: &[&str] =
    &["dash", "mount", "umount", "modprobe", "ip", "mkfs.ext4", "e2fsck", "ls", "mkdir", "sleep", "qemu-system-x86_64"];

/// Firmware of the second.
const FIRMWARE: &[&str] = &[
    "/usr/share/qemu/qboot.rom",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
    "/usr/share/seabios/bios-256k.bin",
];

/// From power on to power off of the first guest. 2 minutes on an idle machine of 2 cores, and 12 with the monitors.
const PATIENCE: Duration = Duration::from_secs(1800);

const COMMANDS: &str = r#"modprobe kvm-amd || modprobe kvm-intel
modprobe tun; modprobe veth; modprobe vhost_net; modprobe fuse; modprobe loop
mkdir /dev/pts; mount -t devpts devpts /dev/pts; mount -t cgroup2 cgroup2 /sys/fs/cgroup
tarebench run --env bare --env qemu:accel=kvm,disk.size=64MiB \
  --env qemu:accel=kvm,disk.size=64MiB,net=vhost,overcommit.cpu-pm=true --workload control/clock --workload disk/fsync \
  --workload net/rr --blocks 1 --store /data/store.db --data-dir /data
echo "$?" > /data/code
tarebench report latest --store /data/store.db --format json -o /data/report.json
"#;

/// Programs that no distribution has, with the variables that say where they are, else they are in PATH.
const MONITORS: &[(&str, &str)] =
    &[("FIRECRACKER", "firecracker"), ("JAILER", "jailer"), ("CLOUD_HYPERVISOR", "cloud-hypervisor")];

/// Files that the monitors have open until a file is there.
const LOOK: &str = r#"look() { until [ -e $1 ]; do
  for process in /proc/[0-9]*; do read -r name < $process/comm && case $name in
    firecracker|cloud-hyperviso) ls -l $process/fd;;
  esac; done
  sleep 0.5
done 2>/dev/null; }
"#;

/// An environment of a monitor.
struct Environment {
    /// The programs that it takes.
    needs: &'static [&'static str],
    /// As `--env` takes it; `{kernel}` is the first guest's own.
    words: &'static str,
    /// Whether its monitor does the disk's requests by io_uring.
    io_uring: bool,
}

/// Every setting of both, in few starts: each takes 3 to 16 seconds.
const ENVIRONMENTS: &[Environment] = &[
    Environment { needs: &["firecracker"], words: "firecracker:disk.size=64MiB", io_uring: false },
    Environment {
        needs: &["firecracker"],
        words: "firecracker:binary=/usr/bin/firecracker,disk.size=64MiB,disk.engine=async,disk.cache=unsafe,net=none,\
                kernel={kernel},append=mitigations=off,cpu.share=90,cpu.period=20ms",
        io_uring: true,
    },
    Environment {
        needs: &["firecracker", "jailer"],
        words: "firecracker:launch=jailer,jailer.binary=/usr/bin/jailer,disk.size=64MiB,net=tap",
        io_uring: false,
    },
    Environment { needs: &["cloud-hypervisor"], words: "cloud-hypervisor:disk.size=64MiB", io_uring: true },
    Environment {
        needs: &["cloud-hypervisor"],
        words: "cloud-hypervisor:binary=/usr/bin/cloud-hypervisor,disk.size=64MiB,disk.direct=false,net=none,kernel={kernel},\
                append=mitigations=off,cpu.share=90,cpu.period=20ms",
        io_uring: true,
    },
    Environment {
        needs: &["cloud-hypervisor"],
        words: "cloud-hypervisor:disk.size=64MiB,disk.io_uring=false,net=tap",
        io_uring: false,
    },
];

#[test]
#[ignore = "boots a guest in an emulated guest, which takes 2 to 6 minutes, with monitors 15: cargo test --test nested -- --ignored"]
fn a_guest_under_kvm_is_measured_inside_an_emulated_one() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // It has NVMe and ext4 built in, so that the first guest needs no initramfs.
    let kernel = emulated::kernel(|path| path.contains("cloud"), "linux-image-cloud-amd64");
    let image = folder.path().join("first.img");
    let monitors = monitors();
    let chosen = environments(&monitors);
    make_image(&folder.path().join("root"), &kernel, &monitors, &chosen, &image);
    let mut machine = emulated::machine(&kernel, &image);
    // Of 2 GiB it had none left for a guest's page cache above the disk in memory that `prove` cuts the power of.
    machine.args(["-m", "3072"]);
    emulated::boot(machine, &folder.path().join("console"), PATIENCE);
    let console = fs::read_to_string(folder.path().join("console")).unwrap_or_default();
    let tail: Vec<_> = console.lines().rev().take(30).collect();
    // One block is never conclusive (4), and on a busy machine its rounds may be void.
    let code = read_from(&image, "/data/code");
    assert!(matches!(code.trim(), "0" | "4"), "exit code {code}: {tail:#?}");
    let report: Value = serde_json::from_str(&read_from(&image, "/data/report.json")).expect("a report");
    let environments = report["environments"].as_array().expect("environments");
    let vms: Vec<&Value> = environments.iter().filter(|e| e["runner"] == "qemu").collect();
    let networks: Vec<_> = vms.iter().map(|vm| vm["network"].as_str().unwrap_or_default()).collect();
    assert_eq!(networks, ["tap", "tap with vhost-net"]);
    let cells = report["cells"].as_array().expect("cells");
    for vm in vms {
        println!("{}", serde_json::to_string_pretty(vm).expect("JSON"));
        assert!(vm["start_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{vm}");
        let text = vm.to_string();
        assert!(text.contains("kvm-clock"), "the guest's clock is KVM's: {text}");
        assert!(!text.contains("emulated-cpu"), "it is not emulated: {text}");
        let measured =
            |c: &Value| c["environment"] == vm["name"] && c["workload"] == "control/clock" && !c["gross"].is_null();
        assert!(cells.iter().any(measured), "control/clock was not measured in {}: {:#?}", vm["name"], report["voids"]);
    }
    assert_eq!(report["failures"], serde_json::json!([]), "every workload did its work and was verified");
    for (number, environment) in chosen.iter().enumerate() {
        let words = read_from(&image, &format!("/data/verify-{number}"));
        println!("{}:\n{words}", environment.words);
        assert!(words.contains(" 0 failed") && words.ends_with("exit 0\n"), "{}: {words}", environment.words);
        let open = read_from(&image, &format!("/data/open-{number}"));
        assert!(open.contains("/dev/kvm"), "the monitor was looked at: {open}");
        let seen = open.contains("io_uring");
        assert_eq!(seen, environment.io_uring, "whether {} has an io_uring open", environment.words);
    }
    for name in ["firecracker", "cloud-hypervisor"].iter().filter(|name| monitors.contains_key(**name)) {
        only_what_forgets_flushes_loses(&read_from(&image, &format!("/data/prove-{name}")));
    }
}

/// What was acknowledged is there after a power cut, except behind a cache that was told to forget flushes.
fn only_what_forgets_flushes_loses(proof: &str) {
    let proof: Value = serde_json::from_str(proof).expect("a proof");
    for environment in proof["environments"].as_array().expect("environments") {
        println!("{environment}");
        let outcome = &environment["outcomes"][0];
        assert_eq!(outcome["cuts"], 10, "{environment}");
        assert_eq!(outcome["broken"] == 0, environment["name"] != "forgets", "{environment}");
    }
}

/// The programs that are here, by name, each where its variable says, else in PATH; loud where there is none.
fn monitors() -> BTreeMap<&'static str, PathBuf> {
    MONITORS.iter().filter_map(|(variable, name)| Some((*name, monitor(variable, name)?))).collect()
}

fn monitor(variable: &str, name: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from);
    assert!(set.as_ref().is_none_or(|path| path.is_file()), "{variable} names no file: {set:?}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = set.or_else(|| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file()));
    if found.is_none() {
        eprintln!("SKIPPED: {name}: set {variable}=PATH, or put it into PATH");
    }
    found
}

/// Those whose programs are here.
fn environments(monitors: &BTreeMap<&str, PathBuf>) -> Vec<&'static Environment> {
    let here = |e: &&Environment| e.needs.iter().all(|name| monitors.contains_key(name));
    ENVIRONMENTS.iter().filter(here).collect()
}

/// Every environment of the monitors, one after the other: the first guest has memory for few at a time. What each has open is
/// looked at meanwhile.
fn verify(environments: &[&Environment], kernel: &Path) -> String {
    let line = |(number, environment): (usize, &&Environment)| {
        let words = environment.words.replace("{kernel}", &kernel.display().to_string());
        format!(
            "(tarebench verify --env vm={words} --env bare --workload disk/fsync --workload control/clock --data-dir /data \
             > /data/verify-{number} 2>&1; echo \"exit $?\" >> /data/verify-{number}; : > /data/done-{number}) &\n\
             look /data/done-{number} > /data/open-{number}; wait\n"
        )
    };
    environments.iter().enumerate().map(line).collect()
}

/// The power is cut below each monitor, once with its defaults and once with another cache.
fn prove(monitors: &BTreeMap<&str, PathBuf>) -> String {
    let line = |name: &str, other: &str| {
        format!(
            "tarebench prove durability {name}:disk.size=64MiB {other} --workload append --cuts 10 --items 20 --seed 1 \
             --format json > /data/prove-{name}\n"
        )
    };
    let mut lines = String::new();
    if monitors.contains_key("firecracker") {
        lines += &line("firecracker", "forgets=firecracker:disk.size=64MiB,disk.cache=unsafe");
    }
    if monitors.contains_key("cloud-hypervisor") {
        lines += &line("cloud-hypervisor", "cached=cloud-hypervisor:disk.size=64MiB,disk.direct=false");
    }
    lines
}

fn make_image(
    root: &Path,
    kernel: &Path,
    monitors: &BTreeMap<&str, PathBuf>,
    environments: &[&Environment],
    image: &Path,
) {
    emulated::make_root(root);
    PROGRAMS.iter().for_each(|program| emulated::copy_program(program, root));
    FIRMWARE.iter().for_each(|file| copy(Path::new(file), root));
    copy(kernel, root);
    let modules = Path::new("/lib/modules").join(emulated::release(kernel));
    output(Command::new("cp").arg("-a").arg(modules).arg(root.join("usr/lib/modules")));
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("usr/bin/tarebench")).expect("copied");
    for (name, monitor) in monitors {
        // They are built statically as a rule; of others the libraries come along.
        emulated::copy_libraries(monitor, root);
        fs::copy(monitor, root.join("usr/bin").join(name)).expect("copied");
    }
    let commands = [COMMANDS, LOOK, &verify(environments, kernel), &prove(monitors)].concat();
    emulated::write_init(root, &emulated::init(&commands));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("2G"));
}
