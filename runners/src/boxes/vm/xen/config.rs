//! The file that `xl create` is given: xl.cfg(5), with the disk as in xl-disk-configuration(5) and the interface as in
//! xl-network-configuration(5).

use std::fmt::Write;
use std::path::Path;

use workloads::init::Orders;

use super::{Backend, Type};
use crate::names;

/// Characters that end a text of that syntax, or begin something else in it.
const SPECIAL: &[char] = &['"', '\\', '\n'];

/// The domain that Xen is told to make.
pub(super) struct Domain<'a> {
    /// As `xl list` shows it.
    pub(super) name: &'a str,
    pub(super) kind: Type,
    pub(super) kernel: &'a Path,
    pub(super) ramdisk: &'a Path,
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
    pub(super) disk: Disk<'a>,
    /// Run when the domain's interface comes; without it there is none.
    pub(super) script: Option<&'a Path>,
    pub(super) orders: Orders,
}

/// The domain's disk.
#[derive(Clone, Copy)]
pub(super) struct Disk<'a> {
    pub(super) backend: Backend,
    pub(super) direct: bool,
    /// A block device for [`Backend::Phy`], a file for [`Backend::Qdisk`].
    pub(super) target: &'a Path,
}

impl Domain<'_> {
    /// The file's text.
    ///
    /// # Errors
    /// When a path has a character that the syntax reads otherwise.
    pub(super) fn config(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let mut put = |name: &str, value: String| writeln!(text, "{name} = {value}").expect("a string takes all");
        put("name", quoted(self.name));
        put("type", quoted(&self.kind.to_string()));
        put("kernel", quoted(names::plain(self.kernel, "xl", SPECIAL)?));
        put("ramdisk", quoted(names::plain(self.ramdisk, "xl", SPECIAL)?));
        put("cmdline", quoted(&self.command_line()));
        put("vcpus", self.cpus.to_string());
        put("memory", (self.memory_bytes >> 20).to_string());
        put("disk", format!("[ {} ]", quoted(&self.disk.specification()?)));
        if let Some(script) = self.script {
            let script = names::plain(script, "xl", &['"', '\\', '\n', ',', '='])?;
            put("vif", format!("[ {} ]", quoted(&format!("script={script}"))));
        }
        // A guest that ends in whatever way stays ended.
        for event in ["on_poweroff", "on_reboot", "on_crash"] {
            put(event, quoted("destroy"));
        }
        Ok(text)
    }

    /// The console carries the frames. The kernel takes it for its own, too, whatever it is told, but says nothing there short of
    /// a panic; what the init says goes to a screen that nobody has.
    fn command_line(&self) -> String {
        format!("console=tty0 loglevel=0 panic=-1 cryptomgr.notests=1 {}", self.orders)
    }
}

impl Disk<'_> {
    /// `target` comes last: it takes all that follows.
    fn specification(&self) -> anyhow::Result<String> {
        let direct = match (self.backend, self.direct) {
            (Backend::Qdisk, true) => "direct-io-safe,",
            // The loop device has been told.
            (Backend::Qdisk, false) | (Backend::Phy, _) => "",
        };
        let target = names::plain(self.target, "xl", SPECIAL)?;
        Ok(format!("format=raw,vdev=xvda,access=rw,backendtype={},{direct}target={target}", self.backend))
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Options of xl.cfg(5), Xen 4.17, that we use.
    const OPTIONS: &[&str] = &[
        "name",
        "type",
        "kernel",
        "ramdisk",
        "cmdline",
        "vcpus",
        "memory",
        "disk",
        "vif",
        "on_poweroff",
        "on_reboot",
        "on_crash",
    ];
    /// Keywords and flags of xl-disk-configuration(5), Xen 4.17.
    const DISK: &[&str] = &[
        "target",
        "format",
        "vdev",
        "access",
        "devtype",
        "cdrom",
        "backend",
        "backendtype",
        "script",
        "direct-io-safe",
        "discard",
        "no-discard",
        "trusted",
        "untrusted",
        "specification",
    ];

    fn domain(disk: Disk<'_>) -> Domain<'_> {
        Domain {
            name: "tarebench-ab-xen-0",
            kind: Type::Pv,
            kernel: Path::new("/k"),
            ramdisk: Path::new("/r"),
            cpus: 2,
            memory_bytes: 512 << 20,
            disk,
            script: Some(Path::new("/s/vif")),
            orders: Orders { tty: Some("/dev/hvc0".into()), ..Orders::default() },
        }
    }

    /// The file as pairs; a text without its quotes, a list as what is in its brackets.
    fn parse(text: &str) -> BTreeMap<String, String> {
        let within = |value: &str, open: &str, close: &str| {
            value.strip_prefix(open).and_then(|v| v.strip_suffix(close)).map(str::to_string)
        };
        let pair = |line: &str| {
            let (name, value) = line.split_once(" = ").expect("a name and a value");
            let value = within(value, "[ ", " ]").unwrap_or_else(|| value.to_string());
            (name.to_string(), within(&value, "\"", "\"").unwrap_or(value))
        };
        text.lines().map(pair).collect()
    }

    #[test]
    fn the_configuration_has_what_the_manual_knows() {
        let disk = Disk { backend: Backend::Phy, direct: true, target: Path::new("/dev/loop3") };
        let text = domain(disk).config().expect("plain paths");
        let pairs = parse(&text);
        assert_eq!(pairs.len(), text.lines().count(), "no option twice: {text}");
        assert!(pairs.keys().all(|name| OPTIONS.contains(&name.as_str())), "{text}");
        let value = |name: &str| pairs.get(name).map_or("", String::as_str);
        assert_eq!((value("name"), value("type")), ("tarebench-ab-xen-0", "pv"));
        assert_eq!((value("kernel"), value("ramdisk"), value("vif")), ("/k", "/r", "script=/s/vif"));
        assert_eq!((value("vcpus"), value("memory"), value("on_crash")), ("2", "512", "destroy"));
        assert!(value("cmdline").ends_with("tarebench.tty=/dev/hvc0"), "{text}");
        assert_eq!(value("disk"), "format=raw,vdev=xvda,access=rw,backendtype=phy,target=/dev/loop3");
        let alone = Domain { script: None, kind: Type::Pvh, ..domain(disk) }.config().expect("plain paths");
        assert!(alone.contains("type = \"pvh\"\n") && !alone.contains("vif"), "{alone}");
    }

    #[test]
    fn the_disk_is_said_in_words_of_the_manual() {
        for (backend, direct) in [(Backend::Phy, true), (Backend::Qdisk, true), (Backend::Qdisk, false)] {
            // Whatever follows `target=` is the target, commas too.
            let disk = Disk { backend, direct, target: Path::new("/d/a,b") };
            let text = disk.specification().expect("a plain path");
            let (before, target) = text.split_once("target=").expect("a target");
            assert_eq!(target, "/d/a,b");
            let words: Vec<&str> = before.split_terminator(',').collect();
            let keys = words.iter().map(|w| w.split_once('=').map_or(*w, |(key, _)| key));
            assert!(keys.clone().all(|key| DISK.contains(&key)), "{text}");
            assert_eq!(words.contains(&"direct-io-safe"), backend == Backend::Qdisk && direct, "{text}");
        }
    }

    #[test]
    fn a_path_that_would_end_the_text_is_refused() {
        let disk = Disk { backend: Backend::Qdisk, direct: true, target: Path::new("/d/\"x") };
        let words = domain(disk).config().expect_err("a quote").to_string();
        assert!(words.contains("xl can't take"), "{words}");
    }
}
