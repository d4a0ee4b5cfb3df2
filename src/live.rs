//! Which runs are being measured: nobody may go on with one of them, or remove it.
//!
//! The store can't say, since a run that was killed is as unfinished there as one that goes on. So its process keeps a name of the
//! kernel's while it lives: a socket that has no file, and to which nobody ever talks. What runs on another host, or in a network of
//! its own, isn't seen.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::exit::{Exit, OrExit};

/// Whoever removes a run, or the same run of a copy of the store, has the right for a moment only: it is waited for.
const MOMENT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// The only right to change a run; given back on drop, and by the kernel where we are killed.
#[derive(Debug)]
pub struct Live {
    _name: Option<UnixDatagram>,
}

impl Live {
    /// Takes it. Where the kernel has no such names, everybody has it.
    ///
    /// # Errors
    /// When the run is being measured, with the store's exit code.
    pub fn take(id: &str) -> anyhow::Result<Self> {
        let (name, began) = (format!("tarebench-run-{id}"), Instant::now());
        loop {
            match bind(&name) {
                Ok(name) => return Ok(Self { _name: Some(name) }),
                Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
                    log::info!("whether run {id} is being measured can't be seen: {e}");
                    return Ok(Self { _name: None });
                }
                Err(_) if began.elapsed() <= MOMENT => sleep(AGAIN),
                Err(_) => {
                    return Err(anyhow::anyhow!("run {id} is still being measured: wait until it ends, or end it"))
                        .or_exit(Exit::Store);
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn bind(name: &str) -> io::Result<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt;
    UnixDatagram::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn bind(_name: &str) -> io::Result<UnixDatagram> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_being_measured_is_nobody_elses() {
        let id = format!("test-{}", std::process::id());
        let mine = Live::take(&id).expect("nobody has it");
        let error = Live::take(&id).expect_err("it is taken").to_string();
        assert!(error.contains("still being measured"), "{error}");
        drop(Live::take("another-of-the-test").expect("another run"));
        drop(mine);
        drop(Live::take(&id).expect("it is over"));
    }

    #[test]
    fn who_has_it_for_a_moment_is_waited_for() {
        let id = format!("test-of-a-moment-{}", std::process::id());
        let mine = Live::take(&id).expect("nobody has it");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| Live::take(&id).map(drop));
            sleep(5 * AGAIN);
            drop(mine);
            other.join().expect("no panic").expect("it was given back");
        });
    }
}
