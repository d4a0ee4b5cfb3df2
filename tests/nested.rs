//! KVM for real where the host's own is missing or boots no guest: a first guest, emulated with a CPU that has hardware
//! virtualisation, holds this program, QEMU and a kernel, and measures a second guest under KVM.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

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

const INIT: &str = r#"#!/bin/dash
export PATH=/usr/sbin:/usr/bin HOME=/tmp
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
modprobe kvm-amd || modprobe kvm-intel
modprobe tun; modprobe veth; modprobe vhost_net
ip link set lo up
cd /data
tarebench run --env bare --env qemu:accel=kvm,disk.size=64MiB \
  --env qemu:accel=kvm,disk.size=64MiB,net=vhost,overcommit.cpu-pm=true --workload control/clock --workload disk/fsync \
  --workload net/rr --blocks 1 --store /data/store.db --data-dir /data
echo "$?" > /data/code
tarebench report latest --store /data/store.db --format json -o /data/report.json
echo s > /proc/sysrq-trigger
mount -o remount,ro /
echo o > /proc/sysrq-trigger
while :; do :; done
"#;

#[test]
#[ignore = "boots a guest in an emulated guest, which takes 2 to 6 minutes: cargo test --test nested -- --ignored"]
fn a_guest_under_kvm_is_measured_inside_an_emulated_one() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let kernel = kernel();
    let image = folder.path().join("first.img");
    make_image(&folder.path().join("root"), &kernel, &image);
    boot(&kernel, &image, &folder.path().join("console"));
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

/// A kernel with NVMe and ext4 built in, so that the first guest needs no initramfs: Debian's for clouds.
fn kernel() -> PathBuf {
    let installed = fs::read_dir("/boot").expect("/boot").flatten().map(|e| e.path());
    let cloud = |p: &PathBuf| {
        p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-"))
            && p.to_string_lossy().contains("cloud")
    };
    installed.filter(cloud).max().expect("no kernel for clouds in /boot; apt install linux-image-cloud-amd64")
}

fn make_image(root: &Path, kernel: &Path, image: &Path) {
    for dir in
        ["proc", "sys", "dev", "tmp", "run", "data", "boot", "usr/bin", "usr/sbin", "usr/lib/modules", "usr/lib64"]
    {
        fs::create_dir_all(root.join(dir)).expect("made");
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).expect("made");
    }
    for program in PROGRAMS {
        let path = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().map(|d| Path::new(d).join(program));
        let path = path.into_iter().find(|p| p.exists()).unwrap_or_else(|| panic!("{program} is not installed"));
        let libraries = output(Command::new("ldd").arg(&path));
        let words = libraries.split_whitespace().filter(|w| w.starts_with('/'));
        for file in words.map(Path::new).chain([path.as_path()]) {
            copy(file, root);
        }
    }
    FIRMWARE.iter().for_each(|file| copy(Path::new(file), root));
    copy(kernel, root);
    let release = kernel.file_name().expect("a file").to_string_lossy().replace("vmlinuz-", "");
    let modules = Path::new("/lib/modules").join(release);
    output(Command::new("cp").arg("-a").arg(modules).arg(root.join("usr/lib/modules")));
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("usr/bin/tarebench")).expect("copied");
    fs::write(root.join("init"), INIT).expect("written");
    output(Command::new("chmod").arg("755").arg(root.join("init")));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("2G"));
}

/// Into the same place below `root`, links followed.
fn copy(file: &Path, root: &Path) {
    let target = root.join(file.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(target.parent().expect("not the root")).expect("made");
    fs::copy(file, &target).unwrap_or_else(|e| panic!("can't copy {}: {e}", file.display()));
}

/// Until it powers off.
fn boot(kernel: &Path, image: &Path, console: &Path) {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-no-reboot"]).args(["-display", "none"]);
    command.args(["-accel", "tcg,thread=multi"]).args(["-cpu", "max"]).args(["-M", "q35"]);
    command.args(["-m", "2048"]).args(["-smp", "2"]).arg("-kernel").arg(kernel);
    command.args(["-append", "root=/dev/nvme0n1 rw init=/init console=ttyS0 panic=-1 quiet"]);
    command.arg("-drive").arg(format!("file={},if=none,id=root,format=raw,cache=unsafe", image.display()));
    command.args(["-device", "nvme,drive=root,serial=first"]).args(["-serial", "stdio"]);
    command.stdin(Stdio::null()).stdout(File::create(console).expect("a console"));
    let mut machine = Machine(command.spawn().expect("QEMU starts"));
    let begun = Instant::now();
    while machine.0.try_wait().expect("ours").is_none() {
        assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(console).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("first guest: {:?}", begun.elapsed());
}

/// Killed on drop.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have gone by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file of an ext4 image, without mounting it.
fn read_from(image: &Path, path: &str) -> String {
    output(Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(image))
}

fn output(command: &mut Command) -> String {
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
