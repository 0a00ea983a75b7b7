//! What an administrator orders of a resource beyond its role: pausing and pacing synchronisations.
//!
//! Such an order holds until it is taken back or the role ends; a worker that is restarted in
//! between is told again, with its settings.

use std::time::Instant;

use super::orders::unknown;
use super::{Entry, EntryId, Parent};
use crate::daemon::control::ConnectionId;
use crate::events::Kind;
use crate::report;
use crate::terms::{Role, SyncRate};
use crate::wire::control::steer::{PAUSE_SYNC, RESUME_SYNC, SYNC_RATE};
use crate::wire::control::{ControlError, ControlReply, ResourceReply, ResourceState};

/// What was ordered.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// Synchronisations rest.
    pub(super) sync_paused: bool,
    /// How fast they may go, whatever the configuration says.
    sync_rate: Option<SyncRate>,
}

impl Steering {
    /// The role is another: what was ordered for the former one is over.
    pub(super) fn end_of_role(&mut self) {
        self.sync_paused = false;
        self.sync_rate = None;
    }
}

impl Entry {
    /// How fast a synchronisation may go.
    pub(super) fn sync_rate(&self) -> SyncRate {
        self.steering.sync_rate.unwrap_or(self.conf.syncrate)
    }

    /// For `status --json`.
    pub(super) fn orders(&self) -> report::Orders {
        report::Orders {
            sync_paused: self.steering.sync_paused,
            sync_rate: self.sync_rate().to_string(),
            sync_rate_ordered: self.steering.sync_rate.is_some(),
        }
    }
}

/// An order that makes sense in itself.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Pause(bool),
    Rate(Option<SyncRate>),
}

/// What came of it for a resource: something to say, or why not.
type Result = std::result::Result<Option<String>, (ControlError, String)>;

/// Whether the command is one of this module's.
pub(super) fn knows(code: u8) -> bool {
    matches!(code, PAUSE_SYNC | RESUME_SYNC | SYNC_RATE)
}

fn wish(code: u8, argument: Option<&str>) -> std::result::Result<Wish, String> {
    match (code, argument) {
        (PAUSE_SYNC, _) => Ok(Wish::Pause(true)),
        (RESUME_SYNC, _) => Ok(Wish::Pause(false)),
        (_, None) => Ok(Wish::Rate(None)),
        (_, Some(text)) => match SyncRate::parse(text) {
            Some(rate) => Ok(Wish::Rate(Some(rate))),
            None => Err(format!("'{text}' is no rate.")),
        },
    }
}

impl Parent {
    /// Carries an order out and answers it.
    pub(super) fn steer(
        &mut self,
        id: ConnectionId,
        code: u8,
        argument: Option<&str>,
        names: Vec<String>,
        now: Instant,
    ) {
        let wish = match wish(code, argument) {
            Ok(wish) => wish,
            Err(text) => {
                let reply = ControlReply::refusal(ControlError::INVALID, Some(text));
                return self.control.reply(id, &reply, now);
            }
        };
        let mut replies = Vec::with_capacity(names.len());
        for name in names {
            let Some(entry) = self.find(&name) else {
                replies.push(unknown(&name));
                continue;
            };
            let state = match self.steer_one(entry, wish, now) {
                Ok(text) => ResourceState::Done {
                    previous: None,
                    text,
                },
                Err((error, text)) => ResourceState::Failed {
                    error,
                    text: Some(text),
                },
            };
            replies.push(ResourceReply { name, state });
        }
        self.answer_now(id, replies, now);
    }

    fn steer_one(&mut self, id: EntryId, wish: Wish, now: Instant) -> Result {
        let Some(entry) = self.entry(id) else {
            return Ok(None);
        };
        only_primary(entry.role())?;
        let text = match wish {
            Wish::Pause(paused) => {
                if std::mem::replace(&mut entry.steering.sync_paused, paused) == paused {
                    return Ok(None);
                }
                if paused {
                    "Synchronization is paused by order.".to_owned()
                } else {
                    "Synchronization may go on.".to_owned()
                }
            }
            Wish::Rate(rate) => {
                entry.steering.sync_rate = rate;
                format!("Rate of synchronization set to {}.", entry.sync_rate())
            }
        };
        self.say(id, &text, now);
        self.update_worker(id, false, now);
        Ok(None)
    }

    /// A line in the log about a resource, and an event.
    fn say(&mut self, id: EntryId, text: &str, now: Instant) {
        self.note_of(id, Kind::Order, text, now);
        if let Some(entry) = self.entries.iter().find(|entry| entry.id == id) {
            self.log.info(entry.about(), text);
        }
    }
}

/// Synchronisations are the primary's.
fn only_primary(role: Role) -> std::result::Result<(), (ControlError, String)> {
    if role == Role::Primary {
        return Ok(());
    }
    let text = format!(
        "The role here is {}: it is the primary that synchronizes, so ask on that node.",
        role.as_str()
    );
    Err((ControlError::WRONG_ROLE, text))
}
