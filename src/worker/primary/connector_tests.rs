use super::*;
use crate::wire::hello::Offer;

const TIMEOUT_MS: u64 = 5000;

fn connector() -> Connector {
    Connector::new(true, TIMEOUT_MS, Time(0))
}

fn accepted() -> Answer {
    Answer::Accepted {
        version: 2,
        token: [7; 16],
        offer: Offer::NONE,
    }
}

fn refused(wait: bool) -> Answer {
    Answer::Refused {
        message: "no".to_owned(),
        wait,
    }
}

/// Goes up to the answer at `now`.
fn greet(connector: &mut Connector, now: Time) {
    assert_eq!(connector.tick(now), Step::Connect);
    assert_eq!(connector.connected(now), Step::Greet);
    assert!(connector.awaits_answer());
}

fn link(connector: &mut Connector, now: Time) {
    greet(connector, now);
    assert_eq!(connector.answered(now, accepted()), Step::Connect);
    assert_eq!(connector.connected(now), Step::Link);
    connector.up(now);
}

fn pause(connector: &Connector, now: Time) -> u64 {
    connector.due().expect("another attempt").since(now)
}

#[test]
fn nothing_is_served_before_the_first_attempt_has_ended() {
    let mut first = connector();
    greet(&mut first, Time(0));
    assert!(!first.may_serve());
    assert_eq!(first.due(), Some(Time(TIMEOUT_MS)));
    assert!(matches!(
        first.tick(Time(TIMEOUT_MS)),
        Step::Failed { wait_ms: None, .. }
    ));
    assert!(first.may_serve());
    assert!(Connector::new(false, TIMEOUT_MS, Time(0)).may_serve());
}

#[test]
fn a_lost_connection_is_made_again_at_once_and_a_flapping_one_after_pauses() {
    let mut connector = connector();
    link(&mut connector, Time(0));
    let mut now = Time(20_000);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        connector.failed(now, Kind::Passing, Cause::Broken, String::new());
        pauses.push(pause(&connector, now));
        now = now.plus(pause(&connector, now));
        link(&mut connector, now);
    }
    assert_eq!(pauses, [0, 500, 1000, 2000, 5000, 10_000, 10_000, 10_000]);
    let later = now.plus(LASTED_MS);
    connector.failed(later, Kind::Passing, Cause::Broken, String::new());
    assert_eq!(pause(&connector, later), 0);
}

#[test]
fn an_absent_peer_is_tried_with_growing_pauses() {
    let mut connector = connector();
    let mut now = Time(0);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert_eq!(connector.tick(now), Step::Connect);
        connector.not_connected(now, "refused".to_owned());
        pauses.push(pause(&connector, now));
        now = now.plus(pause(&connector, now));
    }
    assert_eq!(pauses, [500, 1000, 2000, 5000, 10_000, 10_000]);
}

#[test]
fn a_peer_that_asks_to_wait_is_tried_each_second_for_the_timeout() {
    let mut connector = connector();
    let mut now = Time(0);
    let mut left = Vec::new();
    for _ in 0..6 {
        greet(&mut connector, now);
        assert!(!connector.may_serve());
        let Step::Failed { wait_ms, .. } = connector.answered(now, refused(true)) else {
            panic!("a refusal");
        };
        left.push(wait_ms);
        if wait_ms == Some(0) {
            break;
        }
        assert_eq!(pause(&connector, now), 1000);
        now = now.plus(1000);
    }
    assert_eq!(left, [5000, 4000, 3000, 2000, 1000, 0].map(Some));
    assert!(connector.may_serve());
}

#[test]
fn a_peer_that_refuses_is_tried_with_growing_pauses() {
    let mut connector = connector();
    let mut now = Time(0);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        greet(&mut connector, now);
        connector.answered(now, refused(false));
        assert!(connector.may_serve());
        pauses.push(pause(&connector, now));
        now = now.plus(pause(&connector, now));
    }
    assert_eq!(pauses, [500, 1000, 2000, 5000, 10_000, 10_000]);
}

#[test]
fn a_socket_that_comes_too_late_is_discarded_before_the_parent_is_asked_again() {
    let mut connector = connector();
    assert_eq!(connector.tick(Time(0)), Step::Connect);
    assert!(matches!(
        connector.tick(Time(TIMEOUT_MS)),
        Step::Failed { .. }
    ));
    assert_eq!(connector.due(), None);
    assert_eq!(connector.tick(Time(60_000)), Step::Nothing);
    assert_eq!(connector.connected(Time(60_000)), Step::Discard);
    assert_eq!(connector.tick(Time(60_000)), Step::Connect);
}

#[test]
fn a_new_address_is_tried_at_once() {
    let mut connector = connector();
    greet(&mut connector, Time(0));
    connector.answered(Time(0), refused(false));
    connector.restart(Time(1), true);
    assert_eq!(connector.due(), Some(Time(1)));
    connector.restart(Time(2), false);
    assert_eq!(connector.due(), None);
}
