use std::io::IoSlice;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Deserialize, Serialize};

use super::*;

const PROTOCOL: Protocol = Protocol { id: 7, version: 1 };

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Sample {
    Text(String),
    Sockets(u8),
}

impl Message for Sample {
    fn descriptors(&self) -> usize {
        match self {
            Sample::Text(_) => 0,
            Sample::Sockets(count) => usize::from(*count),
        }
    }
}

type Both = Channel<Sample, Sample>;

fn channels() -> (Both, Both) {
    let (ours, theirs) = pair().unwrap();
    (
        Channel::new(ours, PROTOCOL).unwrap(),
        Channel::new(theirs, PROTOCOL).unwrap(),
    )
}

/// A channel and the bare socket of a peer that has greeted correctly.
fn channel_and_hostile_peer() -> (Both, OwnedFd) {
    let (ours, theirs) = pair().unwrap();
    let channel = Channel::new(ours, PROTOCOL).unwrap();
    let greeting = codec::encode(&Greeting {
        magic: MAGIC,
        protocol: PROTOCOL,
    })
    .unwrap();
    raw_send(&theirs, &greeting, 0);
    (channel, theirs)
}

/// Sends bytes and that many descriptors past all checks.
fn raw_send(socket: &OwnedFd, bytes: &[u8], descriptors: usize) {
    let null = std::fs::File::open("/dev/null").unwrap();
    let raw: Vec<RawFd> = vec![null.as_raw_fd(); descriptors];
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let vector = [IoSlice::new(bytes)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &vector,
        control,
        MsgFlags::empty(),
        None,
    )
    .unwrap();
}

fn text(text: &str) -> Sample {
    Sample::Text(text.into())
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn deadline() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(30))
}

fn assert_dead(channel: &mut Both) {
    assert!(matches!(channel.try_receive(), Err(ChannelError::Dead)));
    assert!(matches!(
        channel.send(&text("x"), vec![]),
        Err(ChannelError::Dead)
    ));
    assert!(!channel.wants_write());
}

#[test]
fn garbage_kills_the_channel() {
    let (mut channel, peer) = channel_and_hostile_peer();
    raw_send(&peer, &[200, 1, 2, 3], 0);
    assert!(matches!(
        channel.try_receive(),
        Err(ChannelError::Malformed(_))
    ));
    assert_dead(&mut channel);
}

#[test]
fn cut_and_padded_messages_kill_the_channel() {
    let good = codec::encode(&text("hello")).unwrap();
    let mut padded = good.clone();
    padded.push(0);
    for bytes in [&good[..good.len() - 1], &padded[..]] {
        let (mut channel, peer) = channel_and_hostile_peer();
        raw_send(&peer, bytes, 0);
        assert!(matches!(
            channel.try_receive(),
            Err(ChannelError::Malformed(_))
        ));
        assert_dead(&mut channel);
    }
}

#[test]
fn message_beyond_the_limit_kills_the_channel() {
    let (mut channel, peer) = channel_and_hostile_peer();
    raw_send(&peer, &vec![0; MESSAGE_BYTES_MAX + 100], 0);
    assert!(matches!(
        channel.try_receive(),
        Err(ChannelError::Truncated)
    ));
    assert_dead(&mut channel);
}

#[test]
fn unexpected_descriptors_kill_the_channel_and_are_closed() {
    let (mut channel, peer) = channel_and_hostile_peer();
    let (read, write) = nix::unistd::pipe().unwrap();
    let raw = [write.as_raw_fd()];
    let bytes = codec::encode(&text("hello")).unwrap();
    let vector = [IoSlice::new(&bytes)];
    let control = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(peer.as_raw_fd(), &vector, &control, MsgFlags::empty(), None).unwrap();
    drop(write);
    assert!(matches!(
        channel.try_receive(),
        Err(ChannelError::Descriptors {
            expected: 0,
            received: 1
        })
    ));
    assert_dead(&mut channel);
    // All copies of the writing end are closed: the pipe is at its end, not empty.
    let mut byte = [0];
    assert_eq!(nix::unistd::read(&read, &mut byte), Ok(0));
}

#[test]
fn missing_descriptors_kill_the_channel() {
    let (mut channel, peer) = channel_and_hostile_peer();
    raw_send(&peer, &codec::encode(&Sample::Sockets(2)).unwrap(), 1);
    assert!(matches!(
        channel.try_receive(),
        Err(ChannelError::Descriptors {
            expected: 2,
            received: 1
        })
    ));
    assert_dead(&mut channel);
}

#[test]
fn too_many_descriptors_kill_the_channel_and_are_closed() {
    for count in [DESCRIPTORS_MAX + 1, 100] {
        let (mut channel, peer) = channel_and_hostile_peer();
        let (read, write) = nix::unistd::pipe().unwrap();
        let raw = vec![write.as_raw_fd(); count];
        let count = u8::try_from(count).unwrap();
        let bytes = codec::encode(&Sample::Sockets(count)).unwrap();
        let control = [ControlMessage::ScmRights(&raw)];
        let vector = [IoSlice::new(&bytes)];
        sendmsg::<()>(peer.as_raw_fd(), &vector, &control, MsgFlags::empty(), None).unwrap();
        drop(write);
        assert!(matches!(
            channel.try_receive(),
            Err(ChannelError::Truncated | ChannelError::Descriptors { .. })
        ));
        assert_dead(&mut channel);
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&read, &mut byte), Ok(0));
    }
}

#[test]
fn peer_without_greeting_is_refused() {
    let (ours, theirs) = pair().unwrap();
    let mut channel: Both = Channel::new(ours, PROTOCOL).unwrap();
    raw_send(&theirs, &codec::encode(&text("hello")).unwrap(), 0);
    assert!(matches!(
        channel.try_receive(),
        Err(ChannelError::Greeting(_))
    ));
    assert_dead(&mut channel);
}

#[test]
fn peer_of_another_version_or_protocol_is_refused() {
    for other in [
        Protocol {
            version: 2,
            ..PROTOCOL
        },
        Protocol { id: 8, ..PROTOCOL },
    ] {
        let (ours, theirs) = pair().unwrap();
        let mut channel: Both = Channel::new(ours, PROTOCOL).unwrap();
        let _peer: Both = Channel::new(theirs, other).unwrap();
        let error = channel.try_receive().unwrap_err();
        assert!(matches!(error, ChannelError::Greeting(_)));
        assert!(error.to_string().contains(&other.to_string()), "{error}");
        assert_dead(&mut channel);
    }
}

#[test]
fn descriptors_with_the_greeting_are_refused() {
    let (ours, theirs) = pair().unwrap();
    let mut channel: Both = Channel::new(ours, PROTOCOL).unwrap();
    let greeting = codec::encode(&Greeting {
        magic: MAGIC,
        protocol: PROTOCOL,
    })
    .unwrap();
    raw_send(&theirs, &greeting, 1);
    assert!(matches!(
        channel.try_receive(),
        Err(ChannelError::Descriptors { .. })
    ));
    assert_dead(&mut channel);
}

#[test]
fn end_of_the_peer_is_told_after_its_last_words() {
    let (mut channel, mut peer) = channels();
    peer.send(&text("panicked"), vec![]).unwrap();
    // The peer ends without having read what we sent.
    channel.send(&text("unread"), vec![]).unwrap();
    drop(peer);
    assert!(matches!(
        channel.send(&text("late"), vec![]),
        Err(ChannelError::Closed)
    ));
    assert_eq!(channel.receive(deadline()).unwrap().0, text("panicked"));
    assert!(matches!(
        channel.receive(deadline()),
        Err(ChannelError::Closed)
    ));
    assert!(matches!(channel.try_receive(), Err(ChannelError::Dead)));
}

#[test]
fn peer_that_was_gone_before_is_told_by_receiving() {
    let (ours, theirs) = pair().unwrap();
    drop(theirs);
    let mut channel: Both = Channel::new(ours, PROTOCOL).unwrap();
    assert!(matches!(channel.try_receive(), Err(ChannelError::Closed)));
}

#[test]
fn wrong_number_of_descriptors_is_never_sent() {
    let (mut channel, mut peer) = channels();
    assert!(matches!(
        channel.send(&Sample::Sockets(2), vec![null()]),
        Err(ChannelError::Message(_))
    ));
    assert!(matches!(
        channel.send(&text("x"), vec![null()]),
        Err(ChannelError::Message(_))
    ));
    let count = u8::try_from(DESCRIPTORS_MAX + 1).unwrap();
    let many = (0..count).map(|_| null()).collect();
    assert!(matches!(
        channel.send(&Sample::Sockets(count), many),
        Err(ChannelError::Message(_))
    ));
    let large = Sample::Text("x".repeat(MESSAGE_BYTES_MAX));
    assert!(matches!(
        channel.send(&large, vec![]),
        Err(ChannelError::Message(_))
    ));
    // Nothing of that went, and the channel works.
    channel.send(&text("fine"), vec![]).unwrap();
    assert_eq!(peer.receive(deadline()).unwrap().0, text("fine"));
}

#[test]
fn peer_that_does_not_read_fills_the_queue_then_the_channel_dies() {
    // Many small messages, and few large ones.
    for (size_bytes, least) in [(1_000, QUEUE_MESSAGES_MAX), (200_000, 20)] {
        let (mut channel, _peer) = channels();
        let message = Sample::Text("x".repeat(size_bytes));
        let mut sent = 0;
        let error = loop {
            match channel.send(&message, vec![]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 10_000, "the queue has no bound");
        };
        assert!(matches!(error, ChannelError::QueueFull));
        assert!(sent >= least, "{sent}");
        assert!(sent * size_bytes < 2 * QUEUE_BYTES_MAX, "{sent}");
        assert_dead(&mut channel);
    }
}

#[test]
fn queued_messages_arrive_in_order_with_their_descriptors() {
    let (mut channel, mut peer) = channels();
    let mut sent = 0;
    while !channel.wants_write() {
        channel
            .send(
                &Sample::Text(format!("{sent} {}", "x".repeat(50_000))),
                vec![],
            )
            .unwrap();
        sent += 1;
    }
    let (read, write) = nix::unistd::pipe().unwrap();
    channel.send(&Sample::Sockets(1), vec![write]).unwrap();
    for index in 0..sent {
        let (message, _) = receive_flushing(&mut peer, &mut channel);
        let Sample::Text(text) = message else {
            panic!("{message:?}")
        };
        assert!(text.starts_with(&format!("{index} ")));
    }
    let (message, descriptors) = receive_flushing(&mut peer, &mut channel);
    assert_eq!(message, Sample::Sockets(1));
    assert!(!channel.wants_write());
    nix::unistd::write(&descriptors[0], b"!").unwrap();
    drop(descriptors);
    let mut bytes = [0; 2];
    assert_eq!(nix::unistd::read(&read, &mut bytes), Ok(1));
}

fn receive_flushing(from: &mut Both, other: &mut Both) -> (Sample, Vec<OwnedFd>) {
    loop {
        other.flush().unwrap();
        if let Some(received) = from.try_receive().unwrap() {
            return received;
        }
    }
}

#[test]
fn largest_message_and_most_descriptors_pass() {
    let (mut channel, mut peer) = channels();
    let count = u8::try_from(DESCRIPTORS_MAX).unwrap();
    channel
        .send(
            &Sample::Sockets(count),
            (0..count).map(|_| null()).collect(),
        )
        .unwrap();
    let (message, descriptors) = peer.receive(deadline()).unwrap();
    assert_eq!(
        (message, descriptors.len()),
        (Sample::Sockets(count), DESCRIPTORS_MAX)
    );
    for descriptor in &descriptors {
        let flags = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
    // One byte of the variant, five of the length.
    let large = Sample::Text("x".repeat(MESSAGE_BYTES_MAX - 6));
    channel.send(&large, vec![]).unwrap();
    peer_receives(&mut peer, &mut channel, &large);
}

fn peer_receives(peer: &mut Both, channel: &mut Both, expected: &Sample) {
    assert_eq!(&receive_flushing(peer, channel).0, expected);
}

#[test]
fn nothing_there_is_no_error_and_a_deadline_is_kept() {
    let (mut channel, _peer) = channels();
    assert!(channel.try_receive().unwrap().is_none());
    let soon = Some(Instant::now() + Duration::from_millis(5));
    assert!(matches!(channel.receive(soon), Err(ChannelError::TimedOut)));
    assert!(channel.try_receive().unwrap().is_none());
}
