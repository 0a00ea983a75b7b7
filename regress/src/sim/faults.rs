//! What goes wrong, and how it is put right.

use hast::engine::event::{Parameters, PrimaryEvent};
use hast::terms::{Role, SyncRate};

use super::clock::{Micros, SECOND};
use super::disk::Health;
use super::network::Way;
use super::node::Worker;
use super::rng::Rng;
use super::scenario::{Scenario, draw_replication};
use super::world::{Event, Phase, World};

/// A kind of misfortune, or of an operator's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The primary's worker is killed.
    PrimaryCrash,
    /// The secondary's worker is killed.
    SecondaryCrash,
    /// All processes of a node are killed.
    DaemonCrash,
    /// A node loses power.
    PowerOne,
    /// Both nodes lose power.
    PowerBoth,
    /// A connection breaks; both ends notice sooner or later.
    Cut,
    /// A connection breaks and at most one end is told.
    HalfOpen,
    /// Nothing gets through, one way.
    PartitionOneWay,
    /// Nothing gets through.
    Partition,
    /// The network is slow.
    SlowNetwork,
    /// A block arrives short.
    ShortBlock,
    /// Some reads fail.
    ReadErrors,
    /// A range cannot be read until it is written.
    Unreadable,
    /// Some writes and flushes fail.
    WriteErrors,
    /// A range cannot be written.
    Unwritable,
    /// Bitmap and metadata cannot be written.
    SystemArea,
    /// A disk does not answer.
    DiskHangs,
    /// A disk is slow.
    SlowDisk,
    /// A disk answers everything with an error.
    DiskDies,
    /// The operator exchanges the roles.
    RoleSwitch,
    /// The operator makes both nodes primary.
    TwoPrimaries,
    /// The operator stops the secondary for a while.
    SecondaryOff,
    /// The operator changes parameters.
    Reload,
    /// The operator lets the synchronisation rest.
    PauseSync,
    /// The operator keeps the nodes apart.
    Disconnect,
}

impl Fault {
    /// Every kind, in the order of the weights.
    pub const ALL: [Fault; 25] = [
        Fault::PrimaryCrash,
        Fault::SecondaryCrash,
        Fault::DaemonCrash,
        Fault::PowerOne,
        Fault::PowerBoth,
        Fault::Cut,
        Fault::HalfOpen,
        Fault::PartitionOneWay,
        Fault::Partition,
        Fault::SlowNetwork,
        Fault::ShortBlock,
        Fault::ReadErrors,
        Fault::Unreadable,
        Fault::WriteErrors,
        Fault::Unwritable,
        Fault::SystemArea,
        Fault::DiskHangs,
        Fault::SlowDisk,
        Fault::DiskDies,
        Fault::RoleSwitch,
        Fault::TwoPrimaries,
        Fault::SecondaryOff,
        Fault::Reload,
        Fault::PauseSync,
        Fault::Disconnect,
    ];

    fn needs_power_safety(self) -> bool {
        matches!(self, Fault::PowerOne | Fault::PowerBoth)
    }

    fn is_of_disks(self) -> bool {
        matches!(
            self,
            Fault::ReadErrors
                | Fault::Unreadable
                | Fault::WriteErrors
                | Fault::Unwritable
                | Fault::SystemArea
                | Fault::DiskHangs
                | Fault::DiskDies
        )
    }
}

/// Where the kinds of a node's failure are in [`Fault::ALL`]: without and with loss of power.
const FRAIL: (usize, usize) = (2, 3);

/// What is put right later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// A node without power.
    Power(usize),
    /// A node's outgoing messages are held up.
    Blocked(usize),
    /// A slow network.
    Slow,
    /// What is wrong with a node's disk.
    Disk(usize),
    /// A slow disk, and how fast it was.
    SlowDisk(usize, u64),
    /// A confused operator.
    Confusion,
    /// A synchronisation at rest.
    Paused(usize),
    /// A node that is kept apart.
    Apart(usize),
}

/// How likely each kind of fault is in a run. Most runs have some kinds only, so that rare
/// combinations are not drowned by what ends every run early.
pub fn draw_weights(rng: &mut Rng, scenario: &Scenario) -> Vec<u32> {
    let disks = rng.chance(400);
    let caches = scenario.disks.iter().any(|disk| disk.cache);
    let fragile = caches && !scenario.parameters.metaflush;
    let mut weights: Vec<u32> = Fault::ALL
        .iter()
        .map(|&fault| {
            let weight = rng.pick(&[0, 1, 1, 4, 10]);
            let excluded =
                (fault.needs_power_safety() && fragile) || (fault.is_of_disks() && !disks);
            if excluded { 0 } else { weight }
        })
        .collect();
    if weights.iter().all(|&weight| weight == 0) {
        weights[5] = 1;
    }
    weights
}

/// So many bytes per second.
fn limit(bytes: u64) -> SyncRate {
    std::num::NonZeroU64::new(bytes).map_or(SyncRate::Unlimited, SyncRate::Limit)
}

impl World {
    /// Something goes wrong.
    pub fn fault(&mut self) {
        if self.phase != Phase::Trouble {
            return;
        }
        let pause = self.rng.around(self.scenario.fault_every);
        self.clock.after(pause, Event::Fault);
        let kind = Fault::ALL[self.rng.weighted(&self.scenario.fault_weights)];
        let happened = self.happen(kind);
        self.note(format_args!(
            "fault {kind:?}: {}",
            if happened { "happens" } else { "cannot" }
        ));
        if happened {
            let at = Fault::ALL
                .iter()
                .position(|&fault| fault == kind)
                .unwrap_or(0);
            self.stats.faults[at] += 1;
        }
        self.trace.event(self.clock.now(), 5, kind as u64);
    }

    /// Something is being recorded or agreed on: at times a node fails just then, if nodes fail in
    /// this run.
    pub fn tempt(&mut self, node: usize) {
        let weights = &self.scenario.fault_weights;
        let frail = [FRAIL.0, FRAIL.1]
            .iter()
            .any(|&at| weights.get(at).is_some_and(|&w| w > 0));
        if self.phase == Phase::Trouble && frail && self.rng.chance(30) {
            let pause = self.rng.around(2 * self.nodes[node].disk.spec.latency_us);
            self.clock.after(pause, Event::Strike { node });
        }
    }

    /// A node fails at a moment that matters, and the other takes over.
    pub fn strike(&mut self, node: usize) {
        if self.phase != Phase::Trouble || self.operator.confused {
            return;
        }
        self.note(format_args!("node {node} is struck"));
        let kind = if self.scenario.fault_weights[FRAIL.1] > 0 && self.power_off(node) {
            Fault::PowerOne
        } else if self.nodes[node].powered {
            self.daemon_crash(node);
            Fault::DaemonCrash
        } else {
            return;
        };
        if let Some(at) = Fault::ALL.iter().position(|&fault| fault == kind) {
            self.stats.faults[at] += 1;
        }
        self.operator.intended = 1 - node;
    }

    fn recovery(&mut self) -> Micros {
        self.rng
            .pick(&[SECOND / 100, SECOND, 5 * SECOND, 30 * SECOND])
    }

    fn heal_later(&mut self, ailment: Ailment) {
        let pause = self.recovery();
        let pause = self.rng.around(pause);
        self.clock.after(pause, Event::Heal(ailment));
    }

    fn happen(&mut self, kind: Fault) -> bool {
        let node = usize::from(self.rng.coin());
        match kind {
            Fault::PrimaryCrash => self.crash_one(|worker| matches!(worker, Worker::Primary(_))),
            Fault::SecondaryCrash => {
                self.crash_one(|worker| matches!(worker, Worker::Secondary(_)))
            }
            Fault::DaemonCrash => {
                if !self.nodes[node].powered {
                    return false;
                }
                self.daemon_crash(node);
                true
            }
            Fault::PowerOne => self.power_off(node),
            Fault::PowerBoth => self.power_off(0) | self.power_off(1),
            Fault::Cut => self.break_link(true),
            Fault::HalfOpen => self.break_link(false),
            Fault::PartitionOneWay => self.block(node),
            Fault::Partition => self.block(0) | self.block(1),
            Fault::SlowNetwork => {
                self.net.slowness = self.rng.pick(&[5, 50, 500]);
                self.heal_later(Ailment::Slow);
                true
            }
            Fault::ShortBlock => !std::mem::replace(&mut self.shorten, true),
            Fault::RoleSwitch | Fault::TwoPrimaries | Fault::SecondaryOff => {
                self.operator_whim(kind);
                true
            }
            Fault::Reload => self.reload(),
            Fault::PauseSync => {
                if self.nodes[node].as_primary().is_none() {
                    return false;
                }
                self.primary_event(node, PrimaryEvent::PauseSync(true));
                self.heal_later(Ailment::Paused(node));
                true
            }
            Fault::Disconnect => {
                let happens = self.disconnect(node);
                if happens {
                    self.heal_later(Ailment::Apart(node));
                }
                happens
            }
            _ => self.disk_fault(node, kind),
        }
    }

    fn crash_one(&mut self, which: fn(&Worker) -> bool) -> bool {
        let found = self.nodes.iter().position(|node| which(&node.worker));
        if let Some(node) = found {
            self.crash_worker(node);
        }
        found.is_some()
    }

    fn daemon_crash(&mut self, node: usize) {
        self.die(node, false);
        // Requests that waited for a worker have nobody to wait for now.
        self.orphan_requests(node, false);
        let this = &mut self.nodes[node];
        this.role = Role::Init;
        let links = this.half_open.take().map(|(link, _)| link);
        let links = links
            .into_iter()
            .chain(this.accepted.take().map(|accepted| accepted.link));
        for link in links.collect::<Vec<_>>() {
            self.close(node, link, Way::ToPrimary);
        }
    }

    /// A node loses power; whether it had any.
    pub fn power_off(&mut self, node: usize) -> bool {
        if !self.nodes[node].powered {
            return false;
        }
        let this = &mut self.nodes[node];
        this.disk.power_lost(&mut self.rng);
        this.disk.health.hung = false;
        this.powered = false;
        this.losses += 1;
        this.down_since = Some(self.clock.now());
        self.oracle.power_lost(node);
        self.daemon_crash(node);
        self.heal_later(Ailment::Power(node));
        true
    }

    fn current_link(&self) -> Option<super::network::LinkId> {
        let mut links = self
            .nodes
            .iter()
            .filter_map(|node| node.as_primary()?.uplink.link());
        links.next()
    }

    fn break_link(&mut self, tell_both: bool) -> bool {
        let Some(link) = self.current_link() else {
            return false;
        };
        let told = if tell_both { 2 } else { self.rng.below(3) };
        self.cut(link, Way::ToSecondary, told == 2 || (told == 1));
        self.cut(link, Way::ToPrimary, told == 2 && tell_both);
        true
    }

    fn block(&mut self, node: usize) -> bool {
        if std::mem::replace(&mut self.net.blocked[node], true) {
            return false;
        }
        self.heal_later(Ailment::Blocked(node));
        true
    }

    fn reload(&mut self) -> bool {
        let whole = self.scenario.datasize();
        let old = self.nodes[0].parameters;
        let parameters = Parameters {
            replication: draw_replication(&mut self.rng),
            timeout_ms: self.rng.pick(&[2_000, 5_000, 20_000]),
            metaflush: old.metaflush,
            sync_rate: self.rng.pick(&[
                SyncRate::Unlimited,
                SyncRate::Adaptive,
                limit(whole / 5 + 1),
                limit(whole / 60 + 1),
            ]),
        };
        self.set_parameters(parameters);
        true
    }

    /// Both nodes get new parameters.
    pub fn set_parameters(&mut self, parameters: Parameters) {
        self.stats.mode(parameters.replication);
        for node in [0, 1] {
            self.nodes[node].parameters = parameters;
            self.primary_event(node, PrimaryEvent::Parameters(parameters));
        }
    }

    fn disk_fault(&mut self, node: usize, kind: Fault) -> bool {
        let sectors = self.scenario.sectors;
        let start = self.rng.below(sectors);
        let range = start..sectors.min(start + 1 + self.rng.below(32));
        let per_mille = self.rng.pick(&[5, 50, 500]);
        let disk = &mut self.nodes[node].disk;
        let health = &mut disk.health;
        match kind {
            Fault::ReadErrors => health.read_errors = per_mille,
            Fault::Unreadable => health.unreadable.push(range),
            Fault::WriteErrors => health.write_errors = per_mille,
            Fault::Unwritable => health.unwritable.push(range),
            Fault::SystemArea => health.system_area = true,
            Fault::DiskHangs => health.hung = true,
            Fault::DiskDies => health.dead = true,
            Fault::SlowDisk => {
                let before = disk.spec.latency_us;
                if before > 10_000 {
                    return false;
                }
                disk.spec.latency_us = before * self.rng.pick(&[10, 100]);
                self.heal_later(Ailment::SlowDisk(node, before));
                return true;
            }
            _ => return false,
        }
        self.heal_later(Ailment::Disk(node));
        true
    }

    /// Something that went wrong is put right.
    pub fn heal(&mut self, ailment: Ailment) {
        self.note(format_args!("healed: {ailment:?}"));
        match ailment {
            Ailment::Power(node) => {
                if !self.nodes[node].powered {
                    self.nodes[node].powered = true;
                    self.nodes[node].down_since = None;
                }
            }
            Ailment::Blocked(node) => {
                self.net.blocked[node] = false;
                self.wake_network();
            }
            Ailment::Slow => self.net.slowness = 1,
            Ailment::SlowDisk(node, latency_us) => {
                self.nodes[node].disk.spec.latency_us = latency_us;
            }
            Ailment::Disk(node) => {
                let disk = &mut self.nodes[node].disk;
                let waiting = disk.resume();
                disk.health = Health::default();
                for flight in waiting {
                    let latency = self.nodes[node].disk.latency(&mut self.rng);
                    self.clock.after(latency, Event::Disk { node, flight });
                }
            }
            Ailment::Confusion => self.operator.confused = false,
            Ailment::Paused(node) => self.primary_event(node, PrimaryEvent::PauseSync(false)),
            Ailment::Apart(node) => self.reconnect(node),
        }
    }

    /// Streams that are not blocked any more go on.
    pub fn wake_network(&mut self) {
        for (link, way, due) in self.net.unblock() {
            self.clock.at(due, Event::Deliver { link, way });
        }
    }

    /// Everything is put right.
    pub fn heal_everything(&mut self) {
        for node in [0, 1] {
            self.heal(Ailment::Power(node));
            self.heal(Ailment::Blocked(node));
            self.heal(Ailment::Disk(node));
            self.heal(Ailment::SlowDisk(
                node,
                self.scenario.disks[node].latency_us,
            ));
            self.heal(Ailment::Paused(node));
            self.heal(Ailment::Apart(node));
        }
        self.heal(Ailment::Slow);
        self.heal(Ailment::Confusion);
        self.shorten = false;
    }
}
