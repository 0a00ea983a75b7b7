//! The applications on a node's device, and the front end that numbers their requests.

use std::collections::VecDeque;

use hast::engine::event::{AppOp, AppRequest, BufId, PrimaryEvent, ReqId};
use hast::terms::{Errno, Replication};

use super::content::{Cell, WriteId, index, number};
use super::oracle::{FlushStart, Reach, ReadStart, WriteKind};
use super::scenario::Load;
use super::world::{Event, Phase, World};

/// What the model remembers of a request.
#[derive(Debug)]
pub enum Memory {
    /// A read.
    Read(ReadStart),
    /// A write, delete or write of zeros.
    Write(WriteId),
    /// A flush.
    Flush(FlushStart),
}

/// The circumstances in which the engine got a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The connection, if there was one.
    pub session: Option<u32>,
    /// The mode was async.
    pub lax: bool,
    /// The local disk was in use.
    pub attached: bool,
    /// How often the peer had lost what was in its memory or cache.
    pub peer_losses: u32,
}

/// A request that is not complete.
#[derive(Debug)]
pub struct Pending {
    /// Who waits.
    pub client: u32,
    /// What was asked.
    pub op: AppOp,
    /// First sector.
    pub first: u32,
    /// Sectors.
    pub count: u32,
    /// Its buffer, once the engine has it.
    pub buf: Option<BufId>,
    /// For the model.
    pub memory: Memory,
    /// When the engine got it.
    pub submitted: Option<Submitted>,
}

/// The front end of one node.
#[derive(Debug)]
pub struct Device {
    /// Requests by their number.
    pub pending: Vec<Option<Pending>>,
    /// Numbers of requests that the engine has not got yet.
    pub queue: VecDeque<u32>,
    /// Which clients wait for an answer or think.
    pub busy: Vec<bool>,
    /// Sector at which sequential clients go on.
    next: u32,
}

impl Device {
    /// A front end for this many clients.
    pub fn new(clients: u32) -> Device {
        Device {
            pending: Vec::new(),
            queue: VecDeque::new(),
            busy: vec![false; index(clients)],
            next: 0,
        }
    }

    fn add(&mut self, pending: Pending) -> u32 {
        let slot = self
            .pending
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.pending.push(None);
                self.pending.len() - 1
            });
        self.pending[slot] = Some(pending);
        number(slot)
    }

    /// Requests that are not complete.
    pub fn open(&self) -> usize {
        self.pending.iter().flatten().count()
    }
}

impl World {
    /// The clients of a new primary begin.
    pub fn wake_clients(&mut self, node: usize) {
        for client in 0..self.scenario.load.clients {
            if !std::mem::replace(&mut self.nodes[node].device.busy[index(client)], true) {
                let pause = self.rng.around(self.scenario.load.think_us);
                self.clock.after(pause, Event::Client { node, client });
            }
        }
    }

    /// A client has thought enough.
    pub fn client(&mut self, node: usize, client: u32) {
        let serves = self.nodes[node].as_primary().is_some() && !self.nodes[node].stopping;
        if !serves || self.phase == Phase::Quiet {
            self.nodes[node].device.busy[index(client)] = false;
            return;
        }
        let (op, first, count) = self.draw_request(node);
        self.ask(node, client, op, first, count);
    }

    /// A client asks.
    pub fn ask(&mut self, node: usize, client: u32, op: AppOp, first: u32, count: u32) {
        let memory = match op {
            AppOp::Read => Memory::Read(self.oracle.invoke_read(node, first, count)),
            AppOp::Flush => Memory::Flush(self.oracle.invoke_flush(node)),
            AppOp::Write { .. } => self.invoke(node, WriteKind::Data, first, count),
            AppOp::WriteZeroes { .. } => self.invoke(node, WriteKind::Zeros, first, count),
            AppOp::Delete => self.invoke(node, WriteKind::Delete, first, count),
        };
        if self.trace.is_wanted() {
            let now = self.clock.now();
            self.trace.line(
                now,
                format_args!("node {node} app {op:?} {first}+{count} {memory:?}"),
            );
        }
        let slot = self.nodes[node].device.add(Pending {
            client,
            op,
            first,
            count,
            buf: None,
            memory,
            submitted: None,
        });
        self.nodes[node].device.queue.push_back(slot);
        self.feed(node);
    }

    fn invoke(&mut self, node: usize, kind: WriteKind, first: u32, count: u32) -> Memory {
        Memory::Write(self.oracle.invoke_write(node, kind, first, count))
    }

    fn draw_request(&mut self, node: usize) -> (AppOp, u32, u32) {
        let load: Load = self.scenario.load;
        let rng = &mut self.rng;
        let op = match rng.weighted(&load.weights) {
            0 => AppOp::Read,
            1 => AppOp::Write { fua: false },
            2 => AppOp::Write { fua: true },
            3 => AppOp::Delete,
            4 => AppOp::WriteZeroes {
                fua: rng.chance(200),
            },
            _ => return (AppOp::Flush, 0, 0),
        };
        let most = match op {
            AppOp::Delete | AppOp::WriteZeroes { .. } => load.discard_max,
            _ => load.sectors_max,
        };
        let count = 1 + rng.below(most);
        let span = self.scenario.sectors - count + 1;
        let first = if rng.chance(load.hot) {
            rng.below(load.hot_sectors.min(span))
        } else if rng.chance(200) {
            let device = &mut self.nodes[node].device;
            let first = device.next % span;
            device.next = first + count;
            first
        } else {
            rng.below(span)
        };
        (op, first, count)
    }

    /// Hand queued requests to the engine while it takes them.
    pub fn feed(&mut self, node: usize) {
        loop {
            if self.violation.is_some() {
                return;
            }
            let peer_losses = self.nodes[1 - node].losses;
            let this = &mut self.nodes[node];
            if this.stopping || this.device.queue.is_empty() {
                return;
            }
            let Some(worker) = this.as_primary() else {
                return;
            };
            if !worker.engine.has_room() {
                return;
            }
            let submitted = Submitted {
                session: worker.session,
                lax: this.parameters.replication == Replication::Async,
                attached: worker.engine.status().local.is_attached(),
                peer_losses,
            };
            let Some(slot) = this.device.queue.pop_front() else {
                return;
            };
            let Some(pending) = this.device.pending[index(slot)].as_mut() else {
                continue;
            };
            pending.submitted = Some(submitted);
            pending.buf =
                matches!(pending.op, AppOp::Read | AppOp::Write { .. }).then(|| this.pool.take());
            if let (Some(buf), Memory::Write(id)) = (pending.buf, &pending.memory) {
                let cells: Vec<Cell> = (pending.first..pending.first + pending.count)
                    .map(|sector| Cell::of(*id, sector))
                    .collect();
                if let Err(violation) = this.pool.fill(buf, &cells) {
                    self.violation = Some(violation);
                    return;
                }
            }
            let sector = self.scenario.sector;
            let request = AppRequest {
                id: ReqId(slot),
                op: pending.op,
                offset: u64::from(pending.first) * u64::from(sector),
                length: pending.count * sector,
                buf: pending.buf,
            };
            self.primary_step(node, PrimaryEvent::App(request));
        }
    }

    /// The engine completes a request.
    pub fn complete(&mut self, node: usize, id: ReqId, result: Result<(), Errno>) {
        let taken = self.nodes[node]
            .device
            .pending
            .get_mut(index(id.0))
            .and_then(Option::take);
        let Some(pending) = taken else {
            self.fail(
                "completed-once",
                format!("node {node}: {id:?} is completed but not open"),
            );
            return;
        };
        let Some(submitted) = pending.submitted else {
            self.fail(
                "completed-once",
                format!("node {node}: {id:?} was never handed in"),
            );
            return;
        };
        self.stats.completions += 1;
        if self.trace.is_wanted() {
            let now = self.clock.now();
            self.trace.line(
                now,
                format_args!(
                    "node {node} completes {id:?} {result:?} {:?}",
                    pending.memory
                ),
            );
        }
        let reach = self.reach(node, submitted);
        match (&pending.memory, result) {
            (Memory::Write(id), Ok(())) => {
                let fua = matches!(
                    pending.op,
                    AppOp::Write { fua: true } | AppOp::WriteZeroes { fua: true }
                );
                self.oracle.acknowledge(*id, reach, fua);
            }
            (Memory::Write(id), Err(_)) => {
                self.stats.failed_requests += 1;
                self.oracle.fail(*id);
            }
            (Memory::Flush(start), Ok(())) => {
                let [zero, one] = &self.nodes;
                let durable = [&zero.disk.durable.data[..], &one.disk.durable.data[..]];
                let held = self.oracle.acknowledge_flush(node, *start, reach, durable);
                self.check(held);
            }
            (Memory::Read(start), Ok(())) => {
                let buf = pending.buf.expect("a read that was handed in has a buffer");
                let cells = self.nodes[node].pool.peek(buf, pending.count);
                let checked = if cells.len() == index(pending.count) {
                    self.oracle.check_read(node, pending.first, start, cells)
                } else {
                    Err(super::trace::Violation::new(
                        "read-value",
                        format!("node {node}: {id:?} is answered without data"),
                    ))
                };
                if let Err(violation) = checked {
                    self.violation = Some(violation);
                }
            }
            (_, Err(_)) => self.stats.failed_requests += 1,
        }
        let pause = self.rng.around(self.scenario.load.think_us);
        self.clock.after(
            pause,
            Event::Client {
                node,
                client: pending.client,
            },
        );
    }

    /// What an acknowledgement now promises of a request handed in then.
    fn reach(&self, node: usize, submitted: Submitted) -> Reach {
        let this = &self.nodes[node];
        let Some(worker) = this.as_primary() else {
            return Reach {
                local: false,
                remote: false,
                on_its_way: false,
            };
        };
        let attached = submitted.attached && worker.engine.status().local.is_attached();
        let connected = submitted.session.is_some() && submitted.session == worker.session;
        let lax = submitted.lax || this.parameters.replication == Replication::Async;
        // The peer failed, and this node does not know it yet.
        let lost = submitted.peer_losses != self.nodes[1 - node].losses;
        Reach {
            local: attached,
            remote: connected && !lost && (!lax || !attached),
            // In async also what was submitted before the connection and sent within it.
            on_its_way: connected && lost || worker.session.is_some() && lax,
        }
    }

    /// The process behind the device is gone: its requests wait for the next one, or fail.
    pub fn orphan_requests(&mut self, node: usize, takeover: bool) {
        let device = &mut self.nodes[node].device;
        device.queue.clear();
        let mut failed = Vec::new();
        let mut kept = Vec::new();
        for (slot, entry) in device.pending.iter_mut().enumerate() {
            if takeover {
                if let Some(pending) = entry {
                    pending.buf = None;
                    pending.submitted = None;
                    kept.push(number(slot));
                }
            } else if let Some(pending) = entry.take() {
                failed.push(pending);
            }
        }
        device.queue.extend(kept);
        for pending in failed {
            self.nodes[node].device.busy[index(pending.client)] = false;
            if let Memory::Write(id) = pending.memory {
                self.oracle.fail(id);
            }
        }
    }
}
