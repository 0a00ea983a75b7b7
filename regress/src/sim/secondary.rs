//! The driver of a secondary's engine, for one session.

use hast::engine::event::{BufId, LostReason, Notice, SecondaryAction, SecondaryEvent};
use hast::engine::secondary::{Secondary, SecondaryConfig};
use hast::wire::message::{Command, Reply, Request};

use super::clock::engine_time;
use super::content::{Cell, sectors};
use super::network::{LinkId, Message, Source, Way};
use super::node::{Accepted, SecondaryWorker, Worker};
use super::world::World;

impl World {
    /// Start the worker of an accepted session.
    pub fn start_secondary(&mut self, node: usize, accepted: Accepted) {
        let this = &mut self.nodes[node];
        this.life += 1;
        this.stopping = false;
        this.tick_at = None;
        if this.disk.health.dead {
            self.close(node, accepted.link, Way::ToPrimary);
            return;
        }
        this.disk.open();
        this.pool = super::buffers::Pool::default();
        let config = SecondaryConfig {
            metadata: this.disk.view.meta.clone(),
            map: this.disk.view.map.clone(),
            sector_bytes: self.scenario.sector,
            metaflush: this.parameters.metaflush,
            timeout_ms: this.parameters.timeout_ms,
            requests_max: 2 * self.scenario.requests_max,
            mutant: self.mutant,
        };
        let engine = Secondary::new(config, engine_time(self.clock.now()));
        this.worker = Worker::Secondary(Box::new(SecondaryWorker {
            engine,
            link: accepted.link,
            stopped: false,
            inbox: std::collections::VecDeque::new(),
        }));
        let life = this.life;
        self.stats.sessions += 1;
        self.note(format_args!(
            "node {node} starts as secondary (life {life}): {:?}",
            accepted.hello
        ));
        let event = SecondaryEvent::Hello {
            hello: accepted.hello,
            peer: accepted.peer,
        };
        self.secondary_event(node, event);
    }

    /// Hand an event to a secondary's engine, then what waits in the driver.
    pub fn secondary_event(&mut self, node: usize, event: SecondaryEvent) {
        self.secondary_step(node, event);
        while let Some(worker) = self.nodes[node].secondary() {
            if worker.stopped || !worker.engine.has_room() || self.violation.is_some() {
                break;
            }
            let Some(message) = self.nodes[node]
                .secondary()
                .and_then(|w| w.inbox.pop_front())
            else {
                break;
            };
            self.read_message(node, message);
        }
        if self.nodes[node]
            .secondary()
            .is_some_and(|worker| worker.stopped)
        {
            self.worker_ended(node);
        }
    }

    /// Hand one event to a secondary's engine and do what it says.
    fn secondary_step(&mut self, node: usize, event: SecondaryEvent) {
        let time = engine_time(self.clock.now());
        let Worker::Secondary(worker) = &mut self.nodes[node].worker else {
            return;
        };
        self.stats.secondary_pair(&worker.engine, &event);
        let mut actions = std::mem::take(&mut self.secondary_actions);
        actions.clear();
        worker.engine.handle(time, event, &mut actions);
        for action in actions.drain(..) {
            if self.violation.is_some() {
                break;
            }
            self.secondary_action(node, action);
        }
        self.secondary_actions = actions;
        self.set_tick(node);
    }

    fn secondary_action(&mut self, node: usize, action: SecondaryAction) {
        let peer = self.limits();
        let Worker::Secondary(worker) = &mut self.nodes[node].worker else {
            return;
        };
        let link = worker.link;
        match action {
            SecondaryAction::Disk { op, what } => self.submit(node, op, what),
            SecondaryAction::Hello(hello) => {
                let map = match hello.mapsize {
                    0 => Vec::new(),
                    size => worker.engine.answer_map()[..super::content::index(size)].to_vec(),
                };
                self.note(format_args!("node {node} answers {hello:?}"));
                self.send(link, Way::ToPrimary, Message::Answer { hello, map, peer });
            }
            SecondaryAction::Refuse(reason) => {
                self.note(format_args!("node {node} refuses: {reason:?}"));
                self.nodes[node].last_lost = Some(reason);
                self.send(link, Way::ToPrimary, Message::Error(reason));
            }
            SecondaryAction::Reply { reply, data } => self.send_reply(node, link, reply, data),
            SecondaryAction::Heartbeat => self.send(link, Way::ToPrimary, Message::Heartbeat),
            SecondaryAction::Release(buf) => {
                let released = self.nodes[node].pool.release(buf);
                self.check(released);
            }
            SecondaryAction::Notice(notice) => {
                self.note(format_args!("node {node} (secondary) notices {notice:?}"));
                self.stats.notice(&notice);
                if notice == Notice::SplitBrain {
                    self.stats.split_brains += 1;
                }
            }
            SecondaryAction::Stopped(reason) => {
                worker.stopped = true;
                self.note(format_args!(
                    "node {node} (secondary) has stopped: {reason:?}"
                ));
            }
        }
    }

    fn send_reply(&mut self, node: usize, link: LinkId, reply: Reply, data: Option<(BufId, u32)>) {
        let sector = self.scenario.sector;
        let late = self.net.spec.late_copy;
        if reply.error.is_some() {
            self.oracle.refused(node);
        }
        let this = &mut self.nodes[node];
        let mut source = None;
        let mut cells = None;
        if let Some((buf, length)) = data {
            match this
                .pool
                .copy(buf, 0, sectors(u64::from(length), sector), "a reply")
            {
                Ok(copied) => cells = Some(copied),
                Err(violation) => {
                    self.violation = Some(violation);
                    return;
                }
            }
            if late {
                source = Some(Source {
                    buf,
                    first: 0,
                    life: this.life,
                });
                let begun = this.pool.wire_begin(buf);
                self.check(begun);
            }
        }
        self.note(format_args!("node {node} replies {reply:?}"));
        self.send(
            link,
            Way::ToPrimary,
            Message::Reply {
                reply,
                cells,
                source,
            },
        );
    }

    /// A message for a secondary's worker.
    pub fn secondary_message(&mut self, node: usize, message: Message) {
        let Some(worker) = self.nodes[node].secondary() else {
            return;
        };
        if worker.engine.has_room() && worker.inbox.is_empty() {
            self.read_message(node, message);
            if self.nodes[node]
                .secondary()
                .is_some_and(|worker| worker.stopped)
            {
                self.worker_ended(node);
            }
        } else {
            worker.inbox.push_back(message);
        }
    }

    fn read_message(&mut self, node: usize, message: Message) {
        match message {
            Message::Request { request, cells, .. } => self.request(node, request, cells),
            Message::End => self.secondary_step(node, SecondaryEvent::Lost(LostReason::Broken)),
            _ => self.fail("driver-contract", format!("{message:?} to a secondary")),
        }
    }

    fn request(&mut self, node: usize, request: Request, cells: Option<Vec<Cell>>) {
        let sector = self.scenario.sector;
        let copies = request.command == Command::Write && request.seq >> 30 & 3 == 1;
        self.nodes[node].mixed |= copies && self.scenario.steering;
        let pool = &mut self.nodes[node].pool;
        let mut data = None;
        let mut zeroes = false;
        let holes = self.rng.coin();
        if let Some(mut cells) = cells.filter(|cells| {
            zeroes = holes && cells.iter().all(|&cell| cell == Cell::ZERO);
            !zeroes
        }) {
            if self.shorten && cells.len() > 1 {
                self.shorten = false;
                self.stats.shortened += 1;
                cells.truncate(cells.len() / 2);
            }
            let buf = pool.take();
            let filled = pool.fill(buf, &cells);
            data = Some((buf, super::content::number(cells.len()) * sector));
            self.check(filled);
        } else if request.command == Command::Read {
            data = Some((pool.take(), 0));
        }
        self.secondary_step(
            node,
            SecondaryEvent::Request {
                request,
                data,
                zeroes,
            },
        );
    }
}
