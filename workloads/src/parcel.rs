//! A parcel: files of the host that a workload needs inside, packed into one archive and sent into every environment in the same way,
//! over the channel that is there in all of them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Bytes of all its files at most. They go through the channel in small pieces, which takes a slow serial line minutes.
pub const LARGEST: u64 = 64 << 20;
/// Files and folders at most.
const MOST: usize = 20_000;
/// What is kept of a file's mode. Owners aren't kept, so that its bits for setuid and setgid would give what it does to another.
const MODE: u32 = 0o777;
/// Bytes of a piece: as text in a frame it stays below 4096, of which no more get into a User-mode Linux at a time.
const PIECE: usize = 2400;

/// Files on their way into an environment.
#[derive(Clone, PartialEq, Eq)]
pub struct Parcel {
    archive: Vec<u8>,
    /// Bytes of the files in it.
    pub size: u64,
}

impl fmt::Debug for Parcel {
    /// Without what is in it: that is the user's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcel({} bytes)", self.size)
    }
}

/// One of the host's files in a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The setting that names it.
    pub setting: &'static str,
    /// Its path on the host.
    pub path: PathBuf,
    /// What it is called inside. A folder brings what is in it, and no name of its own.
    pub name: PathBuf,
}

impl Parcel {
    /// Packs files and folders. Links are kept as links; owners aren't kept.
    ///
    /// # Errors
    /// For a path that isn't there, that is neither file nor folder nor link, and where all of it is too large.
    pub fn pack(all: &[Brought]) -> anyhow::Result<Self> {
        let mut packing =
            Packing { archive: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast())), size: 0, count: 0 };
        packing.archive.follow_symlinks(false);
        for brought in all {
            let path = &brought.path;
            // What the setting itself names may be a link: meant is what it leads to.
            let real = path.canonicalize().and_then(|real| Ok((fs::metadata(&real)?, real)));
            let (about, real) = real.with_context(|| {
                format!(
                    "`{}` can't be read: {}; give the full path of what is there on this host",
                    brought.setting,
                    path.display()
                )
            })?;
            let packed =
                if about.is_dir() { packing.folder(&real, Path::new("")) } else { packing.entry(&real, &brought.name) };
            packed.with_context(|| format!("`{}` can't be sent into a box", brought.setting))?;
        }
        let Packing { archive, size, .. } = packing;
        let archive = archive.into_inner().and_then(GzEncoder::finish).context("can't pack")?;
        Ok(Self { archive, size })
    }

    /// The archive, piece by piece, each with the bytes before it. There is at least one.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.archive.chunks(PIECE).enumerate().map(|(at, piece)| ((at * PIECE) as u64, piece))
    }
}

struct Packing {
    archive: tar::Builder<GzEncoder<Vec<u8>>>,
    size: u64,
    count: usize,
}

impl Packing {
    /// All that is in a folder, in the order of its names.
    fn folder(&mut self, folder: &Path, name: &Path) -> anyhow::Result<()> {
        let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
        let mut names = list().with_context(|| format!("can't list {}", folder.display()))?;
        names.sort();
        names.iter().try_for_each(|entry| self.entry(&folder.join(entry), &name.join(entry)))
    }

    fn entry(&mut self, path: &Path, name: &Path) -> anyhow::Result<()> {
        let about = fs::symlink_metadata(path).with_context(|| format!("can't look at {}", path.display()))?;
        let kind = about.file_type();
        ensure!(
            kind.is_file() || kind.is_dir() || kind.is_symlink(),
            "{} is neither a file nor a folder nor a link; move it away",
            path.display()
        );
        self.count += 1;
        self.size += if kind.is_file() { about.len() } else { 0 };
        ensure!(
            self.size <= LARGEST && self.count <= MOST,
            "up to {} in {MOST} files fit, and with {} it is more; bring less",
            bytesize::ByteSize(LARGEST),
            path.display()
        );
        let mut header = header(&about);
        if kind.is_symlink() {
            let target = fs::read_link(path).with_context(|| format!("can't read {}", path.display()))?;
            self.archive.append_link(&mut header, name, target)
        } else {
            let bytes = if kind.is_file() { whole(path, about.len())? } else { Vec::new() };
            header.set_size(bytes.len() as u64);
            self.archive.append_data(&mut header, name, bytes.as_slice())
        }
        .with_context(|| format!("can't pack {}", path.display()))?;
        if kind.is_dir() { self.folder(path, name) } else { Ok(()) }
    }
}

/// What stands in the archive about a file, a folder or a link.
fn header(about: &fs::Metadata) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(about);
    header.set_mode(about.mode() & MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// The bytes of a file, which are as many as were counted: one more or less would spoil the archive after it.
fn whole(path: &Path, size: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size as usize);
    let mut options = File::options();
    // What has become a link or a pipe in the meantime is neither followed nor waited for.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let read = options.open(path).and_then(|file| file.take(size + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("can't read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 == size,
        "{} changed while it was read, or has no size of its own (as in /proc); bring a copy of it",
        path.display()
    );
    Ok(bytes)
}

/// Where a parcel that is on its way is kept, in the data directory; removed on drop.
#[derive(Debug)]
pub(crate) struct Arrived {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Arrived {
    /// An empty one.
    pub fn begin(path: PathBuf) -> anyhow::Result<Self> {
        // It is the user's own, as what it is made of may be.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("can't make {}; is the data directory there and writable?", path.display()))?;
        Ok(Self { path, file, length: 0 })
    }

    /// Adds a piece that comes after so many bytes.
    pub fn add(&mut self, offset: u64, piece: &[u8]) -> anyhow::Result<()> {
        ensure!(
            offset == self.length,
            "a piece of a parcel is missing: {offset} bytes should have come, and {} have",
            self.length
        );
        self.length += piece.len() as u64;
        // Packed it is smaller, but for the frame around what can't be compressed.
        ensure!(self.length <= LARGEST + LARGEST / 8, "a parcel is larger than one can be");
        self.file.write_all(piece).with_context(|| format!("can't write {}", self.path.display()))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.path) {
            log::warn!("can't remove {}: {e}", self.path.display());
        }
    }
}

/// Lays out what is in a parcel in a folder, which nothing of it gets out of.
///
/// # Errors
/// When the archive is damaged, or a file can't be written.
pub fn unpack(parcel: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = File::open(parcel).with_context(|| format!("can't open {}", parcel.display()))?;
    // A small archive may hold zeros without end.
    let most = LARGEST + (MOST as u64) * 4096;
    let mut archive = tar::Archive::new(GzDecoder::new(file).take(most));
    archive.set_preserve_permissions(true);
    archive.set_mask(!MODE);
    archive
        .unpack(folder)
        .map_err(|e| plainly(&e))
        .with_context(|| format!("can't lay out what was sent in {}", folder.display()))
}

/// Why an archive can't be unpacked, in the system's words or our own: those of the library may have bytes of a file in them, and
/// what is said here is stored.
fn plainly(error: &io::Error) -> anyhow::Error {
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source());
    let number = causes.find_map(|e| e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error));
    number.map_or_else(|| anyhow::anyhow!("the archive is damaged"), |n| io::Error::from_raw_os_error(n).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder(path: &Path) -> Brought {
        Brought { setting: "copy", path: path.into(), name: PathBuf::new() }
    }

    fn send(parcel: &Parcel, data: &Path, into: &Path) {
        let mut arrived = Arrived::begin(data.join("parcel")).expect("begun");
        parcel.pieces().for_each(|(offset, piece)| arrived.add(offset, piece).expect("added"));
        unpack(arrived.path(), into).expect("unpacked");
    }

    #[test]
    fn what_arrives_is_what_was_sent() {
        let (from, data) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        fs::create_dir_all(from.path().join("deep/empty")).expect("made");
        let noise: Vec<u8> = (0..100_000_u32).map(|n| (crate::content::mix(n.into()) & 0xff) as u8).collect();
        fs::write(from.path().join("deep/noise"), &noise).expect("written");
        fs::write(from.path().join("run"), "#!/bin/sh\n").expect("written");
        fs::set_permissions(from.path().join("run"), fs::Permissions::from_mode(0o755)).expect("set");
        symlink("run", from.path().join("link")).expect("made");
        let single = Brought { setting: "statements", path: from.path().join("run"), name: "statements".into() };
        let parcel = Parcel::pack(&[folder(from.path()), single]).expect("packed");
        assert_eq!(parcel.size, 100_000 + 20);
        assert!(parcel.pieces().count() > 40 && parcel.pieces().all(|(_, piece)| piece.len() <= PIECE));
        let into = data.path().join("into");
        fs::create_dir(&into).expect("made");
        send(&parcel, data.path(), &into);
        assert_eq!(fs::read(into.join("deep/noise")).expect("there"), noise);
        assert!(into.join("deep/empty").is_dir());
        assert_eq!(fs::read_link(into.join("link")).expect("a link"), Path::new("run"));
        assert_eq!(fs::metadata(into.join("run")).expect("there").permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read(into.join("statements")).expect("there"), b"#!/bin/sh\n");
        assert!(!data.path().join("parcel").exists(), "the archive itself is gone");
    }

    #[test]
    fn a_piece_fits_into_a_line_that_takes_4095_bytes() {
        let piece = crate::protocol::Piece { offset: LARGEST, bytes: vec![0xff; PIECE] };
        let body = crate::protocol::Request::Bring(piece);
        let mut frame = Vec::new();
        crate::protocol::send(&mut frame, u64::MAX, u64::MAX, &body, || u64::MAX).expect("written");
        assert!(frame.len() < 4096, "{}", frame.len());
    }

    #[test]
    fn what_is_too_large_or_not_there_is_refused_with_its_path() {
        let from = tempfile::tempdir().expect("made");
        let said = |brought: Brought| format!("{:#}", Parcel::pack(&[brought]).expect_err("refused"));
        let missing = said(folder(&from.path().join("missing")));
        assert!(missing.contains("`copy` can't be read") && missing.contains("/missing"), "{missing}");
        File::create(from.path().join("huge")).expect("made").set_len(LARGEST + 1).expect("sparse");
        let huge = said(folder(from.path()));
        assert!(huge.contains("64.0 MiB") && huge.contains("/huge") && huge.contains("bring less"), "{huge}");
        fs::remove_file(from.path().join("huge")).expect("removed");
        std::os::unix::net::UnixListener::bind(from.path().join("socket")).expect("bound");
        let socket = said(folder(from.path()));
        assert!(socket.contains("/socket is neither a file"), "{socket}");
    }

    #[test]
    fn nobody_gets_the_rights_of_another() {
        let (from, into) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let set = |name: &str, mode| {
            fs::set_permissions(from.path().join(name), fs::Permissions::from_mode(mode)).expect("set");
        };
        fs::create_dir(from.path().join("folder")).expect("made");
        fs::write(from.path().join("tool"), "").expect("written");
        set("tool", 0o6755);
        set("folder", 0o3770);
        let parcel = Parcel::pack(&[folder(from.path())]).expect("packed");
        send(&parcel, into.path(), into.path());
        let mode = |name: &str| fs::metadata(into.path().join(name)).expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode("tool"), mode("folder")), (0o755, 0o770));
    }

    #[test]
    fn a_mode_is_cut_where_it_arrives_too() {
        let data = tempfile::tempdir().expect("made");
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4755);
        header.set_size(0);
        archive.append_data(&mut header, "tool", std::io::empty()).expect("added");
        let bytes = archive.into_inner().and_then(GzEncoder::finish).expect("packed");
        fs::write(data.path().join("parcel"), bytes).expect("written");
        unpack(&data.path().join("parcel"), data.path()).expect("unpacked");
        let mode = fs::metadata(data.path().join("tool")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }

    #[test]
    fn a_file_gives_the_bytes_that_were_counted_or_is_refused() {
        let from = tempfile::tempdir().expect("made");
        let path = from.path().join("log");
        fs::write(&path, "secret").expect("written");
        for size in [5, 7] {
            let said = format!("{:#}", whole(&path, size).expect_err("it grew or shrank"));
            assert!(said.contains("/log changed while it was read") && !said.contains("secret"), "{said}");
        }
        assert_eq!(whole(&path, 6).expect("as counted"), b"secret");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_made_up_as_it_is_read_is_refused() {
        let said = format!("{:#}", Parcel::pack(&[folder(Path::new("/proc/self/status"))]).expect_err("refused"));
        assert!(said.contains("has no size of its own"), "{said}");
    }

    #[test]
    fn a_damaged_archive_is_not_quoted() {
        let data = tempfile::tempdir().expect("made");
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&b"secret ".repeat(300)).expect("packed");
        fs::write(data.path().join("parcel"), packed.finish().expect("packed")).expect("written");
        let said = format!("{:#}", unpack(&data.path().join("parcel"), data.path()).expect_err("no archive"));
        assert!(said.contains("is damaged") && !said.contains("sec"), "{said}");
    }

    #[test]
    fn a_gap_between_two_pieces_is_noticed() {
        let data = tempfile::tempdir().expect("made");
        let mut arrived = Arrived::begin(data.path().join("parcel")).expect("begun");
        arrived.add(0, b"ab").expect("the first");
        assert!(arrived.add(3, b"d").expect_err("c is missing").to_string().contains("is missing"));
    }
}
