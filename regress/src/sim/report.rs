//! How often what happened: over one run, and over many.

use std::collections::BTreeMap;

use hast::engine::event::{Notice, PrimaryEvent, SecondaryEvent};
use hast::engine::primary::PrimaryStatus;
use hast::engine::secondary::Secondary;
use hast::engine::states::{Link, Local, Session, Sync};
use hast::terms::Replication;

use super::clock::Micros;
use super::faults::Fault;

/// Kinds of events of a primary.
const PRIMARY_EVENTS: [&str; 12] = [
    "App",
    "DiskDone",
    "DiskFailed",
    "Linked",
    "Hello",
    "Reply",
    "Lost",
    "Tick",
    "Parameters",
    "PauseSync",
    "Stop",
    "Heartbeat",
];

/// Kinds of events of a secondary.
const SECONDARY_EVENTS: [&str; 7] = [
    "Hello",
    "Request",
    "DiskDone",
    "DiskFailed",
    "Lost",
    "Tick",
    "Stop",
];

/// Counts of a run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Runs.
    pub runs: u64,
    /// Events handled.
    pub events: u64,
    /// Simulated time, microseconds.
    pub simulated: Micros,
    /// Faults by kind.
    pub faults: [u64; Fault::ALL.len()],
    /// Requests completed.
    pub completions: u64,
    /// Of these, with an error.
    pub failed_requests: u64,
    /// Disk operations that failed.
    pub disk_errors: u64,
    /// Starts of a primary's worker.
    pub promotions: u64,
    /// Starts of a secondary's worker.
    pub sessions: u64,
    /// Connections refused by a daemon.
    pub refusals: u64,
    /// Connections that ended.
    pub disconnections: u64,
    /// Roles set.
    pub role_changes: u64,
    /// Failovers.
    pub failovers: u64,
    /// Workers killed because they did not end.
    pub kills: u64,
    /// Local components created anew.
    pub recreations: u64,
    /// Of these, with the old content.
    pub invalidations: u64,
    /// Promotions on incomplete copies that were refused.
    pub refused: u64,
    /// Promotions on incomplete copies that were forced.
    pub forced: u64,
    /// Split-brains found.
    pub split_brains: u64,
    /// Blocks that arrived short.
    pub shortened: u64,
    /// The run was in memsync at some time.
    pub memsync: bool,
    /// Notices of the engines, by kind.
    pub notices: BTreeMap<&'static str, u64>,
    /// Link, local and synchronisation state of a primary, and the event it got there.
    primary: Pairs<125, { PRIMARY_EVENTS.len() }>,
    /// Session state of a secondary, and the event it got there.
    secondary: Pairs<6, { SECONDARY_EVENTS.len() }>,
}

/// Counts by state and event.
#[derive(Clone, Debug)]
struct Pairs<const S: usize, const E: usize>(Box<[[u64; E]; S]>);

impl<const S: usize, const E: usize> Default for Pairs<S, E> {
    fn default() -> Self {
        Pairs(Box::new([[0; E]; S]))
    }
}

impl<const S: usize, const E: usize> Pairs<S, E> {
    fn add(&mut self, other: &Self) {
        for (row, more) in self.0.iter_mut().zip(other.0.iter()) {
            for (count, more) in row.iter_mut().zip(more) {
                *count += more;
            }
        }
    }
}

impl Stats {
    /// Count a primary's state and event.
    pub fn primary_pair(&mut self, status: &PrimaryStatus, event: &PrimaryEvent<'_>) {
        let state = status.link as usize * 25 + status.local as usize * 5 + status.sync as usize;
        let event = match event {
            PrimaryEvent::App(_) => 0,
            PrimaryEvent::DiskDone { result: Ok(()), .. } => 1,
            PrimaryEvent::DiskDone { .. } => 2,
            PrimaryEvent::Linked => 3,
            PrimaryEvent::Hello { .. } => 4,
            PrimaryEvent::Reply { .. } => 5,
            PrimaryEvent::Lost(_) => 6,
            PrimaryEvent::Tick => 7,
            PrimaryEvent::Parameters(_) => 8,
            PrimaryEvent::PauseSync(_) => 9,
            PrimaryEvent::Stop => 10,
            PrimaryEvent::Heartbeat => 11,
        };
        self.primary.0[state][event] += 1;
    }

    /// Count a secondary's state and event.
    pub fn secondary_pair(&mut self, engine: &Secondary, event: &SecondaryEvent) {
        let event = match event {
            SecondaryEvent::Hello { .. } => 0,
            SecondaryEvent::Request { .. } => 1,
            SecondaryEvent::DiskDone { result: Ok(()), .. } => 2,
            SecondaryEvent::DiskDone { .. } => 3,
            SecondaryEvent::Lost(_) => 4,
            SecondaryEvent::Tick => 5,
            SecondaryEvent::Stop => 6,
        };
        self.secondary.0[engine.status().session as usize][event] += 1;
    }

    /// Count a notice.
    pub fn notice(&mut self, notice: &Notice) {
        let name = match notice {
            Notice::Connected => "Connected",
            Notice::Disconnected(_) => "Disconnected",
            Notice::SyncStarted {
                from_peer: false, ..
            } => "SyncStarted to the peer",
            Notice::SyncStarted {
                from_peer: true, ..
            } => "SyncStarted from the peer",
            Notice::SyncDone => "SyncDone",
            Notice::SyncInterrupted => "SyncInterrupted",
            Notice::SplitBrain => "SplitBrain",
            Notice::CountersImpossible => "CountersImpossible",
            Notice::LocalcntBumped(_) => "LocalcntBumped",
            Notice::CountersAgreed { .. } => "CountersAgreed",
            Notice::LocalError { .. } => "LocalError",
            Notice::RemoteError { .. } => "RemoteError",
            Notice::Detached => "Detached",
            Notice::PeerCannotDelete => "PeerCannotDelete",
            Notice::PeerCannotFlush => "PeerCannotFlush",
        };
        *self.notices.entry(name).or_default() += 1;
    }

    /// A mode is in use.
    pub fn mode(&mut self, replication: Replication) {
        self.memsync |= replication == Replication::Memsync;
    }

    /// Add the counts of another run.
    pub fn add(&mut self, other: &Stats) {
        self.runs += 1;
        self.events += other.events;
        self.simulated += other.simulated;
        for (count, more) in self.faults.iter_mut().zip(&other.faults) {
            *count += more;
        }
        self.completions += other.completions;
        self.failed_requests += other.failed_requests;
        self.disk_errors += other.disk_errors;
        self.promotions += other.promotions;
        self.sessions += other.sessions;
        self.refusals += other.refusals;
        self.disconnections += other.disconnections;
        self.role_changes += other.role_changes;
        self.failovers += other.failovers;
        self.kills += other.kills;
        self.recreations += other.recreations;
        self.invalidations += other.invalidations;
        self.refused += other.refused;
        self.forced += other.forced;
        self.split_brains += other.split_brains;
        self.shortened += other.shortened;
        for (name, count) in &other.notices {
            *self.notices.entry(name).or_default() += count;
        }
        self.primary.add(&other.primary);
        self.secondary.add(&other.secondary);
    }

    /// State x event pairs that never occurred, by machine.
    pub fn unreached(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let sum = |event: usize, of: &dyn Fn(usize) -> bool| -> u64 {
            (0..125)
                .filter(|&state| of(state))
                .map(|state| self.primary.0[state][event])
                .sum()
        };
        for (event, name) in PRIMARY_EVENTS.iter().enumerate() {
            for link in Link::ALL {
                if sum(event, &|state| state / 25 == link as usize) == 0 {
                    missing.push(format!("link {link:?} x {name}"));
                }
            }
            for local in Local::ALL {
                if sum(event, &|state| state / 5 % 5 == local as usize) == 0 {
                    missing.push(format!("local {local:?} x {name}"));
                }
            }
            for sync in Sync::ALL {
                if sum(event, &|state| state % 5 == sync as usize) == 0 {
                    missing.push(format!("synchronisation {sync:?} x {name}"));
                }
            }
        }
        for (event, name) in SECONDARY_EVENTS.iter().enumerate() {
            for session in Session::ALL {
                if self.secondary.0[session as usize][event] == 0 {
                    missing.push(format!("session {session:?} x {name}"));
                }
            }
        }
        missing
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.simulated / 3_600_000_000;
        let minutes = self.simulated / 60_000_000 % 60;
        writeln!(
            f,
            "{} runs, {} events, {hours} h {minutes} min simulated",
            self.runs, self.events
        )?;
        writeln!(
            f,
            "{} requests completed, {} with an error; {} disk errors",
            self.completions, self.failed_requests, self.disk_errors
        )?;
        writeln!(
            f,
            "{} primaries started, {} secondaries, {} connections refused, {} ended, {} roles set, \
             {} failovers, {} kills, {} disks made anew ({} invalidated), {} promotions on incomplete \
             copies refused, {} forced, {} split-brains, {} short blocks",
            self.promotions,
            self.sessions,
            self.refusals,
            self.disconnections,
            self.role_changes,
            self.failovers,
            self.kills,
            self.recreations,
            self.invalidations,
            self.refused,
            self.forced,
            self.split_brains,
            self.shortened
        )?;
        writeln!(f, "faults:")?;
        for (fault, count) in Fault::ALL.iter().zip(&self.faults) {
            writeln!(f, "  {count:>9} {fault:?}")?;
        }
        writeln!(f, "notices:")?;
        for (name, count) in &self.notices {
            writeln!(f, "  {count:>9} {name}")?;
        }
        let missing = self.unreached();
        writeln!(f, "state x event pairs never reached: {}", missing.len())?;
        for pair in missing {
            writeln!(f, "  {pair}")?;
        }
        Ok(())
    }
}
