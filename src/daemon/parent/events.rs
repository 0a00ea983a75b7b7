//! Events: noted where they happen, handed out to hastctl.

use std::fmt;
use std::time::{Duration, Instant};

use super::{EntryId, Parent};
use crate::daemon::control::ConnectionId;
use crate::daemon::events::Problem;
use crate::events::{Kind, Query};
use crate::wire::control::{ControlError, ControlReply};

/// Somebody who waits for events.
#[derive(Debug)]
pub(super) struct Follower {
    query: Query,
    resources: Vec<String>,
    /// The last event when it was looked whether there is one for it.
    seen: u64,
    deadline: Instant,
}

impl Follower {
    /// When it is answered in any case.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Parent {
    /// Something happened to the daemon.
    pub(super) fn note(&mut self, kind: Kind, details: impl fmt::Display, now: Instant) {
        self.events.note(kind, None, details, now);
    }

    /// Something happened to a resource.
    pub(super) fn note_of(&mut self, id: EntryId, kind: Kind, details: &str, now: Instant) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return;
        };
        entry.problem = Problem::after(entry.problem.take(), kind, details, now);
        let whose = Some((entry.conf.name.as_str(), entry.role()));
        self.events.note(kind, whose, details, now);
    }

    /// The same, and a line in the log.
    pub(super) fn say(&mut self, id: EntryId, kind: Kind, text: &str, now: Instant) {
        self.note_of(id, kind, text, now);
        if let Some(entry) = self.entries.iter().find(|entry| entry.id == id) {
            self.log.info(entry.about(), text);
        }
    }

    /// hastctl asks for events: answered at once if there are any, or else when there are.
    pub(super) fn hand_out_events(
        &mut self,
        id: ConnectionId,
        argument: Option<&str>,
        resources: Vec<String>,
        now: Instant,
    ) {
        let query = match Query::decode(argument.unwrap_or_default()) {
            Ok(query) => query,
            Err(reason) => {
                let text = format!("The question makes no sense: {reason}.");
                let reply = ControlReply::refusal(ControlError::INVALID, Some(text));
                return self.control.reply(id, &reply, now);
            }
        };
        let follower = Follower {
            query,
            resources,
            seen: 0,
            deadline: now + Duration::from_secs(query.wait_s.into()),
        };
        self.followers.insert(id, follower);
        self.tick_followers(now);
    }

    /// Answers those for whom there is something, or who have waited long enough, and forgets those
    /// who have gone.
    pub(super) fn tick_followers(&mut self, now: Instant) {
        let (control, events) = (&mut self.control, &self.events);
        self.followers.retain(|&id, follower| {
            if !control.is_open(id) {
                return false;
            }
            let is_late = follower.deadline <= now;
            if follower.seen == events.last() && !is_late {
                return true;
            }
            follower.seen = events.last();
            let page = events.page(follower.query, &follower.resources);
            if page.events.is_empty() && !is_late {
                return true;
            }
            let reply = match serde_json::to_string(&page) {
                Ok(json) => ControlReply {
                    json: Some(json),
                    ..ControlReply::default()
                },
                Err(error) => ControlReply::refusal(ControlError::INVALID, Some(error.to_string())),
            };
            control.reply(id, &reply, now);
            false
        });
    }
}
