//! KVM for real where the host's own is missing or boots no guest: a first guest, emulated with a CPU that has hardware
//! virtualisation, holds this program, QEMU and a kernel, and measures a second guest under KVM. Firecracker and Cloud Hypervisor
//! are verified beside QEMU where `FIRECRACKER=PATH` and `CLOUD_HYPERVISOR=PATH` say where they are, or PATH has them.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::emulated::{self, copy, output, read_from};

/// Programs of the first guest, with the libraries that they ask for.
const PROGRAMS: &[&str] = &["dash", "mount", "modprobe", "ip", "mkfs.ext4", "qemu-system-x86_64"];

/// Firmware of the second.
const FIRMWARE: &[&str] = &[
    "/usr/share/qemu/qboot.rom",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
    "/usr/share/seabios/bios-256k.bin",
];

/// From power on to power off of the first guest. 2 minutes on an idle machine of 2 cores.
const PATIENCE: Duration = Duration::from_secs(900);

const COMMANDS: &str = r#"modprobe kvm-amd || modprobe kvm-intel
modprobe tun; modprobe veth; modprobe vhost_net
tarebench run --env bare --env qemu:accel=kvm,disk.size=64MiB \
  --env qemu:accel=kvm,disk.size=64MiB,net=vhost,overcommit.cpu-pm=true --workload control/clock --workload disk/fsync \
  --workload net/rr --blocks 1 --store /data/store.db --data-dir /data
echo "$?" > /data/code
tarebench report latest --store /data/store.db --format json -o /data/report.json
"#;

/// Monitors that no distribution has: the variable that says where one is, its name in PATH, and environments of it.
const MONITORS: &[(&str, &str, &[&str])] = &[
    (
        "FIRECRACKER",
        "firecracker",
        &["firecracker:disk.size=64MiB", "firecracker:disk.size=64MiB,disk.engine=async,disk.cache=unsafe"],
    ),
    (
        "CLOUD_HYPERVISOR",
        "cloud-hypervisor",
        &[
            "cloud-hypervisor:disk.size=64MiB",
            "cloud-hypervisor:disk.size=64MiB,disk.direct=false",
            "cloud-hypervisor:disk.size=64MiB,disk.io_uring=false,net=none",
        ],
    ),
];

#[test]
#[ignore = "boots a guest in an emulated guest, which takes 2 to 6 minutes: cargo test --test nested -- --ignored"]
fn a_guest_under_kvm_is_measured_inside_an_emulated_one() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // It has NVMe and ext4 built in, so that the first guest needs no initramfs.
    let kernel = emulated::kernel(|path| path.contains("cloud"), "linux-image-cloud-amd64");
    let image = folder.path().join("first.img");
    let monitors: Vec<(PathBuf, &[&str])> =
        MONITORS.iter().filter_map(|(variable, name, all)| Some((monitor(variable, name)?, *all))).collect();
    make_image(&folder.path().join("root"), &kernel, &monitors, &image);
    emulated::boot(emulated::machine(&kernel, &image), &folder.path().join("console"), PATIENCE);
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
    for (number, environment) in monitors.iter().flat_map(|(_, all)| *all).enumerate() {
        let words = read_from(&image, &format!("/data/verify-{number}"));
        println!("{environment}:\n{words}");
        assert!(words.contains(" 0 failed") && words.ends_with("exit 0\n"), "{environment}: {words}");
    }
}

/// A monitor to be tested too: where the variable says, else in PATH; loud where there is none.
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

/// Every environment of the monitors, one after the other: the first guest has memory for few at a time.
fn verify(monitors: &[(PathBuf, &[&str])]) -> String {
    let all = monitors.iter().flat_map(|(path, all)| all.iter().map(move |environment| (path, environment)));
    let line = |(number, (path, environment)): (usize, (&PathBuf, &&str))| {
        let (runner, settings) = environment.split_once(':').expect("a runner and settings");
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        format!(
            "tarebench verify --env vm={runner}:binary=/usr/bin/{name},{settings} --env bare --workload disk/fsync --workload \
             control/clock --data-dir /data > /data/verify-{number} 2>&1; echo \"exit $?\" >> /data/verify-{number}\n"
        )
    };
    all.enumerate().map(line).collect()
}

fn make_image(root: &Path, kernel: &Path, monitors: &[(PathBuf, &[&str])], image: &Path) {
    emulated::make_root(root);
    PROGRAMS.iter().for_each(|program| emulated::copy_program(program, root));
    FIRMWARE.iter().for_each(|file| copy(Path::new(file), root));
    copy(kernel, root);
    let modules = Path::new("/lib/modules").join(emulated::release(kernel));
    output(Command::new("cp").arg("-a").arg(modules).arg(root.join("usr/lib/modules")));
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("usr/bin/tarebench")).expect("copied");
    for (monitor, _) in monitors {
        // Both are built statically as a rule; of others the libraries come along.
        emulated::copy_libraries(monitor, root);
        fs::copy(monitor, root.join("usr/bin").join(monitor.file_name().expect("a file has a name"))).expect("copied");
    }
    emulated::write_init(root, &emulated::init(&(COMMANDS.to_string() + &verify(monitors))));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("2G"));
}
