//! Boxes for the runners that enter one which is there already: made for one test, and gone with it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A box with what the runner has to know of it.
pub struct Premises {
    /// Settings of the runner.
    pub settings: Vec<(&'static str, String)>,
    _parts: Vec<Process>,
    _swept: Swept,
    _folder: Option<tempfile::TempDir>,
}

/// A file system of its own, on a disk that is a file.
pub struct OwnDisk(String);

impl OwnDisk {
    /// `None` where nobody may mount one, or nothing makes file systems.
    pub fn at(b: &super::Dir, name: &str) -> Option<Self> {
        Command::new("mkfs.ext4").arg("-V").output().ok()?;
        let (image, at) = (b.at(&format!("{name}.img")), b.at(name));
        std::fs::File::create(&image).and_then(|file| file.set_len(128 << 20)).expect("an image");
        std::fs::create_dir(&at).expect("a directory");
        let [image, at] = [image, at].map(|path| path.display().to_string());
        super::shell("mkfs.ext4", &["-q", &image]);
        let mounted = Command::new("mount").args(["-o", "loop", &image, &at]).status().expect("mount");
        mounted.success().then_some(Self(at))
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        super::shell("umount", &[&self.0]);
    }
}

/// Runners that are tested on other premises too, and the name of each: `exec` enters whatever is there.
pub const VARIANTS: &[(&str, &str)] = &[("exec", "exec_lxc"), ("exec", "exec_docker")];

/// Empty directories that an engine leaves behind, removed on drop where they weren't there before.
#[derive(Default)]
struct Swept(Vec<PathBuf>);

impl Swept {
    /// Of these, and of these groups in every cgroup hierarchy.
    fn of(directories: &[String], groups: &[String]) -> Self {
        let hierarchies: Vec<PathBuf> =
            std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path()).collect();
        let groups = groups.iter().flat_map(|g| hierarchies.iter().map(move |h| h.join(g)));
        Self(directories.iter().map(PathBuf::from).chain(groups).filter(|p| !p.exists()).collect())
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        // One that somebody still uses is not empty, and stays.
        self.0.iter().for_each(|directory| drop(std::fs::remove_dir(directory)));
    }
}

/// What keeps a box up: it waits for its stdin to close.
const KEEP: &[&str] = &["peer", "--listen", "0.0.0.0:0"];

/// A name that only this box has, from that of its folder.
fn name_of(home: &Path) -> String {
    let name = home.file_name().expect("a name").display().to_string();
    format!("shop{}", name.replace('.', "").to_lowercase())
}

/// A root file system with our program in it and a directory for data.
fn root_with_keeper(root: &Path) -> String {
    for directory in ["data", "proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(root.join(directory)).expect("made");
    }
    std::fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("keeper")).expect("copied");
    root.display().to_string()
}

const DOCKERD: &str = "/usr/sbin/dockerd";

/// A process of ours, ended on drop.
pub struct Process {
    child: Child,
    /// How it is asked to end, before it is killed.
    end: End,
}

enum End {
    Kill,
    /// By SIGTERM: it has processes of its own to end.
    Term,
    /// By the end of its stdin.
    Stdin,
    /// By this command.
    Command(Command),
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self::spawn(command, Stdio::null(), End::Kill)
    }

    /// With an open stdin.
    fn start_open(command: &mut Command) -> Self {
        Self::spawn(command.stdout(Stdio::null()), Stdio::piped(), End::Stdin)
    }

    /// Nothing that runs now, but something that a command ends.
    fn ended_by(program: &str, args: &[&str]) -> Self {
        let mut end = Command::new(program);
        end.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        Self::spawn(&mut Command::new("true"), Stdio::null(), End::Command(end))
    }

    fn spawn(command: &mut Command, stdin: Stdio, end: End) -> Self {
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(std::io::Error::from)
            });
        }
        Self { child: command.stdin(stdin).spawn().expect("it starts"), end }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        match &mut self.end {
            End::Kill => {}
            End::Term => drop(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)),
            End::Stdin => drop(self.child.stdin.take()),
            End::Command(command) => drop(command.status()),
        }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(15);
        let patient = !matches!(self.end, End::Kill);
        while patient && matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs what is added to it in namespaces of its own, which an ordinary user may make as the root of one for users.
fn unshare_all() -> Command {
    let mut command = Command::new("unshare");
    command.args((!nix::unistd::geteuid().is_root()).then_some("-Ur")).args(["-m", "-u", "-i", "-n"]);
    command
}

/// All that the premises of a runner take, where there are some to make.
pub fn takes(runner: &str) -> Option<&'static str> {
    match runner {
        "exec" => Some("user namespaces or root"),
        "exec_lxc" => Some("root and lxc-attach"),
        "exec_docker" | "docker" | "docker_vfs" => Some("root and dockerd"),
        "ssh" => Some("root, since it starts a server of its own"),
        _ => None,
    }
}

impl Premises {
    /// The box that this runner needs; nothing where it makes its own. `folder` is shared with the host.
    pub fn of(runner: &str, folder: &Path) -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        match runner {
            "exec" if unshare_all().arg("true").status().is_ok_and(|ended| ended.success()) => Self::namespaces(folder),
            "exec_lxc" if is_root && Path::new("/usr/bin/lxc-attach").exists() => Self::lxc(),
            "exec_docker" if is_root && Path::new(DOCKERD).exists() => Self::container(),
            "oci" => Self::runtime(),
            "docker" if is_root && Path::new(DOCKERD).exists() => Self::dockerd(&[]),
            "docker_vfs" if is_root && Path::new(DOCKERD).exists() => Self::dockerd(&["--storage-driver", "vfs"]),
            "ssh" if is_root => Self::sshd(folder),
            _ => Self { settings: Vec::new(), _parts: Vec::new(), _swept: Swept::default(), _folder: None },
        }
    }

    /// A container by LXC, kept up by our own program, for lxc-attach.
    fn lxc() -> Self {
        let home = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let root = root_with_keeper(&home.path().join("root"));
        let configuration = home.path().join("config");
        let lock = format!("/run/lxc/lock{}", home.path().display());
        let upwards = Path::new(&lock).ancestors().take_while(|p| *p != Path::new("/run"));
        let upwards: Vec<String> = upwards.map(|p| p.display().to_string()).collect();
        let name = name_of(home.path());
        // Deepest first: it makes one of its own in the pivot that it is told to use.
        let groups = ["payload", "monitor", "pivot/lxc.pivot", "pivot"].map(|part| format!("{name}-{part}"));
        let swept = Swept::of(&upwards, &groups);
        let [payload, monitor, _, pivot] = &groups;
        let text = format!(
            "lxc.rootfs.path = dir:{root}\nlxc.net.0.type = empty\nlxc.autodev = 1\nlxc.mount.auto = proc:mixed sys:ro\n\
             lxc.cgroup.dir.container = {payload}\nlxc.cgroup.dir.monitor = {monitor}\nlxc.cgroup.dir.monitor.pivot = {pivot}\n"
        );
        std::fs::write(&configuration, text).expect("written");
        let mut lxc = Command::new("lxc-execute");
        lxc.arg("-P").arg(home.path()).args(["-n", &name, "-f"]).arg(&configuration).args(["--", "/keeper"]).args(KEEP);
        let lxc = Process::start_open(&mut lxc);
        let up = || {
            let mut ask = Command::new("lxc-info");
            ask.arg("-P").arg(home.path()).args(["-n", &name, "-s", "-H"]).stdin(Stdio::null());
            ask.output().is_ok_and(|o| o.stdout.starts_with(b"RUNNING"))
        };
        super::eventually("the container is up", std::time::Duration::from_secs(10), up);
        let settings = vec![
            ("command", format!("lxc-attach -P {} -n {name} -- {{run}}", home.path().display())),
            ("copy", format!("cp {{binary}} {root}{{agent}}")),
            ("data", "/data".to_string()),
        ];
        Self { settings, _parts: vec![lxc], _swept: swept, _folder: Some(home) }
    }

    /// A container by a daemon of our own, kept up by our own program, for `docker exec`.
    fn container() -> Self {
        let mut docker = Self::dockerd(&[]);
        let socket = docker.settings[0].1.clone();
        let home = docker._folder.as_ref().expect("the daemon has one");
        let root = root_with_keeper(&home.path().join("root"));
        let archive = home.path().join("root.tar").display().to_string();
        run("tar", &["-C", &root, "-cf", &archive, "."]);
        run("docker", &["--host", &socket, "import", &archive, "shop"]);
        let up = ["--host", &socket, "run", "-d", "-i", "--name", "shop", "--network", "bridge", "shop", "/keeper"];
        run("docker", &[&up[..], KEEP].concat());
        let format = "{{.NetworkSettings.Gateway}}";
        let gateway = run("docker", &["--host", &socket, "inspect", "--format", format, "shop"]);
        docker._parts.insert(0, Process::ended_by("docker", &["--host", &socket, "rm", "-f", "shop"]));
        docker.settings = vec![
            ("command", format!("docker --host {socket} exec -i shop {{run}}")),
            ("copy", format!("docker --host {socket} cp {{binary}} shop:{{agent}}")),
            ("data", "/data".to_string()),
            ("peer", gateway.trim().to_string()),
        ];
        docker
    }

    /// The runtime that `OCI_RUNTIME` names (youki's path, for one), or runc, as any runtime by its path.
    fn runtime() -> Self {
        let places = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
        let there = places.iter().filter(|p| Path::new(p).exists()).map(|p| p.to_string());
        let settings = std::env::var("OCI_RUNTIME").into_iter().chain(there).take(1).map(|p| ("runtime", p)).collect();
        Self { settings, _parts: Vec::new(), _swept: Swept::default(), _folder: None }
    }

    /// A Docker daemon with directories, socket and network namespace of its own; the calling thread and all that it starts
    /// are in that namespace from now on, as the harness and the daemon are on one host elsewhere.
    fn dockerd(options: &[&str]) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        run("ip", &["link", "set", "lo", "up"]);
        let home = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let at = |name: &str| home.path().join(name).display().to_string();
        let socket = format!("unix://{}", at("socket"));
        let group = name_of(home.path());
        let swept = Swept::of(&[], std::slice::from_ref(&group));
        let mut dockerd = Command::new(DOCKERD);
        dockerd.args([
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
            "--host",
            &socket,
        ]);
        dockerd.args(["--config-file", &at("own.json"), "--cgroup-parent", &format!("/{group}")]).args(options);
        // gVisor's own stack refuses to start below Docker on newer kernels (see the runner), so it takes the container's.
        let runsc = r#"{ "runtimes": { "runsc": { "path": "/usr/bin/runsc", "runtimeArgs": ["--network=host"] } } }"#;
        let runtimes = if Path::new("/usr/bin/runsc").exists() { runsc } else { "{}" };
        std::fs::write(at("own.json"), runtimes).expect("written");
        let log = std::fs::File::create(at("log")).expect("made");
        dockerd.stdout(log.try_clone().expect("cloned")).stderr(log);
        // What it mounts, what it leaves in /run and the key that it writes into /etc/docker go with it.
        let own_mounts = || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            const NONE: Option<&str> = None;
            mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
            for directory in [c"/run", c"/etc/docker"] {
                match mount(Some(c"tmpfs"), directory, Some(c"tmpfs"), MsFlags::empty(), NONE) {
                    Err(nix::errno::Errno::ENOENT) | Ok(()) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Ok(())
        };
        // SAFETY: system calls on constant strings.
        unsafe { dockerd.pre_exec(own_mounts) };
        let dockerd = Process::spawn(&mut dockerd, Stdio::null(), End::Term);
        let log = at("log");
        let answers = || {
            let mut ask = Command::new("docker");
            ask.args(["--host", &socket, "version"]).stdin(Stdio::null());
            ask.output().is_ok_and(|o| o.status.success())
        };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !answers() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(std::time::Instant::now() < until, "dockerd does not answer: {}", said());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self { settings: vec![("host", socket)], _parts: vec![dockerd], _swept: swept, _folder: Some(home) }
    }

    /// Where the Docker daemon of this box listens.
    pub fn daemon(&self) -> String {
        format!("unix://{}", self._folder.as_ref().expect("a daemon has a folder").path().join("socket").display())
    }

    /// A process in namespaces of its own, for nsenter.
    fn namespaces(folder: &Path) -> Self {
        let sleeper = Process::start(unshare_all().args(["sleep", "600"]));
        let pid = sleeper.id();
        let namespace = || std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let own = std::fs::read_link("/proc/self/ns/net").expect("readable");
        super::eventually("it is in its namespaces", std::time::Duration::from_secs(5), || {
            // `unshare` is in them before it is their root.
            let ready = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
            ready && namespace().is_ok_and(|n| n != own)
        });
        let user = if nix::unistd::geteuid().is_root() { "" } else { "-U --preserve-credentials " };
        let settings = vec![
            ("command", format!("nsenter -t {pid} {user}-m -u -i -n {{run}}")),
            ("copy", format!("cp {{binary}} /proc/{pid}/root{{agent}}")),
            ("data", folder.display().to_string()),
        ];
        Self { settings, _parts: vec![sleeper], _swept: Swept::default(), _folder: None }
    }

    /// A real sshd with its own configuration and keys, on the loopback of a network namespace that the calling thread
    /// and all that it starts are in from now on.
    fn sshd(folder: &Path) -> Self {
        const PORT: u16 = 2222;
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        run("ip", &["link", "set", "lo", "up"]);
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name).display().to_string();
        for key in ["host", "user"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
        }
        let host_key = std::fs::read_to_string(at("host.pub")).expect("readable");
        std::fs::write(at("known"), format!("[127.0.0.1]:{PORT} {host_key}")).expect("written");
        let configuration = format!(
            "ListenAddress 127.0.0.1:{PORT}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
            at("host"),
            at("user.pub")
        );
        std::fs::write(at("config"), configuration).expect("written");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", &at("config")]).stderr(Stdio::null());
        // It wants /run/sshd, which is there in a mount namespace of its own.
        let own_run = || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            const NONE: Option<&str> = None;
            mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
            mount(Some(c"tmpfs"), c"/run", Some(c"tmpfs"), MsFlags::empty(), NONE)?;
            nix::unistd::mkdir(c"/run/sshd", nix::sys::stat::Mode::from_bits_truncate(0o755))?;
            Ok(())
        };
        // SAFETY: system calls on constant strings.
        unsafe { sshd.pre_exec(own_run) };
        let sshd = Process::start(&mut sshd);
        super::eventually("sshd listens", std::time::Duration::from_secs(5), || {
            std::net::TcpStream::connect(("127.0.0.1", PORT)).is_ok()
        });
        let settings = vec![
            ("host", "127.0.0.1".to_string()),
            ("port", PORT.to_string()),
            ("user", "root".to_string()),
            ("identity", at("user")),
            ("known_hosts", at("known")),
            ("data", folder.display().to_string()),
        ];
        Self { settings, _parts: vec![sshd], _swept: Swept::default(), _folder: Some(home) }
    }
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
