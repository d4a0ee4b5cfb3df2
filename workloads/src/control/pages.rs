//! Anonymous memory in pages of a known kind: what the controls of memory work on.

use std::io;
use std::ptr::NonNull;

use anyhow::Context as _;

use crate::settings::{Setting, Value as _};

/// A huge page, bytes: what x86 and most others have one level above the small ones.
pub const HUGE: usize = 2 << 20;

/// The setting `huge`.
pub(super) const HUGE_PAGES: Setting = Setting::new("huge", bool::KIND)
    .with_default("false")
    .with_about("Whether transparent huge pages are asked for rather than ruled out; size is then a multiple of 2MiB");

/// Integers of a cache line.
pub const LINE: usize = 16;

/// Bytes of a cache line.
pub const LINE_BYTES: usize = LINE * size_of::<u32>();

/// A private anonymous mapping, unmapped on drop.
#[derive(Debug)]
pub struct Pages {
    /// The first byte that is used: at the start of a page, of a huge one where these are asked for.
    at: NonNull<u8>,
    bytes: usize,
    /// The whole mapping, which for huge pages begins earlier.
    mapping: (NonNull<libc::c_void>, usize),
    page: usize,
}

// SAFETY: the mapping belongs to this value alone, and any thread may use or unmap it.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps `bytes` bytes without touching them. Transparent huge pages are asked for or ruled out, whatever the system's
    /// default is: otherwise the same work would meet 16 or 512 times fewer pages on one machine than on the next.
    ///
    /// # Errors
    /// When there is no room, when `bytes` is not a multiple of the page wanted, or when huge pages can't be had.
    pub fn map(bytes: usize, huge: bool) -> anyhow::Result<Self> {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).context("the page size is unknown")?;
        let unit = if huge { HUGE } else { page };
        anyhow::ensure!(
            bytes > 0 && bytes.is_multiple_of(unit),
            "{bytes} bytes are not a multiple of {unit}, the bytes of a page; set another size"
        );
        let length = if huge { bytes.checked_add(HUGE).context("the size overflows")? } else { bytes };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let start = NonNull::new(start).filter(|_| start != libc::MAP_FAILED);
        let start = start.ok_or_else(io::Error::last_os_error).with_context(|| format!("can't map {length} bytes"))?;
        let skipped = start.as_ptr().align_offset(unit);
        // SAFETY: at most a unit is skipped, and the mapping is that much longer than what is used.
        let at = unsafe { start.cast::<u8>().add(skipped) };
        let pages = Self { at, bytes, mapping: (start, length), page };
        pages.advise(huge)?;
        Ok(pages)
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, huge: bool) -> anyhow::Result<()> {
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: the range is our mapping, and neither advice changes its content.
        let result = unsafe { libc::madvise(self.at.as_ptr().cast(), self.bytes, advice) };
        // A kernel without transparent huge pages refuses both; then all pages are small.
        if result != 0 && huge {
            return Err(io::Error::last_os_error())
                .context("the kernel refuses transparent huge pages (MADV_HUGEPAGE); set huge = false");
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn advise(&self, huge: bool) -> anyhow::Result<()> {
        anyhow::ensure!(!huge, "huge pages can't be asked for on this system; set huge = false");
        Ok(())
    }

    /// Bytes of a small page.
    pub fn page(&self) -> usize {
        self.page
    }

    /// All of it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped, readable, and written only through `&mut self`; any bytes are valid.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }

    /// All of it, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, writable, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) }
    }

    /// As cache lines of integers.
    #[inline]
    pub fn lines(&self) -> &[[u32; LINE]] {
        // SAFETY: as `bytes`; a page's start is aligned for integers, and any bits are valid ones.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.bytes / LINE_BYTES) }
    }

    /// As cache lines of integers, to be written.
    pub fn lines_mut(&mut self) -> &mut [[u32; LINE]] {
        // SAFETY: as `bytes_mut` and `lines`.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast(), self.bytes / LINE_BYTES) }
    }

    /// Writes one byte to every small page.
    #[inline]
    pub fn touch(&mut self, value: u8) {
        for offset in (0..self.bytes).step_by(self.page) {
            // SAFETY: within the mapping. Volatile, so that each write takes place and in this order.
            unsafe { self.at.as_ptr().add(offset).write_volatile(value) };
        }
    }

    /// Gives the memory back to the kernel and keeps the addresses: the next touch of a page is its first again, and finds zeros.
    ///
    /// # Errors
    /// When the kernel refuses.
    #[cfg(target_os = "linux")]
    #[inline]
    pub fn give_back(&mut self) -> io::Result<()> {
        // SAFETY: the range is our mapping, and nobody borrows it. MADV_DONTNEED makes it zeros.
        match unsafe { libc::madvise(self.at.as_ptr().cast(), self.bytes, libc::MADV_DONTNEED) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives the memory back and keeps the addresses. Elsewhere MADV_DONTNEED is a mere hint: a new mapping takes the old one's place.
    ///
    /// # Errors
    /// When the kernel refuses.
    #[cfg(not(target_os = "linux"))]
    pub fn give_back(&mut self) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: it replaces our own mapping, which nobody borrows.
        let at = unsafe {
            libc::mmap(self.at.as_ptr().cast(), self.bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many small pages are in memory, as the kernel says.
    ///
    /// # Errors
    /// When it doesn't say.
    pub fn resident(&self) -> io::Result<usize> {
        let mut seen = vec![0_u8; self.bytes / self.page];
        // SAFETY: the range is our mapping, and the vector has a byte for each page of it.
        match unsafe { libc::mincore(self.at.as_ptr().cast(), self.bytes, seen.as_mut_ptr().cast()) } {
            0 => Ok(seen.iter().filter(|flags| **flags & 1 == 1).count()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let (start, length) = self.mapping;
        // SAFETY: our own mapping, which nobody borrows any more.
        if unsafe { libc::munmap(start.as_ptr(), length) } != 0 {
            log::warn!("can't unmap {length} bytes: {}", io::Error::last_os_error());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_zero_and_touched_anew() {
        let mut pages = Pages::map(16 * 4096, false).expect("mapped");
        pages.touch(7);
        assert!(pages.bytes().iter().step_by(pages.page()).all(|b| *b == 7));
        assert_eq!(pages.resident().expect("known"), 16);
        pages.give_back().expect("given back");
        assert_eq!(pages.resident().expect("known"), 0);
        assert!(pages.bytes().iter().all(|b| *b == 0));
    }

    #[test]
    fn huge_pages_are_aligned_and_other_sizes_refused() {
        let message = Pages::map(4096, true).expect_err("too small").to_string();
        assert!(message.contains("not a multiple of 2097152"), "{message}");
        assert!(Pages::map(1000, false).is_err());
        // A kernel without them says so.
        match Pages::map(2 * HUGE, true) {
            Ok(pages) => assert_eq!(pages.bytes().as_ptr().align_offset(HUGE), 0),
            Err(e) => assert!(format!("{e:#}").contains("set huge = false"), "{e:#}"),
        }
    }
}
