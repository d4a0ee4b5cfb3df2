//! 64-bit Arm for real, whatever this machine is: Debian 13 for it, in an emulated machine, with this program built for it
//! (`TAREBENCH_AARCH64=PATH`; scripts/release or `cargo build --target aarch64-unknown-linux-gnu` builds one), and with guests of its
//! own, by QEMU under KVM and without.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::emulated::{self, output, read_from};

/// Packages of the machine, with all that they depend on.
const PACKAGES: &str = "dash,mount,kmod,iproute2,runc,bubblewrap,qemu-system-arm,e2fsprogs,linux-image-cloud-arm64";

const BOXES: &[&str] = &["bare", "namespaces", "bubblewrap", "runc"];

/// From power on to power off: 6 minutes where nothing else runs, half of them for the guest that is emulated twice.
const PATIENCE: Duration = Duration::from_secs(1800);

const COMMANDS: &str = r#"mount -t cgroup2 none /sys/fs/cgroup
modprobe veth; modprobe tun
kvm="qemu:accel=kvm,disk.size=64MiB"
tarebench verify --env vm=$kvm --env nvme=$kvm,disk.bus=nvme,net=user --env bare --workload disk/fsync --workload control/clock \
  --workload net/rr --data-dir /data > guests 2>&1; echo "$?" >> codes
tarebench verify --env vm=qemu:accel=tcg,net=none --env bare --workload control/clock --data-dir /data > emulated 2>&1
echo "$?" >> codes
rm /usr/bin/qemu-system-aarch64 # What follows would try it too, each time for minutes.
boxes="--env bare --env namespaces --env bubblewrap --env runc"
tarebench doctor --data-dir /data > doctor 2>&1; echo "$?" >> codes
tarebench verify quick $boxes --data-dir /data > verify 2>&1; echo "$?" >> codes
tarebench verify --env namespaces:seccomp=docker-like --env bare --workload disk/fsync --data-dir /data > filtered 2>&1; echo "$?" >> codes
tarebench explain vmware-server-2009 --data-dir /data > preset 2>&1; echo "$?" >> codes
tarebench run $boxes --workload sqlite/commit --workload disk/fsync --workload net/rr --blocks 1 --store store.db --data-dir /data > run 2>&1
echo "$?" >> codes
tarebench report latest --store store.db --format json -o report.json"#;

#[test]
#[ignore = "boots Debian 13 for Arm on an emulated machine, which takes 6 to 25 minutes, TAREBENCH_AARCH64=PATH, and Debian's \
            debootstrap and qemu-system-arm: cargo test --test aarch64 -- --ignored"]
fn the_program_for_arm_does_its_work_there() {
    let program = std::env::var_os("TAREBENCH_AARCH64").map(PathBuf::from).expect("TAREBENCH_AARCH64=PATH");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (root, image) = (folder.path().join("root"), folder.path().join("image"));
    let kernel = make_image(&root, &program, &image);
    emulated::boot(emulated::arm_machine(&kernel, &image), &folder.path().join("console"), PATIENCE);
    let read = |name: &str| read_from(&image, &format!("/data/{name}"));
    for name in ["guests", "emulated", "doctor", "verify", "filtered", "preset", "run"] {
        println!("{}", read(name));
    }
    let codes = read("codes");
    let codes: Vec<&str> = codes.lines().collect();
    // One block is never conclusive (4).
    assert!(matches!(codes[..], ["0", "0", "0", "0", "0", "3", "0" | "4"]), "{codes:?}");
    assert!(
        read("guests").contains("12 passed, 0 failed"),
        "guests under KVM, by tap and by user NAT, on virtio and NVMe"
    );
    assert!(read("emulated").contains("3 passed, 0 failed"), "a guest that is emulated in an emulated machine");
    assert!(read("preset").contains("disk.bus=ide needs a controller that no machine of 64-bit Arm has"));
    assert!(
        read("doctor").contains("User-mode Linux exists for x86 only, and this is 64-bit Arm"),
        "{}",
        read("doctor")
    );
    let report: Value = serde_json::from_str(&read("report.json")).expect("a report");
    let host = report["run"].to_string();
    assert!(host.contains("aarch64") && host.contains("dummy-virt in the device tree"), "it knows where it is: {host}");
    assert!(host.contains("Cortex-A72"), "and on which processor: {host}");
    for name in BOXES {
        let known = report["environments"].as_array().expect("environments").iter().find(|e| e["name"] == *name);
        let known = known.unwrap_or_else(|| panic!("{name} is not in the report"));
        assert_eq!(known["outcome"], "measured", "{known}");
    }
    assert_eq!(report["failures"], serde_json::json!([]), "every workload did its work and was verified");
}

/// Debian's packages for Arm, unpacked and not configured: nothing of them has to run here.
fn make_image(root: &Path, program: &Path, image: &Path) -> PathBuf {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--foreign", "--arch=arm64", "--variant=minbase"]).arg(format!("--include={PACKAGES}"));
    output(debootstrap.arg("trixie").arg(root));
    let archives = root.join("var/cache/apt/archives");
    for archive in fs::read_dir(&archives).expect("downloaded").flatten().filter(|e| e.path().is_file()) {
        output(Command::new("dpkg-deb").arg("-x").arg(archive.path()).arg(root));
    }
    fs::remove_dir_all(&archives).expect("removed");
    let boot = fs::read_dir(root.join("boot")).expect("a kernel").flatten().map(|e| e.path());
    let kernel = boot.into_iter().find(|p| p.to_string_lossy().contains("/vmlinuz-")).expect("a kernel");
    output(Command::new("depmod").arg("-b").arg(root).arg(emulated::release(&kernel)));
    fs::create_dir_all(root.join("data")).expect("made");
    fs::copy(program, root.join("usr/bin/tarebench")).expect("copied");
    emulated::write_init(root, &emulated::init(COMMANDS));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("3G"));
    kernel
}
