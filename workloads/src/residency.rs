//! A file's pages in the page cache: how to have them dropped, and how to look whether they were.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;

/// Asks the kernel to drop the file's pages, which should be clean: dirty ones stay.
///
/// # Errors
/// When the kernel refuses. Where a sandbox doesn't know the call nothing is dropped, and [`resident`] shows it.
pub(crate) fn forget(file: &File) -> anyhow::Result<()> {
    // SAFETY: plain numbers and an open descriptor.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    // A sandbox that doesn't know the call keeps its pages, and `resident` shows them.
    if error != 0 && error != libc::ENOSYS {
        return Err(io::Error::from_raw_os_error(error)).context("can't drop the file's pages from the cache");
    }
    Ok(())
}

/// Share of the pages of a file of `length` bytes that are in the page cache of the kernel that serves it, 0..1, and the system
/// call that said so.
///
/// # Errors
/// When neither `cachestat` nor `mincore` can tell.
pub(crate) fn resident(file: &File, length: u64) -> anyhow::Result<(f64, &'static str)> {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1);
    let pages = length.div_ceil(page as u64) as usize;
    if pages == 0 {
        return Ok((0.0, "nothing to look at"));
    }
    if let Some(cached) = cachestat(file, length) {
        return Ok((cached as f64 / pages as f64, "cachestat"));
    }
    Ok((mincore(file, length as usize, pages)? as f64 / pages as f64, "mincore"))
}

/// Pages of the first `length` bytes that are in the page cache; `None` before Linux 6.5, and where a sandbox hides the call.
#[cfg(target_os = "linux")]
fn cachestat(file: &File, length: u64) -> Option<u64> {
    /// The same number on all architectures, as for every call since Linux 5.1.
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = [0_u64, length];
    let mut counts = [0_u64; 5];
    // SAFETY: `range` is a struct cachestat_range (offset, length) and `counts` a struct cachestat (five counts, pages in the
    // cache first), as linux/mman.h has them; both outlive the call.
    let answer = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0 as libc::c_uint)
    };
    (answer == 0).then_some(counts[0])
}

#[cfg(not(target_os = "linux"))]
fn cachestat(_file: &File, _length: u64) -> Option<u64> {
    None
}

/// The same, from the page tables of a mapping.
fn mincore(file: &File, length: usize, pages: usize) -> anyhow::Result<usize> {
    let mut seen = vec![0_u8; pages];
    // SAFETY: a new shared read-only mapping of an open file; nobody reads through it, and it's removed below.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if map == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("can't map the file to see what is in the page cache");
    }
    // SAFETY: the mapping is `length` bytes long, and `seen` has a byte for each of its pages.
    let result = match unsafe { libc::mincore(map, length, seen.as_mut_ptr().cast()) } {
        0 => Ok(seen.iter().filter(|p| **p & 1 != 0).count()),
        _ => Err(io::Error::last_os_error()).context("can't see what is in the page cache"),
    };
    // SAFETY: exactly the mapping made above, of which no reference exists.
    unsafe { libc::munmap(map, length) };
    result
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn both_ways_to_look_at_the_page_cache_agree() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory on a disk");
        let path = directory.path().join("data");
        let mut file = File::create(&path).expect("made");
        file.write_all(&vec![7; 64 * 4096]).expect("written");
        file.sync_all().expect("flushed");
        forget(&file).expect("dropped");
        let file = File::open(&path).expect("opened");
        let length = 64 * 4096;
        assert!(mincore(&file, length, 64).expect("mincore works") < 64);
        assert_eq!(std::fs::read(&path).expect("read").len(), length);
        assert_eq!(mincore(&file, length, 64).expect("mincore works"), 64);
        match cachestat(&file, length as u64) {
            Some(pages) => assert_eq!(pages, 64),
            None => eprintln!("SKIPPED: this kernel has no cachestat"),
        }
        assert_eq!(resident(&file, length as u64).expect("looked").0, 1.0);
        assert_eq!(resident(&file, 0).expect("looked").0, 0.0);
    }
}
