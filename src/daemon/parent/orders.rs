//! Orders of hastctl: several at once, each answered when its last part is known.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::steer::Wish;
use super::{EntryId, Parent};
use crate::daemon::control::{ConnectionId, Outcome};
use crate::daemon::log::DAEMON;
use crate::daemon::supervisor::Ticket;
use crate::daemon::worker::WorkerId;
use crate::terms::Role;
use crate::wire::control::steer::FORCE_PRIMARY;
use crate::wire::control::{
    ControlError, ControlReply, ControlRequest, EVENTS, Order, ResourceReply, ResourceState,
};

/// How long workers may take to tell their status. One that is stopped or stuck holds an answer
/// up for no longer.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// The name that means every resource, in first place.
const ALL: &str = "all";

#[derive(Debug)]
enum Slot {
    Known(ResourceReply),
    /// A change of role that is under way.
    Ticket(String, Ticket),
    /// A status that is told when all of them are known.
    Status(String, EntryId),
}

/// An order that is being carried out.
#[derive(Debug)]
pub(super) struct Waiting {
    slots: Vec<Slot>,
    /// Workers that were asked for their status and have not answered.
    asked: BTreeSet<WorkerId>,
    deadline: Option<Instant>,
    json: bool,
    /// The daemon is to end: answered at its end.
    stop: bool,
    /// Carried out for each status when all of them are known.
    wish: Option<Wish>,
}

impl Waiting {
    /// When it is answered in any case.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn is_complete(&self) -> bool {
        let known = |slot: &Slot| !matches!(slot, Slot::Ticket(..));
        !self.stop && self.asked.is_empty() && self.slots.iter().all(known)
    }
}

fn unknown(name: &str) -> ResourceReply {
    ResourceReply {
        name: name.to_owned(),
        state: ResourceState::Failed {
            error: ControlError::NO_ENTRY,
            text: Some("No such resource is configured.".to_owned()),
        },
    }
}

impl Parent {
    /// Gives a connection of hastctl its turn.
    pub(super) fn hear_control(&mut self, id: ConnectionId, now: Instant) {
        match self.control.turn(id, now) {
            Outcome::Nothing => {}
            Outcome::Request(request) => self.order(id, request, now),
            Outcome::Refused(bad) => self.log.error(DAEMON, bad),
            Outcome::Garbage(error) => self.log.error(
                DAEMON,
                format_args!("Unable to receive control header: {error}."),
            ),
        }
    }

    fn order(&mut self, id: ConnectionId, request: ControlRequest, now: Instant) {
        if let Order::Extension {
            code: EVENTS,
            argument,
        } = &request.order
        {
            let of_all = request.resources.first().is_some_and(|name| name == ALL);
            let resources = if of_all {
                Vec::new()
            } else {
                request.resources
            };
            return self.hand_out_events(id, argument.as_deref(), resources, now);
        }
        let names = if request.resources.first().is_some_and(|name| name == ALL) {
            let configured = self.entries.iter().filter(|entry| !entry.removed);
            configured.map(|entry| entry.conf.name.clone()).collect()
        } else {
            request.resources
        };
        match request.order {
            Order::SetRole(role) => self.set_roles(id, role, false, names, now),
            Order::Extension {
                code: FORCE_PRIMARY,
                argument: None,
            } => self.set_roles(id, Role::Primary, true, names, now),
            Order::Status => self.gather_status(id, names, request.json, now),
            Order::Stop => {
                let waiting = Waiting {
                    slots: Vec::new(),
                    asked: BTreeSet::new(),
                    deadline: None,
                    json: false,
                    stop: true,
                    wish: None,
                };
                self.waiting.insert(id, waiting);
                self.end(now);
            }
            Order::Extension { code, argument } => match Wish::of(code, argument.as_deref()) {
                Ok(wish) => self.gather_for(id, wish, names, now),
                Err((error, text)) => {
                    let reply = ControlReply::refusal(error, Some(text));
                    self.control.reply(id, &reply, now);
                }
            },
        }
    }

    fn set_roles(
        &mut self,
        id: ConnectionId,
        role: Role,
        force: bool,
        names: Vec<String>,
        now: Instant,
    ) {
        let mut orders = Vec::new();
        let mut slots = Vec::new();
        for name in names {
            slots.push(match self.find(&name) {
                None => Slot::Known(unknown(&name)),
                Some(entry) => {
                    let ticket = Ticket(self.next_id());
                    orders.push((entry, ticket));
                    Slot::Ticket(name, ticket)
                }
            });
        }
        let waiting = Waiting {
            slots,
            asked: BTreeSet::new(),
            deadline: None,
            json: false,
            stop: false,
            wish: None,
        };
        self.waiting.insert(id, waiting);
        for (entry, ticket) in orders {
            self.order_role(entry, role, force, ticket, now);
        }
        self.answer_if_complete(id, now);
    }

    /// A change of role is done, or is not.
    pub(super) fn answer_ticket(
        &mut self,
        ticket: Ticket,
        result: Result<Role, (ControlError, String)>,
        now: Instant,
    ) {
        let mut complete = None;
        for (&id, waiting) in &mut self.waiting {
            let slot = waiting
                .slots
                .iter_mut()
                .find(|slot| matches!(slot, Slot::Ticket(_, other) if *other == ticket));
            let Some(slot) = slot else {
                continue;
            };
            if let Slot::Ticket(name, _) = slot {
                let state = match result {
                    Ok(previous) => ResourceState::Done {
                        previous: Some(previous),
                        text: None,
                    },
                    Err((error, reason)) => ResourceState::Failed {
                        error,
                        text: Some(reason),
                    },
                };
                let name = std::mem::take(name);
                *slot = Slot::Known(ResourceReply { name, state });
            }
            complete = Some(id);
            break;
        }
        if let Some(id) = complete {
            self.answer_if_complete(id, now);
        }
    }

    fn gather_status(&mut self, id: ConnectionId, names: Vec<String>, json: bool, now: Instant) {
        let waiting = self.ask_statuses(names, now);
        self.waiting.insert(id, Waiting { json, ..waiting });
        self.answer_if_complete(id, now);
    }

    /// Carries a wish out when it is known how the resources are.
    fn gather_for(&mut self, id: ConnectionId, wish: Wish, names: Vec<String>, now: Instant) {
        let waiting = self.ask_statuses(names, now);
        let wish = Some(wish);
        self.waiting.insert(id, Waiting { wish, ..waiting });
        self.answer_if_complete(id, now);
    }

    fn ask_statuses(&mut self, names: Vec<String>, now: Instant) -> Waiting {
        let mut asked = BTreeSet::new();
        let mut slots = Vec::new();
        for name in names {
            let Some(entry) = self.find(&name) else {
                slots.push(Slot::Known(unknown(&name)));
                continue;
            };
            let worker = self.entry(entry).and_then(|entry| entry.worker);
            if let Some(number) = worker
                && let Some((_, worker)) = self.workers.get_mut(&number)
                && worker.ask_status()
            {
                asked.insert(number);
            }
            slots.push(Slot::Status(name, entry));
        }
        Waiting {
            slots,
            asked,
            deadline: Some(now + STATUS_PATIENCE),
            json: false,
            stop: false,
            wish: None,
        }
    }

    /// A worker has told its status.
    pub(super) fn status_came(&mut self, worker: WorkerId, now: Instant) {
        let mut complete = Vec::new();
        for (&id, waiting) in &mut self.waiting {
            if waiting.asked.remove(&worker) {
                complete.push(id);
            }
        }
        for id in complete {
            self.answer_if_complete(id, now);
        }
    }

    /// A worker has ended: nobody waits for its status any more.
    pub(super) fn worker_gone(&mut self, worker: WorkerId, now: Instant) {
        self.status_came(worker, now);
    }

    fn answer_if_complete(&mut self, id: ConnectionId, now: Instant) {
        if self.waiting.get(&id).is_some_and(Waiting::is_complete) {
            self.answer(id, now);
        }
    }

    fn answer(&mut self, id: ConnectionId, now: Instant) {
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        let json = waiting.json.then(|| self.own_state()).flatten();
        let mut resources = Vec::with_capacity(waiting.slots.len());
        for slot in waiting.slots {
            resources.push(match slot {
                Slot::Known(reply) => reply,
                Slot::Ticket(name, _) => unknown(&name),
                Slot::Status(name, entry) => match waiting.wish {
                    Some(wish) => {
                        let state = self.steer(entry, wish, &waiting.asked, now);
                        ResourceReply { name, state }
                    }
                    None => match self.state_of(entry, &waiting.asked, waiting.json, now) {
                        Some(status) => ResourceReply {
                            name,
                            state: ResourceState::Status(Box::new(status)),
                        },
                        // It was configured away in between.
                        None => unknown(&name),
                    },
                },
            });
        }
        let reply = ControlReply {
            error: None,
            resources,
            json,
        };
        self.control.reply(id, &reply, now);
    }

    /// Answers orders that have waited long enough, and forgets those of clients that have gone.
    pub(super) fn tick_orders(&mut self, now: Instant) {
        let control = &self.control;
        self.waiting.retain(|&id, _| control.is_open(id));
        let late: Vec<ConnectionId> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            self.answer(id, now);
        }
    }

    /// The answers to those who ordered the daemon to end.
    pub(super) fn stop_replies(&mut self) -> VecDeque<(ConnectionId, ControlReply)> {
        let stops = self.waiting.iter().filter(|(_, waiting)| waiting.stop);
        stops
            .map(|(&id, _)| (id, ControlReply::default()))
            .collect()
    }
}
