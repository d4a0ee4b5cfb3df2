//! A whole machine, emulated, with what this one has installed in it: for what can't run on this machine's own kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The directories of a root file system, with `/bin` and `/lib` in `/usr`.
pub fn make_root(root: &Path) {
    for dir in
        ["proc", "sys", "dev", "tmp", "run", "data", "boot", "usr/bin", "usr/sbin", "usr/lib/modules", "usr/lib64"]
    {
        fs::create_dir_all(root.join(dir)).expect("made");
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).expect("made");
    }
}

/// A program that is in one of the usual places, with the libraries that it asks for.
pub fn copy_program(program: &str, root: &Path) {
    let path = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().map(|d| Path::new(d).join(program));
    let path = path.into_iter().find(|p| p.exists()).unwrap_or_else(|| panic!("{program} is not installed"));
    copy_libraries(&path, root);
    copy(&path, root);
}

/// The libraries that a program asks for. Of one that is static there are none, and `ldd` says so with a failure.
pub fn copy_libraries(program: &Path, root: &Path) {
    let ldd = Command::new("ldd").env("LC_ALL", "C").arg(program).output().expect("ldd starts");
    let words = String::from_utf8_lossy(&ldd.stderr);
    assert!(ldd.status.success() || words.contains("not a dynamic executable"), "ldd {}: {words}", program.display());
    let libraries = String::from_utf8_lossy(&ldd.stdout);
    libraries.split_whitespace().filter(|w| w.starts_with('/')).for_each(|file| copy(Path::new(file), root));
}

/// Into the same place below `root`, links followed.
pub fn copy(file: &Path, root: &Path) {
    let target = root.join(file.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(target.parent().expect("not the root")).expect("made");
    fs::copy(file, &target).unwrap_or_else(|e| panic!("can't copy {}: {e}", file.display()));
}

/// A first program of all for [`machine`]: what `commands` do in `/data`, between the mounts of every machine and its end.
pub fn init(commands: &str) -> String {
    format!(
        "#!/bin/dash\n\
         export PATH=/usr/sbin:/usr/bin HOME=/tmp\n\
         mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys\n\
         mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run\n\
         ip link set lo up\n\
         cd /data\n\
         {commands}\n\
         echo s > /proc/sysrq-trigger\n\
         mount -o remount,ro /\n\
         echo o > /proc/sysrq-trigger\n\
         while :; do :; done\n"
    )
}

/// A program as the first one of all.
pub fn write_init(root: &Path, text: &str) {
    fs::write(root.join("init"), text).expect("written");
    output(Command::new("chmod").arg("755").arg(root.join("init")));
}

/// The newest kernel in `/boot` that `fits`.
pub fn kernel(fits: impl Fn(&str) -> bool, package: &str) -> PathBuf {
    let installed = fs::read_dir("/boot").expect("/boot").flatten().map(|e| e.path());
    let fits = |p: &PathBuf| {
        p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")) && fits(&p.to_string_lossy())
    };
    installed.filter(fits).max().unwrap_or_else(|| panic!("no kernel in /boot that will do; apt install {package}"))
}

/// What `uname -r` says of it.
pub fn release(kernel: &Path) -> String {
    kernel.file_name().expect("a file").to_string_lossy().replace("vmlinuz-", "")
}

/// A machine of two CPUs and 2 GiB, its root file system on an NVMe disk: all that the kernel needs to
/// boot from it is built into Debian's for clouds.
pub fn machine(kernel: &Path, image: &Path) -> Command {
    emulated("x86_64", "max", "q35", "ttyS0", kernel, image)
}

/// The same for 64-bit Arm, on the board that QEMU made up for it, with what guests of its own need.
pub fn arm_machine(kernel: &Path, image: &Path) -> Command {
    emulated("aarch64", "cortex-a72", "virt,virtualization=on,gic-version=3", "ttyAMA0", kernel, image)
}

fn emulated(arch: &str, cpu: &str, board: &str, serial: &str, kernel: &Path, image: &Path) -> Command {
    let mut command = Command::new(format!("qemu-system-{arch}"));
    command.args(["-nodefaults", "-no-user-config", "-no-reboot"]).args(["-display", "none"]);
    command.args(["-accel", "tcg,thread=multi"]).args(["-cpu", cpu]).args(["-M", board]);
    command.args(["-m", "2048"]).args(["-smp", "2"]).arg("-kernel").arg(kernel);
    command.arg("-append").arg(format!("root=/dev/nvme0n1 rw init=/init console={serial} panic=-1 quiet"));
    command.arg("-drive").arg(format!("file={},if=none,id=root,format=raw,cache=unsafe", image.display()));
    command.args(["-device", "nvme,drive=root,serial=first"]).args(["-serial", "stdio"]);
    command
}

/// Runs a machine until it powers off, its first serial line going to `console`.
pub fn boot(mut command: Command, console: &Path, patience: Duration) {
    command.stdin(Stdio::null()).stdout(File::create(console).expect("a console"));
    let mut machine = Machine(command.spawn().expect("QEMU starts"));
    let begun = Instant::now();
    while machine.0.try_wait().expect("ours").is_none() {
        assert!(begun.elapsed() < patience, "{}", fs::read_to_string(console).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("the machine ran for {:?}", begun.elapsed());
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
pub fn read_from(image: &Path, path: &str) -> String {
    output(Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(image))
}

/// What a command printed; a failure is ours.
pub fn output(command: &mut Command) -> String {
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
