//! A pseudo terminal as an environment's stdin, for engines that read their console from nothing else.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// Our end and theirs, which passes every byte on at once and as it is. Nobody who is started meanwhile inherits either, and
/// neither becomes anybody's controlling terminal.
pub(super) fn raw() -> io::Result<(File, File)> {
    let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let flags = libc::O_NOCTTY | libc::O_CLOEXEC;
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(flags).open(ptsname_r(&ours)?)?;
    let mut how = tcgetattr(&theirs)?;
    cfmakeraw(&mut how);
    tcsetattr(&theirs, SetArg::TCSANOW, &how)?;
    Ok((File::from(OwnedFd::from(ours)), theirs))
}

#[cfg(test)]
mod tests {
    use std::io::{IsTerminal, Read, Write};

    use super::*;

    #[test]
    fn every_byte_arrives_as_it_was_and_nothing_comes_back() {
        let (mut ours, mut theirs) = raw().expect("a terminal");
        assert!(theirs.is_terminal());
        let sent: Vec<u8> = (0..=255).collect();
        ours.write_all(&sent).expect("taken");
        let mut got = vec![0; sent.len()];
        theirs.read_exact(&mut got).expect("arrives");
        assert_eq!(got, sent, "no end of line is changed, and no byte is an order");
        theirs.write_all(b"answer").expect("taken");
        let mut answer = [0; 6];
        ours.read_exact(&mut answer).expect("arrives");
        assert_eq!(&answer, b"answer", "what was sent is not echoed");
    }
}
