//! KVM for real where the host's own is missing or boots no guest: a first guest, emulated with a CPU that has hardware
//! virtualisation, holds this program, QEMU and a kernel, and measures a second guest under KVM.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
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

#[test]
#[ignore = "boots a guest in an emulated guest, which takes 2 to 6 minutes: cargo test --test nested -- --ignored"]
fn a_guest_under_kvm_is_measured_inside_an_emulated_one() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // It has NVMe and ext4 built in, so that the first guest needs no initramfs.
    let kernel = emulated::kernel(|path| path.contains("cloud"), "linux-image-cloud-amd64");
    let image = folder.path().join("first.img");
    make_image(&folder.path().join("root"), &kernel, &image);
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
}

fn make_image(root: &Path, kernel: &Path, image: &Path) {
    emulated::make_root(root);
    PROGRAMS.iter().for_each(|program| emulated::copy_program(program, root));
    FIRMWARE.iter().for_each(|file| copy(Path::new(file), root));
    copy(kernel, root);
    let modules = Path::new("/lib/modules").join(emulated::release(kernel));
    output(Command::new("cp").arg("-a").arg(modules).arg(root.join("usr/lib/modules")));
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("usr/bin/tarebench")).expect("copied");
    emulated::write_init(root, &emulated::init(COMMANDS));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("2G"));
}
