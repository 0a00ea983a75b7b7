//! Sessions of which the first connection is made and the second is awaited.
//!
//! A first connection proves nothing but an address. It must neither disturb a running worker nor
//! another half-open session, hence a few are kept at a time and each only for a while.

use std::time::{Duration, Instant};

use crate::wire::hello::Token;

/// Half-open sessions of one resource at most; the oldest gives way.
const HALF_OPEN_MAX: usize = 4;

/// How long the second connection may take: the time that the original gives its sockets.
pub const HALF_OPEN_LIFETIME: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct HalfOpen<C> {
    token: Token,
    connection: C,
    since: Instant,
}

/// The half-open sessions of one resource.
#[derive(Debug)]
pub struct Sessions<C> {
    half_open: Vec<HalfOpen<C>>,
}

impl<C> Default for Sessions<C> {
    fn default() -> Self {
        Sessions {
            half_open: Vec::new(),
        }
    }
}

impl<C> Sessions<C> {
    /// Keeps the first connection of a session; the oldest is dropped if there are too many.
    pub fn open(&mut self, token: Token, connection: C, now: Instant) {
        self.expire(now);
        if self.half_open.len() >= HALF_OPEN_MAX {
            self.half_open.remove(0);
        }
        self.half_open.push(HalfOpen {
            token,
            connection,
            since: now,
        });
    }

    /// Whether there is a session of that token.
    pub fn knows(&self, token: &Token) -> bool {
        self.half_open
            .iter()
            .any(|session| same(&session.token, token))
    }

    /// The first connection of that token's session. Every other session ends: the primary that
    /// answered has left the earlier ones behind.
    pub fn take(&mut self, token: &Token) -> Option<C> {
        let at = self
            .half_open
            .iter()
            .position(|session| same(&session.token, token))?;
        let session = self.half_open.swap_remove(at);
        self.half_open.clear();
        Some(session.connection)
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.half_open.clear();
    }

    /// Drops those that are too old.
    pub fn expire(&mut self, now: Instant) {
        self.half_open
            .retain(|session| now.saturating_duration_since(session.since) < HALF_OPEN_LIFETIME);
    }

    /// When the oldest will be too old.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.half_open
            .first()
            .map(|session| session.since + HALF_OPEN_LIFETIME)
    }
}

/// Compares in a time that does not tell how many bytes are right.
fn same(left: &Token, right: &Token) -> bool {
    left.iter()
        .zip(right)
        .fold(0, |difference, (left, right)| difference | (left ^ right))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_token_opens_nothing() {
        let mut sessions = Sessions::default();
        assert!(
            !sessions.knows(&[0; 16]),
            "there is no token before the first connection"
        );
        sessions.open([1; 16], "a", Instant::now());
        let mut near = [1; 16];
        near[15] = 2;
        assert!(!sessions.knows(&near));
        assert_eq!(sessions.take(&near), None);
        assert_eq!(sessions.take(&[1; 16]), Some("a"));
        assert_eq!(sessions.take(&[1; 16]), None, "a token works once");
    }

    #[test]
    fn first_connections_of_others_do_not_end_a_half_open_session() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.open([1; 16], 1, now);
        for number in 2..=4 {
            sessions.open([number; 16], number, now);
        }
        assert!(sessions.knows(&[1; 16]));
        sessions.open([5; 16], 5, now);
        assert!(!sessions.knows(&[1; 16]));
    }

    #[test]
    fn half_open_sessions_expire() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.open([1; 16], 1, now);
        assert_eq!(sessions.next_deadline(), Some(now + HALF_OPEN_LIFETIME));
        sessions.expire(now + HALF_OPEN_LIFETIME);
        assert!(!sessions.knows(&[1; 16]));
    }
}
