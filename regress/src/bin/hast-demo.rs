//! Two nodes on this machine, a failover under load, and nothing lost: a story that `make demo`
//! tells by doing it. Ends with an error if anything is not as it should be.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use hast_regress::interrupt;
use hast_regress::scenario::copies::differences;
use hast_regress::scenario::status::{Status, Synchronisation};
use hast_regress::scenario::{Cluster, Load, ResourceConf, Setup, Side, Writelog};

/// Bytes of each disk.
const DISK_BYTES: u64 = 160 << 20;

/// Bytes that a synchronisation moves per second: slow enough to be watched.
const SYNC_RATE: u64 = 12 << 20;

/// Blocks of 4 KiB that are written to.
const BLOCKS: usize = 12 * 1024;

fn main() -> ExitCode {
    interrupt::clean_up();
    let since = Instant::now();
    let mut story = Story::begin();
    story.connect();
    story.write();
    story.lose_the_primary();
    story.promote();
    story.write_alone();
    story.bring_back();
    story.compare();
    drop(story);
    println!(
        "\nNothing was lost, the copies are equal, and this machine is as it was before.\n\
         {} seconds.",
        since.elapsed().as_secs()
    );
    ExitCode::SUCCESS
}

fn title(text: &str) {
    println!("\n== {text}");
}

struct Story {
    cluster: Cluster,
    log: Option<Writelog>,
    /// A line is replaced by the next.
    live: bool,
}

impl Story {
    fn begin() -> Story {
        title("Two nodes, alpha and beta, each with a disk of its own");
        let mut conf = ResourceConf::new("data").sized(DISK_BYTES);
        conf.syncrate = Some(SYNC_RATE);
        conf.extent_bytes = [2 << 20; 2];
        let cluster = Cluster::prepare(Setup::of(conf));
        interrupt::remove(cluster.dir());
        let network = if cluster.link.is_real() {
            "Each lives in a network namespace of its own; a virtual cable joins them."
        } else {
            "Both live on loopback addresses, joined by proxies (as root: network namespaces)."
        };
        println!("{network}");
        println!(
            "Disks and configuration are in {}.",
            cluster.dir().display()
        );
        Story {
            cluster,
            log: None,
            live: std::io::stdout().is_terminal(),
        }
    }

    /// Runs hastctl as an administrator would, and shows it.
    fn hastctl(&self, side: Side, words: &[&str]) {
        println!("{side}# hastctl {}", words.join(" "));
        let said = self.cluster.must(side, words);
        for line in said.lines() {
            println!("    {line}");
        }
    }

    fn log(&self) -> &Writelog {
        self.log
            .as_ref()
            .unwrap_or_else(|| unreachable!("the story writes before it looks at what was written"))
    }

    fn connect(&mut self) {
        title("Create the resource on both, start hastd, give each node its role");
        for side in Side::BOTH {
            self.hastctl(side, &["create", "data"]);
            self.cluster.start_node(side);
            println!("{side}# hastd");
        }
        self.hastctl(Side::Beta, &["role", "secondary", "data"]);
        self.hastctl(Side::Alpha, &["role", "primary", "data"]);
        self.hastctl(
            Side::Alpha,
            &["wait", "--synced", "--timeout", "60", "data"],
        );
        self.hastctl(Side::Alpha, &["status"]);
    }

    fn write(&mut self) {
        title("Write to alpha's device: numbered blocks, checksums kept, two connections");
        let device = self.cluster.device(Side::Alpha);
        println!("The device is {}.", device.display());
        let load = Load {
            blocks: BLOCKS,
            overlapping: true,
            ..Load::default()
        };
        self.log = Some(Writelog::start(load, &device));
        self.watch(Side::Alpha, 4);
    }

    /// Shows the state once a second.
    fn watch(&self, side: Side, seconds: u32) {
        for _ in 0..seconds {
            let before = self.log().acknowledged();
            thread::sleep(Duration::from_secs(1));
            let after = self.log().acknowledged();
            let status = self.cluster.status(side);
            println!(
                "    {side}: {}, {} writes/s, {after} acknowledged, {} MiB dirty{}",
                status.status.as_deref().unwrap_or("-"),
                after - before,
                status.dirty_bytes.unwrap_or(0) >> 20,
                status
                    .reason
                    .map(|reason| format!(" ({reason})"))
                    .unwrap_or_default(),
            );
        }
    }

    fn lose_the_primary(&mut self) {
        title("alpha loses its power, in the middle of all that: kill -9, every process");
        let before = self.log().acknowledged();
        self.cluster.power_off(Side::Alpha);
        println!("It had acknowledged at least {before} writes. Its disk is out of reach now.");
    }

    fn promote(&mut self) {
        title("beta takes over");
        let since = Instant::now();
        self.hastctl(Side::Beta, &["role", "primary", "data"]);
        let device = self.cluster.device(Side::Beta);
        println!(
            "Its device is there after {} ms. Is every acknowledged write?",
            since.elapsed().as_millis()
        );
        let log = self.log();
        log.pause();
        log.verify_device(&device);
        println!(
            "Yes: {} of {}, and no block holds anything else.",
            log.acknowledged(),
            log.acknowledged()
        );
        log.go_to(&device);
        log.resume();
    }

    fn write_alone(&mut self) {
        title("The application goes on, on beta alone; what changes is noted in its bitmap");
        self.watch(Side::Beta, 3);
    }

    fn bring_back(&mut self) {
        title("alpha comes back, as secondary: only what changed is copied to it");
        self.cluster.start_node(Side::Alpha);
        println!("alpha# hastd");
        self.hastctl(Side::Alpha, &["role", "secondary", "data"]);
        let since = Instant::now();
        let mut shown = false;
        loop {
            let status = self.cluster.status(Side::Beta);
            if let Some(sync) = &status.synchronisation {
                self.progress(sync);
                shown = true;
            } else if status.is_synced() {
                break;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "the synchronisation does not end: {status:#?}"
            );
            thread::sleep(Duration::from_millis(if self.live { 100 } else { 1000 }));
        }
        if shown && self.live {
            println!();
        }
        println!(
            "Synchronised after {:.1} s, while the application was writing.",
            since.elapsed().as_secs_f32()
        );
        self.hastctl(Side::Beta, &["status"]);
    }

    fn progress(&self, sync: &Synchronisation) {
        let done = sync.total_bytes.saturating_sub(sync.left_bytes);
        let percent = (done * 100).checked_div(sync.total_bytes).unwrap_or(100);
        let ticks = usize::try_from(percent / 4).unwrap_or(0);
        let eta = sync
            .eta_seconds
            .map(|seconds| format!(", {seconds} s left"))
            .unwrap_or_default();
        let line = format!(
            "    [{:<25}] {percent:3} % of {} MiB, {} MiB/s{eta}",
            "=".repeat(ticks),
            sync.total_bytes >> 20,
            sync.bytes_per_second >> 20,
        );
        if self.live {
            print!("\r{line:<78}");
            // A terminal that has gone away is noticed at the next line.
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn compare(&mut self) {
        title("Stop writing, and compare");
        if let Some(log) = &mut self.log {
            log.stop();
        }
        let log = self.log();
        assert_eq!(log.failed(), 0, "writes that the application saw fail");
        self.cluster
            .wait_status(Side::Beta, "synchronised", Status::is_synced);
        for side in Side::BOTH {
            log.verify_copy(&self.cluster.copy(side));
            println!(
                "{side}'s disk has all {} acknowledged writes.",
                log.acknowledged()
            );
        }
        let (alpha, beta) = (
            self.cluster.copy(Side::Alpha),
            self.cluster.copy(Side::Beta),
        );
        let different = differences(&alpha, &beta);
        assert!(different.is_empty(), "the copies differ at {different:?}");
        println!(
            "Byte for byte, {} MiB: the copies are equal.",
            alpha.metadata.datasize >> 20
        );
        for side in Side::BOTH {
            self.hastctl(side, &["stop"]);
        }
    }
}
