//! Orders to become primary that wait for the fencing program.
//!
//! The role stays what it is until the program has agreed: a secondary goes on receiving until then.
//! An order for another role takes the question back. A primary whose worker is started again has
//! been agreed to and is not asked about once more.

use std::time::{Duration, Instant};

use super::workers::peer_address;
use super::{EntryId, Parent};
use crate::conf::model;
use crate::daemon::fence::{Answer, Question};
use crate::daemon::supervisor::Ticket;
use crate::events::Kind;
use crate::terms::{Role, system_reason};
use crate::wire::control::ControlError;

/// How long a change of role may take beyond the resource's timeout, for which a primary waits for
/// a peer that is primary still.
const ROLE_PATIENCE: Duration = Duration::from_secs(15);

/// An order to become primary, and the question that it waits for.
#[derive(Debug)]
pub(super) struct Promotion {
    question: Question,
    tickets: Vec<Ticket>,
}

impl Promotion {
    /// When [`Parent::tick_promotions`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        self.question.deadline()
    }
}

impl Parent {
    /// A role was ordered for a resource; `force`: even if its copy is incomplete.
    pub(super) fn order_role(
        &mut self,
        id: EntryId,
        role: Role,
        force: bool,
        ticket: Ticket,
        now: Instant,
    ) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return;
        };
        entry.steering.forced = force;
        if role == Role::Primary && entry.role() != Role::Primary {
            if let Some(promotion) = self.promotions.get_mut(&id) {
                promotion.tickets.push(ticket);
                return;
            }
            if entry.conf.fence.is_some() {
                self.ask_fence(id, ticket, now);
                return;
            }
        }
        self.take_back_promotion(id, "Another change of the role came in between.", now);
        self.take_role(id, role, ticket, now);
    }

    fn take_role(&mut self, id: EntryId, role: Role, ticket: Ticket, now: Instant) {
        let timeout_s = self.entry(id).map_or(0, |entry| entry.conf.timeout_s);
        let deadline = now + ROLE_PATIENCE + Duration::from_secs(timeout_s.into());
        self.with_supervisor(id, now, |supervisor| {
            supervisor.set_role(role, ticket, now, deadline)
        });
    }

    fn ask_fence(&mut self, id: EntryId, ticket: Ticket, now: Instant) {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        let model::Resource {
            name,
            fence: Some(program),
            fence_timeout_s,
            ..
        } = &entry.conf
        else {
            return;
        };
        let shown = program.display();
        let asked = Question::ask(
            program,
            name,
            &peer_address(&entry.conf),
            Duration::from_secs((*fence_timeout_s).into()),
            self.log.is_streams(),
            now,
        );
        match asked {
            Ok(question) => {
                let text = format!("Asking {shown} whether this node may become primary.");
                self.say(id, Kind::Fence, &text, now);
                let tickets = vec![ticket];
                self.promotions.insert(id, Promotion { question, tickets });
            }
            Err(error) => {
                let reason = format!("cannot be run: {}", system_reason(&error));
                self.refuse_promotion(id, vec![ticket], &reason, now);
            }
        }
    }

    /// Looks for answers, and for silence that has become one.
    pub(super) fn tick_promotions(&mut self, now: Instant) {
        let answers: Vec<(EntryId, Answer)> = self
            .promotions
            .iter_mut()
            .filter_map(|(&id, promotion)| Some((id, promotion.question.answer(now)?)))
            .collect();
        for (id, answer) in answers {
            let Some(Promotion { question, tickets }) = self.promotions.remove(&id) else {
                continue;
            };
            match answer {
                Answer::Yes { after } => {
                    let text = format!(
                        "The fencing program agreed after {} ms: this node becomes primary.",
                        after.as_millis()
                    );
                    self.say(id, Kind::Fence, &text, now);
                    for ticket in tickets {
                        self.take_role(id, Role::Primary, ticket, now);
                    }
                }
                Answer::No(reason) => {
                    self.end_question(id, question, now);
                    self.refuse_promotion(id, tickets, &reason, now);
                }
            }
        }
    }

    /// The program has not agreed: `reason` follows its name.
    fn refuse_promotion(&mut self, id: EntryId, tickets: Vec<Ticket>, reason: &str, now: Instant) {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        let program = entry.conf.fence.as_deref().unwrap_or("(none)".as_ref());
        let text = format!(
            "The fencing program {} {reason}: this node does not become primary.",
            program.display()
        );
        self.log.error(entry.about(), &text);
        self.note_of(id, Kind::FenceRefused, &text, now);
        for ticket in tickets {
            let refusal = (ControlError::ROLE_NOT_TAKEN, text.clone());
            self.answer_ticket(ticket, Err(refusal), now);
        }
    }

    fn end_question(&mut self, id: EntryId, question: Question, now: Instant) {
        if let Some((child, text)) = question.end() {
            let entry = self.entries.iter().find(|entry| entry.id == id);
            let owner = entry.map_or_else(
                || (String::new(), Role::Init),
                |entry| (entry.conf.name.clone(), entry.role()),
            );
            self.hooks.adopt(owner, child, text, now);
        }
    }

    /// Nobody wants to know any more: orders that wait are answered with `reason`.
    pub(super) fn take_back_promotion(&mut self, id: EntryId, reason: &str, now: Instant) {
        let Some(Promotion { question, tickets }) = self.promotions.remove(&id) else {
            return;
        };
        self.end_question(id, question, now);
        for ticket in tickets {
            let refusal = (ControlError::ROLE_NOT_TAKEN, reason.to_owned());
            self.answer_ticket(ticket, Err(refusal), now);
        }
    }
}
