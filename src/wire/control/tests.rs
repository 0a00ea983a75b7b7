use super::*;
use crate::terms::{Checksum, Compression, Replication, Role};
use crate::wire::nv::Writer;
use crate::wire::packet::{self, Limits, Packet};
use proptest::prelude::*;

fn request(pairs: impl FnOnce(&mut Writer<'_>)) -> Result<ControlRequest, BadControlRequest> {
    let mut out = Vec::new();
    packet::write(&mut out, 2, pairs);
    ControlRequest::decode(&Packet::parse(&out, Limits::CONTROL_REQUEST).unwrap())
}

#[test]
fn bad_requests_are_refused_each_with_the_original_answer() {
    let long = "r".repeat(255);
    let cases = [
        (
            request(|p| {
                p.string("resource0", "test");
            }),
            BadControlRequest::NoCommand,
            None,
        ),
        (
            request(|p| {
                p.u8("cmd", 2).string("resource1", "test");
            }),
            BadControlRequest::NoResource,
            Some(ControlError::INVALID),
        ),
        (
            request(|p| {
                p.u8("cmd", 9).string("resource0", "test");
            }),
            BadControlRequest::UnknownCommand(9),
            Some(ControlError::UNIMPLEMENTED),
        ),
        (
            request(|p| {
                p.u8("cmd", 1).string("resource0", "test");
            }),
            BadControlRequest::BadRole(0),
            Some(ControlError::INVALID),
        ),
        (
            request(|p| {
                p.u8("cmd", 2)
                    .string("resource0", "a")
                    .string("resource1", &long);
            }),
            BadControlRequest::BadName(1),
            Some(ControlError::INVALID),
        ),
        (
            request(|p| {
                p.u16("cmd", 2).string("resource0", "a");
            }),
            BadControlRequest::Kind("cmd"),
            Some(ControlError::INVALID),
        ),
    ];
    for (result, expected, answer) in cases {
        assert_eq!(result, Err(expected));
        assert_eq!(expected.answer(), answer);
    }
}

#[test]
fn a_list_ends_at_a_gap_and_numbers_have_one_spelling() {
    let decoded = request(|p| {
        p.u8("cmd", 2)
            .string("resource0", "a")
            .string("resource2", "c");
        p.string("resource01", "b")
            .string("resource", "d")
            .string("resource70000", "e");
    });
    assert_eq!(decoded.unwrap().resources, ["a"]);
}

#[test]
fn more_resources_than_the_bound_are_not_read() {
    let mut out = Vec::new();
    packet::write(&mut out, 2, |pairs| {
        pairs.u8("cmd", 2);
        for index in 0..RESOURCES_MAX + 10 {
            pairs.string(&format!("resource{index}"), "r");
        }
    });
    let packet = Packet::parse(&out, Limits::CONTROL_REQUEST).unwrap();
    assert_eq!(
        ControlRequest::decode(&packet),
        Err(BadControlRequest::TooManyResources)
    );
}

#[test]
fn an_empty_reply_is_not_an_empty_block() {
    let mut out = Vec::new();
    ControlReply::default().encode(&mut out);
    let packet = Packet::parse(&out, Limits::CONTROL_REPLY).unwrap();
    assert_eq!(ControlReply::decode(&packet), Ok(ControlReply::default()));
}

#[test]
fn replies_that_make_no_sense_are_refused() {
    let decode = |pairs: &dyn Fn(&mut Writer<'_>)| {
        let mut out = Vec::new();
        packet::write(&mut out, 2, |writer| pairs(writer));
        ControlReply::decode(&Packet::parse(&out, Limits::CONTROL_REPLY).unwrap()).unwrap_err()
    };
    let word = decode(&|p| {
        p.string("resource0", "r").string("role0", "boss");
    });
    assert_eq!(word, ReplyError::UnknownWord("role", 0));
    let missing = decode(&|p| {
        p.string("resource0", "r").string("provname0", "r");
    });
    assert_eq!(missing, ReplyError::Missing("localpath", 0));
    let kind = decode(&|p| {
        p.string("resource0", "r").string("error0", "1");
    });
    assert!(matches!(kind, ReplyError::Kind("error", _)));
}

fn any_status() -> impl Strategy<Value = ResourceStatus> {
    let text = || "[^\0]{0,20}";
    let worker = prop::option::of((any::<(bool, u64, u32, u32)>(), any::<[u64; 5]>()));
    (
        text(),
        text(),
        prop::option::of(text()),
        any::<i32>(),
        worker,
        prop::option::of(text()),
    )
        .prop_map(
            |(provname, localpath, sourceaddr, pid, worker, json)| ResourceStatus {
                provname,
                localpath,
                remoteaddr: "tcp4://10.0.0.1:8457".into(),
                sourceaddr,
                replication: Replication::Memsync,
                checksum: Some(Checksum::Crc32),
                compression: Some(Compression::Lzf),
                role: Role::Primary,
                workerpid: Some(pid),
                worker: worker.map(|((complete, dirty, extentsize, keepdirty), counts)| {
                    WorkerState {
                        complete,
                        dirty,
                        extentsize,
                        keepdirty,
                        statistics: Statistics {
                            read: counts[0],
                            activemap_update: counts[1],
                            flush_error: counts[2],
                            idle_queue: counts[3],
                            done_queue: counts[4],
                            ..Statistics::default()
                        },
                    }
                }),
                json,
            },
        )
}

fn any_resource() -> impl Strategy<Value = ResourceReply> {
    let text = || prop::option::of("[^\0]{0,20}");
    let number = (1i16..).prop_map(|number| ControlError::from_wire(number).unwrap());
    let role = prop::option::of(prop::sample::select(vec![Role::Init, Role::Secondary]));
    let state = prop_oneof![
        (number, text()).prop_map(|(error, text)| ResourceState::Failed { error, text }),
        (role, text()).prop_map(|(previous, text)| ResourceState::Done { previous, text }),
        any_status().prop_map(|status| ResourceState::Status(Box::new(status))),
    ];
    ("[^\0]{1,20}", state).prop_map(|(name, state)| ResourceReply { name, state })
}

proptest! {
    #[test]
    fn requests_round_trip(
        resources in prop::collection::vec("[^\0]{1,30}", 1..30),
        code in 65u8..,
        argument in prop::option::of("[^\0]{0,30}"),
        which in 0..4,
        json in any::<bool>(),
    ) {
        let order = match which {
            0 => Order::SetRole(Role::Secondary),
            1 => Order::Status,
            2 => Order::Stop,
            _ => Order::Extension { code, argument },
        };
        let request = ControlRequest { order, resources, json };
        let mut out = Vec::new();
        request.encode(&mut out);
        let packet = Packet::parse(&out, Limits::CONTROL_REQUEST).unwrap();
        prop_assert_eq!(ControlRequest::decode(&packet), Ok(request));
    }

    #[test]
    fn replies_round_trip(
        resources in prop::collection::vec(any_resource(), 0..20),
        error in prop::option::of((Just(ControlError::NO_MEMORY), prop::option::of("[a-z ]{0,9}"))),
        json in prop::option::of("[^\0]{0,20}"),
    ) {
        let reply = ControlReply { error, resources, json };
        let mut out = Vec::new();
        reply.encode(&mut out);
        let packet = Packet::parse(&out, Limits::CONTROL_REPLY).unwrap();
        prop_assert_eq!(ControlReply::decode(&packet), Ok(reply));
    }
}
