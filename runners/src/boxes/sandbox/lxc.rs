//! `lxc`: an application container by `lxc-execute`, from a configuration of our own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use workloads::settings::{Setting, Settings};

use crate::boxes::sandbox::{Filter, Options};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::names;
use crate::process::{self, Program};
use crate::stage::data::{Data, Layers};
use crate::stage::network::Net;
use crate::stage::{Stage, cgroup};
use crate::unavailable::Unavailable;

/// LXC, what LXD and Incus start their containers with.
#[derive(Debug)]
pub struct Lxc;

const PROGRAM: Program = Program::of("lxc-execute", "lxc");

/// LXC's own filter of system calls, which its templates include.
const FILTER: &str = "/usr/share/lxc/config/common.seccomp";

impl Runner for Lxc {
    fn name(&self) -> &'static str {
        "lxc"
    }

    fn about(&self) -> &'static str {
        "An application container by LXC, what LXD and Incus start theirs with"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        let version = PROGRAM.version(Options::read(settings).binary.as_deref())?;
        host.require_root("lxc-execute from a configuration of our own")?;
        Ok(version)
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let lxc = PROGRAM.require(options.binary.as_deref())?;
        let id = stage.next_id();
        let folder = stage.scratch().join(&id);
        let layers = (options.data == Data::Overlay).then(|| Layers::make(stage)).transpose()?;
        let data = stage.data().to_path_buf();
        let mut text = configuration(&options, stage.root()?, &data, layers.as_ref())?;
        stage.cgroup().hand_cpus_down();
        let group = stage.cgroup().parent_for_engine().map(|parent| format!("{}/{id}", parent.trim_start_matches('/')));
        let within = within(&fs::read_to_string("/proc/1/cgroup").unwrap_or_default());
        text.extend(group.iter().map(|group| if within { groups(&id) + RELATIVE } else { groups(group) }));
        let file = folder.join("config");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, text))
            .with_context(|| format!("can't write {}", file.display()))?;
        let mut command = Command::new(&lxc);
        command.arg("--lxcpath").arg(&folder).args(["--name", &id]).arg("--rcfile").arg(&file);
        command.args(["--", "/tarebench", "agent", "--data", "/data"]);
        process::own_run_directory(&mut command, c"/run/lxc")?;
        let path = stage.path(options.network)?;
        Ok(Launch::new(command).on(&lxc).over(path).data(options.data.on(stage)).cleanup(move || {
            // The monitor is the same program, and the init in the container is lxc's own.
            process::kill_marked(&[&id], &lxc, &["init.lxc", "init.lxc.static"]);
            if let Some(group) = group {
                cgroup::remove(&group);
                // In hierarchies without limits the command is where we are.
                if within {
                    cgroup::remove(&id);
                }
            }
            process::discard(&folder);
        }))
    }
}

/// Counts groups from that of the command, which is the stage's.
const RELATIVE: &str = "lxc.cgroup.relative = 1\n";

/// Whether process 1 is below the root of a hierarchy of cgroup v1: LXC counts names from its group, and what it made would be
/// without our limits, and stay. `first` is what the kernel says of the groups of process 1.
fn within(first: &str) -> bool {
    let mut v1 = first.lines().filter_map(|line| line.split_once(':')).filter(|(number, _)| *number != "0");
    v1.any(|(_, rest)| rest.rsplit_once(':').is_some_and(|(_, path)| path != "/"))
}

/// Its groups in every hierarchy, below the stage's: where the limits are, and removed with the run everywhere else.
fn groups(group: &str) -> String {
    format!(
        "lxc.cgroup.dir.container = {group}/payload\nlxc.cgroup.dir.monitor = {group}/monitor\n\
         lxc.cgroup.dir.monitor.pivot = {group}/pivot\n"
    )
}

/// lxc.container.conf(5). `none` as the network is the one that lxc-execute is started in: the stage's.
fn configuration(options: &Options, root: &Path, data: &Path, layers: Option<&Layers>) -> anyhow::Result<String> {
    let path = |path: &Path| anyhow::Ok(names::plain(path, "lxc", &['\n', ',', ':'])?.replace(' ', "\\040"));
    let network = if options.network == Net::None { "empty" } else { "none" };
    let mut text = format!(
        "lxc.rootfs.path = dir:{}\nlxc.uts.name = tarebench\nlxc.net.0.type = {network}\nlxc.autodev = 1\n\
         lxc.mount.auto = proc:mixed sys:ro\nlxc.no_new_privs = 1\n\
         lxc.mount.entry = tmpfs tmp tmpfs rw,nosuid,nodev 0 0\n",
        names::plain(root, "lxc", &['\n', ':'])?
    );
    let entry = match (options.data, layers) {
        (Data::Tmpfs, _) => "tmpfs data tmpfs rw".to_string(),
        (_, Some(Layers { lower, upper, work })) => {
            format!("overlay data overlay lowerdir={},upperdir={},workdir={}", path(lower)?, path(upper)?, path(work)?)
        }
        _ => format!("{} data none bind,rw", path(data)?),
    };
    text += &format!("lxc.mount.entry = {entry} 0 0\n");
    if options.seccomp == Filter::Default {
        text += &format!("lxc.seccomp.profile = {FILTER}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(given: &[(&str, &str)], data: &str) -> anyhow::Result<String> {
        let options = Options::of(given);
        let layers = Layers { lower: "/d/l".into(), upper: "/d/u".into(), work: "/d/w".into() };
        let layers = (options.data == Data::Overlay).then_some(&layers);
        configuration(&options, Path::new("/r"), Path::new(data), layers)
    }

    #[test]
    fn groups_are_counted_from_the_commands_own_where_process_1_is_below_a_root_of_v1() {
        assert!(!within("5:memory:/\n1:name=systemd:/\n0::/init.scope\n"), "v2 counts as ever");
        assert!(within("5:memory:/service\n1:name=systemd:/\n0::/\n"));
        assert!(!within(""));
    }

    #[test]
    fn each_setting_has_its_line() {
        let plain = text(&[], "/my data").expect("a configuration");
        assert!(plain.contains("lxc.mount.entry = /my\\040data data none bind,rw 0 0"), "{plain}");
        assert!(plain.contains("lxc.net.0.type = none") && plain.contains("lxc.seccomp.profile"), "{plain}");
        let other = text(&[("data", "overlay"), ("network", "none"), ("seccomp", "none")], "/d").expect("another");
        assert!(other.contains("lowerdir=/d/l,upperdir=/d/u,workdir=/d/w"), "{other}");
        assert!(other.contains("lxc.net.0.type = empty") && !other.contains("seccomp"), "{other}");
        assert!(text(&[("data", "tmpfs")], "/d").expect("memory").contains("tmpfs data tmpfs rw"));
    }

    #[test]
    fn a_path_that_would_become_a_line_of_its_own_is_refused() {
        text(&[], "/a\nlxc.hook.start-host = /x").expect_err("refused");
    }
}
