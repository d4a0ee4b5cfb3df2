//! The agent: runs inside an environment, answers one request at a time, and is silent while a burst is timed.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use crate::protocol::{self, Envelope, Hello, Request, Response};

/// Serves requests until `Bye` or until the channel closes. `data` is the data directory as seen inside.
///
/// # Errors
/// When the channel can't be written.
pub fn serve(input: &mut impl BufRead, out: &mut impl Write, _data: &Path) -> anyhow::Result<()> {
    let epoch = Instant::now();
    let now = || epoch.elapsed().as_nanos() as u64;
    let hello = Hello { protocol: protocol::PROTOCOL, version: env!("CARGO_PKG_VERSION").into(), ..Hello::default() };
    protocol::write_frame(out, &Envelope { id: 0, received_ns: 0, sent_ns: now(), body: Response::Hello(hello) })?;
    loop {
        let request: Envelope<Request> = match protocol::read_frame(input) {
            Ok(request) => request,
            Err(protocol::FrameError::Closed) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let received_ns = now();
        let body = match request.body {
            Request::Ping => Response::Pong,
            Request::Bye => Response::Bye,
            _ => Response::Failed { message: "not yet".into() },
        };
        let last = matches!(body, Response::Bye);
        protocol::write_frame(out, &Envelope { id: request.id, received_ns, sent_ns: now(), body })?;
        if last {
            return Ok(());
        }
    }
}
