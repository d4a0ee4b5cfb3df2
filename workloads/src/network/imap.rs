//! `net/imap`: an operation is one command of a mail mover, with its whole tagged answer (RFC 3501, the few commands below).
//!
//! | of 100 commands | | what comes back |
//! |---|---|---|
//! | 40 | `UID FETCH n (FLAGS)` | one line and the tagged one |
//! | 25 | `UID STORE n +FLAGS (\Seen)`, or `-FLAGS` | one line and the tagged one |
//! | 10 | `NOOP` | the tagged line |
//! | 5 | `UID SEARCH UID n:m UNSEEN`, over 50 messages | one line and the tagged one |
//! | 12 | `UID FETCH n (BODY.PEEK[])` | the message as a literal |
//! | 8 | `APPEND Archive {size}`, then the message fetched last | `+`, and after the literal the tagged line |
//!
//! Messages have 2 to 50 kB: a fifth each has 2 to 4, 4 to 8, 8 to 16, 16 to 32 and 32 to 50 kB. Both ends make them from
//! the seed and keep the same mailbox, so every byte of every answer is known beforehand and compared.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use anyhow::Context as _;

use super::{FAMILY, Family, connect, ends, halves, peer_address, read_answer, read_numbers, whole};
use crate::content::{self, Digest, below};
use crate::settings::Setting;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Peer, Place, Prepared, Resource, Workload};

/// Messages of the mailbox.
const MESSAGES: u64 = 1000;
/// Bounds of the sizes of messages, bytes; a fifth of them lies between each two.
const SIZES: [u64; 6] = [2_000, 4_000, 8_000, 16_000, 32_000, 50_000];
/// Content that messages are pieces of, bytes.
const POOL: usize = 256 << 10;
/// Messages that a search looks at.
const SEARCHED: u64 = 50;
/// The longest line of a command or of an answer, bytes: a search that finds everything stays below.
const LINE: usize = 1024;
/// Commands that the check value covers: some of each kind.
const CHECKED: u64 = 64;

const CONTENT: u64 = 0x494d_4150;
const SIZE: u64 = CONTENT + 1;
const SCRIPT: u64 = CONTENT + 2;

const GO_AHEAD: &[u8] = b"+ Ready for literal data\r\n";

crate::settings! {
    struct Options {
        family: Family as FAMILY,
    }
}

/// The workload, and its peer.
#[derive(Debug)]
pub struct Imap;

impl Workload for Imap {
    fn name(&self) -> &'static str {
        "net/imap"
    }

    fn about(&self) -> &'static str {
        "Speaks IMAP with the peer as a mail mover does: many small commands, and messages of 2 to 50 kB both ways"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let address = peer_address(place, Options::read(&place.settings).family, self.name())?;
        Ok(Box::new(Moving {
            mover: Mover::connect(address, place.seed)?,
            address,
            seed: place.seed,
            done: 0,
            next: 0,
        }))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&Imap)
    }
}

/// A command of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Noop,
    Flags {
        uid: u64,
    },
    Store {
        uid: u64,
        seen: bool,
    },
    Search {
        from: u64,
        to: u64,
    },
    Body {
        uid: u64,
    },
    /// With the size of the literal, bytes.
    Append {
        size: u64,
    },
}

impl Command {
    /// The command of this number; an append sends the message that `mailbox` says was fetched last.
    fn of_script(mailbox: &Mailbox, number: u64) -> Self {
        let mut random = content::generator(mailbox.seed, SCRIPT, number);
        let uid = below(&mut random, MESSAGES) + 1;
        match below(&mut random, 100) {
            0..40 => Self::Flags { uid },
            40..65 => Self::Store { uid, seen: below(&mut random, 2) == 1 },
            65..75 => Self::Noop,
            75..80 => Self::Search { from: uid, to: (uid + SEARCHED - 1).min(MESSAGES) },
            80..92 => Self::Body { uid },
            _ => Self::Append { size: mailbox.message(mailbox.fetched).len() as u64 },
        }
    }

    fn write(self, tag: u64, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.clear();
        match self {
            Self::Noop => write!(out, "a{tag} NOOP\r\n"),
            Self::Flags { uid } => write!(out, "a{tag} UID FETCH {uid} (FLAGS)\r\n"),
            Self::Store { uid, seen } => {
                write!(out, "a{tag} UID STORE {uid} {}FLAGS (\\Seen)\r\n", if seen { '+' } else { '-' })
            }
            Self::Search { from, to } => write!(out, "a{tag} UID SEARCH UID {from}:{to} UNSEEN\r\n"),
            Self::Body { uid } => write!(out, "a{tag} UID FETCH {uid} (BODY.PEEK[])\r\n"),
            Self::Append { size } => write!(out, "a{tag} APPEND Archive {{{size}}}\r\n"),
        }
    }

    /// Tag and command of a line without its end; `None` for what is none of ours.
    fn parse(line: &str) -> Option<(u64, Self)> {
        let mut words = line.split(' ');
        let tag = words.next()?.strip_prefix('a')?.parse().ok()?;
        let known = |uid: &str| uid.parse().ok().filter(|uid| (1..=MESSAGES).contains(uid));
        let rest: [&str; 5] = std::array::from_fn(|_| words.next().unwrap_or_default());
        let command = match rest {
            ["NOOP", "", ..] => Self::Noop,
            ["UID", "FETCH", uid, "(FLAGS)", ""] => Self::Flags { uid: known(uid)? },
            ["UID", "FETCH", uid, "(BODY.PEEK[])", ""] => Self::Body { uid: known(uid)? },
            ["UID", "STORE", uid, "+FLAGS", "(\\Seen)"] => Self::Store { uid: known(uid)?, seen: true },
            ["UID", "STORE", uid, "-FLAGS", "(\\Seen)"] => Self::Store { uid: known(uid)?, seen: false },
            ["UID", "SEARCH", "UID", range, "UNSEEN"] => {
                let (from, to) = range.split_once(':')?;
                let (from, to) = (known(from)?, known(to)?);
                (from <= to && to - from < SEARCHED).then_some(Self::Search { from, to })?
            }
            ["APPEND", "Archive", size, "", ""] => {
                Self::Append { size: size.strip_prefix('{')?.strip_suffix('}')?.parse().ok()? }
            }
            _ => return None,
        };
        Some((tag, command))
    }
}

/// State of the mailbox, as both ends know it.
struct Mailbox {
    seed: u64,
    pool: Vec<u8>,
    /// Whether each message has been seen.
    seen: Vec<bool>,
    /// The message fetched last, which an append sends back.
    fetched: u64,
    /// Messages appended to the archive.
    appended: u64,
    /// The burst that this is the state of, as commands' numbers say it.
    burst: u64,
}

/// Commands of a burst at most; the number of a command is its place behind that of its burst. Those of burst 0 are the check's.
const COMMANDS: u64 = 1 << 32;

/// An answer: lines, where there is one a literal of the pool, and lines.
#[derive(Debug, Default)]
struct Answer {
    head: Vec<u8>,
    literal: Range<usize>,
    tail: Vec<u8>,
}

impl Answer {
    fn new() -> Self {
        Self { head: Vec::with_capacity(LINE), literal: 0..0, tail: Vec::with_capacity(LINE) }
    }

    fn len(&self) -> usize {
        self.head.len() + self.literal.len() + self.tail.len()
    }

    fn is(&self, bytes: &[u8], pool: &[u8]) -> bool {
        let (head, rest) = bytes.split_at(self.head.len().min(bytes.len()));
        let (literal, tail) = rest.split_at(self.literal.len().min(rest.len()));
        head == self.head && literal == &pool[self.literal.clone()] && tail == self.tail
    }
}

impl Mailbox {
    fn make(seed: u64) -> Self {
        let mut pool = vec![0; POOL];
        content::fill(&mut content::generator(seed, CONTENT, 0), &mut pool);
        // Lines of 76 characters, as attachments have them.
        const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for (at, byte) in pool.iter_mut().enumerate() {
            *byte = match at % 78 {
                76 => b'\r',
                77 => b'\n',
                _ => CHARACTERS[usize::from(*byte % 64)],
            };
        }
        Self { seed, pool, seen: vec![false; MESSAGES as usize], fetched: 1, appended: 0, burst: 0 }
    }

    /// Both ends forget what the burst before did, so that every burst begins with the same mailbox.
    fn turn_to(&mut self, number: u64) {
        if self.burst != number / COMMANDS {
            self.burst = number / COMMANDS;
            self.seen.fill(false);
            (self.fetched, self.appended) = (1, 0);
        }
    }

    /// The place of a message in the pool.
    fn message(&self, uid: u64) -> Range<usize> {
        let mut random = content::generator(self.seed, SIZE, uid);
        let class = below(&mut random, SIZES.len() as u64 - 1) as usize;
        let size = SIZES[class] + below(&mut random, SIZES[class + 1] - SIZES[class]);
        let start = below(&mut random, POOL as u64 - size) as usize;
        start..start + size as usize
    }

    /// Carries a command out. An append has had its literal by then.
    fn answer(&mut self, tag: u64, command: Command, answer: &mut Answer) -> std::io::Result<()> {
        self.turn_to(tag);
        let Answer { head, literal, tail } = answer;
        head.clear();
        tail.clear();
        *literal = 0..0;
        match command {
            Command::Noop => write!(head, "a{tag} OK NOOP completed\r\n"),
            Command::Flags { uid } => {
                self.write_flags(uid, head)?;
                write!(head, "a{tag} OK FETCH completed\r\n")
            }
            Command::Store { uid, seen } => {
                self.seen[uid as usize - 1] = seen;
                self.write_flags(uid, head)?;
                write!(head, "a{tag} OK STORE completed\r\n")
            }
            Command::Search { from, to } => {
                head.extend_from_slice(b"* SEARCH");
                for uid in (from..=to).filter(|uid| !self.seen[*uid as usize - 1]) {
                    write!(head, " {uid}")?;
                }
                write!(head, "\r\na{tag} OK SEARCH completed\r\n")
            }
            Command::Body { uid } => {
                self.fetched = uid;
                *literal = self.message(uid);
                write!(head, "* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n", literal.len())?;
                write!(tail, ")\r\na{tag} OK FETCH completed\r\n")
            }
            Command::Append { .. } => {
                self.appended += 1;
                write!(head, "a{tag} OK [APPENDUID 1 {}] APPEND completed\r\n", self.appended)
            }
        }
    }

    fn write_flags(&self, uid: u64, out: &mut Vec<u8>) -> std::io::Result<()> {
        let flags = if self.seen[uid as usize - 1] { "\\Seen" } else { "" };
        write!(out, "* {uid} FETCH (UID {uid} FLAGS ({flags}))\r\n")
    }
}

/// The environment's end of a connection.
struct Mover {
    stream: TcpStream,
    mailbox: Mailbox,
    command: Vec<u8>,
    /// A message on its way into the archive.
    message: Vec<u8>,
    expected: Answer,
    answer: Vec<u8>,
}

impl Mover {
    fn connect(address: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let longest = SIZES[SIZES.len() - 1] as usize + 2 * LINE;
        Ok(Self {
            stream: connect(address, "net/imap", &halves(seed))?,
            mailbox: Mailbox::make(seed),
            command: Vec::with_capacity(LINE),
            message: Vec::with_capacity(longest),
            expected: Answer::new(),
            answer: vec![0; longest],
        })
    }

    /// Sends the command of this number and waits for its answer; gives the bytes that went both ways.
    #[inline]
    fn command(&mut self, number: u64) -> anyhow::Result<u64> {
        let command = Command::of_script(&self.mailbox, number);
        command.write(number, &mut self.command).context("can't write a command")?;
        self.stream.write_all(&self.command).context("can't send to the peer")?;
        let mut bytes = self.command.len();
        if let Command::Append { .. } = command {
            read_answer(&mut self.stream, &mut self.answer[..GO_AHEAD.len()])?;
            anyhow::ensure!(self.answer.starts_with(GO_AHEAD), "the peer doesn't want the message of command {number}");
            let message = self.mailbox.message(self.mailbox.fetched);
            self.message.clear();
            self.message.extend_from_slice(&self.mailbox.pool[message]);
            self.message.extend_from_slice(b"\r\n");
            self.stream.write_all(&self.message).context("can't send a message to the peer")?;
            bytes += GO_AHEAD.len() + self.message.len();
        }
        self.mailbox.answer(number, command, &mut self.expected).context("can't tell what the answer should be")?;
        let length = self.expected.len();
        read_answer(&mut self.stream, &mut self.answer[..length])?;
        anyhow::ensure!(
            self.expected.is(&self.answer[..length], &self.mailbox.pool),
            "the peer's answer to command {number} ({command:?}) is not what it should be"
        );
        Ok((bytes + length) as u64)
    }
}

struct Moving {
    mover: Mover,
    address: SocketAddr,
    seed: u64,
    /// Commands in all.
    done: u64,
    /// Number of the command after the last burst's last.
    next: u64,
}

impl Prepared for Moving {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let first = (watch.number() + 1) * COMMANDS;
        self.mover.mailbox.turn_to(first);
        let mut number = first;
        watch.start();
        while watch.running() {
            let bytes = self.mover.command(number)?;
            number += 1;
            watch.lap(bytes);
        }
        self.done += number - first;
        self.next = number;
        Ok(())
    }

    fn drawn(&self) -> u64 {
        // Each command is drawn from its number: the next one's would be.
        content::state(&content::generator(self.seed, SCRIPT, self.next))
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        // Another connection, whose mailbox is as it was at the beginning.
        let mut mover = Mover::connect(self.address, self.seed)?;
        let mut digest = Digest::new("net/imap", self.seed);
        for number in 0..CHECKED {
            mover.command(number)?;
            digest.add(&mover.command);
            digest.add(&mover.answer[..mover.expected.len()]);
        }
        let appended = self.mover.mailbox.appended;
        let detail = format!("{} answers as expected, {appended} messages appended", self.done);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        ends(self.mover.stream.local_addr(), self.mover.stream.peer_addr())
    }
}

impl Peer for Imap {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut mailbox = Mailbox::make(whole(read_numbers(&mut stream)?));
        let mut input = BufReader::with_capacity(64 << 10, stream.try_clone().context("can't clone a connection")?);
        let (mut line, mut answer, mut out) = (Vec::with_capacity(LINE), Answer::new(), Vec::new());
        let mut message = Vec::new();
        loop {
            line.clear();
            input.by_ref().take(LINE as u64).read_until(b'\n', &mut line).context("can't read a command")?;
            if line.is_empty() {
                return Ok(());
            }
            let (tag, command) = line
                .strip_suffix(b"\r\n")
                .and_then(|line| std::str::from_utf8(line).ok())
                .and_then(Command::parse)
                .with_context(|| format!("`{}` is no command of this script", line.escape_ascii()))?;
            // Before the first append is looked at: what the burst before has fetched last is forgotten.
            mailbox.turn_to(tag);
            if let Command::Append { size } = command {
                let wanted = mailbox.message(mailbox.fetched);
                anyhow::ensure!(size == wanted.len() as u64, "a message of {size} bytes is not the one fetched last");
                stream.write_all(GO_AHEAD).context("can't ask for a message")?;
                message.resize(wanted.len() + 2, 0);
                input.read_exact(&mut message).context("a connection ended within a message")?;
                let same = message.strip_suffix(b"\r\n") == Some(&mailbox.pool[wanted]);
                anyhow::ensure!(same, "the message of command {tag} is not the one fetched last");
            }
            mailbox.answer(tag, command, &mut answer).context("can't write an answer")?;
            out.clear();
            out.extend_from_slice(&answer.head);
            out.extend_from_slice(&mailbox.pool[answer.literal.clone()]);
            out.extend_from_slice(&answer.tail);
            stream.write_all(&out).context("can't send the answer")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_wire_and_come_in_the_mix_that_is_documented() {
        let mut mailbox = Mailbox::make(5);
        let (mut out, mut answer) = (Vec::new(), Answer::new());
        let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
        for number in 0..20_000 {
            let command = Command::of_script(&mailbox, number);
            command.write(number, &mut out).expect("written");
            let line = std::str::from_utf8(&out).expect("text").strip_suffix("\r\n").expect("a whole line");
            assert_eq!(Command::parse(line), Some((number, command)), "{line}");
            mailbox.answer(number, command, &mut answer).expect("answered");
            assert!(out.len() <= LINE && answer.head.len() <= LINE && answer.tail.len() <= LINE);
            let kind = format!("{command:?}");
            *kinds.entry(kind.split(' ').next().expect("a name").into()).or_default() += 1;
        }
        // Three standard errors of a share of 40 % of 20,000 are 1 %.
        for (kind, share) in [("Flags", 40), ("Store", 25), ("Noop", 10), ("Search", 5), ("Body", 12), ("Append", 8)] {
            let of_100 = f64::from(kinds[kind]) / 200.0;
            assert!((of_100 - f64::from(share)).abs() < 1.1, "{kind}: {of_100}");
        }
    }

    #[test]
    fn messages_have_the_sizes_that_are_documented() {
        let mailbox = Mailbox::make(5);
        let sizes: Vec<u64> = (1..=MESSAGES).map(|uid| mailbox.message(uid).len() as u64).collect();
        assert!(sizes.iter().all(|size| (2_000..50_000).contains(size)));
        for class in SIZES.windows(2) {
            let share = sizes.iter().filter(|size| (class[0]..class[1]).contains(size)).count();
            assert!((150..250).contains(&share), "{share} of 1000 from {} to {}", class[0], class[1]);
        }
    }

    #[test]
    fn a_burst_may_begin_with_an_append_whatever_the_one_before_has_fetched() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("somebody calls");
                stream.read_exact(&mut [0; b"net/imap\n".len()]).expect("a name");
                Imap.serve(stream)
            });
            let mut mover = Mover::connect(address, 1).expect("connects");
            let first = |mover: &Mover, burst: u64| Command::of_script(&mover.mailbox, burst * COMMANDS);
            let appends: Vec<u64> =
                (1..200).filter(|burst| matches!(first(&mover, *burst), Command::Append { .. })).collect();
            assert!(appends.len() > 1, "8 of 100 begin with one");
            for burst in appends {
                // As every burst begins.
                mover.mailbox.turn_to(burst * COMMANDS);
                for number in 0..60 {
                    mover.command(burst * COMMANDS + number).expect("the answer that it should be");
                }
            }
        });
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for line in [
            "",
            "a1",
            "NOOP",
            "a1 NOOP now",
            "a1 UID FETCH 0 (FLAGS)",
            "a1 UID FETCH 1001 (FLAGS)",
            "a1 UID FETCH 1 (FLAGS) x",
            "a1 UID SEARCH UID 1:1000 UNSEEN",
            "a1 UID SEARCH UID 9:1 UNSEEN",
            "a1 APPEND Archive {-1}",
            "ax NOOP",
        ] {
            assert_eq!(Command::parse(line), None, "{line}");
        }
    }
}
