//! Boxes for the runners that enter one which is there already: made for one test, and gone with it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A box with what the runner has to know of it.
pub struct Box {
    /// Settings of the runner.
    pub settings: Vec<(&'static str, String)>,
    _parts: Vec<Process>,
}

/// A process of ours, killed on drop.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(std::io::Error::from)
            });
        }
        Self(command.stdin(Stdio::null()).spawn().expect("it starts"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Box {
    /// The box that this runner needs; nothing where it makes its own. `folder` is shared with the host.
    pub fn of(runner: &str, folder: &Path) -> Self {
        match runner {
            "exec" => Self::namespaces(folder),
            _ => Self { settings: Vec::new(), _parts: Vec::new() },
        }
    }

    /// A process in namespaces of its own, for nsenter.
    fn namespaces(folder: &Path) -> Self {
        let sleeper = Process::start(Command::new("unshare").args(["-m", "-u", "-i", "-n", "sleep", "600"]));
        let pid = sleeper.id();
        let namespace = || std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let own = std::fs::read_link("/proc/self/ns/net").expect("readable");
        super::eventually("it is in its namespaces", std::time::Duration::from_secs(5), || {
            namespace().is_ok_and(|n| n != own)
        });
        let settings = vec![
            ("command", format!("nsenter -t {pid} -m -u -i -n {{run}}")),
            ("copy", format!("cp {{binary}} /proc/{pid}/root{{agent}}")),
            ("data", folder.display().to_string()),
        ];
        Self { settings, _parts: vec![sleeper] }
    }
}
