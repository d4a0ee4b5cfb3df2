//! `control/syscall`: an operation is one system call that does next to nothing, so its price is the way in and out.

use std::hint::black_box;

use crate::content::Digest;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// The workload.
#[derive(Debug)]
pub struct Syscall;

impl Workload for Syscall {
    fn name(&self) -> &'static str {
        "control/syscall"
    }

    fn about(&self) -> &'static str {
        "Calls getppid: what the way into the kernel and back costs"
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(Box::new(Calling { seed: place.seed, parent: parent() }))
    }
}

struct Calling {
    seed: u64,
    parent: i64,
}

/// The parent's process id, by a real system call: neither libc nor a vDSO answers instead.
#[cfg(target_os = "linux")]
#[inline]
fn parent() -> i64 {
    // SAFETY: getppid takes no arguments, touches no memory and can't fail.
    unsafe { libc::syscall(libc::SYS_getppid) as i64 }
}

/// The parent's process id; libc elsewhere has no cache for it.
#[cfg(not(target_os = "linux"))]
#[inline]
fn parent() -> i64 {
    i64::from(std::os::unix::process::parent_id())
}

impl Prepared for Calling {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        watch.start();
        while watch.running() {
            black_box(parent());
            watch.lap(0);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let now = parent();
        anyhow::ensure!(now == self.parent, "getppid said {} at first and {now} later", self.parent);
        let value = Digest::new("control/syscall", self.seed).value();
        Ok(Check { value, detail: "the same answer before and after".into() })
    }
}
