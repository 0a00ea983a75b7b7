//! What the daemons do: connect, accept, refuse, start and stop workers.

use hast::engine::event::{LostReason, PrimaryEvent, SecondaryEvent};
use hast::engine::states::Local;
use hast::terms::Role;

use super::clock::{Micros, SECOND};
use super::disk::FlightId;
use super::network::{LinkId, Message, Way};
use super::node::{Accepted, STOP_LIMIT, Uplink, Worker};
use super::world::{Event, World};

/// Longest pause between two attempts to connect.
const BACKOFF_MAX: Micros = 10 * SECOND;

impl World {
    /// Queue a message on a link.
    pub fn send(&mut self, link: LinkId, way: Way, message: Message) {
        let now = self.clock.now();
        match self.net.send(&mut self.rng, now, link, way, message) {
            Ok(Some(due)) => self.clock.at(due, Event::Deliver { link, way }),
            Ok(None) => {}
            Err(message) => self.drop_message(link, way, &message),
        }
        let queued = self.net.queued(link, way);
        let limit = 64 + 40 * (self.scenario.requests_max + self.scenario.sync_bufs);
        if queued > limit {
            self.fail(
                "bounded-memory",
                format!("{queued} messages queued in one direction"),
            );
        }
    }

    /// A message will never arrive: its sender may use the buffer again.
    fn drop_message(&mut self, link: LinkId, way: Way, message: &Message) {
        let sender = 1 - self.net.receiver(link, way);
        if let Some((source, _)) = message.source()
            && self.nodes[sender].life == source.life
        {
            self.nodes[sender].pool.wire_drop(source.buf);
        }
    }

    /// Cut a direction of a link; `tell`: the receiver gets to know.
    pub fn cut(&mut self, link: LinkId, way: Way, tell: bool) {
        let now = self.clock.now();
        for message in self.net.cut(&mut self.rng, link, way) {
            self.drop_message(link, way, &message);
        }
        if tell && let Some(due) = self.net.end(&mut self.rng, now, link, way) {
            self.clock.at(due, Event::Deliver { link, way });
        }
    }

    /// A process closes its end of a link: what it sent may still arrive, or a part of it.
    pub fn close(&mut self, node: usize, link: LinkId, way: Way) {
        debug_assert_ne!(self.net.receiver(link, way), node);
        for source in self.net.detach_sources(link, way) {
            if self.nodes[node].life == source.life {
                self.nodes[node].pool.wire_drop(source.buf);
            }
        }
        let now = self.clock.now();
        if self.rng.coin() {
            self.cut(link, way, true);
        } else if let Some(due) = self.net.end(&mut self.rng, now, link, way) {
            self.clock.at(due, Event::Deliver { link, way });
        }
    }

    /// A message arrives.
    pub fn deliver(&mut self, link: LinkId, way: Way) {
        let (message, next) = self.net.deliver(link, way);
        if let Some(due) = next {
            self.clock.at(due, Event::Deliver { link, way });
        }
        let Some(message) = message else {
            return;
        };
        let receiver = self.net.receiver(link, way);
        let sender = &mut self.nodes[1 - receiver];
        if let Some((source, cells)) = message.source()
            && sender.life == source.life
        {
            let same = sender.pool.wire_end(source.buf, source.first, cells);
            self.check(same);
        }
        if !self.nodes[receiver].powered {
            return;
        }
        match way {
            Way::ToPrimary => self.reach_primary(receiver, link, message),
            Way::ToSecondary => self.reach_secondary(receiver, link, message),
        }
    }

    fn reach_primary(&mut self, node: usize, link: LinkId, message: Message) {
        let Some(worker) = self.nodes[node].primary() else {
            return;
        };
        match (worker.uplink, message) {
            (Uplink::Opening(open), Message::Accept { token }) if open == link => {
                worker.uplink = Uplink::Linked { link, token };
                self.primary_event(node, PrimaryEvent::Linked);
            }
            (Uplink::Opening(open), Message::Refuse { wait }) if open == link => {
                self.refused(node, wait);
            }
            (Uplink::Opening(open), Message::End) if open == link => self.refused(node, false),
            (Uplink::Linked { link: known, .. }, message) if known == link => {
                self.primary_message(node, link, message);
            }
            _ => {}
        }
    }

    fn reach_secondary(&mut self, node: usize, link: LinkId, message: Message) {
        match message {
            Message::Open => self.opened(node, link),
            Message::Counters { token, hello, peer } => {
                let this = &mut self.nodes[node];
                if this.half_open != Some((link, token)) {
                    return;
                }
                this.half_open = None;
                let accepted = Accepted { link, hello, peer };
                if matches!(this.worker, Worker::None) {
                    self.start_secondary(node, accepted);
                } else {
                    this.accepted = Some(accepted);
                }
            }
            message => {
                let this = &mut self.nodes[node];
                if this.secondary().is_some_and(|worker| worker.link == link) {
                    self.secondary_message(node, message);
                } else if matches!(message, Message::End) {
                    this.half_open = this.half_open.filter(|&(open, _)| open != link);
                    this.accepted = this.accepted.filter(|accepted| accepted.link != link);
                }
            }
        }
    }

    /// First step of a handshake, at the secondary's daemon.
    fn opened(&mut self, node: usize, link: LinkId) {
        let this = &mut self.nodes[node];
        if this.role != Role::Secondary || this.disconnected {
            let wait = this.role == Role::Primary;
            self.stats.refusals += 1;
            self.send(link, Way::ToPrimary, Message::Refuse { wait });
            return;
        }
        // Whatever was there before ends.
        let token = self.rng.word();
        let former = this.half_open.replace((link, token));
        let waiting = this.accepted.take();
        for old in former
            .map(|(old, _)| old)
            .into_iter()
            .chain(waiting.map(|old| old.link))
        {
            self.close(node, old, Way::ToPrimary);
        }
        self.send(link, Way::ToPrimary, Message::Accept { token });
        if matches!(self.nodes[node].worker, Worker::Secondary(_)) && !self.nodes[node].stopping {
            self.begin_stop(node);
        }
    }

    /// A primary's daemon tries to connect.
    pub fn connect(&mut self, node: usize, life: u32) {
        let this = &mut self.nodes[node];
        if this.life != life || this.stopping {
            return;
        }
        let limit = this.parameters.timeout_ms * 1000;
        let apart = this.disconnected;
        let Some(worker) = this.primary() else {
            return;
        };
        if worker.uplink != Uplink::Idle || apart {
            return;
        }
        let link = self.net.open(node);
        worker.uplink = Uplink::Opening(link);
        self.clock.after(limit, Event::ConnectLimit { node, link });
        self.send(link, Way::ToSecondary, Message::Open);
    }

    /// An attempt to connect has taken too long.
    pub fn connect_limit(&mut self, node: usize, link: LinkId) {
        if self.nodes[node]
            .as_primary()
            .is_some_and(|w| w.uplink == Uplink::Opening(link))
        {
            self.close(node, link, Way::ToSecondary);
            self.refused(node, false);
        }
    }

    /// An attempt to connect came to nothing.
    fn refused(&mut self, node: usize, wait: bool) {
        let now = self.clock.now();
        let life = self.nodes[node].life;
        let Some(worker) = self.nodes[node].primary() else {
            return;
        };
        worker.uplink = Uplink::Idle;
        if wait && now < worker.patient_until {
            self.clock.after(SECOND, Event::Connect { node, life });
            return;
        }
        let pause = worker.backoff;
        worker.backoff = (pause * 2).min(BACKOFF_MAX);
        self.clock.after(pause, Event::Connect { node, life });
        self.primary_event(node, PrimaryEvent::Lost(LostReason::Broken));
    }

    /// A primary's driver sees that the connection is gone.
    pub fn link_lost(&mut self, node: usize, reason: LostReason) {
        self.note(format_args!("node {node} lost the connection: {reason:?}"));
        self.uplink_gone(node, reason);
        self.primary_event(node, PrimaryEvent::Lost(reason));
    }

    /// A primary's connection is over, for its driver.
    pub fn uplink_gone(&mut self, node: usize, reason: LostReason) {
        self.stats.disconnections += 1;
        let this = &mut self.nodes[node];
        this.last_lost = Some(reason);
        let life = this.life;
        let Some(worker) = this.primary() else {
            return;
        };
        worker.session = None;
        worker.outstanding.clear();
        let link = std::mem::replace(&mut worker.uplink, Uplink::Idle).link();
        let pause = worker.backoff;
        worker.backoff = (pause * 2).min(BACKOFF_MAX);
        if let Some(link) = link {
            self.close(node, link, Way::ToSecondary);
        }
        self.clock.after(pause, Event::Connect { node, life });
    }

    /// A disk operation ends.
    pub fn disk_event(&mut self, node: usize, flight: FlightId) {
        let this = &mut self.nodes[node];
        let Some(finished) = this.disk.finish(&mut self.rng, flight) else {
            return;
        };
        if let Some((buf, cells)) = &finished.read {
            this.pool.disk_end(*buf);
            if let Err(violation) = this.pool.fill(*buf, cells) {
                self.violation = Some(violation);
                return;
            }
        }
        if let Some(buf) = finished.wrote_from {
            this.pool.disk_end(buf);
        }
        if let Err(error) = finished.result {
            self.stats.disk_errors += 1;
            self.note(format_args!(
                "node {node} disk {:?} fails: {error}",
                finished.op
            ));
        }
        if let Some(torn) = finished.torn {
            self.oracle.write_failed(node, torn);
        }
        if let Some((victim, left)) = self.interruption
            && victim == node
        {
            self.interruption = Some((victim, left - 1)).filter(|&(_, left)| left > 0);
            if left == 1 {
                self.crash_and_boot(node);
                return;
            }
        }
        let (op, result) = (finished.op, finished.result);
        match &self.nodes[node].worker {
            Worker::None => {}
            Worker::Primary(_) => self.primary_event(node, PrimaryEvent::DiskDone { op, result }),
            Worker::Secondary(_) => {
                self.secondary_event(node, SecondaryEvent::DiskDone { op, result });
            }
        }
    }

    /// The operator gives a node a role.
    pub fn set_role(&mut self, node: usize, role: Role) {
        let this = &mut self.nodes[node];
        if !this.powered || this.role == role {
            return;
        }
        self.stats.role_changes += 1;
        let before = std::mem::replace(&mut this.role, role);
        if let Some((link, _)) = this.half_open.take() {
            self.close(node, link, Way::ToPrimary);
        }
        if let Some(accepted) = self.nodes[node].accepted.take() {
            self.close(node, accepted.link, Way::ToPrimary);
        }
        self.note(format_args!("node {node} becomes {role:?}"));
        if !matches!(self.nodes[node].worker, Worker::None) {
            if !self.nodes[node].stopping {
                self.begin_stop(node);
            }
        } else if role == Role::Primary {
            self.start_primary(node, Some(before));
        }
    }

    /// The operator keeps a node apart from its peer, if that costs no service.
    pub fn disconnect(&mut self, node: usize) -> bool {
        let this = &mut self.nodes[node];
        let needs_peer = this
            .as_primary()
            .is_some_and(|worker| worker.engine.status().local != Local::Good);
        if this.disconnected || needs_peer {
            return false;
        }
        this.disconnected = true;
        let half_open = this.half_open.take().map(|(link, _)| link);
        let accepted = this.accepted.take().map(|accepted| accepted.link);
        for link in half_open.into_iter().chain(accepted) {
            self.close(node, link, Way::ToPrimary);
        }
        match &self.nodes[node].worker {
            Worker::None => {}
            Worker::Primary(worker) => match worker.uplink {
                Uplink::Idle => {}
                Uplink::Opening(link) => {
                    self.close(node, link, Way::ToSecondary);
                    self.refused(node, false);
                }
                Uplink::Linked { .. } => self.link_lost(node, LostReason::Asked),
            },
            Worker::Secondary(_) if !self.nodes[node].stopping => self.begin_stop(node),
            Worker::Secondary(_) => {}
        }
        true
    }

    /// The operator lets a node meet its peer again.
    pub fn reconnect(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if std::mem::take(&mut self.nodes[node].disconnected) {
            self.clock.after(0, Event::Connect { node, life });
        }
    }

    fn begin_stop(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.stopping = true;
        let life = this.life;
        self.clock
            .after(STOP_LIMIT, Event::StopLimit { node, life });
        match this.worker {
            Worker::None => {}
            Worker::Primary(_) => self.primary_event(node, PrimaryEvent::Stop),
            Worker::Secondary(_) => self.secondary_event(node, SecondaryEvent::Stop),
        }
    }

    /// A worker that should end has taken too long: it is killed.
    pub fn stop_limit(&mut self, node: usize, life: u32) {
        if self.nodes[node].life == life && self.nodes[node].stopping {
            self.stats.kills += 1;
            self.crash_worker(node);
        }
    }

    /// An engine said `Stopped`.
    pub fn worker_ended(&mut self, node: usize) {
        if self.violation.is_some() {
            return;
        }
        let this = &mut self.nodes[node];
        let open = this.device.pending.iter().flatten();
        let unanswered = open.filter(|pending| pending.submitted.is_some()).count();
        if this.as_primary().is_some() && unanswered > 0 {
            let detail = format!("node {node} has stopped with {unanswered} requests unanswered");
            self.fail("completed-once", detail);
            return;
        }
        if this.disk.in_flight() > 0 {
            let detail = format!("node {node} has stopped with operations on the disk");
            self.fail("stopped-is-stopped", detail);
            return;
        }
        self.note(format_args!("node {node}: the worker has ended"));
        self.remove_worker(node, false);
        self.next_worker(node);
    }

    fn next_worker(&mut self, node: usize) {
        match self.nodes[node].role {
            Role::Init => {}
            // Whatever ran before was another role's.
            Role::Primary => self.start_primary(node, Some(Role::Secondary)),
            Role::Secondary => {
                if let Some(accepted) = self.nodes[node].accepted.take() {
                    self.start_secondary(node, accepted);
                }
            }
        }
    }

    /// Take the worker away; its requests wait for the next one or fail.
    fn remove_worker(&mut self, node: usize, takeover: bool) {
        let this = &mut self.nodes[node];
        this.life += 1;
        this.stopping = false;
        this.tick_at = None;
        match std::mem::replace(&mut this.worker, Worker::None) {
            Worker::None => {}
            Worker::Primary(worker) => {
                if let Some(link) = worker.uplink.link() {
                    self.close(node, link, Way::ToSecondary);
                }
                self.orphan_requests(node, takeover);
            }
            Worker::Secondary(worker) => self.close(node, worker.link, Way::ToPrimary),
        }
    }

    /// A worker dies.
    pub fn crash_worker(&mut self, node: usize) {
        let was_stopping = self.nodes[node].stopping;
        let was_primary = self.nodes[node].as_primary().is_some();
        self.note(format_args!("node {node}: the worker crashes"));
        self.die(node, was_primary && !was_stopping && self.scenario.takeover);
        if was_primary && !was_stopping {
            let life = self.nodes[node].life;
            self.clock.after(SECOND, Event::Restart { node, life });
        } else {
            self.next_worker(node);
        }
    }

    /// The process is gone, with what it had in memory.
    pub fn die(&mut self, node: usize, takeover: bool) {
        let this = &mut self.nodes[node];
        this.disk.process_died(&mut self.rng);
        if this.secondary().is_some() && self.stats.memsync {
            this.losses += 1;
            let data = std::mem::take(&mut self.nodes[node].disk.view.data);
            self.oracle.memory_lost(node, &data);
            self.nodes[node].disk.view.data = data;
        }
        self.remove_worker(node, takeover);
        self.check_copies("crash");
    }

    /// A crashed primary's worker is started again.
    pub fn restart(&mut self, node: usize, life: u32) {
        let this = &self.nodes[node];
        if this.life == life && this.role == Role::Primary && matches!(this.worker, Worker::None) {
            self.start_primary(node, None);
        } else if this.role != Role::Primary && this.as_primary().is_none() {
            self.orphan_requests(node, false);
        }
    }
}
