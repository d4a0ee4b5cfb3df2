//! The processor and the hypervisor below, as seen from inside. x86 has a flag and a place for the hypervisor's name; elsewhere
//! the firmware tells, or nobody.

use std::fs;
use std::path::Path;

/// Words in the names by which virtual machines introduce themselves where real ones name their maker.
const VIRTUAL: &[&str] = &[
    "QEMU",
    "KVM",
    "VMware",
    "VirtualBox",
    "Xen",
    "Parallels",
    "Virtual Machine",
    "Virtualization",
    "Compute Engine",
    "Amazon EC2",
    "OpenStack",
    "KubeVirt",
    "Alibaba Cloud",
    "DigitalOcean",
    "vServer",
];

/// Arm's own cores by their part number, as `lscpu` names them: those that servers and small boards have.
const ARM_CORES: &[(&str, &str)] = &[
    ("0xd03", "Cortex-A53"),
    ("0xd07", "Cortex-A57"),
    ("0xd08", "Cortex-A72"),
    ("0xd0b", "Cortex-A76"),
    ("0xd0c", "Neoverse-N1"),
    ("0xd40", "Neoverse-V1"),
    ("0xd49", "Neoverse-N2"),
    ("0xd4f", "Neoverse-V2"),
    ("0xd8e", "Neoverse-N3"),
];

/// The processor's model from `/proc/cpuinfo`: its name, or on Arm the numbers that stand for one.
pub fn cpu_model(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let found = cpuinfo.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key);
        found.map(|(_, value)| value.trim().to_string()).filter(|value| !value.is_empty())
    };
    // RISC-V says `uarch`, where it says anything.
    if let Some(name) = ["model name", "uarch"].iter().find_map(|key| value(key)) {
        return Some(name);
    }
    let part = value("CPU part")?;
    match (value("CPU implementer").as_deref(), ARM_CORES.iter().find(|(number, _)| *number == part)) {
        (Some("0x41"), Some((_, name))) => Some(format!("Arm {name}")),
        (Some(maker), _) => Some(format!("CPU implementer {maker}, part {part}")),
        (None, _) => Some(format!("CPU part {part}")),
    }
}

/// The hypervisor's signature in CPUID leaf 0x4000_0000: `KVMKVMKVM`, `TCGTCGTCGTCG`, `Microsoft Hv`, ...
#[cfg(target_arch = "x86_64")]
pub(crate) fn signature() -> Option<String> {
    let leaf = core::arch::x86_64::__cpuid(0x4000_0000);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    let text = std::str::from_utf8(&bytes).ok()?.trim_end_matches('\0');
    (!text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')).then(|| text.trim().to_string())
}

/// Only x86 has a place where a hypervisor writes its name.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn signature() -> Option<String> {
    None
}

/// What firmware says of a hypervisor, `sys` being `/sys`: all there is where processors have no flag for one. On x86 they have, and
/// names of firmware are no evidence beside it.
pub fn told_by_firmware(sys: &Path) -> Option<String> {
    if cfg!(target_arch = "x86_64") { None } else { told(sys) }
}

fn told(sys: &Path) -> Option<String> {
    // Properties of a device tree are lists of words, each with a zero after it.
    let property = |name: &str| {
        let bytes = fs::read(sys.join("firmware/devicetree/base").join(name)).ok()?;
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_string();
        Some(text).filter(|text| !text.is_empty())
    };
    if let Some(name) = property("hypervisor/compatible") {
        return Some(format!("{name} in the device tree"));
    }
    // The board of QEMU, Firecracker, Cloud Hypervisor and crosvm.
    if let Some(name) = property("compatible").filter(|name| name.contains("-virt")) {
        return Some(format!("{name} in the device tree"));
    }
    let line = |name: &str| Some(fs::read_to_string(sys.join("class/dmi/id").join(name)).ok()?.trim().to_string());
    let (maker, product) = (line("sys_vendor").unwrap_or_default(), line("product_name").unwrap_or_default());
    // A whole machine that is rented says so at the end of its name.
    if product.ends_with(".metal") {
        return None;
    }
    let names = format!("{maker} {product}");
    VIRTUAL.iter().any(|word| names.contains(word)).then(|| "a virtual machine's name in the firmware".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_by_what_there_is() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R)\n";
        assert_eq!(cpu_model(x86).as_deref(), Some("Intel(R) Xeon(R)"));
        let graviton = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_model(graviton).as_deref(), Some("Arm Neoverse-N1"));
        let other = "CPU implementer\t: 0x61\nCPU part\t: 0x022\n";
        assert_eq!(cpu_model(other).as_deref(), Some("CPU implementer 0x61, part 0x022"));
        assert_eq!(cpu_model("processor\t: 0\nhart\t: 0\nuarch\t: sifive,u74-mc\n").as_deref(), Some("sifive,u74-mc"));
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn firmware_tells_of_a_hypervisor_or_of_none() {
        let seen = |files: &[(&str, &str)]| {
            let sys = tempfile::tempdir().expect("a directory");
            for (name, text) in files {
                let path = sys.path().join(name);
                fs::create_dir_all(path.parent().expect("it has one")).expect("made");
                fs::write(path, text).expect("written");
            }
            told(sys.path())
        };
        let board = |names| seen(&[("firmware/devicetree/base/compatible", names)]);
        assert_eq!(board("linux,dummy-virt\0").as_deref(), Some("linux,dummy-virt in the device tree"));
        assert_eq!(board("raspberrypi,4-model-b\0brcm,bcm2711\0"), None);
        let xen = seen(&[("firmware/devicetree/base/hypervisor/compatible", "xen,xen-4.17\0xen,xen\0")]);
        assert_eq!(xen.as_deref(), Some("xen,xen-4.17 xen,xen in the device tree"));
        let firmware =
            |maker, product| seen(&[("class/dmi/id/sys_vendor", maker), ("class/dmi/id/product_name", product)]);
        for (maker, product) in [
            ("QEMU\n", "QEMU Virtual Machine\n"),
            ("Amazon EC2\n", "m6g.large\n"),
            ("Microsoft Corporation\n", "Virtual Machine\n"),
            ("Google\n", "Google Compute Engine\n"),
            ("Hetzner\n", "vServer\n"),
        ] {
            assert!(firmware(maker, product).is_some(), "{maker}{product}");
        }
        assert_eq!(firmware("Amazon EC2\n", "m6g.metal\n"), None, "a whole machine");
        assert_eq!(firmware("GIGABYTE\n", "R152-P30-00\n"), None);
        assert_eq!(seen(&[]), None, "hidden in some sandboxes");
    }
}
