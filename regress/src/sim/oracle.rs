//! What the applications were promised: which values a read may return, and what must be on which
//! copy.
//!
//! Every invocation and every completion gets a *stamp*, a number that only grows. A write A is
//! *before* a write B if A ended before B was invoked; otherwise either may come last. Each node's
//! device (there are two while two nodes are primary) has, for each sector:
//!
//! * a *base*: the content that was certainly there at a stamp: at the start of the worker what is
//!   on its disk, later what a read saw while nothing was being written;
//! * the newest invocation among the writes that were acknowledged.
//!
//! **Reads.** A read may return the base, unless a write that was invoked after it had been
//! acknowledged when the read began; or the data of a write of this device that did not end before
//! the base was taken and is not before a write that had been acknowledged when the read began.
//! A request that ended in an error, or with its process, may or may not have taken effect, and
//! does so before its end or never. After a delete any content may be returned.
//!
//! **Floors.** A floor of a copy's sector is the stamp of the newest promised write's invocation: the
//! copy holds that write, or one that is not before it.
//! * `floor`: what the copy holds as long as its node keeps power. Raised when a write is
//!   acknowledged: for the primary's copy unless its disk was given up; for the secondary's copy if
//!   the write was submitted and acknowledged within one connection and the mode is fullsync or
//!   memsync. Raised for the secondary, at the end of a synchronisation, to what the primary held at
//!   its beginning. Lowered, where the copies are unequal, when a copy becomes a synchronisation's
//!   target. In memsync the secondary's is void when its worker dies, as the data may have been in
//!   its memory alone.
//! * `durable`: what the copy holds whatever happens to the power. Raised by an acknowledged flush,
//!   to everything acknowledged before the flush was invoked, and by a write with FUA; for the
//!   secondary's copy under the same conditions as above. A power failure lowers `floor` to it.
//! * `alone`: what was acknowledged while the peer did not have it: no later connection may lose it
//!   silently. Cleared when a synchronisation is complete.
//!
//! Checked when a node becomes primary (its copy satisfies its floors), when a connection is
//! established (the copy that wins satisfies `alone` of both), and at each read.
//!
//! **async.** What a promoted secondary holds is consistent with respect to flushes: if it holds a
//! write that was invoked after a flush was acknowledged, it holds every write that was
//! acknowledged before that flush was invoked.

use super::content::{Cell, WriteId, index};
use super::trace::Violation;

/// The order of invocations and completions; 0 is before everything.
pub type Stamp = u32;

/// A request that has not ended yet.
const OPEN: Stamp = Stamp::MAX;

/// What a write stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// Its own data.
    Data,
    /// Zeros.
    Zeros,
    /// Anything.
    Delete,
}

#[derive(Clone, Debug)]
struct Write {
    node: usize,
    kind: WriteKind,
    first: u32,
    count: u32,
    invoked: Stamp,
    ended: Stamp,
    acknowledged: bool,
    /// Flushes that its device had acknowledged when it was invoked.
    epoch: u32,
}

/// How a write's acknowledgement reached the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The primary's own disk holds it.
    pub local: bool,
    /// The secondary holds it: one connection all the time, in fullsync or memsync.
    pub remote: bool,
    /// One connection all the time, in async: the secondary will hold it.
    pub on_its_way: bool,
}

/// What is promised of one node's copy, and what its device shows.
#[derive(Debug)]
struct Copy {
    base: Vec<Cell>,
    base_at: Vec<Stamp>,
    /// Writes that have not ended, and the last stamp at which one began or ended.
    open: Vec<u32>,
    touched: Vec<Stamp>,
    acknowledged: Vec<Stamp>,
    floor: Vec<Stamp>,
    durable: Vec<Stamp>,
    alone: Vec<Stamp>,
    /// A write failed here since the last connection: acknowledgements promise nothing.
    spoiled: Vec<bool>,
    /// As primary: what was acknowledged when the connection was established, or without it since.
    before_session: Vec<Stamp>,
    /// As primary: writes in the order of their acknowledgement, with its stamp.
    log: Vec<(WriteId, Stamp)>,
    /// How much of the log is durable here, and on the peer.
    logged_local: usize,
    logged_remote: usize,
    /// Acknowledged flushes of this device: stamps of invocation.
    flushes: Vec<Stamp>,
    /// As secondary: a synchronisation from this primary's run is complete.
    follows: Option<(usize, u32)>,
    /// How often this node became primary.
    runs: u32,
    /// First log entry of the present run, first flush likewise.
    run_began: Stamp,
}

/// The model.
#[derive(Debug)]
pub struct Oracle {
    stamp: Stamp,
    writes: Vec<Write>,
    /// Writes of zeros and deletes, for each sector.
    blanks: Vec<Vec<WriteId>>,
    copies: [Copy; 2],
}

/// What a read needs to remember from its beginning.
#[derive(Debug)]
pub struct ReadStart {
    at: Stamp,
    /// The newest acknowledged invocation of each sector.
    acknowledged: Vec<Stamp>,
    /// The base of each sector.
    base: Vec<(Cell, Stamp)>,
}

/// What a flush needs to remember from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct FlushStart {
    at: Stamp,
    logged: usize,
}

impl Copy {
    fn new(sectors: usize) -> Copy {
        Copy {
            base: vec![Cell::ZERO; sectors],
            base_at: vec![0; sectors],
            open: vec![0; sectors],
            touched: vec![0; sectors],
            acknowledged: vec![0; sectors],
            floor: vec![0; sectors],
            durable: vec![0; sectors],
            alone: vec![0; sectors],
            spoiled: vec![false; sectors],
            before_session: vec![0; sectors],
            log: Vec::new(),
            logged_local: 0,
            logged_remote: 0,
            flushes: Vec::new(),
            follows: None,
            runs: 0,
            run_began: 0,
        }
    }
}

fn raise(place: &mut Stamp, to: Stamp) {
    *place = (*place).max(to);
}

fn lower(place: &mut Stamp, to: Stamp) {
    *place = (*place).min(to);
}

impl Oracle {
    /// The model of two new disks.
    pub fn new(sectors: u32) -> Oracle {
        let sectors = index(sectors);
        Oracle {
            stamp: 0,
            // Number 0 is no write: new disks hold zeros.
            writes: vec![Write {
                node: 0,
                kind: WriteKind::Zeros,
                first: 0,
                count: 0,
                invoked: 0,
                ended: 0,
                acknowledged: true,
                epoch: 0,
            }],
            blanks: vec![Vec::new(); sectors],
            copies: [Copy::new(sectors), Copy::new(sectors)],
        }
    }

    fn tick(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    fn write(&self, id: WriteId) -> &Write {
        &self.writes[index(id)]
    }

    /// An application invokes a write on a node's device.
    pub fn invoke_write(
        &mut self,
        node: usize,
        kind: WriteKind,
        first: u32,
        count: u32,
    ) -> WriteId {
        let invoked = self.tick();
        let id = super::content::number(self.writes.len());
        let epoch = super::content::number(self.copies[node].flushes.len());
        self.writes.push(Write {
            node,
            kind,
            first,
            count,
            invoked,
            ended: OPEN,
            acknowledged: false,
            epoch,
        });
        for s in index(first)..index(first) + index(count) {
            if kind != WriteKind::Data {
                self.blanks[s].push(id);
            }
            self.copies[node].open[s] += 1;
            self.copies[node].touched[s] = invoked;
        }
        id
    }

    /// A write is acknowledged by its device.
    pub fn acknowledge(&mut self, id: WriteId, reach: Reach, fua: bool) {
        let ended = self.tick();
        let write = &mut self.writes[index(id)];
        write.ended = ended;
        write.acknowledged = true;
        let (node, invoked) = (write.node, write.invoked);
        let sectors = index(write.first)..index(write.first) + index(write.count);
        let [zero, one] = &mut self.copies;
        let (own, peer) = if node == 0 { (zero, one) } else { (one, zero) };
        own.log.push((id, ended));
        for s in sectors {
            own.open[s] -= 1;
            own.touched[s] = ended;
            raise(&mut own.acknowledged[s], invoked);
            let local = reach.local && !own.spoiled[s];
            if local {
                raise(&mut own.floor[s], invoked);
                if fua {
                    raise(&mut own.durable[s], invoked);
                }
            }
            if reach.remote && !peer.spoiled[s] {
                raise(&mut peer.floor[s], invoked);
                if fua {
                    raise(&mut peer.durable[s], invoked);
                }
                if !reach.local {
                    raise(&mut peer.alone[s], invoked);
                }
            } else if !reach.on_its_way && !reach.remote {
                // Without the local disk it is on the peer, though the connection is gone by now.
                let holder = if reach.local { &mut *own } else { &mut *peer };
                raise(&mut holder.alone[s], invoked);
                raise(&mut own.before_session[s], invoked);
            }
        }
    }

    /// A write ended in an error or with its process.
    pub fn fail(&mut self, id: WriteId) {
        let ended = self.tick();
        let write = &mut self.writes[index(id)];
        if write.ended == OPEN {
            write.ended = ended;
            let copy = &mut self.copies[write.node];
            for s in index(write.first)..index(write.first) + index(write.count) {
                copy.open[s] -= 1;
                copy.touched[s] = ended;
            }
        }
    }

    /// An application invokes a read.
    pub fn invoke_read(&mut self, node: usize, first: u32, count: u32) -> ReadStart {
        let at = self.tick();
        let sectors = index(first)..index(first) + index(count);
        let copy = &self.copies[node];
        let base = copy.base[sectors.clone()]
            .iter()
            .zip(&copy.base_at[sectors.clone()]);
        ReadStart {
            at,
            acknowledged: copy.acknowledged[sectors].to_vec(),
            base: base.map(|(&cell, &at)| (cell, at)).collect(),
        }
    }

    /// A read is answered.
    pub fn check_read(
        &mut self,
        node: usize,
        first: u32,
        start: &ReadStart,
        cells: &[Cell],
    ) -> Result<(), Violation> {
        let starts = start.acknowledged.iter().zip(&start.base);
        for ((sector, &cell), (&newest, &base)) in (first..).zip(cells).zip(starts) {
            if !self.may_read(node, sector, cell, newest, base) {
                return Err(Violation::new(
                    "read-value",
                    self.explain(node, sector, cell, newest),
                ));
            }
            let s = index(sector);
            let copy = &mut self.copies[node];
            let still = copy.open[s] == 0 && copy.touched[s] < start.at;
            if still && copy.base_at[s] < start.at && self.blanks[s].is_empty() {
                copy.base[s] = cell;
                copy.base_at[s] = start.at;
            }
        }
        Ok(())
    }

    /// Whether a read may return `cell`, if `newest` had been acknowledged and `base` was the base
    /// when it began.
    fn may_read(
        &self,
        node: usize,
        sector: u32,
        cell: Cell,
        newest: Stamp,
        (base, base_at): (Cell, Stamp),
    ) -> bool {
        let copy = &self.copies[node];
        if cell.is_undefined() && self.is_discarded(sector, newest) {
            return true;
        }
        // What was discarded may read as anything, and differently on each copy.
        if base_at >= newest && (cell == base || base.is_undefined()) {
            return true;
        }
        let later = copy.base[index(sector)];
        if copy.base_at[index(sector)] >= newest && (cell == later || later.is_undefined()) {
            return true;
        }
        let candidate = |id: WriteId| {
            let write = self.write(id);
            write.node == node && write.ended > base_at && write.ended >= newest
        };
        if cell
            .writer(sector)
            .is_some_and(|id| index(id) < self.writes.len() && candidate(id))
        {
            return true;
        }
        self.blanks[index(sector)].iter().rev().any(|&id| {
            (cell == Cell::ZERO || self.write(id).kind == WriteKind::Delete) && candidate(id)
        })
    }

    /// Whether a sector may be discarded, by whichever device.
    fn is_discarded(&self, sector: u32, newest: Stamp) -> bool {
        let ids = &self.blanks[index(sector)];
        ids.iter()
            .map(|&id| self.write(id))
            .any(|write| write.kind == WriteKind::Delete && write.ended >= newest)
    }

    fn explain(&self, node: usize, sector: u32, cell: Cell, newest: Stamp) -> String {
        let copy = &self.copies[node];
        let at = index(sector);
        let writer = cell.writer(sector).map(|id| self.write(id).clone());
        let newest = self.writes.iter().position(|write| write.invoked == newest);
        format!(
            "node {node}, sector {sector}: {cell} ({writer:?}); base {} at {}; newest \
             acknowledged: write {newest:?} {:?}",
            copy.base[at],
            copy.base_at[at],
            newest.map(|id| &self.writes[id]),
        )
    }

    /// An application invokes a flush.
    pub fn invoke_flush(&mut self, node: usize) -> FlushStart {
        FlushStart {
            at: self.tick(),
            logged: self.copies[node].log.len(),
        }
    }

    /// A flush is acknowledged; what it promises must be on the disks (`durable`) now.
    ///
    /// # Errors
    /// It is not.
    pub fn acknowledge_flush(
        &mut self,
        node: usize,
        start: FlushStart,
        reach: Reach,
        durable: [&[Cell]; 2],
    ) -> Result<(), Violation> {
        self.tick();
        let from = [
            (node, self.copies[node].logged_local, reach.local),
            (1 - node, self.copies[node].logged_remote, reach.remote),
        ];
        let [zero, one] = &mut self.copies;
        let (own, peer) = if node == 0 { (zero, one) } else { (one, zero) };
        own.flushes.push(start.at);
        let end = start.logged;
        if reach.local {
            for &(id, _) in &own.log[own.logged_local.min(end)..end] {
                let write = &self.writes[index(id)];
                for s in index(write.first)..index(write.first) + index(write.count) {
                    if own.floor[s] >= write.invoked {
                        raise(&mut own.durable[s], write.invoked);
                    }
                }
            }
            own.logged_local = own.logged_local.max(end);
        }
        if reach.remote {
            for &(id, _) in &own.log[own.logged_remote.min(end)..end] {
                let write = &self.writes[index(id)];
                for s in index(write.first)..index(write.first) + index(write.count) {
                    // A later floor may be that of a write which the flush did not cover.
                    if peer.floor[s] == write.invoked {
                        raise(&mut peer.durable[s], write.invoked);
                    }
                }
            }
            own.logged_remote = own.logged_remote.max(end);
        }
        for (copy, from, _) in from.into_iter().filter(|&(.., reached)| reached) {
            for &(id, _) in &self.copies[node].log[from.min(end)..end] {
                let write = self.write(id);
                for sector in write.first..write.first + write.count {
                    let floor = self.copies[copy].durable[index(sector)];
                    let cell = durable[copy][index(sector)];
                    self.check_floor("flushed-is-durable", copy, sector, cell, floor)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a copy's content satisfies a floor.
    fn satisfies(&self, sector: u32, cell: Cell, floor: Stamp) -> bool {
        if floor == 0 {
            return true;
        }
        let enough = |id: WriteId| self.write(id).ended >= floor;
        cell.writer(sector)
            .is_some_and(|id| index(id) < self.writes.len() && enough(id))
            || self.blanks[index(sector)].iter().rev().any(|&id| {
                (cell == Cell::ZERO || self.write(id).kind == WriteKind::Delete) && enough(id)
            })
    }

    fn check_floor(
        &self,
        invariant: &'static str,
        node: usize,
        sector: u32,
        cell: Cell,
        floor: Stamp,
    ) -> Result<(), Violation> {
        if self.satisfies(sector, cell, floor) {
            return Ok(());
        }
        let promised = self.writes.iter().position(|write| write.invoked == floor);
        let writer = cell.writer(sector).map(|id| self.write(id).clone());
        Err(Violation::new(
            invariant,
            format!(
                "node {node}, sector {sector}: {cell} ({writer:?}); promised: write {promised:?} {:?}",
                promised.map(|id| &self.writes[id])
            ),
        ))
    }

    /// A node becomes primary, with this content on its disk.
    pub fn promote(&mut self, node: usize, disk: &[Cell]) -> Result<(), Violation> {
        for (sector, &cell) in (0..).zip(disk) {
            let floor = self.copies[node].floor[index(sector)];
            self.check_floor("acknowledged-write-survives", node, sector, cell, floor)?;
        }
        self.check_barriers(node, disk)?;
        let at = self.tick();
        let copy = &mut self.copies[node];
        copy.base.copy_from_slice(disk);
        copy.base_at.fill(at);
        copy.acknowledged.fill(0);
        copy.follows = None;
        copy.runs += 1;
        copy.run_began = at;
        Ok(())
    }

    /// Flush barriers hold on the copy of a promoted secondary.
    fn check_barriers(&self, node: usize, disk: &[Cell]) -> Result<(), Violation> {
        let Some((primary, run)) = self.copies[node].follows else {
            return Ok(());
        };
        let source = &self.copies[primary];
        if source.runs != run {
            return Ok(());
        }
        let newest = (0..)
            .zip(disk)
            .filter_map(|(sector, cell)| cell.writer(sector));
        let epoch = newest
            .filter_map(|id| self.writes.get(index(id)))
            .filter(|write| write.node == primary && write.invoked > source.run_began)
            .map(|write| write.epoch)
            .max()
            .unwrap_or(0);
        let Some(flush) = index(epoch).checked_sub(1).map(|n| source.flushes[n]) else {
            return Ok(());
        };
        for &(id, acknowledged) in &source.log {
            let write = self.write(id);
            if acknowledged >= flush || write.invoked <= source.run_began {
                continue;
            }
            for sector in write.first..write.first + write.count {
                let cell = disk[index(sector)];
                self.check_floor("flush-barrier", node, sector, cell, write.invoked)?;
            }
        }
        Ok(())
    }

    /// A connection is established and the winner of each sector is known: `truth`. `target` is
    /// the node whose copy gives way where they differ.
    pub fn connect(
        &mut self,
        primary: usize,
        target: usize,
        truth: &[Cell],
        in_step: bool,
    ) -> Result<(), Violation> {
        for node in [0, 1] {
            for (sector, &cell) in (0..).zip(truth) {
                let floor = self.copies[node].alone[index(sector)];
                self.check_floor("no-silent-divergence", node, sector, cell, floor)?;
            }
        }
        let at = self.tick();
        let runs = self.copies[primary].runs;
        let [zero, one] = &mut self.copies;
        let (own, peer) = if primary == 0 {
            (zero, one)
        } else {
            (one, zero)
        };
        if target == primary {
            // What the device shows changes to the peer's content, whatever it was before.
            own.base.copy_from_slice(truth);
            own.base_at.fill(at);
        }
        let (source, sink) = if target == primary {
            (&*peer, &mut *own)
        } else {
            (&*own, &mut *peer)
        };
        for s in 0..truth.len() {
            lower(&mut sink.floor[s], source.floor[s]);
            lower(&mut sink.durable[s], source.durable[s]);
        }
        own.spoiled.fill(false);
        peer.spoiled.fill(false);
        own.before_session.copy_from_slice(if target == primary {
            &peer.floor
        } else {
            &own.floor
        });
        peer.follows = None;
        if in_step {
            peer.follows = Some((primary, runs));
            own.alone.fill(0);
            peer.alone.fill(0);
        }
        Ok(())
    }

    /// The primary says that the copies are equal.
    pub fn synchronised(&mut self, primary: usize) {
        let runs = self.copies[primary].runs;
        let [zero, one] = &mut self.copies;
        let (own, peer) = if primary == 0 {
            (zero, one)
        } else {
            (one, zero)
        };
        for s in 0..own.floor.len() {
            let before = own.before_session[s];
            raise(&mut own.floor[s], before);
            raise(&mut peer.floor[s], before);
            let durable = own.durable[s].max(peer.durable[s]).min(before);
            raise(&mut own.durable[s], durable);
            raise(&mut peer.durable[s], durable);
            own.alone[s] = 0;
            peer.alone[s] = 0;
            peer.spoiled[s] = false;
        }
        peer.follows = Some((primary, runs));
    }

    /// What is promised whatever happens to the power is on a node's disk.
    ///
    /// # Errors
    /// It is not.
    pub fn check_durable(&self, node: usize, durable: &[Cell]) -> Result<(), Violation> {
        for (sector, &cell) in (0..).zip(durable) {
            let floor = self.copies[node].durable[index(sector)];
            self.check_floor("flushed-is-durable", node, sector, cell, floor)?;
        }
        Ok(())
    }

    /// A node loses power.
    pub fn power_lost(&mut self, node: usize) {
        let copy = &mut self.copies[node];
        for s in 0..copy.floor.len() {
            let durable = copy.durable[s];
            lower(&mut copy.floor[s], durable);
            lower(&mut copy.alone[s], durable);
        }
        // What was lost is not made durable by a later flush.
        copy.logged_local = copy.log.len();
    }

    /// A secondary's worker dies while the mode is memsync: what it had received and not written
    /// is gone.
    pub fn memory_lost(&mut self, node: usize, disk: &[Cell]) {
        for (sector, &cell) in (0..).zip(disk) {
            if !self.satisfies(sector, cell, self.copies[node].floor[index(sector)]) {
                let copy = &mut self.copies[node];
                copy.floor[index(sector)] = copy.durable[index(sector)];
            }
        }
    }

    /// A write failed on a node's disk: what it tried to store there may be torn.
    pub fn write_failed(&mut self, node: usize, sectors: std::ops::Range<u32>) {
        let copy = &mut self.copies[node];
        for s in index(sectors.start)..index(sectors.end) {
            copy.spoiled[s] = true;
            lower(&mut copy.floor[s], copy.durable[s]);
        }
    }

    /// A secondary has answered a request with an error: its copy has a gap, and flush barriers
    /// mean nothing there until the next synchronisation.
    pub fn refused(&mut self, node: usize) {
        self.copies[node].follows = None;
    }

    /// The operator makes a node's local component anew: nothing is promised of it.
    pub fn recreated(&mut self, node: usize) {
        let copy = &mut self.copies[node];
        copy.floor.fill(0);
        copy.durable.fill(0);
        copy.alone.fill(0);
        copy.spoiled.fill(false);
        copy.follows = None;
    }

    /// What a node acknowledged alone will not be known to its peer: the disk that could have said
    /// so is gone, by more faults than the promise covers.
    pub fn forget_alone(&mut self, node: usize) {
        self.copies[node].alone.fill(0);
    }
}
