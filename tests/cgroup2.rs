//! cgroup v2 for real, whatever this machine has mounted: an emulated machine that has nothing else, with limits of every kind on
//! the boxes in it. It is also where crun runs, which refuses a v1 with an empty v2 beside it.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::emulated::{self, output, read_from};

/// Programs of the machine, with the libraries that they ask for.
const PROGRAMS: &[&str] = &["dash", "mount", "modprobe", "ip", "runc", "crun", "bwrap", "mkdir", "unshare"];

const BOXES: &[&str] = &["bare", "namespaces", "bubblewrap", "runc", "crun"];

/// From power on to power off.
const PATIENCE: Duration = Duration::from_secs(600);

/// Writes that a box may make in a second: far below what the disk makes.
const WRITES: f64 = 25.0;

const SUITE: &str = r#"
description = "cgroup v2"
baseline = "bare"
blocks = 1
rounds = 1
burst = "400ms"
burst_max = "4s"
resources = { cpus = 1, memory = "256MiB", io = { wiops = 25 } }

[environments.bare]
[environments.namespaces]
[environments.bubblewrap]
[environments.runc]
[environments.crun]

[workloads."disk/fsync"]
[workloads."sqlite/commit"]
[workloads."net/rr"]
"#;

/// In a container whose own group has processes in it, as an engine makes it.
const INSIDE: &str = r#"echo $$ > /sys/fs/cgroup/box/cgroup.procs
exec unshare -C -m dash -c '
    mount -t tmpfs none /sys/fs; mkdir /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
    tarebench run suite.toml --env namespaces --workload disk/fsync --store inside.db > inside 2>&1
    read -r kind < /sys/fs/cgroup/cgroup.type; read -r handed < /sys/fs/cgroup/cgroup.subtree_control
    echo "$kind $handed" > type'
"#;

const COMMANDS: &str = r#"mount -t cgroup2 none /sys/fs/cgroup
modprobe veth
tarebench verify suite.toml > verify 2>&1; echo "$?" > code
tarebench run suite.toml --store store.db > run 2>&1
tarebench report latest --store store.db --format json -o report.json
mkdir /sys/fs/cgroup/box
dash inside.sh
tarebench report latest --store inside.db --format json -o inside.json
echo /sys/fs/cgroup/*/ > groups"#;

#[test]
#[ignore = "boots an emulated machine and starts boxes in it, which takes 1 to 6 minutes: cargo test --test cgroup2 -- --ignored"]
fn limits_hold_and_crun_runs_where_there_is_only_version_2() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // It has NVMe and ext4 built in, so that the machine needs no initramfs.
    let kernel = emulated::kernel(|path| path.contains("cloud"), "linux-image-cloud-amd64");
    let image = folder.path().join("image");
    make_image(&folder.path().join("root"), &kernel, &image);
    emulated::boot(emulated::machine(&kernel, &image), &folder.path().join("console"), PATIENCE);
    let read = |name: &str| read_from(&image, &format!("/data/{name}"));
    println!("{}{}", read("verify"), read("run"));
    assert_eq!(read("code").trim(), "0");
    let report: Value = serde_json::from_str(&read("report.json")).expect("a report");
    for name in BOXES {
        let known = report["environments"].as_array().expect("environments").iter().find(|e| e["name"] == *name);
        let known = known.unwrap_or_else(|| panic!("{name} is not in the report"));
        assert_eq!(known["outcome"], "measured", "{known}");
        assert!(known["memory_bytes"].as_u64().is_some_and(|n| n > 0), "counted by its cgroup: {known}");
        assert!(!known.to_string().contains("unequal-resources"), "{known}");
    }
    let inside: Value =
        serde_json::from_str(&read("inside.json")).unwrap_or_else(|e| panic!("{e}: {}", read("inside")));
    for known in inside["environments"].as_array().expect("environments") {
        assert_eq!(known["outcome"], "measured", "{known}");
    }
    assert!(inside.to_string().contains("unequal-resources"), "{inside}");
    assert!(inside.to_string().contains("this container's own cgroup"), "and says why: {inside}");
    assert_eq!(read("type").trim(), "domain", "the container is as it was, and hands nothing down");
    for cell in report["cells"].as_array().expect("cells") {
        assert!(!cell.to_string().contains("unequal-resources"), "{cell}");
        if cell["metric"] == "throughput" && cell["workload"] == "disk/fsync" {
            for side in ["net", "gross"] {
                let rate = cell[side].as_f64().expect("measured");
                assert!(
                    rate < 1.5 * WRITES,
                    "{side}: {rate} durable writes a second where {WRITES} are allowed: {cell}"
                );
            }
        }
    }
    assert!(read("groups").contains("/box/"), "{}", read("groups"));
    assert!(!read("groups").contains("tarebench"), "no group is left: {}", read("groups"));
}

fn make_image(root: &Path, kernel: &Path, image: &Path) {
    emulated::make_root(root);
    PROGRAMS.iter().for_each(|program| emulated::copy_program(program, root));
    let modules = Path::new("/lib/modules").join(emulated::release(kernel));
    output(Command::new("cp").arg("-a").arg(modules).arg(root.join("usr/lib/modules")));
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("usr/bin/tarebench")).expect("copied");
    fs::write(root.join("data/suite.toml"), SUITE).expect("written");
    fs::write(root.join("data/inside.sh"), INSIDE).expect("written");
    emulated::write_init(root, &emulated::init(COMMANDS));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("2G"));
}
