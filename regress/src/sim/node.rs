//! A node: its disk, its daemon and at most one worker.
//!
//! The daemon's part is modelled here, not run: roles, starting and restarting workers, the first
//! step of the handshake with its tokens and refusals, and connecting again and again.

use hast::disk::layout::Metadata;
use hast::engine::event::{LostReason, Parameters, PeerLimits};
use hast::engine::primary::Primary;
use hast::engine::secondary::Secondary;
use hast::terms::Role;
use hast::wire::message::PrimaryHello;

use super::app::Device;
use super::buffers::Pool;
use super::clock::{Micros, SECOND};
use super::disk::{Disk, Image};
use super::network::LinkId;
use super::scenario::Scenario;

/// A primary's connection, as its daemon and driver see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// None; a connection will be tried.
    Idle,
    /// The first step of the handshake.
    Opening(LinkId),
    /// The engine knows the link.
    Linked {
        /// The link.
        link: LinkId,
        /// Sent on the second connection.
        token: u64,
    },
}

impl Uplink {
    /// The link, in any state.
    pub fn link(self) -> Option<LinkId> {
        match self {
            Uplink::Idle => None,
            Uplink::Opening(link) | Uplink::Linked { link, .. } => Some(link),
        }
    }
}

/// A primary's worker.
#[derive(Debug)]
pub struct PrimaryWorker {
    /// The engine.
    pub engine: Primary,
    /// The connection.
    pub uplink: Uplink,
    /// Number of the session, while requests travel.
    pub session: Option<u32>,
    /// Pause before the next attempt to connect.
    pub backoff: Micros,
    /// Until when a peer's `wait` is believed.
    pub patient_until: Micros,
    /// Requests sent and not finally answered: seq, first sector, count.
    pub outstanding: Vec<(u64, u32, u32)>,
    /// The engine said `Stopped`.
    pub stopped: bool,
}

/// A secondary's worker: one session.
#[derive(Debug)]
pub struct SecondaryWorker {
    /// The engine.
    pub engine: Secondary,
    /// The session's link.
    pub link: LinkId,
    /// The engine said `Stopped`.
    pub stopped: bool,
    /// Messages that the driver does not read yet, as the engine has no room.
    pub inbox: std::collections::VecDeque<super::network::Message>,
}

/// The worker of a node.
#[derive(Debug)]
pub enum Worker {
    /// None.
    None,
    /// A primary's.
    Primary(Box<PrimaryWorker>),
    /// A secondary's.
    Secondary(Box<SecondaryWorker>),
}

/// A session that a secondary's daemon has accepted and whose worker is to be started.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Its link.
    pub link: LinkId,
    /// The primary's counters.
    pub hello: PrimaryHello,
    /// What the primary can do.
    pub peer: PeerLimits,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its disk.
    pub disk: Disk,
    /// Whether it runs.
    pub powered: bool,
    /// The role that the operator gave it.
    pub role: Role,
    /// Counts the workers: events for an earlier one are void.
    pub life: u32,
    /// The worker.
    pub worker: Worker,
    /// The worker's buffers.
    pub pool: Pool,
    /// Parameters as configured.
    pub parameters: Parameters,
    /// The front end, while this node is primary.
    pub device: Device,
    /// The first step of a handshake is done: link and token.
    pub half_open: Option<(LinkId, u64)>,
    /// Waits for the end of the former session's worker.
    pub accepted: Option<Accepted>,
    /// The worker is being stopped in an orderly way.
    pub stopping: bool,
    /// When the engine is to be called next.
    pub tick_at: Option<Micros>,
    /// The last reason for which a connection ended, for the operator.
    pub last_lost: Option<LostReason>,
    /// Its disk was given up.
    pub detached: bool,
    /// The operator wants it to become primary even on an incomplete copy.
    pub forced: bool,
    /// The operator keeps it apart from its peer.
    pub disconnected: bool,
    /// A synchronisation has written to its copy and has not ended.
    pub mixed: bool,
    /// How often what was in its memory or cache was lost.
    pub losses: u32,
    /// When it stopped to be of use.
    pub down_since: Option<Micros>,
}

/// Time that a worker gets to end in an orderly way.
pub const STOP_LIMIT: Micros = 60 * SECOND;

impl Node {
    /// A new node with a newly created local component.
    pub fn new(scenario: &Scenario, number: usize) -> Node {
        Node {
            disk: Disk::new(
                scenario.sector,
                scenario.disks[number],
                fresh_image(scenario),
            ),
            powered: true,
            role: Role::Init,
            life: 0,
            worker: Worker::None,
            pool: Pool::default(),
            parameters: scenario.parameters,
            device: Device::new(scenario.load.clients),
            half_open: None,
            accepted: None,
            stopping: false,
            tick_at: None,
            last_lost: None,
            detached: false,
            forced: false,
            disconnected: false,
            mixed: false,
            losses: 0,
            down_since: None,
        }
    }

    /// The primary's worker, if that is what runs.
    pub fn primary(&mut self) -> Option<&mut PrimaryWorker> {
        match &mut self.worker {
            Worker::Primary(worker) => Some(worker),
            _ => None,
        }
    }

    /// The primary's worker, if that is what runs, to look at.
    pub fn as_primary(&self) -> Option<&PrimaryWorker> {
        match &self.worker {
            Worker::Primary(worker) => Some(worker),
            _ => None,
        }
    }

    /// The secondary's worker, if that is what runs, to look at.
    pub fn as_secondary(&self) -> Option<&SecondaryWorker> {
        match &self.worker {
            Worker::Secondary(worker) => Some(worker),
            _ => None,
        }
    }

    /// The secondary's worker, if that is what runs.
    pub fn secondary(&mut self) -> Option<&mut SecondaryWorker> {
        match &mut self.worker {
            Worker::Secondary(worker) => Some(worker),
            _ => None,
        }
    }
}

/// What `hastctl create` leaves on a disk, the data area full of zeros.
pub fn fresh_image(scenario: &Scenario) -> Image {
    let mapsize = scenario.mapsize();
    Image {
        data: vec![super::content::Cell::ZERO; super::content::index(scenario.sectors)],
        map: vec![0; super::content::index(mapsize)],
        meta: Metadata {
            resource: "r".into(),
            datasize: scenario.datasize(),
            extentsize: scenario.extent_sectors * scenario.sector,
            keepdirty: scenario.keepdirty,
            offset: hast::disk::layout::METADATA_BYTES + u64::from(mapsize),
            resuid: 0,
            localcnt: 0,
            remotecnt: 0,
            prevrole: Role::Init,
            inconsistent: false,
        },
    }
}
