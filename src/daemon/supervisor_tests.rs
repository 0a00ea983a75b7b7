use nix::sys::signal::Signal;
use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const KILLED: Ending = Ending::Killed {
    signal: Signal::SIGKILL,
    core: false,
};

struct Bench {
    supervisor: Supervisor,
    now: Instant,
    tickets: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            supervisor: Supervisor::new(),
            now: Instant::now(),
            tickets: 0,
        }
    }

    fn set_role(&mut self, role: Role) -> Vec<Effect> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.supervisor
            .set_role(role, ticket, self.now, self.now + PATIENCE)
    }

    fn primary() -> Bench {
        let mut bench = Bench::new();
        bench.set_role(Role::Primary);
        bench.supervisor.ready(bench.now);
        bench
    }

    fn secondary() -> Bench {
        let mut bench = Bench::new();
        bench.set_role(Role::Secondary);
        bench.supervisor.ready(bench.now);
        bench.supervisor.ended(Ending::Exited(0), bench.now);
        bench
    }
}

fn answers(effects: &[Effect]) -> Vec<&Result<Role, String>> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Answer(_, result) => Some(result),
            _ => None,
        })
        .collect()
}

#[test]
fn role_primary_is_answered_when_the_worker_is_ready_and_not_before() {
    let mut bench = Bench::new();
    let effects = bench.set_role(Role::Primary);
    assert!(effects.contains(&Effect::Start(Kind::Primary)));
    assert!(answers(&effects).is_empty());
    let effects = bench.supervisor.ready(bench.now);
    assert_eq!(answers(&effects), [&Ok(Role::Init)]);
}

#[test]
fn worker_that_fails_for_good_sets_the_role_to_init_and_says_why() {
    let mut bench = Bench::new();
    bench.set_role(Role::Primary);
    bench.supervisor.failed("No disk.".to_owned(), false);
    let effects = bench.supervisor.ended(Ending::Exited(66), bench.now);
    assert!(effects.contains(&Effect::FellBack {
        from: Role::Primary,
        to: Role::Init
    }));
    assert_eq!(answers(&effects), [&Err("No disk.".to_owned())]);
    assert_eq!(bench.supervisor.role(), Role::Init);
    assert!(bench.supervisor.is_idle());
}

#[test]
fn disk_that_cannot_be_opened_is_noticed_by_a_secondary_at_once() {
    let mut bench = Bench::new();
    let effects = bench.set_role(Role::Secondary);
    assert!(effects.contains(&Effect::Start(Kind::Check)));
    bench.supervisor.failed("No metadata.".to_owned(), false);
    let effects = bench.supervisor.ended(Ending::Exited(66), bench.now);
    assert_eq!(answers(&effects), [&Err("No metadata.".to_owned())]);
    assert_eq!(bench.supervisor.role(), Role::Init);
}

#[test]
fn killed_primary_is_restarted_after_a_second_in_its_role() {
    for ending in [KILLED, Ending::Exited(75), Ending::Exited(101)] {
        let mut bench = Bench::primary();
        let effects = bench.supervisor.ended(ending, bench.now);
        assert_eq!(effects, [Effect::RestartsIn(Duration::from_secs(1))]);
        assert_eq!(bench.supervisor.role(), Role::Primary);
        assert!(bench.supervisor.tick(bench.now).is_empty());
        let due = bench.supervisor.next_deadline().unwrap();
        assert_eq!(due, bench.now + Duration::from_secs(1));
        assert_eq!(bench.supervisor.tick(due), [Effect::Start(Kind::Primary)]);
    }
}

#[test]
fn primary_that_exits_otherwise_is_not_restarted() {
    for code in [0, 66, 78] {
        let mut bench = Bench::primary();
        let effects = bench.supervisor.ended(Ending::Exited(code), bench.now);
        assert_eq!(
            effects,
            [
                Effect::FellBack {
                    from: Role::Primary,
                    to: Role::Init
                },
                Effect::DropSessions
            ]
        );
    }
}

#[test]
fn secondary_worker_that_ends_waits_for_the_next_handshake() {
    let mut bench = Bench::secondary();
    assert_eq!(
        bench.supervisor.session(bench.now),
        [Effect::Start(Kind::Secondary)]
    );
    assert!(bench.supervisor.ended(KILLED, bench.now).is_empty());
    assert_eq!(bench.supervisor.role(), Role::Secondary);
    assert_eq!(bench.supervisor.next_deadline(), None);
}

#[test]
fn new_session_replaces_a_running_secondary_after_its_end() {
    let mut bench = Bench::secondary();
    bench.supervisor.session(bench.now);
    bench.supervisor.ready(bench.now);
    assert_eq!(bench.supervisor.session(bench.now), [Effect::Stop]);
    assert_eq!(
        bench.supervisor.ended(Ending::Exited(0), bench.now),
        [Effect::Start(Kind::Secondary)]
    );
}

#[test]
fn session_during_the_check_starts_when_the_check_has_passed() {
    let mut bench = Bench::new();
    bench.set_role(Role::Secondary);
    assert!(bench.supervisor.session(bench.now).is_empty());
    let effects = bench.supervisor.ended(Ending::Exited(0), bench.now);
    assert!(effects.contains(&Effect::Start(Kind::Secondary)));
    assert_eq!(answers(&effects), [&Ok(Role::Init)]);
}

#[test]
fn session_for_another_role_is_nothing() {
    assert!(
        Bench::primary()
            .supervisor
            .session(Instant::now())
            .is_empty()
    );
    assert!(Bench::new().supervisor.session(Instant::now()).is_empty());
}

#[test]
fn role_init_is_answered_when_the_worker_has_ended() {
    let mut bench = Bench::primary();
    let effects = bench.set_role(Role::Init);
    assert!(effects.contains(&Effect::Stop));
    assert!(answers(&effects).is_empty());
    let effects = bench.supervisor.ended(KILLED, bench.now);
    assert_eq!(answers(&effects), [&Ok(Role::Primary)]);
}

#[test]
fn unchanged_role_is_answered_at_once() {
    let mut bench = Bench::primary();
    let effects = bench.set_role(Role::Primary);
    assert_eq!(effects, [Effect::Answer(Ticket(2), Ok(Role::Primary))]);
}

#[test]
fn asking_again_restarts_a_failing_primary_at_once() {
    let mut bench = Bench::primary();
    bench.supervisor.ended(KILLED, bench.now);
    assert_eq!(
        bench.set_role(Role::Primary),
        [Effect::Start(Kind::Primary)]
    );
}

#[test]
fn order_that_takes_too_long_is_answered_with_the_reason() {
    let mut bench = Bench::new();
    bench.set_role(Role::Primary);
    bench.supervisor.failed("Disk is in use.".to_owned(), false);
    bench.supervisor.ended(Ending::Exited(75), bench.now);
    let effects = bench.supervisor.tick(bench.now + PATIENCE);
    assert_eq!(
        answers(&effects),
        [&Err("Disk is in use. The daemon keeps trying.".to_owned())]
    );
}

#[test]
fn later_order_overtakes_an_earlier_one() {
    let mut bench = Bench::new();
    bench.set_role(Role::Primary);
    let effects = bench.set_role(Role::Init);
    assert_eq!(answers(&effects).len(), 1);
    assert!(answers(&effects)[0].is_err());
    // The first worker's late readiness changes nothing.
    assert!(bench.supervisor.ready(bench.now).is_empty());
    let effects = bench.supervisor.ended(Ending::Exited(0), bench.now);
    assert_eq!(answers(&effects), [&Ok(Role::Primary)]);
}

#[test]
fn reconfigured_worker_is_stopped_and_started_in_its_role() {
    let mut bench = Bench::primary();
    assert_eq!(bench.supervisor.reconfigured(bench.now), [Effect::Stop]);
    assert_eq!(
        bench.supervisor.ended(Ending::Exited(0), bench.now),
        [Effect::Start(Kind::Primary)]
    );
    let mut bench = Bench::secondary();
    assert_eq!(
        bench.supervisor.reconfigured(bench.now),
        [Effect::DropSessions, Effect::Start(Kind::Check)]
    );
    assert!(
        Bench::new()
            .supervisor
            .reconfigured(Instant::now())
            .is_empty()
    );
}

#[test]
fn closing_stops_the_worker_and_refuses_orders() {
    let mut bench = Bench::primary();
    assert_eq!(
        bench.supervisor.close("The daemon ends.", bench.now),
        [Effect::Stop]
    );
    let effects = bench.set_role(Role::Secondary);
    assert!(answers(&effects)[0].is_err());
    assert!(bench.supervisor.ended(KILLED, bench.now).is_empty());
    assert!(bench.supervisor.is_idle());
    assert_eq!(bench.supervisor.next_deadline(), None);
}

#[derive(Clone, Debug)]
enum Happens {
    Role(u8),
    Ready,
    Ended(u8),
    Session,
    Reconfigured,
    Time(u8),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0..3u8).prop_map(Happens::Role),
        Just(Happens::Ready),
        (0..4u8).prop_map(Happens::Ended),
        Just(Happens::Session),
        Just(Happens::Reconfigured),
        (0..90u8).prop_map(Happens::Time),
    ]
}

proptest! {
    /// Whatever happens: one worker at a time, each stopped at most once, and every order answered
    /// exactly once, in time.
    #[test]
    fn one_worker_at_a_time_and_one_answer_per_order(
        history in proptest::collection::vec(happens(), 0..60)
    ) {
        let mut bench = Bench::new();
        let mut running = false;
        let mut stopped = false;
        let mut answered = Vec::new();
        for event in history {
            let effects = match event {
                Happens::Role(0) => bench.set_role(Role::Init),
                Happens::Role(1) => bench.set_role(Role::Primary),
                Happens::Role(_) => bench.set_role(Role::Secondary),
                Happens::Ready if running => bench.supervisor.ready(bench.now),
                Happens::Ended(how) if running => {
                    running = false;
                    stopped = false;
                    let ending = match how {
                        0 => Ending::Exited(0),
                        1 => Ending::Exited(75),
                        2 => KILLED,
                        _ => Ending::Exited(66),
                    };
                    bench.supervisor.ended(ending, bench.now)
                }
                Happens::Session => bench.supervisor.session(bench.now),
                Happens::Reconfigured => bench.supervisor.reconfigured(bench.now),
                Happens::Time(seconds) => {
                    bench.now += Duration::from_secs(seconds.into());
                    bench.supervisor.tick(bench.now)
                }
                Happens::Ready | Happens::Ended(_) => Vec::new(),
            };
            for effect in effects {
                match effect {
                    Effect::Start(_) => {
                        prop_assert!(!running);
                        running = true;
                    }
                    Effect::Stop => {
                        prop_assert!(running && !stopped);
                        stopped = true;
                    }
                    Effect::Answer(ticket, _) => {
                        prop_assert!(!answered.contains(&ticket));
                        answered.push(ticket);
                    }
                    _ => {}
                }
            }
        }
        for effect in bench.supervisor.tick(bench.now + PATIENCE) {
            if let Effect::Answer(ticket, _) = effect {
                prop_assert!(!answered.contains(&ticket));
                answered.push(ticket);
            }
        }
        prop_assert_eq!(answered.len() as u64, bench.tickets);
    }
}
