//! Children in an agent that ignores their end, as PID 1 of a guest does. The disposition is the process's: hence a file of its own.

mod common;

use nix::sys::signal::{SigHandler, Signal, signal};
use workloads::protocol::BurstPlan;
use workloads::stopwatch::Stopwatch;
use workloads::{Place, Prepared, registry};

fn prepare(name: &str, job: u32) -> Box<dyn Prepared> {
    let workload = registry::find(name).expect("registered");
    let settings = workload.resolve(&Default::default()).expect("defaults");
    let place = Place { job, jobs: 2, ..Place::alone(std::env::temp_dir(), settings) };
    workload.prepare(&place).expect("prepared")
}

fn burst(prepared: &mut dyn Prepared) {
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations: 20, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
    prepared.burst(&mut watch).expect("done");
    prepared.verify().expect("verified");
}

#[test]
fn programs_are_awaited_where_children_are_ignored() {
    // SAFETY: SIG_IGN is no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.expect("ignored");
    let mut switch = prepare("control/switch", 0);
    burst(switch.as_mut());
    drop(switch);
    let (mut first, mut second) = (prepare("control/spawn", 0), prepare("control/spawn", 1));
    burst(first.as_mut());
    drop(first);
    // The second job still waits for its own.
    burst(second.as_mut());
    drop(second);
    // SAFETY: the default is no handler.
    let put_back = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.expect("set");
    assert!(matches!(put_back, SigHandler::SigIgn), "what the agent had set is set again");
    // Nothing is left to be reaped.
    assert_eq!(nix::sys::wait::waitpid(None, None), Err(nix::errno::Errno::ECHILD));
}
