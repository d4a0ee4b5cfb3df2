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
const PROGRAMS: &[&str] =
    &["dash", "mount", "modprobe", "ip", "runc", "crun", "bwrap", "mkdir", "unshare", "sleep", "cat"];

const BOXES: &[&str] = &["bare", "namespaces", "bubblewrap", "runc", "crun"];

/// From power on to power off.
const PATIENCE: Duration = Duration::from_secs(1200);

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

/// In a cgroup namespace whose own group has processes of the host's in it.
const BESIDE: &str = r#"echo $$ > /sys/fs/cgroup/box/cgroup.procs
exec unshare -C -m dash -c '
    mount -t tmpfs none /sys/fs; mkdir /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
    tarebench run suite.toml --env namespaces --workload disk/fsync --store beside.db > beside 2>&1
    read -r kind < /sys/fs/cgroup/cgroup.type; read -r handed < /sys/fs/cgroup/cgroup.subtree_control
    echo "$kind $handed" > beside.type'
"#;

/// In a container whose own group has nobody else's processes in it, as an engine makes it: a whole run, and one that is killed.
const INSIDE: &str = r#"unshare -p -f -m --mount-proc dash -c '
    echo 0 > /sys/fs/cgroup/inner/cgroup.procs
    exec unshare -C dash inner.sh'
"#;

const INNER: &str = r#"mount -t tmpfs none /sys/fs; mkdir /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
sleep 1000 & other=$!
state() {
    read -r kind < /sys/fs/cgroup/cgroup.type; handed=; read -r handed < /sys/fs/cgroup/cgroup.subtree_control
    others=; while read -r pid; do [ "$pid" = $other ] && others=there; done < /sys/fs/cgroup/cgroup.procs
    echo $1 $kind $handed other $others groups /sys/fs/cgroup/*/
}
moved() {
    for wait in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        for leaf in /sys/fs/cgroup/tarebench-*-leaf; do
            [ -e $leaf ] && [ "$(cat $leaf/cgroup.procs)" ] && return
        done
        sleep 1
    done
}
state before > states
tarebench run suite.toml --workload disk/fsync --store inside.db > inside 2>&1
state after >> states
tarebench run suite.toml --env bare --workload disk/fsync --store killed.db > /dev/null 2>&1 &
run=$!
moved
kill -9 $run; wait $run
state killed >> states
tarebench doctor --clean > clean 2>&1
state cleaned >> states
tarebench run suite.toml --env bare --workload disk/fsync --store first.db > first 2>&1 &
first=$!
moved
tarebench run suite.toml --beside --env namespaces --workload disk/fsync --blocks 3 --store second.db > second 2>&1 &
second=$!
wait $first
state between >> states
wait $second
state last >> states
for nth in 1 2; do
    tarebench run suite.toml --env bare --workload disk/fsync --blocks 100 --store ended.db > ended 2>&1 &
    first=$!
    moved
    tarebench run suite.toml --beside --env bare --workload disk/fsync --blocks 100 --store ended.db > ended.beside 2>&1 &
    second=$!
    for wait in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        set -- /sys/fs/cgroup/tarebench-*/control
        [ $# = 2 ] && break
        sleep 1
    done
    echo "$@" >> both
    kill -TERM $first $second
    wait $first; wait $second
    state together >> states
done
kill $other
"#;

const COMMANDS: &str = r#"mount -t cgroup2 none /sys/fs/cgroup
modprobe veth
tarebench verify suite.toml > verify 2>&1; echo "$?" > code
tarebench run suite.toml --store store.db > run 2>&1
tarebench report latest --store store.db --format json -o report.json
mkdir /sys/fs/cgroup/box /sys/fs/cgroup/inner
dash beside.sh
dash inside.sh
tarebench report latest --store beside.db --format json -o beside.json
tarebench report latest --store inside.db --format json -o inside.json
tarebench report latest --store first.db --format json -o first.json
tarebench report latest --store second.db --format json -o second.json
echo /sys/fs/cgroup/*/ > groups"#;

#[test]
#[ignore = "boots an emulated machine and starts boxes in it, which takes 2 to 10 minutes: cargo test --test cgroup2 -- --ignored"]
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
    let measured = |name: &str| -> String {
        let text = read(&format!("{name}.json"));
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {}", read(name)));
        for known in report["environments"].as_array().expect("environments") {
            assert_eq!(known["outcome"], "measured", "{known}");
        }
        text
    };
    let beside = measured("beside");
    assert!(beside.contains("unequal-resources"), "{beside}");
    assert!(beside.contains("this container's own cgroup"), "and says why: {beside}");
    assert!(beside.contains("process 1 is outside"), "and why it stays so: {beside}");
    assert_eq!(read("beside.type").trim(), "domain", "the group is as it was, and hands nothing down");
    println!("{}{}{}", read("inside"), read("states"), read("clean"));
    let inside = measured("inside");
    assert!(!inside.contains("unequal-resources"), "limits hold: {inside}");
    let states = read("states");
    let states: Vec<&str> = states.lines().collect();
    let quiet = "domain other there groups /sys/fs/cgroup/*/";
    assert_eq!(states[0], format!("before {quiet}"));
    assert_eq!(states[1], format!("after {quiet}"), "everybody is back");
    assert!(states[2].contains("-leaf/") && !states[2].contains("there"), "killed in the middle: {}", states[2]);
    assert_eq!(states[3], format!("cleaned {quiet}"), "everybody is back");
    println!("{}{}", read("first"), read("second"));
    for run in ["first", "second"] {
        assert!(!measured(run).contains("unequal-resources"), "{run}: limits hold beside another run");
    }
    assert!(states[4].contains("-leaf/") && !states[4].contains("there"), "the second still measures: {}", states[4]);
    assert!(!read("first").contains("stay in a cgroup"), "nothing is wrong with that: {}", read("first"));
    assert_eq!(states[5], format!("last {quiet}"), "whoever ends last brings everybody back");
    println!("{}", read("both"));
    assert!(read("both").lines().all(|groups| groups.split(' ').count() == 2), "both were under way");
    assert_eq!(states[6..], vec![format!("together {quiet}"); 2], "of two that end at once, too");
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
    for (name, text) in [("beside", BESIDE), ("inside", INSIDE), ("inner", INNER)] {
        fs::write(root.join(format!("data/{name}.sh")), text).expect("written");
    }
    emulated::write_init(root, &emulated::init(COMMANDS));
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("2G"));
}
