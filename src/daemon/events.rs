//! The events that the daemon remembers: a ring of fixed size, for `hastctl events`.
//!
//! Much of what is in a record comes from children, which may be hostile, and from whoever reaches
//! the port. So its length is bounded, and so is the number of events of one kind and resource:
//! after a burst one passes now and then, with the number of those that were left out. What one
//! resource's worker tells cannot displace what happened to the others.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::events::{Kind, Page, Query, Record, Severity, VERSION};
use crate::moment;
use crate::terms::Role;

/// Events that are remembered. Each takes less than [`DETAILS_BYTES_MAX`] and 1 KiB of the rest.
const KEPT_MAX: usize = 2048;

/// Events in one page at most.
const PAGE_MAX: usize = 256;

/// Bytes of what is said of an event at most.
const DETAILS_BYTES_MAX: usize = 512;

/// Events of one kind and resource at once, and the time after which another one passes.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_secs(5);

/// To what something happened: a resource in its role, or the daemon.
pub type Whose<'a> = Option<(&'a str, Role)>;

/// How many events of a kind may pass.
#[derive(Debug)]
struct Bucket {
    left: u32,
    filled: Instant,
    suppressed: u64,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket {
            left: BURST,
            filled: now,
            suppressed: 0,
        }
    }

    /// Whether one more passes, and how many did not before it.
    fn pass(&mut self, now: Instant) -> Option<u64> {
        let pauses = now.saturating_duration_since(self.filled).as_secs() / PAUSE.as_secs();
        if pauses > 0 {
            let more = u32::try_from(pauses).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = now;
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// What happened.
#[derive(Debug)]
pub struct Events {
    /// With the time of each, in milliseconds since 1970.
    kept: VecDeque<(u64, Record)>,
    last: u64,
    buckets: BTreeMap<(Option<String>, Kind), Bucket>,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            kept: VecDeque::with_capacity(KEPT_MAX),
            last: 0,
            buckets: BTreeMap::new(),
        }
    }
}

impl Events {
    /// Remembers that something happened.
    pub fn note(&mut self, kind: Kind, whose: Whose<'_>, details: impl fmt::Display, now: Instant) {
        self.note_at(kind, whose, details, now, moment::now_ms());
    }

    fn note_at(
        &mut self,
        kind: Kind,
        whose: Whose<'_>,
        details: impl fmt::Display,
        now: Instant,
        ms: u64,
    ) {
        let resource = whose.map(|(name, _)| name.to_owned());
        let bucket = self
            .buckets
            .entry((resource.clone(), kind))
            .or_insert_with(|| Bucket::new(now));
        let Some(suppressed) = bucket.pass(now) else {
            return;
        };
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.last += 1;
        let record = Record {
            version: VERSION,
            seq: self.last,
            time: moment::rfc3339(ms),
            advice: kind.advice(resource.as_deref()),
            resource,
            role: whose.map(|(_, role)| role.as_str().to_owned()),
            kind: kind.as_str().to_owned(),
            severity: kind.severity().as_str().to_owned(),
            details: clean(&details.to_string()),
            suppressed: (suppressed > 0).then_some(suppressed),
        };
        self.kept.push_back((ms, record));
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What was asked for, of these resources or, with none, of all and the daemon.
    pub fn page(&self, query: Query, resources: &[String]) -> Page {
        // Whoever has heard of more events than there were has heard them of an earlier daemon.
        let after = if query.after > self.last {
            0
        } else {
            query.after
        };
        let mut page = Page {
            next: self.last,
            ..Page::default()
        };
        let first = self
            .kept
            .front()
            .map_or(self.last + 1, |(_, record)| record.seq);
        if query.since_ms == 0 && after > 0 {
            page.lost = first.saturating_sub(after + 1);
        }
        for (ms, record) in &self.kept {
            if record.seq <= after || *ms < query.since_ms {
                continue;
            }
            let named = |name: &String| resources.contains(name);
            if !resources.is_empty() && !record.resource.as_ref().is_some_and(named) {
                continue;
            }
            if page.events.len() == PAGE_MAX {
                page.next = page.events.last().map_or(after, |record| record.seq);
                page.more = true;
                break;
            }
            page.events.push(record.clone());
        }
        page
    }

    /// A resource is not configured any more: what bounds its events is forgotten.
    pub fn forget(&mut self, resource: &str) {
        self.buckets
            .retain(|(name, _), _| name.as_deref() != Some(resource));
    }
}

/// One line without control characters, and not too long.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(DETAILS_BYTES_MAX + 8));
    for character in text.trim().chars() {
        if clean.len() >= DETAILS_BYTES_MAX {
            clean.push_str("...");
            break;
        }
        clean.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    clean
}

/// The last thing that was wrong with a resource, for `status --json` and `hastctl explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of event it was.
    pub kind: Kind,
    /// In words.
    pub details: String,
    /// When.
    pub at: Instant,
}

impl Problem {
    /// What is wrong after an event: a connection and a change of role end what was before.
    pub fn after(
        before: Option<Problem>,
        kind: Kind,
        details: &str,
        now: Instant,
    ) -> Option<Problem> {
        let is_hook = matches!(kind, Kind::HookFailed | Kind::HookSlow);
        match kind {
            Kind::Connect | Kind::Role | Kind::SyncDone => before.filter(|before| {
                // A disk does not get better by itself.
                matches!(before.kind, Kind::DiskError | Kind::DiskDetached) && kind != Kind::Role
            }),
            // What follows from a failure does not hide it.
            Kind::RoleLost | Kind::WorkerRestart | Kind::WorkerFailed if before.is_some() => before,
            _ if kind.severity() >= Severity::Warning && !is_hook => Some(Problem {
                kind,
                details: clean(details),
                at: now,
            }),
            _ => before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Query {
        Query::default()
    }

    const A: Whose<'static> = Some(("a", Role::Primary));
    const B: Whose<'static> = Some(("b", Role::Secondary));

    #[test]
    fn a_flood_of_one_kind_displaces_nothing_else_and_is_counted() {
        let mut events = Events::default();
        let mut now = Instant::now();
        events.note_at(Kind::Connect, B, "before", now, 1);
        for _ in 0..100_000 {
            events.note_at(Kind::DiskError, A, "error", now, 2);
        }
        let page = events.page(all(), &[]);
        assert_eq!(page.events.len(), 1 + BURST as usize);
        assert_eq!(page.events[0].details, "before");
        now += PAUSE;
        events.note_at(Kind::DiskError, A, "error", now, 3);
        let last = events.page(all(), &[]).events.pop().unwrap();
        assert_eq!(last.suppressed, Some(100_000 - u64::from(BURST)));
        events.note_at(Kind::DiskError, B, "another's", now, 4);
        assert_eq!(events.last(), page.next + 2);
    }

    #[test]
    fn memory_is_bounded_and_losses_are_told_to_whoever_follows() {
        let mut events = Events::default();
        let mut now = Instant::now();
        for _ in 0..KEPT_MAX + 10 {
            now += PAUSE;
            events.note_at(Kind::Connect, A, "x".repeat(1 << 16), now, 7);
        }
        assert_eq!(events.kept.len(), KEPT_MAX);
        let page = events.page(
            Query {
                after: 3,
                ..Query::default()
            },
            &[],
        );
        assert_eq!(
            (page.lost, page.events.len(), page.more),
            (7, PAGE_MAX, true)
        );
        assert!(page.events[0].details.len() <= DETAILS_BYTES_MAX + 3);
        // Page by page to the end.
        let (mut next, mut count) = (page.next, page.events.len());
        loop {
            let query = Query {
                after: next,
                ..Query::default()
            };
            let page = events.page(query, &[]);
            assert_eq!(page.lost, 0);
            (next, count) = (page.next, count + page.events.len());
            if !page.more {
                break;
            }
        }
        assert_eq!((next, count), (events.last(), KEPT_MAX));
    }

    #[test]
    fn pages_are_of_the_resources_and_times_that_were_asked_for() {
        let mut events = Events::default();
        let now = Instant::now();
        events.note_at(Kind::DaemonStart, None, "started", now, 10);
        events.note_at(Kind::Role, A, "one", now, 20);
        events.note_at(Kind::Role, B, "two", now, 30);
        let names = |query, resources: &[String]| -> Vec<String> {
            let page = events.page(query, resources);
            page.events.into_iter().map(|event| event.details).collect()
        };
        assert_eq!(names(all(), &[]), ["started", "one", "two"]);
        assert_eq!(names(all(), &["b".to_owned()]), ["two"]);
        let since = Query {
            since_ms: 20,
            ..Query::default()
        };
        assert_eq!(names(since, &[]), ["one", "two"]);
        let nothing_new = Query {
            after: 3,
            ..Query::default()
        };
        assert!(names(nothing_new, &[]).is_empty());
        let of_an_earlier_daemon = Query {
            after: 99,
            ..Query::default()
        };
        assert_eq!(names(of_an_earlier_daemon, &[]).len(), 3);
    }

    #[test]
    fn words_of_others_are_one_line() {
        let mut events = Events::default();
        let forged = "a\n2026-01-01 b\x1b[2J\r";
        events.note_at(Kind::PeerError, A, forged, Instant::now(), 1);
        let record = &events.page(all(), &[]).events[0];
        assert_eq!(record.details, "a 2026-01-01 b [2J");
    }

    #[test]
    fn what_was_wrong_ends_with_a_connection_unless_it_was_the_disk() {
        let now = Instant::now();
        let after = |before, kind| Problem::after(before, kind, "", now);
        let kind = |problem: Option<Problem>| problem.map(|problem| problem.kind);
        let split = after(None, Kind::SplitBrain);
        assert_eq!(kind(split.clone()), Some(Kind::SplitBrain));
        assert_eq!(
            kind(after(split.clone(), Kind::WorkerFailed)),
            Some(Kind::SplitBrain)
        );
        assert_eq!(after(split, Kind::Connect), None);
        let disk = after(None, Kind::DiskError);
        assert_eq!(
            kind(after(disk.clone(), Kind::Connect)),
            Some(Kind::DiskError)
        );
        assert_eq!(after(disk, Kind::Role), None);
    }
}
