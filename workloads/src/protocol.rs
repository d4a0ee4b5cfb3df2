//! The wire protocol between harness and agent, over the environment's own stdin and stdout or a serial port.
//!
//! A frame is `0x1E`, eight hex digits of the CRC-32 of the JSON, a space, the JSON on one line, `\n`: the record
//! separator of RFC 7464 with a checksum. A reader skips to the next `0x1E`, so kernel messages on a console do no harm.
//! The agent speaks first: what a harness writes before anyone listens can be lost in a UART.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durability::Way;
use crate::inside::Inside;
use crate::settings::Settings;
use crate::workload::{Check, PeerAddress};

pub use crate::sample::{BurstPlan, Latencies, PILOTS, Sample};

/// Bumped when the meaning of a message changes; both ends are the same binary, so a mismatch is a mix-up.
pub const PROTOCOL: u32 = 9;

/// No frame is longer: a histogram of the full range stays far below, and garbage can't fill memory.
pub const MAX_FRAME: usize = 1 << 20;

/// Begins a frame; whatever comes before it is noise.
pub const SEPARATOR: u8 = 0x1E;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed the channel.
    #[error("the channel was closed")]
    Closed,
    /// More than [`MAX_FRAME`] bytes without an end.
    #[error("a frame is longer than {MAX_FRAME} bytes")]
    TooLong,
    /// The checksum doesn't fit.
    #[error("a frame is damaged: its checksum doesn't fit (`{0}`...)")]
    Checksum(String),
    /// The JSON isn't a message.
    #[error("a frame is not a message: {0}")]
    Json(#[from] serde_json::Error),
    /// Reading failed.
    #[error("reading from the channel failed: {0}")]
    Io(#[from] io::Error),
}

/// A message with its number and the sender's clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// A response carries the number of its request; `Hello` has 0.
    pub id: u64,
    /// When the sender received what it answers, on its own monotonic clock, nanoseconds; 0 in a request.
    pub received_ns: u64,
    /// When the sender sent this, on its own monotonic clock, nanoseconds.
    pub sent_ns: u64,
    /// The message.
    pub body: T,
}

/// Requests of the harness. One is in flight at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Who are you: the dear facts that `Hello` leaves out, so that starting is measured without them.
    Identify,
    /// Nothing but the stamps; for the clock fit.
    Ping,
    /// Keep a part of the parcel that the next `Prepare` is for.
    Bring(Piece),
    /// Make a workload ready; ends the one before it.
    Prepare(Task),
    /// One timed pass of the prepared workload.
    Burst(BurstPlan),
    /// Check what the bursts left behind.
    Verify,
    /// Drop the prepared workload and remove its files.
    Release,
    /// Write an item of this way and acknowledge it once it is durable; number 0 makes ready for the first one, and ends the
    /// writer before it.
    Write {
        /// The way to write.
        way: Way,
        /// Number of the item.
        number: u64,
    },
    /// End the agent; as PID 1 power off.
    Bye,
}

/// A part of the archive with the host's files for a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Bytes of the archive before it; with 0 a new one begins.
    pub offset: u64,
    /// Its bytes.
    #[serde(with = "crate::sample::base64_bytes")]
    pub bytes: Vec<u8>,
}

/// A workload that is to be made ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Name in the registry.
    pub workload: String,
    /// Complete and checked.
    pub settings: Settings,
    /// Seed of the run.
    pub seed: u64,
    /// Memory that the environment has by the suite, bytes: what sizes relative to memory are relative to.
    pub memory: u64,
    /// The peer as seen from inside, where there is one.
    pub peer: Option<PeerAddress>,
}

/// Answers of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Response {
    /// The first frame.
    Hello(Hello),
    /// To `Identify`.
    Identity(Box<Identity>),
    /// To `Ping`.
    Pong,
    /// To `Bring`.
    Kept,
    /// To `Prepare`: what came to be.
    Prepared(BTreeMap<String, String>),
    /// To `Burst`.
    Sample(Sample),
    /// To `Verify`: the check, and the facts after all bursts.
    Verified {
        /// Equal in every environment.
        check: Check,
        /// As [`crate::Prepared::facts`] gives them, and `clock_ns`: what a clock reading costs now.
        facts: BTreeMap<String, String>,
    },
    /// To `Release`.
    Released,
    /// To `Write`: the acknowledgement.
    Written,
    /// To `Bye`, the last frame.
    Bye,
    /// The request could not be done; the agent goes on.
    Failed {
        /// The chain of causes, outermost first.
        message: String,
    },
}

/// The agent's first words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the agent.
    pub protocol: u32,
    /// Version of the agent's binary.
    pub version: String,
    /// `uname -r` inside.
    pub kernel: String,
    /// CPUs the agent may run on.
    pub cpus: u32,
    /// Memory the environment says it has, bytes.
    pub memory_bytes: u64,
    /// User id inside.
    pub uid: u32,
    /// Process id inside; 1 where the agent is the init.
    pub pid: u32,
}

/// The agent's findings about its environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// SHA-256 of the running binary, hex.
    pub binary_sha256: String,
    /// The kernel's name for its clock source (`tsc`, `kvm-clock`, ...), where it says.
    pub clock_source: Option<String>,
    /// Median cost of one clock reading, nanoseconds.
    pub clock_ns: f64,
    /// Smallest step between two different readings, nanoseconds.
    pub clock_step_ns: u64,
    /// Type of the file system that holds the data directory: `ext4`, `overlay`, `tmpfs`, `9p`, ...
    pub file_system: String,
    /// The device under the data directory as seen inside, where there is one: `vda`.
    pub device: Option<String>,
    /// `queue/write_cache` of that device: `write back` or `write through`.
    pub write_cache: Option<String>,
    /// For a virtio disk: whether the flush feature was negotiated.
    pub virtio_flush: Option<bool>,
    /// The hypervisor by the CPU's own word (`hypervisor` flag), with the vendor where known.
    pub hypervisor: Option<String>,
    /// Model name of the CPU as seen inside.
    pub cpu_model: String,
    /// The kernel's command line, where the agent is the init of its own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// SQLite's version and source id.
    pub sqlite: String,
    /// SQLite's compile options, as `PRAGMA compile_options` lists them. Starts that were stored before it was asked for have none.
    #[serde(default)]
    pub sqlite_options: Vec<String>,
    /// The random number that Linux draws as it boots: equal to the harness's own where both run on one kernel. It isn't kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// What surrounds it, for explanations. Starts that were stored before it was looked at know nothing of it.
    #[serde(default)]
    pub inside: Inside,
}

/// Writes one frame and flushes.
///
/// # Errors
/// When the channel can't be written.
pub fn write_frame<T: Serialize>(out: &mut impl Write, message: &T) -> io::Result<()> {
    write_json(out, serde_json::to_string(message)?.as_bytes())
}

/// Writes the [`Envelope`] of `body`, stamped after the body has been serialized: a histogram's encoding is not transport.
///
/// # Errors
/// When the channel can't be written.
pub fn send<T: Serialize>(
    out: &mut impl Write,
    id: u64,
    received_ns: u64,
    body: &T,
    now: impl FnOnce() -> u64,
) -> io::Result<()> {
    let body = serde_json::to_string(body)?;
    let mut json = Vec::with_capacity(body.len() + 128);
    write!(json, r#"{{"id":{id},"received_ns":{received_ns},"sent_ns":{},"body":"#, now())?;
    json.extend_from_slice(body.as_bytes());
    json.push(b'}');
    write_json(out, &json)
}

/// One write for the whole frame, so that nothing else's output gets into it.
fn write_json(out: &mut impl Write, json: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(json.len() + 11);
    frame.push(SEPARATOR);
    write!(frame, "{:08x} ", crc32fast::hash(json))?;
    frame.extend_from_slice(json);
    frame.push(b'\n');
    out.write_all(&frame)?;
    out.flush()
}

/// Reads the next frame; what stands between frames is skipped.
///
/// # Errors
/// See [`FrameError`]. After `TooLong`, `Checksum` or `Json` the next frame can still be read.
pub fn read_frame<T: DeserializeOwned>(input: &mut impl BufRead) -> Result<T, FrameError> {
    parse(&read_line(input)?)
}

/// Reads the next message, with the time at which its last byte was there: before it is checked and parsed.
///
/// # Errors
/// See [`read_frame`].
pub fn receive<T: DeserializeOwned>(
    input: &mut impl BufRead,
    now: impl FnOnce() -> u64,
) -> Result<(Envelope<T>, u64), FrameError> {
    let line = read_line(input)?;
    let received = now();
    Ok((parse(&line)?, received))
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, FrameError> {
    // A console makes "\n" into "\r\n".
    let line = line.trim_ascii_end();
    let damaged =
        || FrameError::Checksum(String::from_utf8_lossy(&line[..line.len().min(60)]).escape_debug().to_string());
    let (sum, json) = line.split_at_checked(9).ok_or_else(damaged)?;
    let sum = std::str::from_utf8(sum).ok().and_then(|s| u32::from_str_radix(s.strip_suffix(' ')?, 16).ok());
    if sum != Some(crc32fast::hash(json)) {
        return Err(damaged());
    }
    Ok(serde_json::from_slice(json)?)
}

/// The bytes between a separator and the end of its line.
///
/// A separator within a frame can only be the start of another, because JSON escapes it: the one before was cut off. So no
/// more than [`MAX_FRAME`] bytes are ever held, and a frame behind garbage is found however long the garbage is.
fn read_line(input: &mut impl BufRead) -> Result<Vec<u8>, FrameError> {
    let mut line: Option<Vec<u8>> = None;
    loop {
        let available = match input.fill_buf() {
            Ok([]) => return Err(FrameError::Closed),
            Ok(available) => available,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        // Before the first separator nothing counts, ends of lines included.
        let skipped = match line {
            Some(_) => 0,
            None => available.iter().position(|b| *b == SEPARATOR).unwrap_or(available.len()),
        };
        let rest = &available[skipped..];
        let (part, ended) = match rest.iter().position(|b| *b == b'\n') {
            Some(end) => (&rest[..end], 1),
            None => (rest, 0),
        };
        let consumed = skipped + part.len() + ended;
        match (part.iter().rposition(|b| *b == SEPARATOR), &mut line) {
            (Some(at), _) => line = Some(part[at + 1..].to_vec()),
            (None, Some(line)) if line.len() + part.len() > MAX_FRAME => {
                input.consume(consumed);
                return Err(FrameError::TooLong);
            }
            (None, Some(line)) => line.extend_from_slice(part),
            (None, None) => {}
        }
        input.consume(consumed);
        match line {
            Some(line) if line.len() > MAX_FRAME => return Err(FrameError::TooLong),
            Some(line) if ended == 1 => return Ok(line),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, message).expect("a vector takes everything");
        bytes
    }

    fn read(mut bytes: &[u8]) -> Result<String, FrameError> {
        read_frame(&mut bytes)
    }

    /// A reader that gives a few bytes at a time, as a serial port does.
    fn in_pieces(bytes: &[u8], piece: usize) -> impl BufRead + '_ {
        io::BufReader::with_capacity(piece, bytes)
    }

    #[test]
    fn a_frame_looks_as_documented() {
        let bytes = framed(&"hello");
        assert_eq!(bytes, [b"\x1e".as_slice(), b"7703ceb2 \"hello\"\n"].concat());
    }

    #[test]
    fn a_sent_message_is_the_envelope_that_serde_would_write() {
        let body = Response::Sample(Sample {
            operations: 3,
            bytes: 4,
            elapsed_ns: 5,
            warmup_operations: 6,
            warmup_ns: 7,
            batch: 8,
            cut_short: true,
            histogram: vec![0, 255, 1],
            response: Some(vec![7]),
            lateness: None,
            timeline: vec![1, 2],
            concurrency: 4,
            counters: BTreeMap::from([("busy".into(), 3)]),
            drawn: None,
            durable_writes: None,
        });
        let mut sent = Vec::new();
        send(&mut sent, 1, 2, &body, || 9).expect("a vector takes everything");
        assert_eq!(sent, framed(&Envelope { id: 1, received_ns: 2, sent_ns: 9, body }));
    }

    #[test]
    fn the_stamp_of_a_message_is_given_with_it() {
        let bytes = framed(&Envelope { id: 1, received_ns: 0, sent_ns: 2, body: Request::Ping });
        let (message, received) = receive::<Request>(&mut bytes.as_slice(), || 77).expect("whole");
        assert_eq!((message.id, message.sent_ns, received), (1, 2, 77));
    }

    #[test]
    fn damage_is_told_from_the_end_and_the_next_frame_is_read() {
        let mut damaged = framed(&"first");
        damaged[12] ^= 1;
        let both = [damaged, framed(&"second")].concat();
        let mut input = both.as_slice();
        assert!(matches!(read_frame::<String>(&mut input), Err(FrameError::Checksum(_))));
        assert_eq!(read_frame::<String>(&mut input).expect("whole"), "second");
        assert!(matches!(read_frame::<String>(&mut input), Err(FrameError::Closed)));
        assert!(matches!(read(b"\x1e\n"), Err(FrameError::Checksum(_))));
        assert!(matches!(read(&framed(&5)), Err(FrameError::Json(_))));
    }

    #[test]
    fn a_line_without_end_is_refused_and_what_follows_is_read() {
        for length in [MAX_FRAME + 10_000, 3 * MAX_FRAME] {
            let mut bytes = vec![b'x'; length];
            bytes[0] = SEPARATOR;
            assert!(matches!(read(&bytes), Err(FrameError::TooLong)));
            bytes.extend(framed(&"after"));
            let mut input = in_pieces(&bytes, 8192);
            assert!(matches!(read_frame::<String>(&mut input), Err(FrameError::TooLong)));
            assert_eq!(read_frame::<String>(&mut input).expect("whole"), "after");
        }
    }

    #[test]
    fn a_reader_that_is_interrupted_goes_on() {
        struct Interrupted<R>(R, bool);
        impl<R: BufRead> io::Read for Interrupted<R> {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                unreachable!("only fill_buf is used")
            }
        }
        impl<R: BufRead> BufRead for Interrupted<R> {
            fn fill_buf(&mut self) -> io::Result<&[u8]> {
                self.1 = !self.1;
                if self.1 { Err(io::ErrorKind::Interrupted.into()) } else { self.0.fill_buf() }
            }
            fn consume(&mut self, n: usize) {
                self.0.consume(n);
            }
        }
        let bytes = framed(&"x");
        assert_eq!(read_frame::<String>(&mut Interrupted(in_pieces(&bytes, 3), false)).expect("whole"), "x");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec(".*", 1..5), piece in 1_usize..64) {
            let bytes: Vec<u8> = texts.iter().flat_map(framed).collect();
            let mut input = in_pieces(&bytes, piece);
            for text in texts {
                prop_assert_eq!(read_frame::<String>(&mut input).expect("whole"), text);
            }
        }

        #[test]
        fn garbage_between_frames_is_skipped(
            garbage in prop::collection::vec(any::<u8>().prop_filter("the separator starts a frame", |b| *b != SEPARATOR), 0..200),
            piece in 1_usize..64,
        ) {
            let bytes = [&garbage[..], &framed(&"a"), &garbage, &framed(&"b")].concat();
            let mut input = in_pieces(&bytes, piece);
            prop_assert_eq!(read_frame::<String>(&mut input).expect("whole"), "a");
            prop_assert_eq!(read_frame::<String>(&mut input).expect("whole"), "b");
        }

        #[test]
        fn a_frame_that_is_cut_off_hides_no_other(cut in 1_usize..15, piece in 1_usize..64) {
            let bytes = [&framed(&"first")[..cut], &framed(&"second")].concat();
            prop_assert_eq!(read_frame::<String>(&mut in_pieces(&bytes, piece)).expect("whole"), "second");
            prop_assert!(matches!(read(&framed(&"first")[..cut]), Err(FrameError::Closed)));
        }

        #[test]
        fn no_bytes_at_all_make_it_panic_or_go_on_for_ever(bytes in prop::collection::vec(prop_oneof![Just(SEPARATOR), Just(b'\n'), Just(b' '), any::<u8>()], 0..300), piece in 1_usize..64) {
            let mut input = in_pieces(&bytes, piece);
            for _ in 0..=bytes.len() {
                if let Err(FrameError::Closed) = read_frame::<Envelope<Request>>(&mut input) {
                    return Ok(());
                }
            }
            prop_assert!(false, "more frames than bytes");
        }

        #[test]
        fn a_flipped_bit_is_never_a_message(at in 0_usize..16, bit in 0_u32..8) {
            let mut bytes = framed(&"hello");
            bytes[at] ^= 1 << bit;
            // Hex digits may change their case without changing their value.
            if let Ok(text) = read(&bytes) {
                prop_assert_eq!(text, "hello");
            }
        }
    }
}
