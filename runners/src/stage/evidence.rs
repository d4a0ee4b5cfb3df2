//! The host's view of a burst: counters read before and after, and their differences.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use workloads::evidence::{Evidence, Idle};
use workloads::facts::{DataFacts, Keeper};
use workloads::identity::boot_id;
use workloads::protocol::Identity;

use crate::fingerprint;
use crate::stage::cgroup::{Cgroup, Quota, pressure_total};
use crate::stage::disk::{self, Disk};
use crate::stage::network;

/// A tick as the kernel shows it to programs, whatever its own is: nanoseconds.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// Where the counters of one environment are.
#[derive(Debug, Clone)]
pub struct Witness {
    cgroup: Option<Arc<Cgroup>>,
    device: Option<String>,
    /// Whether the host is itself a guest: a hypervisor below may not say what it steals.
    guest: bool,
    /// CPUs of the work.
    cpus: Vec<usize>,
    link: Option<Arc<LinkCounters>>,
}

/// The counters of a network device in another namespace.
#[derive(Debug)]
pub struct LinkCounters {
    /// The table of devices; a file that was opened in a namespace goes on showing that one.
    table: File,
    device: String,
}

impl LinkCounters {
    /// Of a device in the network namespace that this file stands for.
    ///
    /// # Errors
    /// When nobody may look there.
    pub(crate) fn open(netns: &Path, device: &str) -> anyhow::Result<Self> {
        let table = network::within(netns, || Ok(File::open("/proc/thread-self/net/dev")?))?;
        Ok(Self { table, device: device.into() })
    }

    /// Packets that it carried both ways, since it was made.
    fn packets(&self) -> Option<u64> {
        packets(&whole(&self.table).ok()?, &self.device)
    }
}

/// The text of a file of the kernel, from its start.
fn whole(file: &File) -> io::Result<String> {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match file.read_at(&mut piece, text.len() as u64)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            read => text.extend_from_slice(&piece[..read]),
        }
    }
}

/// See proc_pid_net(5): received bytes and packets, six more, then sent bytes and packets.
fn packets(table: &str, device: &str) -> Option<u64> {
    let own = |line: &str| line.split_once(':').filter(|(name, _)| name.trim() == device).map(|(_, n)| n.to_string());
    let numbers = table.lines().find_map(own)?;
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|n| n.parse().ok()).collect();
    Some(numbers.get(1)? + numbers.get(9)?)
}

/// All counters at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    at: Instant,
    guest: bool,
    cpu_ns: Option<u64>,
    cpu_split: Option<(u64, u64)>,
    guests_ns: Option<HashMap<u32, u64>>,
    run_cpu_ns: Option<u64>,
    busy_ns: Option<u64>,
    quota: Quota,
    switches: Option<HashMap<u32, u64>>,
    packets: Option<u64>,
    ticks: Option<(u64, u64)>,
    io_us: Option<u64>,
    cpu_us: Option<u64>,
    disk: Option<DiskCounters>,
}

/// One line of /proc/diskstats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DiskCounters {
    reads: u64,
    writes: u64,
    sectors_written: u64,
    sectors_read: u64,
    flushes: Option<u64>,
}

impl Witness {
    /// Watches an environment's cgroup and the disk under its data. Of data in memory that is the disk where they would lie
    /// otherwise, which then sees nothing of them; where data lie on a disk that isn't known, no disk is watched: another's
    /// counters would be no evidence.
    pub fn new(cgroup: Option<Arc<Cgroup>>, cpus: &[usize], data: &DataFacts, disk: Option<&Disk>) -> Self {
        let instead = disk.filter(|_| data.keeper == Keeper::Memory).and_then(|disk| disk.device.clone());
        let guest = fingerprint::nested().is_some();
        Self { cgroup, device: data.device.clone().or(instead), guest, cpus: cpus.to_vec(), link: None }
    }

    /// Watches the environment's own link too.
    #[must_use]
    pub(crate) fn over(self, link: Option<LinkCounters>) -> Self {
        Self { link: link.map(Arc::new), ..self }
    }

    /// Watches the disk that the agent says is under its data, where no disk was known and the agent runs on this kernel: in a
    /// box that was there before us only it can know.
    pub fn recognise(&mut self, identity: &Identity) {
        let here = identity.boot_id.is_some() && identity.boot_id == boot_id();
        if self.device.is_none() && here {
            self.device = identity.device.as_deref().and_then(disk::whole_named);
        }
    }

    /// Reads all counters. Takes some 100 microseconds, and 5 more for each thread of the environment, so never within a burst.
    pub fn snapshot(&self) -> Snapshot {
        let group = self.cgroup.as_deref();
        let pressure = |what: &str| {
            let own = group.and_then(|g| g.pressure_us(what));
            own.or_else(|| pressure_total(&fs::read_to_string(format!("/proc/pressure/{what}")).ok()?))
        };
        let stat = fs::read_to_string("/proc/stat").ok();
        Snapshot {
            at: Instant::now(),
            guest: self.guest,
            cpu_ns: group.and_then(Cgroup::cpu_ns),
            cpu_split: group.and_then(Cgroup::cpu_split),
            guests_ns: match stat.as_ref().and_then(|t| guest_ticks(t)) {
                // A look at each process takes as long as all other counters of a small box.
                Some(0) => Some(HashMap::new()),
                _ => group.and_then(Cgroup::guests_ns),
            },
            run_cpu_ns: group.and_then(Cgroup::run_cpu_ns),
            busy_ns: stat.as_ref().and_then(|t| busy_ns(t, &self.cpus)),
            quota: group.map(Cgroup::quota).unwrap_or_default(),
            switches: group.and_then(Cgroup::switches),
            packets: self.link.as_ref().and_then(|link| link.packets()),
            ticks: stat.as_ref().and_then(|t| ticks(t)),
            io_us: pressure("io"),
            cpu_us: pressure("cpu"),
            disk: self.device.as_ref().and_then(|d| {
                let table = fs::read_to_string("/proc/diskstats").ok()?;
                disk_counters(&table, d)
            }),
        }
    }

    /// Flushes of its disk between two readings of /proc/diskstats.
    fn flushes(&self, before: &str, after: &str, ns: u64) -> Option<Idle> {
        let device = self.device.as_deref()?;
        let flushes = |table: &str| disk_counters(table, device)?.flushes;
        Some(Idle { events: difference(flushes(before), flushes(after))?, ns })
    }

    /// The differences since, and what the environment holds now.
    pub fn since(&self, before: &Snapshot) -> Evidence {
        let differences = before.until(&self.snapshot());
        let held = self.cgroup.as_deref().map(Cgroup::resident).unwrap_or_default();
        Evidence { memory_bytes: held.memory, cache_bytes: held.cache, mapped_bytes: held.mapped, ..differences }
    }
}

impl Snapshot {
    /// The differences between two moments. A counter that can't be read at both is `None`.
    pub fn until(&self, after: &Self) -> Evidence {
        let wall_us = (after.at - self.at).as_secs_f64() * 1e6;
        let share = |a: Option<u64>, b: Option<u64>| Some((difference(a, b)? as f64 / wall_us).min(1.0));
        // A hypervisor that never stole anything since the start doesn't say what it steals.
        let told = after.ticks.filter(|(steal, _)| *steal > 0 || !self.guest);
        let steal = self.ticks.zip(told).and_then(|((steal, all), (steal2, all2))| {
            let all = all2.checked_sub(all).filter(|a| *a > 0)?;
            Some(steal2.checked_sub(steal)? as f64 / all as f64)
        });
        let disk = |f: fn(DiskCounters) -> Option<u64>| difference(self.disk.and_then(f), after.disk.and_then(f));
        let cpu_ns = difference(self.cpu_ns, after.cpu_ns);
        let all_ns = difference(self.run_cpu_ns, after.run_cpu_ns);
        let busy_ns = difference(self.busy_ns, after.busy_ns);
        Evidence {
            wall_ns: Some((after.at - self.at).as_nanos() as u64),
            cpu_ns,
            cpu_user_ns: difference(self.cpu_split.map(|s| s.0), after.cpu_split.map(|s| s.0)),
            cpu_system_ns: difference(self.cpu_split.map(|s| s.1), after.cpu_split.map(|s| s.1)),
            cpu_guest_ns: counted(self.guests_ns.as_ref(), after.guests_ns.as_ref()),
            // Two files are read one after the other, and what ran in between is nobody's.
            bystanders_ns: all_ns.zip(cpu_ns).map(|(all, own)| all.saturating_sub(own)),
            neighbours_ns: busy_ns.zip(cpu_ns).map(|(busy, own)| busy as i64 - own as i64),
            throttled: difference(self.quota.throttled, after.quota.throttled),
            throttled_ns: difference(self.quota.stopped_ns, after.quota.stopped_ns),
            quota_periods: difference(self.quota.periods, after.quota.periods),
            context_switches: counted(self.switches.as_ref(), after.switches.as_ref()),
            packets: difference(self.packets, after.packets),
            memory_bytes: None,
            cache_bytes: None,
            mapped_bytes: None,
            steal,
            pressure_io: share(self.io_us, after.io_us),
            pressure_cpu: share(self.cpu_us, after.cpu_us),
            device_reads: disk(|d| Some(d.reads)),
            device_bytes_read: disk(|d| Some(d.sectors_read * 512)),
            device_writes: disk(|d| Some(d.writes)),
            device_flushes: disk(|d| d.flushes),
            device_bytes_written: disk(|d| Some(d.sectors_written * 512)),
            overslept_ns: None,
            idle_flushes: None,
            looks_ns: None,
            neighbour: None,
        }
    }
}

/// How often the disks under the data of several environments are flushed while nothing of ours runs, for so long; in their order.
pub fn idle_flushes(witnesses: &[Option<&Witness>], long: Duration) -> Vec<Option<Idle>> {
    let table = || fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let (before, began) = (table(), Instant::now());
    std::thread::sleep(long);
    let (after, ns) = (table(), began.elapsed().as_nanos() as u64);
    witnesses.iter().map(|witness| witness.and_then(|w| w.flushes(&before, &after, ns))).collect()
}

/// Counters of a device that was replaced run backwards: that is no difference.
fn difference(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    after?.checked_sub(before?)
}

/// What all threads or processes of an environment counted between two looks, as how often they were given a CPU. One that ended took
/// its number along, so then nobody knows; one that began since has counted from 0.
fn counted(before: Option<&HashMap<u32, u64>>, after: Option<&HashMap<u32, u64>>) -> Option<u64> {
    let (before, after) = before.zip(after)?;
    before.keys().all(|thread| after.contains_key(thread)).then_some(())?;
    after.iter().map(|(thread, count)| count.checked_sub(before.get(thread).copied().unwrap_or(0))).sum()
}

/// Ticks that a hypervisor below has stolen since the host started; `None` where nothing tells.
pub fn stolen_ticks() -> Option<u64> {
    ticks(&fs::read_to_string("/proc/stat").ok()?).map(|(stolen, _)| stolen)
}

/// Stolen and all ticks of all CPUs. Guest time is part of user time and not counted again.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = cpu_fields(stat, "cpu")?;
    Some((*fields.get(7)?, fields[..8].iter().sum()))
}

/// Ticks that guests have run on the CPUs since the host started: where there are none, no process has any.
fn guest_ticks(stat: &str) -> Option<u64> {
    let fields = cpu_fields(stat, "cpu")?;
    Some(fields.get(8)? + fields.get(9)?)
}

/// The ticks of a CPU (`cpu1`), or of all of them (`cpu`), in the order of proc_stat(5).
fn cpu_fields(stat: &str, name: &str) -> Option<Vec<u64>> {
    let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.split_whitespace().map_while(|field| field.parse().ok()).collect())
}

/// Time that these CPUs were busy, nanoseconds: all but idle, waiting and stolen.
fn busy_ns(stat: &str, cpus: &[usize]) -> Option<u64> {
    let of = |cpu: &usize| {
        let fields = cpu_fields(stat, &format!("cpu{cpu}"))?;
        Some([0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum::<u64>() * TICK_NS)
    };
    cpus.iter().map(of).sum()
}

/// See the kernel's Documentation/admin-guide/iostats.rst; flushes are there since Linux 5.5.
fn disk_counters(table: &str, device: &str) -> Option<DiskCounters> {
    let line = table.lines().find(|l| l.split_whitespace().nth(2) == Some(device))?;
    let fields: Vec<u64> = line.split_whitespace().skip(3).map_while(|f| f.parse().ok()).collect();
    Some(DiskCounters {
        reads: *fields.first()?,
        writes: *fields.get(4)?,
        sectors_written: *fields.get(6)?,
        sectors_read: *fields.get(2)?,
        flushes: fields.get(15).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_tables_are_read() {
        assert_eq!(ticks("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n"), Some((8, 36)));
        assert_eq!(ticks("cpu  1 2\n"), None);
        let stat = "cpu  9 9\ncpu0 1 2 3 40 50 6 7 80 1 0\ncpu1 1 1 1 1 1 1 1 1 1 1\ncpu10 5 5 5 5 5 5 5 5 0 0\n";
        assert_eq!(busy_ns(stat, &[0, 1]), Some(240_000_000));
        assert_eq!(busy_ns(stat, &[2]), None);
        let table = " 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n";
        let counters = disk_counters(table, "vda").unwrap();
        assert_eq!(
            counters,
            DiskCounters { reads: 1, writes: 5, sectors_written: 7, sectors_read: 3, flushes: Some(16) }
        );
        assert_eq!(disk_counters(" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n", "sda").unwrap().flushes, None);
        assert_eq!(disk_counters(table, "vdb"), None);
    }

    /// Looks lie beside bursts and their warm-ups and not in them, so this is a bound on what a run takes longer. By the thread's own
    /// CPU time, which a busy machine makes little longer.
    #[test]
    #[cfg(target_os = "linux")]
    fn two_looks_take_less_than_two_milliseconds() {
        const MOST: Duration = Duration::from_millis(2);
        let (_data, mut stage) = crate::stage::Stage::of_a_test("ev");
        let witness = stage.witness(&DataFacts::default());
        let used = || {
            let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            Duration::from(nix::time::clock_gettime(clock).expect("a clock of every Linux"))
        };
        let mut costs: Vec<Duration> = (0..25)
            .map(|_| {
                let begun = used();
                let before = witness.snapshot();
                std::hint::black_box(witness.since(&before));
                used() - begun
            })
            .collect();
        costs.sort_unstable();
        println!("two looks: {:?}, the dearest {:?}", costs[12], costs[24]);
        assert!(costs[12] < MOST, "{costs:?}");
    }

    #[test]
    fn where_no_guest_has_ever_run_no_process_is_asked() {
        let stat = |guests: u64| format!("cpu  1 2 3 4 5 6 7 8 {guests} 0\ncpu0 1 2 3 4 5 6 7 8 {guests} 0\n");
        assert_eq!((guest_ticks(&stat(0)), guest_ticks(&stat(7))), (Some(0), Some(7)));
        assert_eq!(guest_ticks("cpu  1 2 3 4 5 6 7 8\n"), None, "older kernels don't count them");
        let (none, one) = (HashMap::new(), HashMap::from([(5, 30)]));
        assert_eq!(counted(Some(&none), Some(&none)), Some(0));
        assert_eq!(counted(Some(&none), Some(&one)), Some(30), "the first guest began since");
    }

    #[test]
    fn switches_of_threads_that_went_are_unknown() {
        let counts = |all: &[(u32, u64)]| all.iter().copied().collect::<HashMap<u32, u64>>();
        let before = counts(&[(1, 10), (2, 20)]);
        let since = |all: &[(u32, u64)]| counted(Some(&before), Some(&counts(all)));
        assert_eq!(since(&[(1, 15), (2, 20), (3, 4)]), Some(9), "the third began since");
        assert_eq!(since(&[(1, 15)]), None, "the second went");
        assert_eq!(since(&[(1, 15), (2, 3)]), None, "its number is another's now");
    }

    #[test]
    fn packets_are_counted_both_ways_and_of_one_device() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n    lo: 1 9 0 0 0 0 0 0 1 9 0 0 0 0 0 0\n\
                     tareXe: 500 3 0 0 0 0 0 0 700 4 0 0 0 0 0 0\n";
        assert_eq!((packets(table, "tareXe"), packets(table, "tare"), packets(table, "lo")), (Some(7), None, Some(18)));
        // What is read again is as new as at the first time.
        let file = File::open("/proc/uptime").expect("there");
        let first = whole(&file).expect("readable");
        std::thread::sleep(Duration::from_millis(30));
        assert_ne!(first, whole(&file).expect("readable"));
    }

    #[test]
    fn the_disk_under_each_environments_own_data_is_watched_or_none() {
        let disk = Disk { file_system: "ext4".into(), options: String::new(), device: Some("vda".into()) };
        let watched = |data: DataFacts| Witness::new(None, &[0], &data, Some(&disk)).device;
        let on = |device: &str| DataFacts { device: Some(device.into()), ..DataFacts::default() };
        assert_eq!(watched(on("vdb")).as_deref(), Some("vdb"));
        assert_eq!(watched(DataFacts { keeper: Keeper::Memory, ..DataFacts::default() }).as_deref(), Some("vda"));
        assert_eq!(watched(DataFacts::default()), None, "a disk that nobody knows");
        let Some(real) = fs::read_dir("/sys/block").into_iter().flatten().flatten().next() else { return };
        let real = real.file_name().to_string_lossy().into_owned();
        let seen = |data: DataFacts, boot_id: Option<String>, device: &str| {
            let mut witness = Witness::new(None, &[0], &data, Some(&disk));
            witness.recognise(&Identity { boot_id, device: Some(device.into()), ..Identity::default() });
            witness.device
        };
        assert_eq!(seen(DataFacts::default(), boot_id(), &real), Some(real.clone()), "the agent knows");
        assert_eq!(seen(on("vdb"), boot_id(), &real).as_deref(), Some("vdb"), "what is known needs no agent");
        assert_eq!(seen(DataFacts::default(), Some("another kernel".into()), &real), None, "its names are not ours");
        assert_eq!(seen(DataFacts::default(), None, &real), None);
        assert_eq!(seen(DataFacts::default(), boot_id(), "../block/vda"), None, "it is a stranger's word");
    }

    #[test]
    fn what_a_hypervisor_does_not_report_is_unknown_and_not_none() {
        let at = |guest, stolen, all| Snapshot {
            at: Instant::now(),
            guest,
            cpu_ns: None,
            cpu_split: None,
            guests_ns: None,
            run_cpu_ns: None,
            busy_ns: None,
            quota: Quota::default(),
            switches: None,
            packets: None,
            ticks: Some((stolen, all)),
            io_us: None,
            cpu_us: None,
            disk: None,
        };
        let steal = |guest, before, after| at(guest, before, 100).until(&at(guest, after, 110)).steal;
        assert_eq!((steal(false, 0, 0), steal(true, 0, 0)), (Some(0.0), None));
        assert_eq!((steal(true, 5, 5), steal(true, 0, 1)), (Some(0.0), Some(0.1)));
    }

    #[test]
    fn flushes_of_others_are_those_of_ones_own_disk() {
        let table = |vda: u64, vdb: u64| {
            let line =
                |name: &str, flushes: u64| format!(" 254 0 {name} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 {flushes} 17\n");
            line("vda", vda) + &line("vdb", vdb)
        };
        let bare = Witness::new(None, &[0], &DataFacts::default(), None);
        let witness = |device: Option<&str>| Witness { device: device.map(Into::into), guest: false, ..bare.clone() };
        let seen = |device| witness(device).flushes(&table(7, 100), &table(9, 100), 5);
        assert_eq!(seen(Some("vda")), Some(Idle { events: 2, ns: 5 }));
        assert_eq!(seen(Some("vdb")), Some(Idle { events: 0, ns: 5 }));
        assert_eq!((seen(Some("vdc")), seen(None)), (None, None), "what can't be read is no 0");
        let idle = idle_flushes(&[None, Some(&witness(Some("none")))], Duration::from_millis(1));
        assert_eq!(idle, [None, None]);
    }

    #[test]
    fn a_flush_is_seen_on_the_disk_below() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let disk = Disk::under(dir.path()).unwrap();
        let data = DataFacts { device: disk.device.clone(), ..DataFacts::default() };
        let witness = Witness::new(None, &[0], &data, None);
        let before = witness.snapshot();
        let path = dir.path().join("f");
        fs::write(&path, vec![7; 1 << 16]).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
        let evidence = witness.since(&before);
        assert_eq!(evidence.cpu_ns, None, "nothing can be read where there is no cgroup");
        if disk.device.is_some() {
            assert!(evidence.device_bytes_written.is_some_and(|b| b >= 1 << 16), "{evidence:?}");
        }
    }
}
