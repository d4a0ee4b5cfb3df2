//! A description of the host, for the report: enough to know what a figure was measured on, and nothing that names its owner.

use std::fs;
use std::path::Path;

use workloads::hypervisor;
use workloads::inside::chosen;

use crate::container;
use crate::stage::cgroup;
use crate::stage::disk::Disk;
use crate::stage::evidence::stolen_ticks;

/// Facts of the host by name, in the order to show them. What can't be found is left out. No host names, addresses or
/// serial numbers.
pub fn facts(data_dir: &Path) -> Vec<(String, String)> {
    let mut facts = Facts(Vec::new());
    let os = sysinfo::System::long_os_version();
    facts.add("os", os.map(|o| o.strip_prefix("Linux (").and_then(|o| o.strip_suffix(')')).unwrap_or(&o).to_string()));
    facts.add("kernel", sysinfo::System::kernel_version());
    facts.add("architecture", Some(std::env::consts::ARCH.to_string()));
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    facts.add("cpu", hypervisor::cpu_model(&cpuinfo));
    let cores = std::thread::available_parallelism().ok();
    let physical = sysinfo::System::physical_core_count();
    facts.add("cpus", cores.map(|n| physical.map_or(n.to_string(), |p| format!("{n} ({p} cores)"))));
    facts.add("microcode", cpu_field(&cpuinfo, "microcode"));
    facts.add("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    facts.add("turbo", turbo());
    facts.add("smt", read("/sys/devices/system/cpu/smt/control"));
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    facts.add("memory", Some(bytesize::ByteSize(system.total_memory()).to_string()));
    facts.add("swap", Some(bytesize::ByteSize(system.total_swap()).to_string()));
    facts.add("transparent huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|t| chosen(&t)));
    facts.add("clock source", read("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
    facts.add("virtualization", Some(nested().unwrap_or_else(|| "none seen".into())));
    facts.add("container", container::around().map(|c| c.to_string()));
    let silent = nested().is_some() && stolen_ticks().is_none_or(|ticks| ticks == 0);
    let stolen = if silent { "unknown: the hypervisor below reports none" } else { "reported" };
    facts.add("stolen time", Some(stolen.into()));
    facts.add("kvm", Some(if Path::new("/dev/kvm").exists() { "/dev/kvm is there" } else { "no /dev/kvm" }.into()));
    facts.add("cgroup", Some(cgroup_version()));
    if let Ok(disk) = Disk::under(data_dir) {
        facts.add("data file system", Some(format!("{} ({})", disk.file_system, disk.options)));
        facts.add("data device", disk.device.clone());
        facts.add("device model", disk.attribute("device/model"));
        facts.add("device rotational", disk.attribute("queue/rotational").map(|r| yes_no(&r)));
        facts.add("device write cache", disk.attribute("queue/write_cache"));
        facts.add("device scheduler", disk.attribute("queue/scheduler").map(|t| chosen(&t).unwrap_or(t)));
    }
    facts.add("mitigations", mitigations());
    let load = sysinfo::System::load_average();
    facts.add("load", Some(format!("{:.2} {:.2} {:.2}", load.one, load.five, load.fifteen)));
    let up = std::time::Duration::from_secs(sysinfo::System::uptime() / 60 * 60);
    facts.add("uptime", Some(humantime::format_duration(up).to_string()));
    facts.0
}

/// Whether the host is itself a guest, with the evidence.
pub fn nested() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let maker = ["sys_vendor", "product_name"].map(|f| read(&format!("/sys/class/dmi/id/{f}")));
    let maker: Vec<String> = maker.into_iter().flatten().collect();
    let flag = cpuinfo.lines().any(|l| l.starts_with("flags") && l.split(' ').any(|w| w == "hypervisor"));
    let kind = read("/sys/hypervisor/type");
    let told = hypervisor::told_by_firmware(Path::new("/sys"));
    if !flag && kind.is_none() && told.is_none() {
        return None;
    }
    let mut evidence = Vec::new();
    if flag {
        evidence.push("the CPU has the `hypervisor` flag".to_string());
    }
    evidence.extend(kind.map(|k| format!("/sys/hypervisor/type is {k}")));
    evidence.extend(told);
    if !maker.is_empty() {
        evidence.push(format!("the machine calls itself {}", maker.join(" ")));
    }
    Some(evidence.join("; "))
}

/// How many CPUs there are, where that is too few; what else is in the way of a measurement [`crate::machine::concerns`] has.
pub fn warnings() -> Vec<String> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (cpus < 2).then(|| "there is one CPU only: work, harness and peer share it".into()).into_iter().collect()
}

struct Facts(Vec<(String, String)>);

impl Facts {
    fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value.map(|v| v.trim().to_string()).filter(|v| !v.is_empty()) {
            self.0.push((name.to_string(), value));
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_string()).filter(|t| !t.is_empty())
}

fn cpu_field(cpuinfo: &str, name: &str) -> Option<String> {
    let value = cpuinfo.lines().find_map(|l| l.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_string())
}

fn yes_no(flag: &str) -> String {
    if flag == "0" { "no" } else { "yes" }.into()
}

fn turbo() -> Option<String> {
    if let Some(off) = read("/sys/devices/system/cpu/intel_pstate/no_turbo") {
        return Some(if off == "0" { "on" } else { "off" }.into());
    }
    read("/sys/devices/system/cpu/cpufreq/boost").map(|b| if b == "1" { "on" } else { "off" }.into())
}

fn cgroup_version() -> String {
    let mounts = cgroup::mounts();
    match (mounts.iter().any(|m| !m.v2), mounts.iter().any(|m| m.v2)) {
        (true, true) => "v1, with an empty v2 beside it",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "not mounted",
    }
    .into()
}

/// They make system calls dearer, so two hosts that differ here can't be compared.
fn mitigations() -> Option<String> {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?;
    let mut on: Vec<String> = entries
        .flatten()
        .filter(|e| fs::read_to_string(e.path()).is_ok_and(|t| t.starts_with("Mitigation")))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    on.sort();
    Some(if on.is_empty() { "none".into() } else { on.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_files_are_read() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(cpu_field("processor\t: 0\nmodel name\t: A CPU\n", "model name").as_deref(), Some("A CPU"));
    }

    #[test]
    fn facts_are_there_in_order_and_do_not_name_the_owner() {
        let facts = facts(Path::new("/"));
        let names: Vec<&str> = facts.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names[..2], ["os", "kernel"]);
        assert!(names.contains(&"memory") && names.contains(&"data file system"), "{names:?}");
        assert!(facts.iter().all(|(_, v)| !v.contains('\n')));
        assert!(!names.contains(&"hostname"));
    }
}
