//! Snapshots of every state x event: a change to a table shows up as a change to these.

use std::fmt::Debug;

use super::*;

fn table<S: Debug + Copy, E: Debug + Copy>(
    states: &[S],
    events: &[E],
    next: impl Fn(S, E) -> Option<S>,
) -> String {
    let mut text = String::new();
    for &state in states {
        for &event in events {
            let after = next(state, event).map_or("-".to_owned(), |after| format!("{after:?}"));
            text.push_str(&format!("{state:?} + {event:?} = {after}\n"));
        }
    }
    text
}

#[test]
fn link() {
    use LinkEvent::*;
    insta::assert_snapshot!(table(
        &Link::ALL,
        &[Linked, Prepared, Hello, Merged, Lost],
        Link::next
    ));
}

#[test]
fn local() {
    use LocalEvent::*;
    insta::assert_snapshot!(table(
        &Local::ALL,
        &[
            PeerIsAhead,
            PeerIsBehind,
            InStep,
            WriteFailed,
            Recorded,
            NotRecorded
        ],
        Local::next
    ));
}

#[test]
fn sync() {
    use SyncEvent::*;
    insta::assert_snapshot!(table(
        &Sync::ALL,
        &[Begin, Copied, Stuck, Flushed, Again, Agreed, Interrupted],
        Sync::next
    ));
}

#[test]
fn session() {
    use SessionEvent::*;
    insta::assert_snapshot!(table(
        &Session::ALL,
        &[Accepted, Adopted, Recorded, Request, End, Drained],
        Session::next
    ));
}
