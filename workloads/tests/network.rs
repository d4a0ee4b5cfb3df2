//! The network workloads against peers that work, that misbehave, and over paths that don't lead anywhere.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use workloads::peer::Listening;
use workloads::protocol::{BurstPlan, Sample};
use workloads::stopwatch::Stopwatch;
use workloads::{PeerAddress, Place, Prepared, registry};

/// Settings of a workload that differ from their defaults.
type Given<'a> = &'a [(&'a str, &'a str)];

fn prepare(name: &str, given: Given, peer: PeerAddress) -> anyhow::Result<Box<dyn Prepared>> {
    let given: BTreeMap<_, _> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let workload = registry::find(name).expect("registered");
    let settings = workload.resolve(&given)?;
    workload.prepare(&Place { peer: Some(peer), ..Place::alone("/nonexistent", settings) })
}

fn prepared(name: &str, given: Given, peer: PeerAddress) -> Box<dyn Prepared> {
    prepare(name, given, peer).unwrap_or_else(|e| panic!("{name} {given:?}: {e:#}"))
}

fn fails(name: &str, given: Given, peer: PeerAddress) -> String {
    match prepare(name, given, peer) {
        Ok(_) => panic!("{name} {given:?} should have failed"),
        Err(e) => format!("{e:#}"),
    }
}

fn try_burst(prepared: &mut dyn Prepared, operations: u64, limit_ns: u64) -> anyhow::Result<Sample> {
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations, warmup: operations / 4, batch: 1, limit_ns, number: 0 });
    prepared.burst(&mut watch)?;
    watch.sample()
}

fn burst(prepared: &mut dyn Prepared, operations: u64) -> Sample {
    try_burst(prepared, operations, u64::MAX).unwrap_or_else(|e| panic!("{e:#}"))
}

/// A peer on both families of loopback.
fn peer() -> (Listening, PeerAddress) {
    let both = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
    let listening = Listening::start_all(&both).expect("this host's loopback has IPv4 and IPv6");
    let port = listening.address().port();
    let at = |address: std::net::IpAddr| Some(SocketAddr::new(address, port));
    let (v4, v6) = (at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into()));
    let far = PeerAddress { v4, v6, published: None };
    (listening, far)
}

#[test]
fn every_way_to_say_the_same_has_the_same_check() {
    let (_listening, far) = peer();
    let same: &[(&str, &[Given])] = &[
        ("net/rr", &[&[], &[("family", "ipv6")], &[("answer", "64")], &[("connection", "inbound")]]),
        ("net/rr", &[&[("protocol", "udp")], &[("protocol", "udp"), ("family", "ipv6")]]),
        ("net/crr", &[&[], &[("family", "ipv6")]]),
        (
            "net/stream",
            &[
                &[],
                &[("direction", "receive")],
                &[("direction", "both"), ("streams", "3")],
                &[("streams", "16"), ("check", "all"), ("family", "ipv6")],
                &[("streams", "3"), ("direction", "both"), ("connection", "inbound")],
            ],
        ),
        ("net/loaded-rr", &[&[], &[("direction", "receive"), ("family", "ipv6")]]),
        ("net/imap", &[&[], &[("family", "ipv6")]]),
        ("net/chatty", &[&[], &[("way", "set")], &[("way", "set"), ("family", "ipv6")]]),
    ];
    for (name, variants) in same {
        let mut values = Vec::new();
        for given in *variants {
            let mut work = prepared(name, given, far);
            for operations in [3, 50] {
                assert_eq!(burst(&mut *work, operations).operations, operations, "{name} {given:?}");
            }
            let cut = try_burst(&mut *work, 1 << 40, 3_000_000).unwrap_or_else(|e| panic!("{name} {given:?}: {e:#}"));
            assert!(cut.cut_short && cut.operations > 0, "{name} {given:?}");
            burst(&mut *work, 20);
            values.push(work.verify().unwrap_or_else(|e| panic!("{name} {given:?}: {e:#}")).value);
        }
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{name}: {values:?}");
    }
}

#[test]
fn bytes_are_those_that_arrived() {
    let (_listening, far) = peer();
    for (name, given, each) in [
        ("net/rr", &[("size", "100"), ("answer", "3000")][..], 3100),
        ("net/rr", &[("size", "3000"), ("answer", "8")], 3008),
        ("net/rr", &[("protocol", "udp"), ("size", "16"), ("answer", "65507")], 65_523),
        ("net/stream", &[("block", "4KiB"), ("direction", "both"), ("streams", "2")], 8192),
        ("net/chatty", &[("rows", "7")], 700),
    ] {
        let mut work = prepared(name, given, far);
        assert_eq!(burst(&mut *work, 40).bytes, 40 * each, "{name} {given:?}");
        work.verify().expect("verified");
    }
}

#[test]
fn a_limit_that_comes_at_any_moment_leaves_the_streams_whole() {
    let (_listening, far) = peer();
    for direction in ["send", "receive", "both"] {
        let mut work = prepared("net/stream", &[("direction", direction), ("streams", "4"), ("block", "4KiB")], far);
        for limit_ns in (0..40).map(|n| n * 3_000) {
            // Warm-up and measured part are as short as there are streams, so any of their blocks may be the last to ask.
            let mut watch = Stopwatch::new();
            watch.arm(BurstPlan { operations: 6, warmup: 4, batch: 1, limit_ns, number: 0 });
            work.burst(&mut watch).unwrap_or_else(|e| panic!("{direction}, {limit_ns} ns: {e:#}"));
        }
        work.verify().expect("verified");
    }
}

/// A slow path to the peer, for one connection: 64 KiB each 2 ms or later one way, and what comes back at once. Gives its address,
/// and for each answer of the peer how many bytes had gone there.
fn slow_path(far: PeerAddress) -> (SocketAddr, std::sync::mpsc::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let (answered, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut near, _) = listener.accept().expect("accepted");
        let mut far = TcpStream::connect(far.v4.expect("there")).expect("connected");
        let mut greeting = [0; 11 + 5 * 4];
        near.read_exact(&mut greeting).expect("a greeting");
        far.write_all(&greeting).expect("sent");
        let gone = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (mut back, mut home, seen) =
            (far.try_clone().expect("cloned"), near.try_clone().expect("cloned"), Arc::clone(&gone));
        std::thread::spawn(move || {
            let mut answer = [0; 16];
            while back.read_exact(&mut answer).is_ok() {
                // Whoever is answered may ask anew at once: first the count, then the answer.
                let _ = answered.send(seen.load(Ordering::SeqCst));
                let _ = home.write_all(&answer);
            }
        });
        let mut block = vec![0; 64 << 10];
        while near.read_exact(&mut block).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
            gone.fetch_add(block.len() as u64, Ordering::SeqCst);
            if far.write_all(&block).is_err() {
                return;
            }
        }
    });
    (address, answers)
}

#[test]
fn what_a_cut_warm_up_has_left_under_way_is_not_sent_in_the_measured_time() {
    let (_listening, far) = peer();
    let (address, answers) = slow_path(far);
    let mut work = prepared("net/stream", &[], address.into());
    let mut watch = Stopwatch::new();
    // The buffers of two sockets have room for most of what the path takes in 20 ms.
    watch.arm(BurstPlan { operations: 10_000, warmup: 10_000, batch: 1, limit_ns: 20_000_000, number: 0 });
    work.burst(&mut watch).expect("a burst");
    let sample = watch.sample().expect("serializes");
    assert!(sample.cut_short && sample.operations > 0, "{sample:?}");
    let block = 64 << 10;
    let gone: Vec<u64> = answers.try_iter().collect();
    assert_eq!(gone.len(), 2, "the peer is heard at the end of the warm-up, and at the end: {gone:?}");
    assert_eq!(gone[0], (sample.warmup_operations + 1) * block, "all of the warm-up has arrived before");
    assert_eq!(gone[1] - gone[0], sample.bytes, "and what arrives in the measured time is what counts");
}

#[test]
fn nothing_is_asked_for_in_the_warm_up_that_the_measured_part_takes() {
    let (_listening, far) = peer();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let asked = std::thread::spawn(move || {
        let (mut near, _) = listener.accept().expect("accepted");
        let mut far = TcpStream::connect(far.v4.expect("there")).expect("connected");
        let (mut from, mut to) = (far.try_clone().expect("cloned"), near.try_clone().expect("cloned"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut greeting = [0; 11 + 5 * 4];
        near.read_exact(&mut greeting).expect("a greeting");
        far.write_all(&greeting).expect("sent");
        let (mut asked, mut ask) = (Vec::new(), [0; 8]);
        while near.read_exact(&mut ask).is_ok() {
            asked.push(u64::from_le_bytes(ask));
            far.write_all(&ask).expect("sent");
        }
        asked
    });
    let mut work = prepared("net/stream", &[("direction", "receive")], address.into());
    burst(&mut *work, 20);
    drop(work);
    assert_eq!(asked.join().expect("ended"), [5, 20], "blocks of the warm-up, then those that count");
}

#[test]
fn the_stream_beside_is_counted() {
    let (_listening, far) = peer();
    for direction in ["send", "receive"] {
        let mut work = prepared("net/loaded-rr", &[("direction", direction)], far);
        let sample = burst(&mut *work, 200);
        assert_eq!(sample.bytes, 200 * 128, "only the exchanges");
        let counters = work.counters();
        assert!(counters["stream_bytes"] >= 64 << 10 && counters["stream_bytes_per_second"] > 0, "{counters:?}");
        assert_eq!(counters["stream_bytes"] % (64 << 10), 0, "whole blocks");
    }
}

#[test]
fn what_does_not_fit_a_message_is_refused() {
    let (_listening, far) = peer();
    assert!(fails("net/rr", &[("protocol", "udp"), ("size", "8")], far).contains("from 16 to 65507"));
    assert!(fails("net/rr", &[("protocol", "udp"), ("answer", "64KiB")], far).contains("answer = 65536"));
    assert!(fails("net/rr", &[("answer", "7")], far).contains("from 8 to 65536"));
    for way in [("protocol", "udp"), ("family", "ipv6")] {
        assert!(fails("net/rr", &[("connection", "inbound"), way], far).contains("TCP over IPv4"));
    }
    let message = fails("net/stream", &[("connection", "inbound"), ("family", "ipv6")], far);
    assert!(message.contains("set family = ipv4, or"), "{message}");
}

#[test]
fn a_family_that_is_not_there_is_an_error_that_says_what_to_set() {
    let (_listening, far) = peer();
    for name in ["net/rr", "net/crr", "net/stream", "net/loaded-rr", "net/imap", "net/chatty"] {
        let message = fails(name, &[("family", "ipv6")], PeerAddress { v6: None, ..far });
        assert!(message.contains("no IPv6") && message.contains("set family = ipv4"), "{name}: {message}");
        let message = fails(name, &[], PeerAddress { v4: None, ..far });
        assert!(message.contains("no IPv4") && message.contains("set family = ipv6"), "{name}: {message}");
    }
}

#[test]
fn an_inbound_connection_is_the_peers_and_says_how_it_came() {
    let (_listening, far) = peer();
    let inbound: Given = &[("connection", "inbound")];
    for name in ["net/rr", "net/stream"] {
        assert_eq!(prepared(name, inbound, far).facts()["connection"], "inbound, directly");
    }
    let facts = prepared("net/rr", inbound, far).facts();
    assert_ne!(
        facts["peer"],
        far.v4.expect("there").to_string(),
        "the peer's own port is of a connection that it opened"
    );
    assert!(!prepared("net/rr", &[], far).facts().contains_key("connection"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_published_port_is_the_one_that_is_listened_on() {
    in_own_namespace(|| {
        bring_loopback_up();
        let listening = Listening::start(([127, 0, 0, 1], 7000).into()).expect("listens");
        let far = PeerAddress { published: Some(4000), ..listening.address().into() };
        // It is free again afterwards.
        for _ in 0..2 {
            let facts = prepared("net/rr", &[("connection", "inbound")], far).facts();
            assert_eq!(facts["local"], "127.0.0.1:4000");
            assert_eq!(facts["connection"], "inbound, by a published port");
        }
    });
}

#[test]
fn whoever_can_not_be_called_hears_why() {
    let (listening, far) = peer();
    let refused = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port();
    let ask = |port: u32| {
        let mut asking = TcpStream::connect(listening.address()).expect("connects");
        let greeting = [&b"inbound\n"[..], &port.to_le_bytes(), &[7; 8]].concat();
        asking.write_all(&greeting).expect("sent");
        let mut answer = String::new();
        asking.read_to_string(&mut answer).expect("answered");
        answer
    };
    assert!(ask(refused.into()).starts_with(&format!("127.0.0.1:{refused}: ")));
    for port in [0, 22, 1023, 65_536, u32::MAX] {
        assert_eq!(ask(port), "", "nobody is called at port {port}");
    }

    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    let stand_in = PeerAddress { v4: peer.local_addr().ok(), ..far };
    let refuse = std::thread::spawn(move || {
        let (mut asking, _) = peer.accept().expect("accepted");
        asking.read_exact(&mut [0; 20]).expect("asked");
        asking.write_all(b"198.18.0.2:4000: Connection refused").expect("sent");
    });
    let message = fails("net/rr", &[("connection", "inbound")], stand_in);
    refuse.join().expect("refused");
    for words in ["can't connect into the environment at 198.18.0.2:4000", "refused", "set publish = true", "veth"] {
        assert!(message.contains(words), "no `{words}` in `{message}`");
    }
}

#[test]
fn a_peer_that_dies_is_a_failure_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let ending = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ending);
    let closer = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            if seen.load(Ordering::Relaxed) {
                break;
            }
            // It takes what comes first and goes without a word.
            let _ = stream.read(&mut [0; 1000]);
        }
    });
    for (name, given) in [
        ("net/rr", &[][..]),
        ("net/stream", &[]),
        ("net/stream", &[("direction", "receive")]),
        ("net/loaded-rr", &[]),
        ("net/imap", &[]),
        ("net/chatty", &[]),
    ] {
        let began = Instant::now();
        let mut work = prepared(name, given, address.into());
        let error = try_burst(&mut *work, 1000, u64::MAX).expect_err("nobody is there");
        let message = format!("{error:#}");
        assert!(message.contains("peer") || message.contains("connection"), "{name}: {message}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name} took {:?}", began.elapsed());
    }
    // This one needs an answer at once.
    assert!(fails("net/crr", &[], address.into()).contains("connection"));
    ending.store(true, Ordering::Relaxed);
    drop(TcpStream::connect(address));
    closer.join().expect("ended");
    assert!(fails("net/crr", &[], address.into()).contains("can't reach the peer"));
    assert!(fails("net/rr", &[("protocol", "udp")], address.into()).contains("no longer there"));
}

#[test]
fn an_answer_that_was_tampered_with_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let liar = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        stream.read_exact(&mut [0; 15]).expect("a greeting");
        let mut message = [0; 64];
        stream.read_exact(&mut message).expect("a request");
        message[63] ^= 1;
        stream.write_all(&message).expect("sent");
    });
    let mut work = prepared("net/rr", &[], address.into());
    let error = try_burst(&mut *work, 4, u64::MAX).expect_err("not what was sent");
    assert!(format!("{error:#}").contains("not the one to what was sent"), "{error:#}");
    liar.join().expect("ended");
}

/// A peer that answers datagrams, except for those that `drops` names by their count, and those it answers twice.
fn careless(drops: fn(u64) -> bool, doubles: fn(u64) -> bool) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("set");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut message = [0; 2000];
        for count in 0.. {
            let Ok((n, from)) = socket.recv_from(&mut message) else { return };
            for _ in 0..u32::from(!drops(count)) + u32::from(doubles(count)) {
                socket.send_to(&message[..n], from).expect("sent");
            }
        }
    });
    address
}

#[test]
fn a_lost_datagram_is_asked_for_again_and_counted() {
    // The first is that of preparing, four are warm-up. The ninth is lost once and the tenth twice.
    let address = careless(|count| matches!(count, 8 | 10 | 11), |_| false);
    let mut work = prepared("net/rr", &[("protocol", "udp")], address.into());
    let sample = burst(&mut *work, 16);
    assert_eq!(work.counters()["lost"], 3);
    assert_eq!(sample.operations, 16);
    assert!(sample.elapsed_ns > 600_000_000, "an operation takes as long as its repetitions: {} ns", sample.elapsed_ns);
    burst(&mut *work, 16);
    assert_eq!(work.counters()["lost"], 0, "a burst counts its own");
    work.verify().expect("verified");
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_the_next() {
    // The fifth is lost, its repetition is answered twice: as if the first answer had only been late.
    let address = careless(|count| count == 4, |count| count == 5);
    let mut work = prepared("net/rr", &[("protocol", "udp")], address.into());
    burst(&mut *work, 16);
    assert_eq!(work.counters()["lost"], 1);
    work.verify().expect("verified");
    // Without anything lost there is no answer to be late.
    let address = careless(|_| false, |count| count == 5);
    let mut work = prepared("net/rr", &[("protocol", "udp")], address.into());
    let error = try_burst(&mut *work, 16, u64::MAX).expect_err("an answer nobody asked for");
    assert!(format!("{error:#}").contains("not the one to what was sent"), "{error:#}");
}

#[test]
fn a_path_that_loses_everything_is_a_failure_in_bounded_time() {
    let address = careless(|count| count > 3, |_| false);
    let mut work = prepared("net/rr", &[("protocol", "udp")], address.into());
    let began = Instant::now();
    let error = try_burst(&mut *work, 16, u64::MAX).expect_err("nothing comes back");
    assert!(format!("{error:#}").contains("no answer to 10 datagrams in a row"), "{error:#}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// Runs in a thread with a network namespace of its own, which ends with it; `false` where that needs root.
#[cfg(target_os = "linux")]
fn in_own_namespace(work: fn()) -> bool {
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: a network namespace needs root");
        return false;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
        work();
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    true
}

#[cfg(target_os = "linux")]
fn bring_loopback_up() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: this request reads one ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "the namespace is ours");
}

/// Few ephemeral ports; a file of the namespace that the thread is in.
#[cfg(target_os = "linux")]
fn leave_few_ports() {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007").expect("the namespace is ours");
}

#[test]
#[cfg(target_os = "linux")]
fn used_up_ephemeral_ports_are_a_failure_that_says_so() {
    in_own_namespace(|| {
        bring_loopback_up();
        leave_few_ports();
        let listening = Listening::start(([127, 0, 0, 1], 7000).into()).expect("listens");
        let far = listening.address().into();
        let mut connecting = prepared("net/crr", &[], far);
        burst(&mut *connecting, 10);
        let mut held = Vec::new();
        let error = loop {
            match prepare("net/rr", &[], far) {
                Ok(work) => held.push(work),
                Err(e) => break format!("{e:#}"),
            }
            assert!(held.len() < 9, "there are only eight ports");
        };
        assert!(error.contains("ephemeral ports are used up") && error.contains("ip_local_port_range"), "{error}");
        let began = Instant::now();
        let error = try_burst(&mut *connecting, 10, u64::MAX).expect_err("no port is left");
        assert!(format!("{error:#}").contains("ephemeral ports are used up"), "{error:#}");
        // Not after the 30 s that a peer has to answer.
        assert!(began.elapsed() < Duration::from_secs(15));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn connections_leave_no_port_behind_in_the_environment() {
    in_own_namespace(|| {
        bring_loopback_up();
        leave_few_ports();
        let listening = Listening::start(([127, 0, 0, 1], 7000).into()).expect("listens");
        let mut work = prepared("net/crr", &[], listening.address().into());
        // If the environment closed first, each of the eight ports would be taken for a minute.
        assert_eq!(burst(&mut *work, 2000).operations, 2000);
        work.verify().expect("verified");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_environment_without_ipv6_says_so() {
    in_own_namespace(|| {
        // A loopback that is down has no addresses, and there is no other device.
        let far = PeerAddress::from("[2001:2::1]:7000".parse::<SocketAddr>().expect("an address"));
        for given in [&[("family", "ipv6")][..], &[("family", "ipv6"), ("protocol", "udp")]] {
            let message = fails("net/rr", given, far);
            assert!(message.contains("no IPv6 that leads to [2001:2::1]:7000"), "{message}");
            assert!(message.contains("set family = ipv4"), "{message}");
        }
    });
}
