//! A store of podman's for one environment: images, layers, volumes, state and locks, all in folders of ours.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::Storage;
use crate::boxes::managed::docker;
use crate::names;
use crate::process;
use crate::process::{RUN, unmount_below};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::unavailable::Unavailable;

/// Locks in files of the store rather than in `/dev/shm`, where they would outlive us. Nothing of the host's own
/// configuration applies, so that the same command means the same everywhere. conmon gets no environment but what is named here: without
/// the run's mark nobody would know whose it is, nor whose is the podman that it starts at the end.
fn configuration(run: &str) -> String {
    format!("[engine]\nlock_type = \"file\"\nconmon_env_vars = [\"{RUN}={run}\"]\n")
}

/// For taking the image, which is as large as our binary.
const IMPORT: Duration = Duration::from_secs(60);

/// The folder in which the plugins of the bridge keep their state.
const CNI: &str = "/var/lib/cni";

/// What podman starts in sessions of their own, by the names of their files; its runtime besides.
const PROGRAMS: &[&str] = &[
    "conmon",
    "podman",
    "catatonit",
    "rootlessport",
    "slirp4netns",
    "pasta",
    "netavark",
    "aardvark-dns",
    "fuse-overlayfs",
];

/// The only image in the store.
pub(super) const IMAGE: &str = "localhost/tarebench:latest";

/// Podman's driver for images and layers.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) name: &'static str,
    /// The program that mounts an overlay, where the kernel doesn't.
    mounter: Option<PathBuf>,
}

impl Driver {
    pub(super) fn of(data: Data, storage: Storage) -> Result<Self, Unavailable> {
        match (data, storage) {
            (Data::Layer, Storage::FuseOverlayfs) => {
                let mounter = process::require("fuse-overlayfs", "fuse-overlayfs")?;
                Ok(Self { name: "overlay", mounter: Some(mounter) })
            }
            (Data::Layer, Storage::Overlay) => Ok(Self { name: "overlay", mounter: None }),
            // Where no data lies in a layer it holds nothing, and needs no probing.
            _ => Ok(Self { name: "vfs", mounter: None }),
        }
    }
}

/// Storage, state and locks of one stage's containers: kept over its starts, gone with its scratch directory.
#[derive(Debug)]
pub(super) struct Store {
    podman: PathBuf,
    runtime: PathBuf,
    /// A mount that the runtime must not see.
    pub(super) without: Option<&'static CStr>,
    /// Folders that the runtime and the bridge's plugins make although they are told to use others, where they were not
    /// there before us.
    made: Vec<PathBuf>,
    directory: PathBuf,
    /// Images, layers and volumes: beside the data where data lies in them.
    storage: PathBuf,
    driver: Driver,
    /// Podman refuses run-time directories of more than 50 characters, so these are not below `directory`.
    run: PathBuf,
    /// The run that it belongs to.
    id: String,
    /// Where podman, without root, keeps what it would share with the user's own: its folders in /tmp, and the file of the process
    /// that holds its namespaces (`podman pause`), which so is ours alone and goes with the run.
    session: Option<PathBuf>,
}

impl Store {
    pub(super) fn new(podman: PathBuf, runtime: PathBuf, driver: Driver, data: Data, stage: &Stage) -> Self {
        let sum = names::hash(&stage.environment);
        let run = stage.host.scratch.join(format!("p{sum:08x}"));
        let made = vec![Path::new("/run").join(runtime.file_name().unwrap_or_default()), Path::new(CNI).to_path_buf()];
        Self {
            podman,
            made: made.into_iter().filter(|m| !m.exists()).collect(),
            directory: stage.scratch().join("podman"),
            storage: if matches!(data, Data::Volume | Data::Layer) { stage.data() } else { stage.scratch() }
                .join("podman-storage"),
            driver,
            without: None,
            session: (!stage.host.privileged).then(|| run.join("u")),
            run,
            id: stage.host.id.clone(),
            runtime,
        }
    }

    pub(super) fn make(&self) -> anyhow::Result<()> {
        let file = self.directory.join("containers.conf");
        fs::create_dir_all(self.directory.join("networks"))
            .and_then(|()| fs::create_dir_all(self.session.as_ref().unwrap_or(&self.run)))
            .and_then(|()| fs::write(&file, configuration(&self.id)))
            .with_context(|| format!("can't write {}", file.display()))
    }

    /// The image, once for all starts of the stage.
    pub(super) fn import(&self, stage: &mut Stage) -> anyhow::Result<()> {
        let archive = self.directory.join("image.tar");
        if archive.exists() {
            return Ok(());
        }
        let unfinished = self.directory.join("image.new");
        docker::pack(stage.root()?, &unfinished).with_context(|| format!("can't write {}", unfinished.display()))?;
        let mut command = self.command();
        command.arg("import").arg(&unfinished).arg(IMAGE);
        process::ask_patiently(command, Stdio::null(), IMPORT)
            .map_err(|words| anyhow!("podman takes no image from us: {words}"))?;
        // Its being there says that the image is.
        fs::rename(&unfinished, &archive).with_context(|| format!("can't make {}", archive.display()))
    }

    pub(super) fn cidfile(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.cid"))
    }

    /// Podman with all its global options.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.podman);
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        if let Some(session) = &self.session {
            // Whichever command comes first starts what holds a user's namespaces, and that is found by the run's mark at the end.
            command.env("XDG_RUNTIME_DIR", session).env(RUN, &self.id);
        }
        // conmon leaves a file named `oom` in its working directory when the container runs out of memory.
        command.current_dir(&self.directory);
        command.arg("--root").arg(&self.storage);
        command.arg("--network-config-dir").arg(self.directory.join("networks"));
        command.arg("--runroot").arg(self.run.join("r")).arg("--tmpdir").arg(self.run.join("t"));
        command.args(["--storage-driver", self.driver.name]).args(["--cgroup-manager", "cgroupfs"]);
        if let Some(mounter) = &self.driver.mounter {
            command.arg("--storage-opt").arg(format!("overlay.mount_program={}", mounter.display()));
        }
        command.args(["--events-backend", "none"]).arg("--runtime").arg(&self.runtime);
        // Below our own folder, so that nothing of a killed run is left anywhere else.
        command.arg("--runtime-flag").arg(format!("root={}", self.state().display()));
        if let Some(point) = self.without {
            process::unmount(&mut command, point);
        }
        command
    }

    /// Podman removes a container that ends by itself. One that was killed together with its conmon it can't: the runtime
    /// is then asked first, and podman refuses once before it sees that the container is gone.
    pub(super) fn remove(&self, id: &str) {
        let cidfile = self.cidfile(id);
        let cid = fs::read_to_string(&cidfile).unwrap_or_default().trim().to_string();
        process::kill_marked(&[id, &process::mark(&self.directory)], &self.runtime, PROGRAMS);
        if !cid.is_empty() {
            self.remove_from_runtime(&cid);
            if self.storage.join(format!("{}-containers", self.driver.name)).join(&cid).exists() {
                let ask = || {
                    let mut command = self.command();
                    command.args(["rm", "--force", "--time", "0"]).arg(id);
                    process::ask(command)
                };
                if let Err(words) = ask().or_else(|_| ask()) {
                    log::warn!("can't remove container {id}: {words}");
                }
            }
        }
        unmount_below(&[&self.directory, &self.storage, &self.run]);
        if let Err(e) = fs::remove_file(&cidfile) {
            log::debug!("remove {}: {e}", cidfile.display());
        }
    }

    fn state(&self) -> PathBuf {
        self.run.join("s")
    }

    /// Podman's clean-up process asks the runtime for its default folder, so it never finds the container and leaves its
    /// cgroup behind.
    fn remove_from_runtime(&self, cid: &str) {
        if self.state().join(cid).exists() {
            let mut command = Command::new(&self.runtime);
            if let Some(point) = self.without {
                process::unmount(&mut command, point);
            }
            command.arg("--root").arg(self.state()).arg("delete").arg("--force").arg(cid);
            if let Err(words) = process::ask(command) {
                log::warn!("can't remove container {cid}: {words}");
            }
        }
        for made in &self.made {
            if let Err(e) = fs::remove_dir(made) {
                log::debug!("{} stays: {e}", made.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_users_own_store_is_touched() {
        let store = Store {
            podman: "podman".into(),
            runtime: "/usr/sbin/runc".into(),
            made: Vec::new(),
            directory: "/s".into(),
            storage: "/s/storage".into(),
            driver: Driver { name: "overlay", mounter: Some("/bin/f".into()) },
            without: None,
            run: "/r".into(),
            id: "ab".into(),
            session: Some("/r/u".into()),
        };
        let line = format!("{:?}", store.command());
        let options = [
            r#"XDG_RUNTIME_DIR="/r/u""#,
            r#"TAREBENCH_RUN="ab""#,
            r#""--root" "/s/storage""#,
            r#""--runroot" "/r/r""#,
            r#""--tmpdir" "/r/t""#,
            r#""--storage-driver" "overlay""#,
            r#""--storage-opt" "overlay.mount_program=/bin/f""#,
        ];
        for option in options {
            assert!(line.contains(option), "{line}");
        }
    }

    #[test]
    fn who_looks_after_a_container_has_the_mark_of_its_run() {
        let text = configuration("ab");
        assert!(
            text.starts_with("[engine]\n") && text.contains("conmon_env_vars = [\"TAREBENCH_RUN=ab\"]\n"),
            "{text}"
        );
    }

    #[test]
    fn a_driver_is_for_the_layer_alone() {
        let name = |data, storage| Driver::of(data, storage).map(|d| d.name);
        assert_eq!(name(Data::Layer, Storage::Overlay), Ok("overlay"));
        assert_eq!(name(Data::Layer, Storage::Vfs), Ok("vfs"));
        assert_eq!(name(Data::Bind, Storage::Overlay), Ok("vfs"), "the default means nothing there");
    }
}
