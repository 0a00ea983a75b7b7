//! A run: two nodes, the network between them, their applications, an operator, and misfortune.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hast::engine::event::{PrimaryAction, SecondaryAction};
use hast::engine::mutant::Mutant;

use super::clock::{Clock, Micros, SECOND};
use super::disk::FlightId;
use super::faults::Ailment;
use super::network::{LinkId, Network, Way};
use super::node::Node;
use super::operator::Operator;
use super::oracle::Oracle;
use super::report::Stats;
use super::rng::Rng;
use super::scenario::Scenario;
use super::trace::{Detail, Trace, Violation};

/// What can be due.
#[derive(Debug)]
pub enum Event {
    /// A disk operation ends.
    Disk {
        /// Whose disk.
        node: usize,
        /// Which operation.
        flight: FlightId,
    },
    /// The next message of a stream arrives.
    Deliver {
        /// The link.
        link: LinkId,
        /// Its direction.
        way: Way,
    },
    /// An engine's deadline.
    Tick {
        /// Whose.
        node: usize,
        /// Of which worker.
        life: u32,
    },
    /// A client goes on.
    Client {
        /// Where.
        node: usize,
        /// Which.
        client: u32,
    },
    /// A primary's daemon tries to connect.
    Connect {
        /// Which.
        node: usize,
        /// For which worker.
        life: u32,
    },
    /// An attempt to connect has taken too long.
    ConnectLimit {
        /// Whose.
        node: usize,
        /// Which.
        link: LinkId,
    },
    /// A crashed primary's worker is started again.
    Restart {
        /// Where.
        node: usize,
        /// If it is still this one.
        life: u32,
    },
    /// A worker that should end has taken too long.
    StopLimit {
        /// Where.
        node: usize,
        /// If it is still this one.
        life: u32,
    },
    /// Something goes wrong.
    Fault,
    /// Something that went wrong is put right.
    Heal(Ailment),
    /// A node fails at a moment that matters.
    Strike {
        /// Which.
        node: usize,
    },
    /// The operator looks at the cluster.
    Operator,
    /// The faults stop.
    Calm,
    /// The applications stop.
    Quiet,
    /// The cluster must have converged.
    Verdict,
}

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Faults happen.
    Trouble,
    /// They have stopped.
    Calm,
    /// The applications have, too.
    Quiet,
    /// The run is over.
    Over,
}

/// Simulated time after the last fault within which everything must be well.
pub const CONVERGENCE_LIMIT: Micros = 600 * SECOND;

/// Events of a run at most: more mean that something goes round in circles.
pub const EVENTS_MAX: u64 = 5_000_000;

/// Everything of one run.
#[derive(Debug)]
pub struct World {
    /// What kind of run.
    pub scenario: Scenario,
    /// The engine's way of being wrong.
    pub mutant: Option<Mutant>,
    /// Chance.
    pub rng: Rng,
    /// Time.
    pub clock: Clock<Event>,
    /// The cable.
    pub net: Network,
    /// The nodes.
    pub nodes: [Node; 2],
    /// What was promised.
    pub oracle: Oracle,
    /// Who sets the roles.
    pub operator: Operator,
    /// What happened.
    pub trace: Trace,
    /// How often.
    pub stats: Stats,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// The part of the run.
    pub phase: Phase,
    /// Sessions so far.
    pub sessions: u32,
    /// The next message with data arrives short.
    pub shorten: bool,
    /// Reused.
    pub primary_actions: Vec<PrimaryAction>,
    /// Reused.
    pub secondary_actions: Vec<SecondaryAction>,
    /// In a scripted history: crash this node after so many of its disk operations.
    pub interruption: super::script::Interruption,
    /// In a scripted history: the node that was made primary last.
    pub last_primary: usize,
    since_check: u32,
}

/// How a run is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The engine's way of being wrong.
    pub mutant: Option<Mutant>,
    /// How much text.
    pub detail: Detail,
}

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Hash of the trace.
    pub hash: u64,
    /// What happened how often.
    pub stats: Stats,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// The last lines of the trace, if wanted.
    pub lines: Vec<String>,
}

/// Do the run of a seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut rng = Rng::new(seed);
    let scenario = Scenario::draw(&mut rng);
    run_scenario(seed, scenario, rng, options)
}

/// Do a run of this kind; `seed` is for the report.
pub fn run_scenario(seed: u64, scenario: Scenario, rng: Rng, options: Options) -> Outcome {
    let mut world = World::new(scenario, rng, options);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        world.violation = None;
        world.fail("no-panic", text.unwrap_or_default());
    }
    let mut stats = world.stats;
    stats.events = world.trace.events();
    stats.simulated = world.clock.now();
    Outcome {
        seed,
        hash: world.trace.hash(),
        stats,
        violation: world.violation,
        lines: world.trace.into_lines(),
    }
}

impl World {
    /// A world in which nothing is due yet.
    pub fn new(scenario: Scenario, rng: Rng, options: Options) -> World {
        World {
            nodes: [Node::new(&scenario, 0), Node::new(&scenario, 1)],
            net: Network::new(scenario.net),
            oracle: Oracle::new(scenario.sectors),
            operator: Operator::default(),
            mutant: options.mutant,
            rng,
            clock: Clock::default(),
            trace: Trace::new(options.detail),
            stats: Stats::default(),
            violation: None,
            phase: Phase::Trouble,
            sessions: 0,
            shorten: false,
            primary_actions: Vec::new(),
            secondary_actions: Vec::new(),
            interruption: None,
            last_primary: 0,
            since_check: 0,
            scenario,
        }
    }

    fn run(&mut self) {
        if self.trace.is_wanted() {
            self.trace.line(0, format_args!("{:?}", self.scenario));
        }
        self.stats.mode(self.scenario.parameters.replication);
        self.clock.after(0, Event::Operator);
        let first = self.rng.around(self.scenario.fault_every);
        self.clock.after(first, Event::Fault);
        self.clock.at(self.scenario.duration, Event::Calm);
        while self.violation.is_none() && self.phase != Phase::Over {
            let Some(event) = self.clock.advance() else {
                self.fail("progress", "nothing is due any more".into());
                return;
            };
            self.dispatch(event);
            if self.trace.events() > EVENTS_MAX {
                let states = self.states();
                self.fail(
                    "progress",
                    format!("{EVENTS_MAX} events and no end: {states}"),
                );
            }
            self.since_check += 1;
            if self.since_check > 200 + self.scenario.sectors {
                self.since_check = 0;
                self.check_copies("sample");
            }
        }
    }

    /// Let an event happen.
    #[expect(clippy::needless_pass_by_value, reason = "an event happens once")]
    pub fn dispatch(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Disk { node, flight } => {
                self.trace.event(now, 1, flight.word() << 1 ^ node as u64);
                self.disk_event(node, flight);
            }
            Event::Deliver { link, way } => {
                self.trace.event(
                    now,
                    2,
                    u64::from(link) << 1 ^ u64::from(way == Way::ToPrimary),
                );
                self.deliver(link, way);
            }
            Event::Tick { node, life } => self.tick(node, life),
            Event::Client { node, client } => {
                self.trace
                    .event(now, 3, u64::from(client) << 1 ^ node as u64);
                self.client(node, client);
            }
            Event::Connect { node, life } => self.connect(node, life),
            Event::ConnectLimit { node, link } => self.connect_limit(node, link),
            Event::Restart { node, life } => self.restart(node, life),
            Event::StopLimit { node, life } => self.stop_limit(node, life),
            Event::Fault => self.fault(),
            Event::Heal(ailment) => self.heal(ailment),
            Event::Strike { node } => self.strike(node),
            Event::Operator => self.operate(),
            Event::Calm => self.calm(),
            Event::Quiet => self.phase = Phase::Quiet,
            Event::Verdict => self.verdict(),
        }
    }

    /// An invariant is broken; the first one counts.
    pub fn fail(&mut self, invariant: &'static str, detail: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation::new(invariant, detail));
        }
    }

    /// A step that can break an invariant.
    pub fn check(&mut self, result: Result<(), Violation>) {
        if let (Err(violation), None) = (result, &self.violation) {
            self.violation = Some(violation);
        }
    }

    /// A line of the trace.
    pub fn note(&mut self, text: std::fmt::Arguments<'_>) {
        if self.trace.is_wanted() {
            let now = self.clock.now();
            self.trace.line(now, text);
        }
    }
}
