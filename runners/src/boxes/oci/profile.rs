//! The default filter of system calls of Podman and its kin, for runtimes that have none by themselves: read from the file that
//! their package installs, and resolved for this machine as they do it themselves.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::boxes::oci::bundle::CAPABILITIES;
use crate::host::Host;
use crate::names::hex;
use crate::unavailable::Unavailable;

/// Places of the file; the administrator's own comes first.
const PLACES: &[&str] = &["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

/// A filter as a bundle takes it.
#[derive(Debug)]
pub(crate) struct Filter {
    /// `linux.seccomp`.
    pub(crate) rules: Value,
    /// File and start of its hash.
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    arch_map: Vec<Architecture>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// When a rule counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// The installed filter.
///
/// # Errors
/// When none is installed, or it can't be understood.
pub(crate) fn containers(host: &Host) -> anyhow::Result<Filter> {
    let file = PLACES.iter().map(Path::new).find(|p| p.exists()).ok_or_else(|| Unavailable {
        because: format!("there is no filter of system calls at {}", PLACES.join(" or ")),
        fix: "apt install golang-github-containers-common, or set seccomp = none".into(),
        broken: false,
    })?;
    let bytes = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let profile: Profile =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no filter that we know", file.display()))?;
    let hash = hex(&Sha256::digest(&bytes)[..4]);
    let name = format!("filter {} (SHA-256 {hash}...)", file.display());
    Ok(Filter { rules: resolve(&profile, std::env::consts::ARCH, &host.kernel), name })
}

fn resolve(profile: &Profile, machine: &str, kernel: &str) -> Value {
    let (ours, go) = match machine {
        "x86_64" => ("SCMP_ARCH_X86_64", "amd64"),
        "aarch64" => ("SCMP_ARCH_AARCH64", "arm64"),
        "riscv64" => ("SCMP_ARCH_RISCV64", "riscv64"),
        other => ("", other),
    };
    let architectures: Vec<&str> = profile
        .arch_map
        .iter()
        .filter(|a| a.architecture == ours)
        .flat_map(|a| std::iter::once(&a.architecture).chain(&a.sub_architectures))
        .map(String::as_str)
        .collect();
    let counts = |rule: &&Rule| {
        let Condition { caps, arches, min_kernel } = &rule.includes;
        let has = |cap: &String| CAPABILITIES.contains(&cap.as_str());
        caps.iter().all(has)
            && (arches.is_empty() || arches.iter().any(|a| a == go))
            && min_kernel.as_ref().is_none_or(|least| number(kernel) >= number(least))
            && !rule.excludes.caps.iter().any(has)
            && !rule.excludes.arches.iter().any(|a| a == go)
            && rule.excludes.min_kernel.as_ref().is_none_or(|least| number(kernel) < number(least))
    };
    let rules: Vec<Value> = profile
        .syscalls
        .iter()
        .filter(counts)
        .map(|rule| {
            let mut value = json!({ "names": rule.names, "action": rule.action });
            if let Some(errno) = rule.errno_ret {
                value["errnoRet"] = json!(errno);
            }
            if let Some(args) = rule.args.as_ref().filter(|a| !a.is_empty()) {
                value["args"] = json!(args);
            }
            value
        })
        .collect();
    let mut filter =
        json!({ "defaultAction": profile.default_action, "architectures": architectures, "syscalls": rules });
    if let Some(errno) = profile.default_errno_ret {
        filter["defaultErrnoRet"] = json!(errno);
    }
    filter
}

/// Major and minor number of a kernel.
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}
        ],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "includes": {}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}
        ]
    }"#;

    fn names(machine: &str, kernel: &str) -> Vec<String> {
        let value = resolve(&serde_json::from_str(TEXT).expect("a profile"), machine, kernel);
        let rules = value["syscalls"].as_array().expect("rules").clone();
        rules.iter().map(|r| format!("{}:{}", r["names"][0].as_str().unwrap(), r["action"].as_str().unwrap())).collect()
    }

    #[test]
    fn rules_count_for_this_machine_and_these_capabilities() {
        let all = names("x86_64", "6.1.0-9-amd64").join(" ");
        assert!(all.contains("bpf:SCMP_ACT_ERRNO") && !all.contains("bpf:SCMP_ACT_ALLOW"), "{all}");
        assert!(all.contains("kill:") && all.contains("arch_prctl:") && all.contains("ptrace:"), "{all}");
        let other = names("aarch64", "4.4.0").join(" ");
        assert!(!other.contains("arch_prctl") && !other.contains("ptrace"), "{other}");
    }

    #[test]
    fn what_is_unconditional_is_passed_on_as_it_is() {
        let value = resolve(&serde_json::from_str(TEXT).expect("a profile"), "x86_64", "6.1");
        assert_eq!(value["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        assert_eq!((&value["defaultAction"], &value["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(38)));
        let rules = value["syscalls"].as_array().expect("rules");
        assert_eq!(rules.last().expect("the last")["args"][0]["value"], 8);
        assert!(rules[0].get("args").is_none(), "an empty list would match nothing");
    }
}
