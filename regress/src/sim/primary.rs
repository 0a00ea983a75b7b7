//! The driver of a primary's engine: its disk, its connection, its clock.

use hast::engine::event::{
    BufId, DiskOp, LostReason, Notice, OpId, PeerLimits, PrimaryAction, PrimaryEvent,
};
use hast::engine::primary::{Primary, PrimaryConfig};
use hast::terms::Role;
use hast::wire::message::{Command, Reply, Request};

use super::clock::{SECOND, engine_time};
use super::content::{Cell, index, sectors};
use super::disk::Piece;
use super::network::{LinkId, Message, Source, Way};
use super::node::{Node, PrimaryWorker, Uplink, Worker};
use super::world::{Event, World};

impl World {
    /// Start the worker of a primary: by order, coming from role `before`, or again after a crash.
    pub fn start_primary(&mut self, node: usize, before: Option<Role>) {
        let now = self.clock.now();
        let this = &mut self.nodes[node];
        this.life += 1;
        this.stopping = false;
        this.tick_at = None;
        if this.disk.health.dead {
            // The disk cannot be opened: any exit that is no crash sets the role to init.
            this.role = Role::Init;
            self.orphan_requests(node, false);
            return;
        }
        this.disk.open();
        let forced = std::mem::take(&mut this.forced);
        if this.disk.view.meta.inconsistent {
            let resumes = before.is_none() && this.disk.view.meta.resuid != 0;
            if before.is_some() && forced {
                this.disk.view.meta.inconsistent = false;
                this.disk.durable.meta.inconsistent = false;
                this.mixed = false;
                self.stats.forced += 1;
                self.oracle.recreated(node);
            } else if !resumes {
                self.note(format_args!("node {node}: an incomplete copy is not used"));
                self.stats.refused += 1;
                let this = &mut self.nodes[node];
                this.role = match before {
                    Some(Role::Secondary) => Role::Secondary,
                    _ => Role::Init,
                };
                self.orphan_requests(node, false);
                return;
            }
        } else if this.mixed {
            self.fail(
                "incomplete-is-marked",
                format!("node {node} becomes primary in the middle of a synchronisation onto it"),
            );
            return;
        }
        let this = &mut self.nodes[node];
        this.pool = super::buffers::Pool::default();
        let sync_bufs = (0..self.scenario.sync_bufs)
            .map(|_| this.pool.take())
            .collect();
        let config = PrimaryConfig {
            metadata: this.disk.view.meta.clone(),
            map: this.disk.view.map.clone(),
            sector_bytes: self.scenario.sector,
            fresh_resuid: self.rng.word() | 1,
            parameters: this.parameters,
            sync_bufs,
            requests_max: self.scenario.requests_max,
            mutant: self.mutant,
        };
        this.worker = Worker::Primary(Box::new(PrimaryWorker {
            engine: Primary::new(config, engine_time(now)),
            uplink: Uplink::Idle,
            session: None,
            backoff: SECOND,
            patient_until: now + this.parameters.timeout_ms * 1000,
            outstanding: Vec::new(),
            stopped: false,
        }));
        let life = this.life;
        self.stats.promotions += 1;
        self.note(format_args!("node {node} starts as primary (life {life})"));
        let data = std::mem::take(&mut self.nodes[node].disk.view.data);
        let checked = self.oracle.promote(node, &data);
        self.nodes[node].disk.view.data = data;
        self.check(checked);
        self.clock.after(0, Event::Connect { node, life });
        self.primary_event(node, PrimaryEvent::Tick);
        self.wake_clients(node);
    }

    /// Hand an event to a primary's engine, then what its applications wait with.
    pub fn primary_event(&mut self, node: usize, event: PrimaryEvent<'_>) {
        self.primary_step(node, event);
        self.feed(node);
        if self.nodes[node]
            .primary()
            .is_some_and(|worker| worker.stopped)
        {
            self.worker_ended(node);
        }
    }

    /// Hand one event to a primary's engine and do what it says.
    pub fn primary_step(&mut self, node: usize, event: PrimaryEvent<'_>) {
        let time = engine_time(self.clock.now());
        let Worker::Primary(worker) = &mut self.nodes[node].worker else {
            return;
        };
        self.stats.primary_pair(&worker.engine.status(), &event);
        let mut actions = std::mem::take(&mut self.primary_actions);
        actions.clear();
        worker.engine.handle(time, event, &mut actions);
        for action in actions.drain(..) {
            if self.violation.is_some() {
                break;
            }
            self.primary_action(node, action);
        }
        self.primary_actions = actions;
        self.set_tick(node);
    }

    /// Arrange for the engine to be called at its deadline.
    pub fn set_tick(&mut self, node: usize) {
        let now = self.clock.now();
        let this = &mut self.nodes[node];
        let deadline = match &this.worker {
            Worker::None => None,
            Worker::Primary(worker) => worker.engine.deadline(),
            Worker::Secondary(worker) => worker.engine.deadline(),
        };
        let Some(deadline) = deadline else {
            return;
        };
        let at = deadline.0.saturating_mul(1000).max(now);
        if this.tick_at.is_none_or(|set| at < set) {
            this.tick_at = Some(at);
            let life = this.life;
            self.clock.at(at, Event::Tick { node, life });
        }
    }

    /// A tick that was arranged is due.
    pub fn tick(&mut self, node: usize, life: u32) {
        let now = self.clock.now();
        let this = &mut self.nodes[node];
        if this.life != life || this.tick_at != Some(now) {
            return;
        }
        this.tick_at = None;
        self.trace.event(now, 4, node as u64);
        match &self.nodes[node].worker {
            Worker::None => {}
            Worker::Primary(_) => self.primary_event(node, PrimaryEvent::Tick),
            Worker::Secondary(_) => {
                self.secondary_event(node, hast::engine::event::SecondaryEvent::Tick);
            }
        }
        self.set_tick(node);
    }

    fn primary_action(&mut self, node: usize, action: PrimaryAction) {
        match action {
            PrimaryAction::Disk { op, what } => self.submit(node, op, what),
            PrimaryAction::SendHello(hello) => {
                let peer = self.limits();
                let Some(worker) = self.nodes[node].primary() else {
                    return;
                };
                let Uplink::Linked { link, token } = worker.uplink else {
                    self.fail("driver-contract", "SendHello without a connection".into());
                    return;
                };
                self.send(
                    link,
                    Way::ToSecondary,
                    Message::Counters { token, hello, peer },
                );
            }
            PrimaryAction::Send {
                request,
                data,
                zeroes,
            } => {
                self.send_request(node, request, data, zeroes);
            }
            PrimaryAction::Complete { id, result } => self.complete(node, id, result),
            PrimaryAction::Release(buf) => {
                let released = self.nodes[node].pool.release(buf);
                self.check(released);
            }
            PrimaryAction::Disconnect(reason) => {
                self.note(format_args!("node {node} disconnects: {reason:?}"));
                self.uplink_gone(node, reason);
            }
            PrimaryAction::Notice(notice) => self.primary_notice(node, notice),
            PrimaryAction::Stopped => {
                if let Some(worker) = self.nodes[node].primary() {
                    worker.stopped = true;
                }
            }
        }
    }

    /// What every node of this run can take and knows.
    pub fn limits(&self) -> PeerLimits {
        PeerLimits {
            request_bytes: self.scenario.request_bytes,
            heartbeat: self.scenario.copy_states,
            copy_states: self.scenario.copy_states,
            steering: self.scenario.steering,
        }
    }

    fn send_request(
        &mut self,
        node: usize,
        request: Request,
        data: Option<(BufId, u32)>,
        zeroes: bool,
    ) {
        let sector = self.scenario.sector;
        let late = self.net.spec.late_copy;
        let this = &mut self.nodes[node];
        let life = this.life;
        let first = sectors(request.offset, sector);
        let count = sectors(request.length, sector);
        let Worker::Primary(worker) = &mut this.worker else {
            return;
        };
        let Uplink::Linked { link, .. } = worker.uplink else {
            self.fail(
                "driver-contract",
                format!("{request:?} without a connection"),
            );
            return;
        };
        if request.command == Command::Write || request.command == Command::Delete {
            worker.outstanding.push((request.seq, first, count));
        }
        let mut source = None;
        let cells = match data {
            Some((buf, offset)) => {
                let from = sectors(u64::from(offset), sector);
                match this.pool.copy(buf, from, count, "a request") {
                    Ok(cells) => {
                        if late {
                            source = Some(Source {
                                buf,
                                first: from,
                                life,
                            });
                            let begun = this.pool.wire_begin(buf);
                            self.check(begun);
                        }
                        Some(cells)
                    }
                    Err(violation) => {
                        self.violation = Some(violation);
                        return;
                    }
                }
            }
            None => zeroes.then(|| vec![Cell::ZERO; index(count)]),
        };
        self.note(format_args!(
            "node {node} sends {:?} seq {} {first}+{count} memsync {} {}",
            request.command,
            request.seq,
            request.memsync,
            cells
                .as_ref()
                .and_then(|cells| cells.first())
                .map_or(String::new(), Cell::to_string),
        ));
        self.send(
            link,
            Way::ToSecondary,
            Message::Request {
                request,
                cells,
                source,
            },
        );
    }

    /// Begin a disk operation of either engine.
    pub fn submit(&mut self, node: usize, op: OpId, what: DiskOp) {
        self.note(format_args!("node {node} disk {op:?} {what:?}"));
        let sector = self.scenario.sector;
        let this = &mut self.nodes[node];
        if let Some(violation) = out_of_bounds(this, what) {
            self.fail("disk-bounds", violation);
            return;
        }
        let copies = this.as_primary().is_some() && op.0 >> 32 == 1;
        this.mixed |= copies && matches!(what, DiskOp::Write { .. });
        let payload = match what {
            DiskOp::Write {
                offset,
                length,
                buf,
                ..
            } => {
                let count = sectors(u64::from(length), sector);
                match this.pool.copy(buf, 0, count, "a disk write") {
                    Ok(cells) => Some(Piece::Data {
                        first: sectors(offset, sector),
                        cells,
                    }),
                    Err(violation) => {
                        self.violation = Some(violation);
                        return;
                    }
                }
            }
            DiskOp::MapWrite { offset, length, .. } => {
                let bytes = match &this.worker {
                    Worker::Primary(worker) => worker.engine.map_bytes(offset, length),
                    Worker::Secondary(worker) => worker.engine.map_bytes(offset, length),
                    Worker::None => return,
                };
                Some(Piece::Map {
                    offset: usize::try_from(offset).unwrap_or(usize::MAX),
                    bytes: bytes.to_vec(),
                })
            }
            DiskOp::MetaWrite => {
                let meta = match &this.worker {
                    Worker::Primary(worker) => worker.engine.metadata(),
                    Worker::Secondary(worker) => worker.engine.metadata().clone(),
                    Worker::None => return,
                };
                Some(Piece::Meta(Box::new(meta)))
            }
            _ => None,
        };
        let begun = match what {
            DiskOp::Read { buf, .. } | DiskOp::Write { buf, .. } => this.pool.disk_begin(buf),
            _ => Ok(()),
        };
        let submitted = this.disk.submit(&mut self.rng, op, what, payload);
        match (begun, submitted) {
            (Ok(()), Ok(flight)) => {
                let latency = this.disk.latency(&mut self.rng);
                self.clock.after(latency, Event::Disk { node, flight });
            }
            (Err(violation), _) | (_, Err(violation)) => self.check(Err(violation)),
        }
    }

    fn primary_notice(&mut self, node: usize, notice: Notice) {
        self.note(format_args!("node {node} (primary) notices {notice:?}"));
        self.stats.notice(&notice);
        if matches!(
            notice,
            Notice::LocalcntBumped(_)
                | Notice::CountersAgreed { .. }
                | Notice::SyncDone
                | Notice::Detached
        ) {
            self.tempt(node);
        }
        match notice {
            Notice::Connected => {
                self.sessions += 1;
                let session = self.sessions;
                if let Some(worker) = self.nodes[node].primary() {
                    worker.session = Some(session);
                    worker.backoff = SECOND;
                }
                self.nodes[node].last_lost = None;
            }
            // The peer was promoted, and this node does not know it yet: nothing is promised of it.
            Notice::SyncDone if self.nodes[1 - node].as_secondary().is_none() => {}
            Notice::SyncDone => {
                for node in &mut self.nodes {
                    node.mixed = false;
                }
                self.check_equal(node);
                self.oracle.synchronised(node);
                for copy in [0, 1] {
                    let durable = &self.nodes[copy].disk.durable.data;
                    let held = self.oracle.check_durable(copy, durable);
                    self.check(held);
                }
            }
            Notice::Detached => self.nodes[node].detached = true,
            // Both disks are flushed, and what says so is being written.
            Notice::CountersAgreed { .. } => self.nodes[node].mixed = false,
            _ => {}
        }
    }

    /// A message for a primary's worker.
    pub fn primary_message(&mut self, node: usize, link: LinkId, message: Message) {
        match message {
            Message::Answer {
                hello,
                mut map,
                peer,
            } => {
                if self.shorten && !map.is_empty() {
                    self.shorten = false;
                    map.truncate(map.len() / 2);
                }
                let before = self.nodes[node].disk_map_of_engine(self.scenario.mapsize());
                self.primary_step(
                    node,
                    PrimaryEvent::Hello {
                        hello,
                        map: &map,
                        peer,
                    },
                );
                self.answered(node, &hello, &before, &map);
                self.primary_event(node, PrimaryEvent::Tick);
            }
            Message::Error(reason) => self.link_lost(node, reason),
            Message::Reply { reply, cells, .. } => self.reply(node, reply, cells),
            Message::Heartbeat => self.primary_event(node, PrimaryEvent::Heartbeat),
            Message::End => self.link_lost(node, LostReason::Broken),
            _ => self.fail(
                "driver-contract",
                format!("{message:?} on {link} to a primary"),
            ),
        }
    }

    fn reply(&mut self, node: usize, reply: Reply, cells: Option<Vec<Cell>>) {
        let sector = self.scenario.sector;
        let mut length = 0;
        let shorten = self.shorten;
        let Node {
            worker: Worker::Primary(worker),
            pool,
            ..
        } = &mut self.nodes[node]
        else {
            return;
        };
        if !reply.received
            && let Some(at) = worker
                .outstanding
                .iter()
                .position(|&(seq, ..)| seq == reply.seq)
        {
            worker.outstanding.swap_remove(at);
        }
        if let Some(mut cells) = cells
            && let Some((buf, offset, _)) = worker.engine.read_destination(reply.seq)
        {
            if shorten && cells.len() > 1 {
                self.shorten = false;
                cells.truncate(cells.len() / 2);
            }
            length = super::content::number(cells.len()) * sector;
            let filled = pool.fill_at(buf, sectors(u64::from(offset), sector), &cells);
            self.check(filled);
        }
        self.primary_event(node, PrimaryEvent::Reply { reply, length });
    }

    /// The engine has the secondary's answer: what the connection means for the model.
    fn answered(
        &mut self,
        node: usize,
        hello: &hast::wire::message::SecondaryHello,
        before: &[u8],
        map: &[u8],
    ) {
        use hast::engine::states::Link;
        use hast::wire::message::SyncSource;
        let Some(worker) = self.nodes[node].as_primary() else {
            return;
        };
        if !matches!(worker.engine.status().link, Link::Merging | Link::Up) {
            return;
        }
        let link = worker.uplink.link();
        if self.nodes[1 - node].as_secondary().map(|peer| peer.link) != link {
            // The secondary's session is over already: this will be noticed soon.
            return;
        }
        let attached = worker.engine.status().local.is_attached();
        let mut merged = before.to_vec();
        for (byte, peer) in merged.iter_mut().zip(map) {
            *byte |= peer;
        }
        if attached {
            self.check_merged(node, &merged);
        }
        let ours = &self.nodes[node].disk.view.data;
        let theirs = &self.nodes[1 - node].disk.view.data;
        let extent = self.scenario.extent_sectors;
        let from_primary = hello.syncsrc == SyncSource::Primary && attached;
        let target = if from_primary { 1 - node } else { node };
        let truth: Vec<Cell> = if !attached {
            theirs.clone()
        } else if target == node {
            (0..)
                .zip(ours.iter().zip(theirs))
                .map(|(sector, (&own, &peer))| {
                    if super::copies::is_dirty(&merged, sector / extent) {
                        peer
                    } else {
                        own
                    }
                })
                .collect()
        } else {
            ours.clone()
        };
        let in_step = merged.iter().all(|&byte| byte == 0);
        self.note(format_args!(
            "node {node} was answered {hello:?}, in step: {in_step}"
        ));
        let checked = self.oracle.connect(node, target, &truth, in_step);
        self.check(checked);
    }
}

impl Node {
    /// The bitmap as the primary's engine has it.
    fn disk_map_of_engine(&self, mapsize: u32) -> Vec<u8> {
        self.as_primary().map_or(Vec::new(), |worker| {
            worker.engine.map_bytes(0, mapsize).to_vec()
        })
    }
}

fn out_of_bounds(node: &Node, what: DiskOp) -> Option<String> {
    let meta = &node.disk.view.meta;
    let sector = u64::from(node.disk.sector);
    let (offset, length, end) = match what {
        DiskOp::Read { offset, length, .. }
        | DiskOp::Write { offset, length, .. }
        | DiskOp::Zero { offset, length, .. } => (offset, u64::from(length), meta.datasize),
        DiskOp::Delete { offset, length } => (offset, length, meta.datasize),
        DiskOp::MapWrite { offset, length, .. } => (offset, u64::from(length), meta.mapsize()),
        DiskOp::Flush | DiskOp::MetaWrite => return None,
    };
    let fits = offset.checked_add(length).is_some_and(|last| last <= end);
    let aligned = offset % sector == 0 && length % sector == 0 && length > 0;
    (!fits || !aligned).then(|| format!("{what:?} of {end} bytes in sectors of {sector}"))
}
