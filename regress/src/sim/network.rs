//! The network between the two nodes: a link for each session, with a stream in each direction.
//!
//! A stream delivers its messages in their order, late, or not at all: a cut loses a suffix of what
//! was sent. One end may notice that the link is gone long after the other, or never by itself. The
//! two TCP connections of a session are one link here, as each direction is used by one of them.

use std::collections::VecDeque;

use hast::engine::event::{BufId, LostReason, PeerLimits};
use hast::wire::message::{PrimaryHello, Reply, Request, SecondaryHello};

use super::clock::Micros;
use super::content::Cell;
use super::rng::Rng;
use super::scenario::NetSpec;

/// What travels.
#[derive(Debug)]
pub enum Message {
    /// First connection: the primary's daemon asks for a session.
    Open,
    /// The secondary's daemon accepts.
    Accept {
        /// Ties the second connection to the first.
        token: u64,
    },
    /// The secondary's daemon refuses; `wait`: the primary shall try again soon.
    Refuse {
        /// This node is primary itself.
        wait: bool,
    },
    /// Second connection: the primary's counters.
    Counters {
        /// As received in `Accept`.
        token: u64,
        /// The counters.
        hello: PrimaryHello,
        /// What the primary can do.
        peer: PeerLimits,
    },
    /// The secondary's answer and its bitmap.
    Answer {
        /// The fixed part.
        hello: SecondaryHello,
        /// The bitmap.
        map: Vec<u8>,
        /// What the secondary can do.
        peer: PeerLimits,
    },
    /// The secondary's worker refuses.
    Error(LostReason),
    /// A request, with a write's data, and the buffer and cell in it that they were taken from.
    Request {
        /// The request.
        request: Request,
        /// A write's data.
        cells: Option<Vec<Cell>>,
        /// Where they were taken from, while the driver still looks at it.
        source: Option<Source>,
    },
    /// A reply, with a read's data.
    Reply {
        /// The reply.
        reply: Reply,
        /// A read's data.
        cells: Option<Vec<Cell>>,
        /// As in a request.
        source: Option<Source>,
    },
    /// The answer to a keepalive.
    Heartbeat,
    /// The end of the stream.
    End,
}

/// A buffer from which a message is sent.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The buffer.
    pub buf: BufId,
    /// The first cell.
    pub first: u32,
    /// The sender's worker: a later one has other buffers.
    pub life: u32,
}

impl Message {
    /// Where its data were taken from.
    pub fn source(&self) -> Option<(Source, &[Cell])> {
        match self {
            Message::Request { cells, source, .. } | Message::Reply { cells, source, .. } => {
                Some(((*source)?, cells.as_deref()?))
            }
            _ => None,
        }
    }

    fn sectors(&self) -> u64 {
        match self {
            Message::Request { cells, .. } | Message::Reply { cells, .. } => {
                cells.as_ref().map_or(1, |cells| cells.len() as u64)
            }
            Message::Answer { map, .. } => map.len() as u64 / 512,
            _ => 1,
        }
    }
}

/// One direction of a link.
#[derive(Debug, Default)]
pub struct Stream {
    queue: VecDeque<(Micros, Message)>,
    last_due: Micros,
    /// A delivery is scheduled.
    scheduled: bool,
    /// Nothing more is taken: the link is cut or its sender gone.
    closed: bool,
}

/// A session's link. Direction 0 goes from the primary to the secondary.
#[derive(Debug)]
pub struct Link {
    /// The node at the primary's end.
    pub primary: usize,
    streams: [Stream; 2],
}

/// Which way: from the node at the primary's end, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToSecondary,
    /// Replies.
    ToPrimary,
}

impl Way {
    fn index(self) -> usize {
        match self {
            Way::ToSecondary => 0,
            Way::ToPrimary => 1,
        }
    }
}

/// Links and what is wrong with the cable.
#[derive(Debug)]
pub struct Network {
    /// Its nature.
    pub spec: NetSpec,
    /// Nothing from this node arrives.
    pub blocked: [bool; 2],
    /// How many times slower than its nature it is.
    pub slowness: u64,
    links: Vec<Link>,
    /// Most messages that a stream ever held.
    pub peak: usize,
}

/// A link's number.
pub type LinkId = u32;

impl Network {
    /// A network without links.
    pub fn new(spec: NetSpec) -> Network {
        Network {
            spec,
            blocked: [false; 2],
            slowness: 1,
            links: Vec::new(),
            peak: 0,
        }
    }

    /// A new link whose primary's end is `primary`.
    pub fn open(&mut self, primary: usize) -> LinkId {
        self.links.push(Link {
            primary,
            streams: [Stream::default(), Stream::default()],
        });
        super::content::number(self.links.len() - 1)
    }

    fn link(&mut self, id: LinkId) -> &mut Link {
        &mut self.links[super::content::index(id)]
    }

    /// The node that a direction of a link leads to.
    pub fn receiver(&self, id: LinkId, way: Way) -> usize {
        let primary = self.links[super::content::index(id)].primary;
        match way {
            Way::ToSecondary => 1 - primary,
            Way::ToPrimary => primary,
        }
    }

    /// Queue a message. Returns when the head of the stream is due if a delivery has to be
    /// scheduled, or the message if the stream takes nothing any more.
    pub fn send(
        &mut self,
        rng: &mut Rng,
        now: Micros,
        id: LinkId,
        way: Way,
        message: Message,
    ) -> Result<Option<Micros>, Message> {
        let spec = self.spec;
        let slowness = self.slowness;
        let blocked = self.blocked[1 - self.receiver(id, way)];
        let stream = &mut self.link(id).streams[way.index()];
        if stream.closed {
            return Err(message);
        }
        let transmission = message.sectors() * 1000 / spec.sectors_per_ms.max(1);
        let arrival = now + rng.around(spec.latency_us) * slowness;
        let due = arrival.max(stream.last_due) + transmission * slowness;
        stream.last_due = due;
        if matches!(message, Message::End) {
            stream.closed = true;
        }
        stream.queue.push_back((due, message));
        let queued = stream.queue.len();
        let schedule = (!stream.scheduled && !blocked).then(|| {
            stream.scheduled = true;
            stream.queue[0].0
        });
        self.peak = self.peak.max(queued);
        Ok(schedule)
    }

    /// A scheduled delivery: the message, and when the next one is due.
    pub fn deliver(&mut self, id: LinkId, way: Way) -> (Option<Message>, Option<Micros>) {
        let blocked = self.blocked[1 - self.receiver(id, way)];
        let stream = &mut self.link(id).streams[way.index()];
        stream.scheduled = false;
        if blocked {
            return (None, None);
        }
        let message = stream.queue.pop_front().map(|(_, message)| message);
        let next = stream.queue.front().map(|&(due, _)| due);
        stream.scheduled = next.is_some();
        (message, next)
    }

    /// Streams that wait although nothing blocks them any more.
    pub fn unblock(&mut self) -> Vec<(LinkId, Way, Micros)> {
        let mut woken = Vec::new();
        for id in 0..super::content::number(self.links.len()) {
            for way in [Way::ToSecondary, Way::ToPrimary] {
                if self.blocked[1 - self.receiver(id, way)] {
                    continue;
                }
                let stream = &mut self.link(id).streams[way.index()];
                if let (false, Some(&(due, _))) = (stream.scheduled, stream.queue.front()) {
                    stream.scheduled = true;
                    woken.push((id, way, due));
                }
            }
        }
        woken
    }

    /// Lose what is on its way, from an arbitrary message on, and take nothing more. Returns the
    /// messages lost.
    pub fn cut(&mut self, rng: &mut Rng, id: LinkId, way: Way) -> Vec<Message> {
        let stream = &mut self.link(id).streams[way.index()];
        stream.closed = true;
        let most = super::content::number(stream.queue.len());
        let kept = super::content::index(rng.below(most + 1));
        stream
            .queue
            .drain(kept..)
            .map(|(_, message)| message)
            .collect()
    }

    /// Let the receiver know, after what it still gets, that there will be no more.
    pub fn end(&mut self, rng: &mut Rng, now: Micros, id: LinkId, way: Way) -> Option<Micros> {
        let stream = &mut self.link(id).streams[way.index()];
        if matches!(stream.queue.back(), Some((_, Message::End))) {
            return None;
        }
        stream.closed = false;
        self.send(rng, now, id, way, Message::End).ok().flatten()
    }

    /// The sender's driver is done with a link: what is queued has left it, or never will.
    pub fn detach_sources(&mut self, id: LinkId, way: Way) -> Vec<Source> {
        let stream = &mut self.link(id).streams[way.index()];
        let messages = stream.queue.iter_mut();
        let sources = messages.filter_map(|(_, message)| match message {
            Message::Request { source, .. } | Message::Reply { source, .. } => source.take(),
            _ => None,
        });
        sources.collect()
    }

    /// Messages queued in a direction.
    pub fn queued(&self, id: LinkId, way: Way) -> usize {
        self.links[super::content::index(id)].streams[way.index()]
            .queue
            .len()
    }
}
