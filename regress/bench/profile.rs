//! What is measured: tasks, each with the contestants that it makes sense for.

use std::time::Duration;

use hast_regress::scenario::blockdev::has;

use crate::contestant::ours::{self, Ours};
use crate::contestant::{BARE, Contestant, DD, original};
use crate::fio::Workload;
use crate::ground::Ground;
use crate::options::Options;
use crate::report::size;
use crate::statistics::Metric;
use crate::work::Work;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The modes of replication, strictest first.
const MODES: [&str; 3] = ["fullsync", "memsync", "async"];

/// Added round trips, in milliseconds. 0 shows what the proxies themselves cost.
const ROUND_TRIPS_MS: [u64; 3] = [0, 1, 10];

/// Sizes of resource for the scaling task, as far as the file system goes along.
const SIZES: [u64; 4] = [GIB, TIB, 15 * TIB, 100 * TIB];

/// Something to measure, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// For files and options.
    pub(crate) name: String,
    /// For people.
    pub(crate) title: String,
    /// What.
    pub(crate) work: Work,
    /// Of whom.
    pub(crate) contestants: Vec<Contestant>,
    /// The number that it is about.
    pub(crate) headline: Metric,
    /// Name of the contestant that the others are compared with.
    pub(crate) baseline: String,
    /// How often.
    pub(crate) rounds: u32,
}

/// What a run consists of.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: &'static str,
    /// In order.
    pub(crate) tasks: Vec<Task>,
    /// How often.
    pub(crate) rounds: u32,
    /// How long a workload runs.
    pub(crate) runtime: Duration,
    /// What is not measured, and why.
    pub(crate) absent: Vec<String>,
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Full,
    Quick,
    Smoke,
}

impl Profile {
    /// What the options ask for, as far as this machine has it.
    pub(crate) fn new(options: &Options, ground: &Ground) -> Profile {
        let (name, extent, rounds, runtime_ms) = if options.smoke {
            ("smoke", Extent::Smoke, 1, 200)
        } else if options.quick {
            ("quick", Extent::Quick, 3, 1500)
        } else {
            ("full", Extent::Full, 5, 5000)
        };
        let mut profile = Profile {
            name,
            tasks: Vec::new(),
            rounds: options.rounds.unwrap_or(rounds),
            runtime: options.seconds.unwrap_or(Duration::from_millis(runtime_ms)),
            absent: Vec::new(),
        };
        let builder = Builder {
            extent,
            rounds: profile.rounds,
            drivers: ours::drivers(),
            original: original(options),
        };
        let mut tasks = builder.workloads();
        tasks.extend(builder.synchronisations());
        tasks.extend(builder.many());
        tasks.extend(builder.delays());
        tasks.push(builder.scale(ground));
        profile.select(tasks, options);
        profile
    }

    /// Takes what the options want and what can run here.
    fn select(&mut self, tasks: Vec<Task>, options: &Options) {
        let wanted = |name: &str, parts: &[String]| {
            parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
        };
        let fio = has("fio");
        if !fio {
            self.absent
                .push("fio is not installed: no workloads".to_owned());
        }
        for mut task in tasks {
            if !wanted(&task.name, &options.only) || (matches!(task.work, Work::Fio(_)) && !fio) {
                continue;
            }
            task.contestants.retain(|contestant| {
                let name = contestant.name();
                if !wanted(&name, &options.contestants) && name != task.baseline {
                    return false;
                }
                match contestant.missing() {
                    None => true,
                    Some(missing) => {
                        let absent = format!("{name}: {missing}");
                        if !self.absent.contains(&absent) {
                            self.absent.push(absent);
                        }
                        false
                    }
                }
            });
            if !task.contestants.is_empty() {
                self.tasks.push(task);
            }
        }
    }

    /// About how long all of it takes on a machine that has nothing else to do.
    pub(crate) fn estimate(&self) -> Duration {
        let of = |task: &Task| {
            let start: Duration = task
                .contestants
                .iter()
                .map(|contestant| match contestant {
                    Contestant::Ours(_) => Duration::from_millis(900),
                    _ => Duration::from_millis(150),
                })
                .sum();
            let count = u32::try_from(task.contestants.len()).unwrap_or(u32::MAX);
            (start + task.work.estimate(self.runtime) * count) * task.rounds
        };
        self.tasks.iter().map(of).sum()
    }

    /// Shows what would be measured.
    pub(crate) fn list(&self) {
        for task in &self.tasks {
            println!("{}: {}, {} rounds", task.name, task.title, task.rounds);
            for contestant in &task.contestants {
                println!("    {}", contestant.name());
            }
        }
        for absent in &self.absent {
            println!("not measured: {absent}");
        }
        println!("about {} s", self.estimate().as_secs());
    }
}

struct Builder {
    extent: Extent,
    rounds: u32,
    drivers: Vec<Option<&'static str>>,
    original: Option<Contestant>,
}

impl Builder {
    /// One of three values, by how much is wanted.
    fn by<T>(&self, full: T, quick: T, smoke: T) -> T {
        match self.extent {
            Extent::Full => full,
            Extent::Quick => quick,
            Extent::Smoke => smoke,
        }
    }

    /// The driver for what is measured with one only: the last named is the fastest.
    fn driver(&self) -> Option<&'static str> {
        self.drivers.last().copied().flatten()
    }

    /// Rounds of what takes long or hardly varies.
    fn fewer_rounds(&self) -> u32 {
        self.rounds.min(self.by(3, 2, 1))
    }

    /// hast in these modes, with each driver.
    fn ours(&self, modes: &[&'static str]) -> Vec<Contestant> {
        let each = |&mode| {
            let of = move |&driver| Contestant::Ours(Ours::new(mode, driver));
            self.drivers.iter().map(of)
        };
        modes.iter().flat_map(each).collect()
    }

    /// hast in fullsync with what changes the blocks on their way.
    fn variants(&self) -> Vec<Contestant> {
        let plain = Ours::new(MODES[0], self.driver());
        let of = |checksum, compression| {
            Contestant::Ours(Ours {
                checksum,
                compression,
                ..plain.clone()
            })
        };
        vec![
            of("crc32", "hole"),
            of("sha256", "hole"),
            of("none", "none"),
            of("none", "lzf"),
        ]
    }

    fn workload(
        &self,
        name: &str,
        title: &str,
        workload: Workload,
        ours: Vec<Contestant>,
        peers: &[Contestant],
    ) -> Task {
        let mut contestants = vec![Contestant::Bare];
        contestants.extend_from_slice(peers);
        contestants.extend(self.original.clone());
        contestants.extend(ours);
        Task {
            name: name.to_owned(),
            title: title.to_owned(),
            work: Work::Fio(workload),
            contestants,
            headline: if workload.block_bytes >= 64 * 1024 {
                Metric::Throughput
            } else {
                Metric::Iops
            },
            baseline: BARE.to_owned(),
            rounds: self.rounds,
        }
    }

    /// What fio does to one device.
    fn workloads(&self) -> Vec<Task> {
        let small = |rw, depth, bytes| Workload {
            rw,
            block_bytes: 4096,
            depth,
            bytes,
            resources: 1,
            flush_each: 0,
        };
        let large = |rw| Workload {
            block_bytes: 128 * 1024,
            ..small(rw, 16, self.by(GIB, GIB, 32 * MIB))
        };
        let few = self.by(100 * MIB, 100 * MIB, 32 * MIB);
        let many = self.by(GIB, GIB, 32 * MIB);
        let both = [Contestant::Nbdkit, Contestant::Quorum { rtt: None }];
        let mirror = &both[1..];
        let all = || self.ours(self.by(&MODES, &MODES, &MODES[..1]));
        let strict = || self.ours(self.by(&MODES, &MODES[..2], &MODES[..1]));
        let one = || self.ours(self.by(&MODES, &MODES[..1], &MODES[..1]));
        let mut with_variants = all();
        with_variants.extend(self.variants());
        let mut sequential = strict();
        if self.extent == Extent::Full {
            sequential.extend(self.variants());
        }
        let over = |what: &str, bytes| format!("{what}, over {}", size(bytes));
        let tasks = vec![
            self.workload(
                "randwrite-4k-d32-100m",
                &over("4 KiB random write, depth 32", few),
                small("randwrite", 32, few),
                with_variants,
                &both,
            ),
            self.workload(
                "randwrite-4k-d1-100m",
                &over("4 KiB random write, depth 1", few),
                small("randwrite", 1, few),
                all(),
                &both,
            ),
            self.workload(
                "randwrite-4k-d32-1g",
                &over("4 KiB random write, depth 32", many),
                small("randwrite", 32, many),
                strict(),
                mirror,
            ),
            self.workload(
                "randwrite-4k-d1-1g",
                &over("4 KiB random write, depth 1", many),
                small("randwrite", 1, many),
                one(),
                mirror,
            ),
            self.workload(
                "write-128k-d16",
                "128 KiB sequential write, depth 16",
                large("write"),
                sequential,
                &both,
            ),
            self.workload(
                "randread-4k-d32",
                "4 KiB random read, depth 32",
                small("randread", 32, few),
                one(),
                &both,
            ),
            self.workload(
                "randread-4k-d1",
                "4 KiB random read, depth 1",
                small("randread", 1, few),
                one(),
                &both,
            ),
            self.workload(
                "read-128k-d16",
                "128 KiB sequential read, depth 16",
                large("read"),
                one(),
                &both,
            ),
            self.workload(
                "mixed-4k-d32",
                "4 KiB random, 70 % read and 30 % write, depth 32",
                small("randrw", 32, few),
                one(),
                mirror,
            ),
            self.workload(
                "flush-4k-d8",
                "4 KiB random write, a flush after each 8, depth 8",
                Workload {
                    flush_each: 8,
                    ..small("randwrite", 8, few)
                },
                strict(),
                mirror,
            ),
        ];
        let wanted = |task: &Task| match self.extent {
            Extent::Full => true,
            Extent::Quick => task.name != "randwrite-4k-d1-1g",
            // All of them alike but for their numbers: two show that they work.
            Extent::Smoke => task.name.ends_with("-100m"),
        };
        tasks.into_iter().filter(wanted).collect()
    }

    fn synchronisations(&self) -> Vec<Task> {
        let task = |name: &str, title: String, work, headline, with_dd, contestants: Vec<_>| Task {
            name: name.to_owned(),
            title,
            work,
            contestants: if with_dd {
                std::iter::once(Contestant::Dd).chain(contestants).collect()
            } else {
                contestants
            },
            headline,
            baseline: if with_dd { DD } else { "" }.to_owned(),
            rounds: self.fewer_rounds(),
        };
        let full = self.by(GIB, GIB, 24 * MIB);
        let part = self.by(256 * MIB, 256 * MIB, 16 * MIB);
        let fullsync = || self.ours(&MODES[..1]);
        vec![
            task(
                "sync-full",
                format!(
                    "full synchronisation of {}, nothing else going on",
                    size(full)
                ),
                Work::FullSync(full),
                Metric::Throughput,
                true,
                fullsync(),
            ),
            task(
                "sync-partial",
                format!(
                    "synchronisation of {} that were written meanwhile",
                    size(part)
                ),
                Work::PartialSync(part),
                Metric::Throughput,
                true,
                fullsync(),
            ),
            task(
                "sync-latency",
                "application writes, 4 KiB, depth 1, during a full synchronisation".to_owned(),
                Work::WritesDuringSync(full),
                Metric::P50,
                false,
                self.ours(self.by(&MODES, &MODES[..1], &MODES[..1])),
            ),
            task(
                "promote",
                "time until the other node serves".to_owned(),
                Work::Promote,
                Metric::Promotion,
                false,
                vec![Contestant::Ours(Ours::new(MODES[0], self.driver()))],
            ),
        ]
    }

    /// Many resources at once.
    fn many(&self) -> Vec<Task> {
        let counts: &[(usize, u32)] = self.by(
            &[(1, 32), (10, 8), (100, 1)],
            &[(1, 32), (10, 8), (100, 1)],
            &[(3, 4)],
        );
        let of = |&(resources, depth): &(usize, u32)| {
            let workload = Workload {
                rw: "randwrite",
                block_bytes: 4096,
                depth,
                bytes: 8 * MIB,
                resources,
                flush_each: 0,
            };
            let ours = if self.extent == Extent::Full {
                self.ours(&MODES[..1])
            } else {
                vec![Contestant::Ours(Ours::new(MODES[0], self.driver()))]
            };
            let title =
                format!("resources at once: {resources}; 4 KiB random write, depth {depth} each");
            let name = format!("many-{resources}");
            let mut task = self.workload(&name, &title, workload, ours, &[]);
            // They know one resource only.
            task.contestants
                .retain(|contestant| !matches!(contestant, Contestant::Original(_)));
            task.rounds = self.rounds.min(self.by(3, 1, 1));
            task
        };
        counts.iter().map(of).collect()
    }

    /// The same over a slower link.
    fn delays(&self) -> Vec<Task> {
        let round_trips: &[u64] = self.by(&ROUND_TRIPS_MS, &ROUND_TRIPS_MS, &ROUND_TRIPS_MS[2..]);
        let strictest_and_loosest = [MODES[0], MODES[2]];
        let modes = self.by(&MODES[..], &strictest_and_loosest, &MODES[..1]);
        let of = |mode: &'static str, &ms: &u64| {
            Contestant::Ours(Ours {
                rtt: Some(Duration::from_millis(ms)),
                ..Ours::new(mode, self.driver())
            })
        };
        let ours = |modes: &[&'static str]| -> Vec<Contestant> {
            let each = |&mode| round_trips.iter().map(move |ms| of(mode, ms));
            modes.iter().flat_map(each).collect()
        };
        let mirrors = round_trips.iter().map(|&ms| Contestant::Quorum {
            rtt: Some(Duration::from_millis(ms)),
        });
        let mirrors: Vec<Contestant> = mirrors.collect();
        let bytes = self.by(100 * MIB, 100 * MIB, 16 * MIB);
        let workload = |rw, block_bytes, depth| Workload {
            rw,
            block_bytes,
            depth,
            bytes,
            resources: 1,
            flush_each: 0,
        };
        let mut tasks = vec![
            self.workload(
                "delay-randwrite-4k-d1",
                "4 KiB random write, depth 1, added round trip",
                workload("randwrite", 4096, 1),
                ours(modes),
                &mirrors,
            ),
            self.workload(
                "delay-randwrite-4k-d32",
                "4 KiB random write, depth 32, added round trip",
                workload("randwrite", 4096, 32),
                ours(modes),
                &mirrors,
            ),
            self.workload(
                "delay-write-128k-d16",
                "128 KiB sequential write, depth 16, added round trip",
                workload("write", 128 * 1024, 16),
                ours(modes),
                &mirrors,
            ),
        ];
        tasks.truncate(self.by(3, 1, 1));
        for task in &mut tasks {
            task.contestants
                .retain(|contestant| !matches!(contestant, Contestant::Original(_)));
        }
        let synchronised = self.by(GIB, GIB, 16 * MIB);
        let mut sync = ours(&MODES[..1]);
        if self.extent == Extent::Quick {
            // What nothing and what much of it does is enough.
            sync.remove(1);
        }
        sync.insert(0, Contestant::Ours(Ours::new(MODES[0], self.driver())));
        tasks.push(Task {
            name: "delay-sync-full".to_owned(),
            title: format!(
                "full synchronisation of {}, added round trip",
                size(synchronised)
            ),
            work: Work::FullSync(synchronised),
            baseline: sync.first().map(Contestant::name).unwrap_or_default(),
            contestants: sync,
            headline: Metric::Throughput,
            rounds: self.rounds,
        });
        for task in &mut tasks {
            task.rounds = self.fewer_rounds();
        }
        tasks
    }

    /// The same work on resources of very different sizes.
    fn scale(&self, ground: &Ground) -> Task {
        let sizes = SIZES.iter().copied().filter(|&bytes| ground.takes(bytes));
        let contestants: Vec<Contestant> = sizes
            .take(self.by(SIZES.len(), SIZES.len(), 1))
            .map(|bytes| {
                Contestant::Ours(Ours {
                    sparse_bytes: Some(bytes),
                    ..Ours::new(MODES[0], self.driver())
                })
            })
            .collect();
        Task {
            name: "scale".to_owned(),
            title: "4 KiB writes to 48 extents all over a resource, by its size".to_owned(),
            work: Work::Scale,
            baseline: contestants
                .first()
                .map(Contestant::name)
                .unwrap_or_default(),
            contestants,
            headline: Metric::Iops,
            rounds: self.fewer_rounds(),
        }
    }
}
