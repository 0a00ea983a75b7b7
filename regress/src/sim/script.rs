//! Short histories, enumerated: every sequence of role changes, writes, disconnections and crashes
//! up to a length, with a crash after each durable step of either node.
//!
//! The cluster is the simulator's, without chance in what happens: three extents, disks and a
//! network without faults, two writes at a time. What is checked is what the simulator checks: an
//! acknowledged write is never lost silently, whatever the counters on the two disks say.

use hast::engine::event::{AppOp, Parameters};
use hast::engine::mutant::Mutant;
use hast::terms::{Replication, Role, SyncRate};

use super::clock::SECOND;
use super::rng::Rng;
use super::scenario::{DeleteKind, DiskSpec, Load, NetSpec, Scenario};
use super::trace::{Detail, Violation};
use super::world::{Options, Phase, World};

/// What the operator, the application or the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node becomes primary.
    Primary(usize),
    /// A node becomes secondary.
    Secondary(usize),
    /// The application of a node writes two extents.
    Write(usize),
    /// The network between the nodes stops working, or works again.
    Toggle,
    /// A node loses power and comes back, off.
    Crash(usize),
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 9] = [
        Step::Primary(0),
        Step::Primary(1),
        Step::Secondary(0),
        Step::Secondary(1),
        Step::Write(0),
        Step::Write(1),
        Step::Toggle,
        Step::Crash(0),
        Step::Crash(1),
    ];
}

/// A crash in the middle of a step: the node, and how many of its disk operations are done before.
pub type Interruption = Option<(usize, u32)>;

/// Most disk operations of a node that a step is followed through.
pub const DURABLE_STEPS: u32 = 6;

/// Time for the consequences of a step.
const PAUSE: u64 = 15 * SECOND;

/// A history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Begin with two nodes in step, node 0 as primary, instead of two new ones.
    pub in_step: bool,
    /// What happens.
    pub steps: Vec<(Step, Interruption)>,
}

fn scenario() -> Scenario {
    let disk = DiskSpec {
        latency_us: 100,
        cache: true,
        flush: true,
        delete: DeleteKind::Zeros,
    };
    Scenario {
        sector: 512,
        sectors: 3,
        extent_sectors: 1,
        keepdirty: 1,
        parameters: Parameters {
            replication: Replication::Fullsync,
            timeout_ms: 2_000,
            metaflush: true,
            sync_rate: SyncRate::Unlimited,
        },
        copy_states: false,
        steering: false,
        request_bytes: 128 * 1024,
        requests_max: 4,
        sync_bufs: 1,
        disks: [disk, disk],
        net: NetSpec {
            latency_us: 100,
            sectors_per_ms: 1000,
            late_copy: false,
        },
        load: Load {
            clients: 1,
            think_us: 1000,
            sectors_max: 1,
            discard_max: 1,
            hot_sectors: 1,
            hot: 0,
            weights: [1, 1, 0, 0, 0, 0],
        },
        fault_weights: Vec::new(),
        fault_every: SECOND,
        duration: SECOND,
        takeover: false,
    }
}

/// Play a history to its end, after which the network works, node 1 is primary if it was the last
/// to be, and the other node secondary.
///
/// # Errors
/// The first broken invariant.
pub fn play(history: &History, mutant: Option<Mutant>, detail: Detail) -> Result<(), Violation> {
    let mut world = World::new(scenario(), Rng::new(1), Options { mutant, detail });
    world.phase = Phase::Quiet;
    for node in &mut world.nodes {
        node.disk.forgetful = true;
    }
    if history.in_step {
        world.step(Step::Secondary(1), None, 0)?;
        world.step(Step::Primary(0), None, 0)?;
        world.step(Step::Write(0), None, 0)?;
    }
    for (at, &(step, interruption)) in (1u32..).zip(&history.steps) {
        world.step(step, interruption, at)?;
    }
    if world.net.blocked[0] {
        world.step(Step::Toggle, None, 0)?;
    }
    let last = usize::from(world.last_primary == 1);
    world.step(Step::Secondary(1 - last), None, 0)?;
    world.step(Step::Primary(last), None, 0)?;
    world.step(Step::Write(last), None, 0)
}

impl World {
    fn step(
        &mut self,
        step: Step,
        interruption: Interruption,
        number: u32,
    ) -> Result<(), Violation> {
        self.note(format_args!(
            "step {number}: {step:?}, crash {interruption:?}"
        ));
        self.interruption = interruption;
        match step {
            Step::Primary(node) => {
                self.last_primary = node;
                self.set_role(node, Role::Primary);
            }
            Step::Secondary(node) => self.set_role(node, Role::Secondary),
            Step::Write(node) => {
                if self.nodes[node].as_primary().is_some() && !self.nodes[node].stopping {
                    // Two at once, as what one waits for must hold for both, and to stay: what is not
                    // flushed may be lost in a power failure.
                    let write = AppOp::Write { fua: true };
                    self.ask(node, 0, write, number % 3, 1);
                    self.ask(node, 0, write, (number + 1) % 3, 1);
                }
            }
            Step::Toggle => {
                let blocked = !self.net.blocked[0];
                self.net.blocked = [blocked; 2];
                self.wake_network();
            }
            Step::Crash(node) => self.crash_and_boot(node),
        }
        let end = self.clock.now() + PAUSE;
        while self.violation.is_none() && self.clock.peek().is_some_and(|at| at <= end) {
            let Some(event) = self.clock.advance() else {
                break;
            };
            self.dispatch(event);
        }
        self.interruption = None;
        self.check_copies("step");
        self.violation.take().map_or(Ok(()), Err)
    }

    /// Power is lost and comes back; no role is set.
    pub fn crash_and_boot(&mut self, node: usize) {
        if self.power_off(node) {
            self.heal(super::faults::Ailment::Power(node));
        }
    }
}

/// Call `each` with every history of up to `length` steps, at most one of them interrupted.
pub fn enumerate(length: usize, mut each: impl FnMut(&History)) {
    for in_step in [false, true] {
        let mut history = History {
            in_step,
            steps: Vec::new(),
        };
        extend(&mut history, length, false, &mut each);
    }
}

fn extend(
    history: &mut History,
    length: usize,
    interrupted: bool,
    each: &mut impl FnMut(&History),
) {
    if history.steps.len() == length {
        each(history);
        return;
    }
    for step in Step::ALL {
        history.steps.push((step, None));
        extend(history, length, interrupted, each);
        history.steps.pop();
        if interrupted || matches!(step, Step::Crash(_)) {
            continue;
        }
        for node in [0, 1] {
            for done in 1..=DURABLE_STEPS {
                history.steps.push((step, Some((node, done))));
                extend(history, length, true, each);
                history.steps.pop();
            }
        }
    }
}
