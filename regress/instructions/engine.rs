//! Engines of both roles whose disks and peers answer at once, or as late as a depth wants it.

use std::collections::VecDeque;

use hast::disk::layout::{CreateOptions, Geometry, Metadata, Plan};
use hast::engine::event::{
    AppOp, AppRequest, BufId, DiskOp, OpId, Parameters, PeerLimits, PrimaryAction, PrimaryEvent,
    ReqId, SecondaryAction, SecondaryEvent, Time,
};
use hast::engine::primary::{Primary, PrimaryConfig};
use hast::engine::secondary::{Secondary, SecondaryConfig};
use hast::terms::{REQUEST_BYTES_MAX, Replication, SyncRate};
use hast::wire::message::{Command, PrimaryHello, Reply, Request, SecondaryHello, SyncSource};
use hast_regress::scenario::rng::Rng;

/// Extents that writes go to unless they go everywhere: fewer than stay dirty.
const EXTENTS: u64 = 48;

/// Bytes of a write.
const WRITE_BYTES: u32 = 4096;

/// Requests in flight at most.
const REQUESTS_MAX: usize = 4096;

/// Where writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// Into a few extents, far apart, whose bits stay set.
    FewExtents,
    /// Anywhere: most need an update of the bitmap.
    Anywhere,
}

/// What an engine is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of the resource.
    pub(crate) bytes: u64,
    /// Extents that are dirty already and stay so.
    pub(crate) dirty: u64,
    /// Writes in flight.
    pub(crate) depth: usize,
    /// Where they go.
    pub(crate) place: Where,
    /// When they are done.
    pub(crate) replication: Replication,
}

impl Shape {
    /// One write after the other on an equal pair of so many bytes.
    pub(crate) fn of(bytes: u64) -> Shape {
        Shape {
            bytes,
            dirty: 0,
            depth: 1,
            place: Where::FewExtents,
            replication: Replication::Fullsync,
        }
    }
}

fn metadata(bytes: u64) -> Metadata {
    let geometry = Geometry {
        mediasize: bytes,
        sectorsize: 512,
    };
    let plan = Plan::new(geometry, &CreateOptions::default())
        .unwrap_or_else(|error| panic!("{bytes} bytes are a possible size: {error}"));
    Metadata {
        resuid: 7,
        ..plan.metadata("r")
    }
}

fn map(metadata: &Metadata) -> Vec<u8> {
    vec![0; usize::try_from(metadata.mapsize()).unwrap_or(usize::MAX)]
}

/// A connected primary.
pub(crate) struct Node {
    primary: Primary,
    out: Vec<PrimaryAction>,
    /// Operations on the disk that are answered next.
    now: VecDeque<OpId>,
    /// Writes of the application on the disk and on the wire, oldest first.
    disk: VecDeque<OpId>,
    wire: VecDeque<u64>,
    greeted: bool,
    in_flight: usize,
    next: u32,
    rng: Rng,
    shape: Shape,
    extent_bytes: u64,
    extents: u64,
}

impl Node {
    /// An equal pair; nothing is in flight.
    pub(crate) fn new(shape: Shape) -> Node {
        let metadata = metadata(shape.bytes);
        let (extents, extent_bytes) = (metadata.extents(), u64::from(metadata.extentsize));
        let mut map = map(&metadata);
        // From the end, far from what is written to.
        for extent in extents.saturating_sub(shape.dirty)..extents {
            if let Some(byte) = map.get_mut(usize::try_from(extent / 8).unwrap_or(usize::MAX)) {
                *byte |= 1 << (extent % 8);
            }
        }
        let hello = SecondaryHello {
            datasize: metadata.datasize,
            extentsize: metadata.extentsize,
            localcnt: 0,
            remotecnt: 0,
            virgin: false,
            syncsrc: SyncSource::Primary,
            mapsize: u32::try_from(map.len()).unwrap_or(u32::MAX),
        };
        let peer = PeerLimits {
            request_bytes: REQUEST_BYTES_MAX,
            ..PeerLimits::default()
        };
        let clean = vec![0; map.len()];
        let config = PrimaryConfig {
            metadata,
            map,
            sector_bytes: 512,
            fresh_resuid: 99,
            parameters: Parameters {
                replication: shape.replication,
                timeout_ms: 20_000,
                metaflush: true,
                sync_rate: SyncRate::Unlimited,
            },
            sync_bufs: vec![BufId(u32::MAX)],
            requests_max: REQUESTS_MAX,
            mutant: None,
        };
        let mut node = Node {
            primary: Primary::new(config, Time(0)),
            out: Vec::with_capacity(64),
            now: VecDeque::with_capacity(64),
            disk: VecDeque::with_capacity(REQUESTS_MAX),
            wire: VecDeque::with_capacity(REQUESTS_MAX),
            greeted: false,
            in_flight: 0,
            next: 0,
            rng: Rng::new(1),
            shape,
            extent_bytes,
            extents,
        };
        // What is dirty stays so.
        node.event(PrimaryEvent::PauseSync(true));
        node.event(PrimaryEvent::Linked);
        node.settle();
        assert!(node.greeted, "it may tell its counters");
        node.event(PrimaryEvent::Hello {
            hello,
            map: &clean,
            peer,
        });
        node.settle();
        while node.in_flight < shape.depth {
            node.issue();
        }
        // Bits are set, lists are as long as they get.
        for _ in 0..4 * EXTENTS {
            node.write();
        }
        node
    }

    /// Takes in a write and finishes the one that is longest in flight.
    pub(crate) fn write(&mut self) {
        self.issue();
        self.finish();
    }

    fn issue(&mut self) {
        let offset = self.place();
        self.next = (self.next + 1) % (1 << 20);
        self.in_flight += 1;
        self.event(PrimaryEvent::App(AppRequest {
            id: ReqId(self.next),
            op: AppOp::Write { fua: false },
            offset,
            length: WRITE_BYTES,
            buf: Some(BufId(self.next)),
        }));
        self.settle();
    }

    fn finish(&mut self) {
        if let Some(op) = self.disk.pop_front() {
            self.event(PrimaryEvent::DiskDone { op, result: Ok(()) });
        }
        if let Some(seq) = self.wire.pop_front() {
            let reply = Reply {
                seq,
                error: None,
                received: false,
            };
            self.event(PrimaryEvent::Reply { reply, length: 0 });
        }
        self.settle();
        self.in_flight -= 1;
    }

    fn place(&mut self) -> u64 {
        let pages = self.extent_bytes / u64::from(WRITE_BYTES);
        let extent = match self.shape.place {
            Where::FewExtents => (self.extents - 1) / EXTENTS * self.rng.below(EXTENTS),
            // The last one may be shorter.
            Where::Anywhere => self.rng.below(self.extents - 1),
        };
        extent * self.extent_bytes + self.rng.below(pages) * u64::from(WRITE_BYTES)
    }

    fn settle(&mut self) {
        while let Some(op) = self.now.pop_front() {
            self.event(PrimaryEvent::DiskDone { op, result: Ok(()) });
        }
    }

    fn event(&mut self, event: PrimaryEvent<'_>) {
        self.primary.handle(Time(0), event, &mut self.out);
        for action in self.out.drain(..) {
            match action {
                PrimaryAction::Disk { op, what } => match what {
                    DiskOp::Write { .. } => self.disk.push_back(op),
                    _ => self.now.push_back(op),
                },
                PrimaryAction::Send { request, .. } if request.command == Command::Write => {
                    self.wire.push_back(request.seq);
                }
                PrimaryAction::SendHello(_) => self.greeted = true,
                PrimaryAction::Disconnect(reason) => panic!("it disconnects: {reason:?}"),
                PrimaryAction::Send { .. }
                | PrimaryAction::Complete { .. }
                | PrimaryAction::Release(_)
                | PrimaryAction::Notice(_)
                | PrimaryAction::Stopped => {}
            }
        }
    }

    /// A read that finds its data here.
    pub(crate) fn read(&mut self) {
        let offset = self.place();
        self.event(PrimaryEvent::App(AppRequest {
            id: ReqId(0),
            op: AppOp::Read,
            offset,
            length: WRITE_BYTES,
            buf: Some(BufId(0)),
        }));
        self.settle();
    }
}

/// A secondary with a session.
pub(crate) struct Peer {
    secondary: Secondary,
    out: Vec<SecondaryAction>,
    ops: VecDeque<OpId>,
    extents: u64,
    extent_bytes: u64,
    seq: u64,
    rng: Rng,
}

impl Peer {
    /// In step with its primary.
    pub(crate) fn new(bytes: u64) -> Peer {
        let metadata = metadata(bytes);
        let (extents, extent_bytes) = (metadata.extents(), u64::from(metadata.extentsize));
        let config = SecondaryConfig {
            map: map(&metadata),
            metadata,
            sector_bytes: 512,
            metaflush: true,
            timeout_ms: 20_000,
            requests_max: REQUESTS_MAX,
            mutant: None,
        };
        let mut peer = Peer {
            secondary: Secondary::new(config, Time(0)),
            out: Vec::with_capacity(64),
            ops: VecDeque::with_capacity(64),
            extents,
            extent_bytes,
            seq: 0,
            rng: Rng::new(1),
        };
        let hello = PrimaryHello {
            virgin: false,
            resuid: 7,
            localcnt: 0,
            remotecnt: 0,
        };
        peer.event(SecondaryEvent::Hello {
            hello,
            peer: PeerLimits::default(),
        });
        peer.write();
        peer
    }

    /// A write arrives and is stored.
    pub(crate) fn write(&mut self) {
        self.seq += 1;
        let request = Request {
            command: Command::Write,
            seq: self.seq,
            offset: self.rng.below(self.extents - 1) * self.extent_bytes,
            length: u64::from(WRITE_BYTES),
            memsync: false,
        };
        self.event(SecondaryEvent::Request {
            request,
            data: Some((BufId(0), WRITE_BYTES)),
            zeroes: false,
        });
    }

    fn event(&mut self, event: SecondaryEvent) {
        self.handle(event);
        while let Some(op) = self.ops.pop_front() {
            self.handle(SecondaryEvent::DiskDone { op, result: Ok(()) });
        }
    }

    fn handle(&mut self, event: SecondaryEvent) {
        self.secondary.handle(Time(0), event, &mut self.out);
        for action in self.out.drain(..) {
            match action {
                SecondaryAction::Disk { op, .. } => self.ops.push_back(op),
                SecondaryAction::Refuse(reason) | SecondaryAction::Stopped(reason) => {
                    panic!("the session ends: {reason:?}")
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_done_at_every_depth_and_size() {
        for (bytes, dirty, depth, place) in [
            (1 << 30, 0, 1, Where::FewExtents),
            (100 << 40, 1 << 20, 32, Where::FewExtents),
            (1 << 40, 0, 1000, Where::Anywhere),
        ] {
            let mut node = Node::new(Shape {
                dirty,
                depth,
                place,
                ..Shape::of(bytes)
            });
            let before = node.primary.status();
            for _ in 0..2000 {
                node.write();
            }
            let after = node.primary.status();
            assert_eq!(after.statistics.writes, before.statistics.writes + 2000);
            assert_eq!(after.requests, depth, "as many are in flight as before");
            assert!(after.sync_left_bytes >= dirty * node.extent_bytes);
            for _ in 0..depth {
                node.finish();
            }
            assert_eq!(node.primary.status().requests, 0);
            node.read();
            assert_eq!(node.primary.status().requests, 0);
        }
    }

    #[test]
    fn a_secondary_answers_all_writes() {
        let mut peer = Peer::new(1 << 40);
        for _ in 0..100 {
            peer.write();
        }
        let status = peer.secondary.status();
        assert_eq!((status.requests, status.statistics.writes), (0, 101));
    }
}
