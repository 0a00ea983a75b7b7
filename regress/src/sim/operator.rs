//! The person who sets the roles: mostly sensible, at times not, and who repairs what needs it.
//!
//! A sensible operator has one node in mind as primary, demotes the other before promoting it,
//! fails over when it is down for long, and repairs as the manual says: after a split-brain, or
//! when a copy is unusable, the losing node's local component is created anew and synchronised.

use hast::engine::event::LostReason;
use hast::engine::states::{Link, Local, Sync};
use hast::terms::Role;

use super::clock::{Micros, SECOND};
use super::disk::Image;
use super::faults::{Ailment, Fault};
use super::node::{Worker, fresh_image};
use super::world::{CONVERGENCE_LIMIT, Event, Phase, World};

/// Looks after which an incomplete copy is used all the same.
const REFUSALS_MAX: u32 = 8;

/// What the operator has in mind.
#[derive(Debug, Default)]
pub struct Operator {
    /// The node that shall be primary.
    pub intended: usize,
    /// The operator does not look.
    pub confused: bool,
    /// The node whose local component is to be created anew.
    recreate: Option<usize>,
    /// The secondary is wanted off until then.
    off_until: Micros,
    /// When the cluster was first seen in order.
    well_since: Option<Micros>,
    /// How often the same trouble was seen in a row.
    patience: u32,
    /// How often in a row the intended primary had an incomplete copy.
    refusals: u32,
}

impl World {
    /// The operator looks at the cluster.
    pub fn operate(&mut self) {
        let now = self.clock.now();
        let pause = self.rng.around(if self.phase == Phase::Trouble {
            2 * SECOND
        } else {
            SECOND
        });
        self.clock.after(pause, Event::Operator);
        self.trace.event(now, 6, self.operator.intended as u64);
        if self.operator.confused {
            return;
        }
        self.choose();
        self.repair();
        self.assign();
        if self.phase == Phase::Quiet {
            self.look_for_the_end();
        }
    }

    /// Decide which node shall be primary.
    fn choose(&mut self) {
        let now = self.clock.now();
        let intended = self.operator.intended;
        let other = 1 - intended;
        if !self.nodes[other].powered {
            return;
        }
        let down_long = self.nodes[intended]
            .down_since
            .is_some_and(|since| now > since + 5 * SECOND);
        if down_long && self.rng.chance(500) {
            self.operator.intended = other;
            self.stats.failovers += 1;
        }
        let unusable =
            |node: &super::node::Node| node.disk.view.meta.inconsistent || node.disk.health.dead;
        if self.nodes[intended].powered
            && unusable(&self.nodes[intended])
            && !unusable(&self.nodes[other])
            && !self.connected(intended)
        {
            self.operator.intended = other;
        }
    }

    fn connected(&self, node: usize) -> bool {
        self.nodes[node]
            .as_primary()
            .is_some_and(|worker| worker.session.is_some())
    }

    /// See to copies that cannot come together.
    fn repair(&mut self) {
        let intended = self.operator.intended;
        let Some(reason) = self.nodes[intended].last_lost else {
            self.operator.patience = 0;
            return;
        };
        let hopeless = matches!(
            reason,
            LostReason::SplitBrain
                | LostReason::ResuidMismatch { .. }
                | LostReason::DatasizeMismatch { .. }
                | LostReason::ExtentsizeMismatch { .. }
                | LostReason::NoGoodCopy
        );
        if !hopeless || self.nodes[intended].as_primary().is_none() {
            return;
        }
        self.operator.patience += 1;
        if self.operator.patience > 2 {
            self.operator.patience = 0;
            // A node whose disk was given up has nothing to offer, whatever its role.
            let given_up = |node: &super::node::Node| {
                node.detached || node.disk.view.meta.inconsistent || node.disk.health.dead
            };
            let [ours, theirs] = [intended, 1 - intended].map(|n| given_up(&self.nodes[n]));
            let loser = if self.nodes[intended].detached || ours && !theirs {
                intended
            } else {
                1 - intended
            };
            self.operator.recreate = Some(loser);
            self.operator.intended = 1 - loser;
            self.nodes[intended].last_lost = None;
        }
    }

    /// Give the nodes their roles, step by step.
    fn assign(&mut self) {
        let now = self.clock.now();
        let intended = self.operator.intended;
        let other = 1 - intended;
        if let Some(node) = self.operator.recreate {
            if !self.nodes[node].powered {
                return;
            }
            self.set_role(node, Role::Init);
            if !matches!(self.nodes[node].worker, Worker::None) {
                return;
            }
            self.recreate(node);
            self.operator.recreate = None;
        }
        let wanted = if now < self.operator.off_until {
            Role::Init
        } else {
            Role::Secondary
        };
        self.set_role(other, wanted);
        let other_runs = matches!(self.nodes[other].worker, Worker::Primary(_));
        if !other_runs {
            self.promote(intended);
        }
    }

    /// Make a node primary. If its copy is incomplete that is refused; when waiting for the
    /// complete one does not help, it is forced.
    fn promote(&mut self, node: usize) {
        let this = &self.nodes[node];
        if this.role == Role::Primary || !this.disk.view.meta.inconsistent {
            self.operator.refusals = 0;
        } else {
            self.operator.refusals += 1;
            self.nodes[node].forced = self.operator.refusals > REFUSALS_MAX;
        }
        self.set_role(node, Role::Primary);
    }

    /// `hastctl create`, or `hastctl invalidate`, on a node without a worker.
    fn recreate(&mut self, node: usize) {
        self.note(format_args!("node {node} gets a new local component"));
        self.stats.recreations += 1;
        let image = if self.rng.coin() {
            fresh_image(&self.scenario)
        } else {
            self.stats.invalidations += 1;
            invalidated(&self.nodes[node].disk.view)
        };
        self.nodes[node].disk.wipe(image);
        self.nodes[node].detached = false;
        self.nodes[node].mixed = false;
        self.nodes[node].last_lost = None;
        self.oracle.recreated(node);
    }

    /// The operator does something that is planned, or foolish.
    pub fn operator_whim(&mut self, kind: Fault) {
        match kind {
            Fault::TwoPrimaries => {
                self.operator.confused = true;
                let pause = self.rng.around(5 * SECOND);
                self.clock.after(pause, Event::Heal(Ailment::Confusion));
                self.set_role(0, Role::Primary);
                self.set_role(1, Role::Primary);
            }
            Fault::SecondaryOff => {
                let pause = self.rng.around(5 * SECOND);
                self.operator.off_until = self.clock.now() + pause;
                self.assign();
            }
            _ => {
                self.operator.intended = 1 - self.operator.intended;
                self.assign();
            }
        }
    }

    /// The faults stop.
    pub fn calm(&mut self) {
        self.note(format_args!("calm"));
        self.phase = Phase::Calm;
        self.heal_everything();
        self.operator.off_until = 0;
        self.set_parameters(self.scenario.parameters);
        let load = self.rng.around(3 * SECOND);
        self.clock.after(load, Event::Quiet);
        // One extent after the other may have to be copied, over a slow network.
        let round = 4 * self.scenario.net.latency_us
            + 4 * self
                .scenario
                .disks
                .iter()
                .map(|disk| disk.latency_us)
                .max()
                .unwrap_or(0);
        let copying = u64::from(self.scenario.extents()) * round;
        self.clock
            .after(CONVERGENCE_LIMIT + copying, Event::Verdict);
    }

    fn is_well(&self) -> bool {
        let intended = self.operator.intended;
        let Some(worker) = self.nodes[intended].as_primary() else {
            return false;
        };
        let status = worker.engine.status();
        let connected = worker.session.is_some() && status.link == Link::Up;
        let in_step = status.sync == Sync::Idle && status.sync_left_bytes == 0;
        let quiet = self.nodes.iter().all(|node| node.device.open() == 0);
        let idle = self.nodes.iter().all(|node| node.disk.in_flight() == 0);
        connected
            && in_step
            && status.local == Local::Good
            && quiet
            && idle
            && worker.outstanding.is_empty()
    }

    /// When everything is well for a while, the copies are compared and the run is over.
    fn look_for_the_end(&mut self) {
        let now = self.clock.now();
        let intended = self.operator.intended;
        let detached = self.nodes[intended]
            .as_primary()
            .is_some_and(|worker| !worker.engine.status().local.is_attached());
        if detached && self.connected(intended) {
            // The peer has the good copy: it takes over, and this node gets a new one.
            self.operator.intended = 1 - intended;
            self.operator.recreate = Some(intended);
        }
        if !self.is_well() {
            self.operator.well_since = None;
            return;
        }
        if *self.operator.well_since.get_or_insert(now) + 3 * SECOND > now {
            return;
        }
        self.check_equal(self.operator.intended);
        self.check_marks();
        self.check_copies("end");
        self.phase = Phase::Over;
    }

    /// No copy is called incomplete when all of them are equal.
    fn check_marks(&mut self) {
        let is_marked = |node: &super::node::Node| node.disk.view.meta.inconsistent;
        if self.scenario.steering && self.nodes.iter().any(is_marked) {
            let states = self.states();
            self.fail("complete-is-not-marked", states);
        }
    }

    /// The time within which the cluster must have converged is over.
    pub fn verdict(&mut self) {
        let states = self.states();
        self.fail("convergence", states);
    }

    /// What the workers are at, for the report of a failure.
    pub fn states(&self) -> String {
        let open: Vec<usize> = self.nodes.iter().map(|node| node.device.open()).collect();
        let states: Vec<String> = self
            .nodes
            .iter()
            .map(|node| match &node.worker {
                Worker::None => format!("{:?}, no worker, {:?}", node.role, node.disk.view.meta),
                Worker::Primary(worker) => {
                    format!("{:?} last {:?}", worker.engine.status(), node.last_lost)
                }
                Worker::Secondary(worker) => format!("{:?}", worker.engine.status()),
            })
            .collect();
        format!("open requests {open:?}; {states:#?}")
    }
}

/// What `hastctl invalidate` makes of a disk: the data stay, and count for nothing.
fn invalidated(image: &Image) -> Image {
    let mut image = image.clone();
    let full = hast::disk::invalidate::full_map(&image.meta);
    for (byte, full) in image.map.iter_mut().zip(full) {
        *byte = full;
    }
    image.meta = image.meta.unusable();
    image
}
