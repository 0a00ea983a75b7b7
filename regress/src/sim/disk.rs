//! A simulated disk with the local component on it: data area, bitmap, metadata.
//!
//! Three layers: what a read sees (`view`), what is on stable storage (`durable`), and the writes
//! in between, in their order (`cache`). A power failure keeps an arbitrary subset of the sectors in
//! between; a crash of the process loses nothing that was done, and of what was in flight an
//! arbitrary subset is applied. A write takes effect for readers at its submission or at its
//! completion, by chance. Metadata blocks of the simulator's short names fit a sector, so that they
//! are written as a whole or not at all.

use std::collections::VecDeque;

use hast::disk::layout::Metadata;
use hast::engine::event::{BufId, DiskOp, OpId};
use hast::terms::Errno;

use super::content::{Cell, index, sectors};
use super::rng::Rng;
use super::scenario::{DeleteKind, DiskSpec};
use super::trace::Violation;

/// Writes that a cache holds before it writes back by itself.
const CACHED_MAX: usize = 512;

/// Everything on a disk, at one of its layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// The data area, a cell for each sector.
    pub data: Vec<Cell>,
    /// The bitmap's bytes.
    pub map: Vec<u8>,
    /// The metadata block.
    pub meta: Metadata,
}

/// A write, as it goes to a layer.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Cells from sector `first` on.
    Data {
        /// Where they begin.
        first: u32,
        /// The content.
        cells: Vec<Cell>,
    },
    /// Bytes of the bitmap.
    Map {
        /// Where they begin, in bytes of the bitmap.
        offset: usize,
        /// The content.
        bytes: Vec<u8>,
    },
    /// The metadata block.
    Meta(Box<Metadata>),
}

impl Image {
    /// Apply those sectors of a write for which `keep` says yes.
    fn apply(&mut self, piece: &Piece, sector: u32, mut keep: impl FnMut() -> bool) {
        match piece {
            Piece::Data { first, cells } => {
                for (place, cell) in self.data[index(*first)..].iter_mut().zip(cells) {
                    if keep() {
                        *place = *cell;
                    }
                }
            }
            Piece::Map { offset, bytes } => {
                for (n, chunk) in bytes.chunks(index(sector)).enumerate() {
                    if keep() {
                        let at = offset + n * index(sector);
                        self.map[at..at + chunk.len()].copy_from_slice(chunk);
                    }
                }
            }
            Piece::Meta(meta) => {
                if keep() {
                    self.meta.clone_from(meta);
                }
            }
        }
    }
}

#[derive(Debug)]
enum Kind {
    Read {
        first: u32,
        count: u32,
        buf: BufId,
        /// The content, if it was taken at submission.
        early: Option<Vec<Cell>>,
    },
    Store {
        piece: Piece,
        fua: bool,
        buf: Option<BufId>,
        delete: bool,
    },
    Flush {
        /// How many writes the cache had seen when it was issued.
        mark: u64,
    },
}

#[derive(Debug)]
struct Flight {
    op: OpId,
    serial: u32,
    kind: Kind,
}

/// What is wrong with a disk.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Every operation fails.
    pub dead: bool,
    /// No operation completes.
    pub hung: bool,
    /// Reads that fail, per mille.
    pub read_errors: u32,
    /// Writes that fail, per mille.
    pub write_errors: u32,
    /// Sectors that cannot be read until they are written.
    pub unreadable: Vec<std::ops::Range<u32>>,
    /// Sectors that cannot be written.
    pub unwritable: Vec<std::ops::Range<u32>>,
    /// Bitmap and metadata cannot be written.
    pub system_area: bool,
}

/// A finished operation.
#[derive(Debug)]
pub struct Finished {
    /// Which.
    pub op: OpId,
    /// How it went.
    pub result: Result<(), Errno>,
    /// A read's data.
    pub read: Option<(BufId, Vec<Cell>)>,
    /// The buffer of a write that was let go.
    pub wrote_from: Option<BufId>,
    /// Sectors of a failed write, which may hold old or new content each.
    pub torn: Option<std::ops::Range<u32>>,
}

/// Where to find an operation again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightId {
    slot: u32,
    serial: u32,
}

impl FlightId {
    /// For the trace.
    pub fn word(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.serial)
    }
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    /// Bytes of a sector.
    pub sector: u32,
    /// What it can do, and how fast.
    pub spec: DiskSpec,
    /// What is wrong with it.
    pub health: Health,
    /// A power failure keeps nothing that was not flushed, instead of an arbitrary part.
    pub forgetful: bool,
    /// What a read sees.
    pub view: Image,
    /// What survives a power failure.
    pub durable: Image,
    cache: VecDeque<Piece>,
    written_back: u64,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    serials: u32,
    stalled: Vec<FlightId>,
}

impl Disk {
    /// A disk that holds `image`, durably.
    pub fn new(sector: u32, spec: DiskSpec, image: Image) -> Disk {
        Disk {
            sector,
            spec,
            health: Health::default(),
            forgetful: false,
            durable: image.clone(),
            view: image,
            cache: VecDeque::new(),
            written_back: 0,
            flights: Vec::new(),
            free: Vec::new(),
            serials: 0,
            stalled: Vec::new(),
        }
    }

    /// A worker opens the disk: what an earlier one wrote and did not flush is flushed first.
    pub fn open(&mut self) {
        self.write_back(self.mark());
        self.durable.clone_from(&self.view);
    }

    /// The local component is created anew; no operation is in flight.
    pub fn wipe(&mut self, image: Image) {
        self.cache.clear();
        self.durable = image.clone();
        self.view = image;
    }

    /// Operations in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Begin an operation. `payload` is what it writes, taken from the engine or a buffer.
    pub fn submit(
        &mut self,
        rng: &mut Rng,
        op: OpId,
        what: DiskOp,
        payload: Option<Piece>,
    ) -> Result<FlightId, Violation> {
        let kind = match what {
            DiskOp::Read {
                offset,
                length,
                buf,
            } => {
                let first = sectors(offset, self.sector);
                let count = sectors(u64::from(length), self.sector);
                let early = rng.coin().then(|| self.read(first, count));
                Kind::Read {
                    first,
                    count,
                    buf,
                    early,
                }
            }
            DiskOp::Flush => Kind::Flush { mark: self.mark() },
            DiskOp::Zero {
                offset,
                length,
                fua,
            } => {
                let cells = vec![Cell::ZERO; index(sectors(u64::from(length), self.sector))];
                self.store(
                    Piece::Data {
                        first: sectors(offset, self.sector),
                        cells,
                    },
                    fua,
                    None,
                )
            }
            DiskOp::Delete { offset, length } => {
                let first = sectors(offset, self.sector);
                let cells = self.discarded(rng, first, sectors(length, self.sector));
                let mut kind = self.store(Piece::Data { first, cells }, false, None);
                if let Kind::Store { delete, .. } = &mut kind {
                    *delete = true;
                }
                kind
            }
            DiskOp::Write { buf, fua, .. } => {
                let piece = payload.expect("the driver takes a write's data from its buffer");
                self.store(piece, fua, Some(buf))
            }
            DiskOp::MapWrite { .. } | DiskOp::MetaWrite => {
                let piece = payload.expect("the driver takes these bytes from the engine");
                let durable = matches!(what, DiskOp::MapWrite { durable: true, .. });
                self.store(piece, durable, None)
            }
        };
        if let Kind::Store { piece, delete, .. } = &kind {
            self.check_overlap(piece)?;
            if rng.coin() && !(*delete && self.spec.delete == DeleteKind::Unsupported) {
                self.view.apply(piece, self.sector, || true);
            }
        }
        self.serials += 1;
        let flight = Flight {
            op,
            serial: self.serials,
            kind,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            super::content::number(self.flights.len() - 1)
        });
        self.flights[index(slot)] = Some(flight);
        Ok(FlightId {
            slot,
            serial: self.serials,
        })
    }

    fn store(&self, piece: Piece, fua: bool, buf: Option<BufId>) -> Kind {
        Kind::Store {
            piece,
            fua,
            buf,
            delete: false,
        }
    }

    fn read(&self, first: u32, count: u32) -> Vec<Cell> {
        self.view.data[index(first)..index(first) + index(count)].to_vec()
    }

    fn discarded(&self, rng: &mut Rng, first: u32, count: u32) -> Vec<Cell> {
        match self.spec.delete {
            DeleteKind::Zeros => vec![Cell::ZERO; index(count)],
            DeleteKind::Unsupported => self.read(first, count),
            DeleteKind::Undefined => (0..count).map(|_| Cell::undefined(rng.word())).collect(),
        }
    }

    fn check_overlap(&self, new: &Piece) -> Result<(), Violation> {
        for flight in self.flights.iter().flatten() {
            let Kind::Store { piece, .. } = &flight.kind else {
                continue;
            };
            let overlap = match (piece, new) {
                (Piece::Data { first: a, cells: x }, Piece::Data { first: b, cells: y }) => {
                    index(*a) < index(*b) + y.len() && index(*b) < index(*a) + x.len()
                }
                (
                    Piece::Map {
                        offset: a,
                        bytes: x,
                    },
                    Piece::Map {
                        offset: b,
                        bytes: y,
                    },
                ) => *a < b + y.len() && *b < a + x.len(),
                (Piece::Meta(_), Piece::Meta(_)) => true,
                _ => false,
            };
            if overlap {
                return Err(Violation::new(
                    "overlapping-disk-writes",
                    format!("{new:?} while {:?} is in flight: {piece:?}", flight.op),
                ));
            }
        }
        Ok(())
    }

    /// How long the operation takes, microseconds.
    pub fn latency(&self, rng: &mut Rng) -> u64 {
        rng.around(self.spec.latency_us)
    }

    /// Finish an operation whose time has come. `None`: it was lost with its process, or the disk
    /// hangs and will finish it later.
    pub fn finish(&mut self, rng: &mut Rng, id: FlightId) -> Option<Finished> {
        let there = self.flights.get(index(id.slot)).and_then(Option::as_ref);
        if there.is_none_or(|flight| flight.serial != id.serial) {
            return None;
        }
        if self.health.hung {
            self.stalled.push(id);
            return None;
        }
        let flight = self.flights[index(id.slot)].take()?;
        self.free.push(id.slot);
        let error = self.error(rng, &flight.kind);
        let mut finished = Finished {
            op: flight.op,
            result: error.map_or(Ok(()), Err),
            read: None,
            wrote_from: None,
            torn: None,
        };
        match flight.kind {
            Kind::Read {
                first,
                count,
                buf,
                early,
            } => {
                // A failed read may have filled a part of the buffer.
                let cells = early.unwrap_or_else(|| self.read(first, count));
                finished.read = Some((buf, cells));
            }
            Kind::Flush { mark } => {
                if error.is_none() {
                    self.write_back(mark);
                }
            }
            Kind::Store {
                piece,
                fua,
                buf,
                delete,
            } => {
                finished.wrote_from = buf;
                if let (Piece::Data { first, cells }, Some(_)) = (&piece, error) {
                    finished.torn = Some(*first..first + super::content::number(cells.len()));
                }
                match error {
                    None => self.settle(piece, fua),
                    Some(Errno::EOPNOTSUPP) if delete => finished.torn = None,
                    Some(_) => self.tear(rng, &piece),
                }
            }
        }
        Some(finished)
    }

    /// A write is done.
    fn settle(&mut self, piece: Piece, fua: bool) {
        self.view.apply(&piece, self.sector, || true);
        if let Piece::Data { first, cells } = &piece {
            let last = first + super::content::number(cells.len());
            self.health
                .unreadable
                .retain(|bad| bad.start < *first || bad.end > last);
        }
        if !self.spec.cache {
            self.durable.apply(&piece, self.sector, || true);
            return;
        }
        if fua {
            self.durable.apply(&piece, self.sector, || true);
            self.supersede(&piece);
            return;
        }
        self.cache.push_back(piece);
        if self.cache.len() > CACHED_MAX {
            self.write_back(self.written_back + CACHED_MAX as u64 / 2);
        }
    }

    /// What is cached of the sectors of a write that went through cannot be written back any more.
    fn supersede(&mut self, new: &Piece) {
        for cached in &mut self.cache {
            match (new, cached) {
                (
                    Piece::Data { first, cells },
                    Piece::Data {
                        first: old,
                        cells: olds,
                    },
                ) => replace(index(*first), cells, index(*old), olds),
                (
                    Piece::Map { offset, bytes },
                    Piece::Map {
                        offset: old,
                        bytes: olds,
                    },
                ) => replace(*offset, bytes, *old, olds),
                _ => {}
            }
        }
    }

    /// A write ends in the middle: an arbitrary subset of its sectors is applied.
    fn tear(&mut self, rng: &mut Rng, piece: &Piece) {
        self.view.apply(piece, self.sector, || rng.coin());
        let after = self.view.clone_touched(piece);
        if self.spec.cache {
            self.cache.push_back(after);
        } else {
            self.durable.apply(&after, self.sector, || true);
        }
    }

    fn mark(&self) -> u64 {
        self.written_back + self.cache.len() as u64
    }

    fn write_back(&mut self, mark: u64) {
        while self.written_back < mark {
            let Some(cached) = self.cache.pop_front() else {
                return;
            };
            self.durable.apply(&cached, self.sector, || true);
            self.written_back += 1;
        }
    }

    fn error(&mut self, rng: &mut Rng, kind: &Kind) -> Option<Errno> {
        if self.health.dead {
            return Some(Errno::ENXIO);
        }
        let touches = |bad: &[std::ops::Range<u32>], first: u32, count: usize| {
            bad.iter()
                .any(|bad| index(bad.start) < index(first) + count && first < bad.end)
        };
        let failed = match kind {
            Kind::Read { first, count, .. } => {
                rng.chance(self.health.read_errors)
                    || touches(&self.health.unreadable, *first, index(*count))
            }
            Kind::Store { delete: true, .. } if self.spec.delete == DeleteKind::Unsupported => {
                return Some(Errno::EOPNOTSUPP);
            }
            Kind::Store {
                piece: Piece::Data { first, cells },
                ..
            } => {
                rng.chance(self.health.write_errors)
                    || touches(&self.health.unwritable, *first, cells.len())
            }
            Kind::Store { .. } => self.health.system_area || rng.chance(self.health.write_errors),
            Kind::Flush { .. } => {
                if !self.spec.flush {
                    return Some(Errno::EOPNOTSUPP);
                }
                rng.chance(self.health.write_errors)
            }
        };
        failed.then_some(Errno::EIO)
    }

    /// Operations that waited for the disk to come back.
    pub fn resume(&mut self) -> Vec<FlightId> {
        self.health.hung = false;
        std::mem::take(&mut self.stalled)
    }

    /// The process dies: of the writes in flight an arbitrary subset is applied.
    pub fn process_died(&mut self, rng: &mut Rng) {
        let flights = std::mem::take(&mut self.flights);
        self.free.clear();
        self.stalled.clear();
        for flight in flights.into_iter().flatten() {
            if let Kind::Store { piece, delete, .. } = flight.kind {
                if delete && self.spec.delete == DeleteKind::Unsupported {
                    continue;
                }
                self.tear(rng, &piece);
            }
        }
    }

    /// Power is lost: an arbitrary subset of the sectors that were not durable survives.
    pub fn power_lost(&mut self, rng: &mut Rng) {
        let kept = rng.pick(&[0, 200, 500, 800, 1000]);
        let kept = if self.forgetful { 0 } else { kept };
        for cached in std::mem::take(&mut self.cache) {
            self.durable
                .apply(&cached, self.sector, || rng.chance(kept));
            self.written_back += 1;
        }
        for flight in std::mem::take(&mut self.flights).into_iter().flatten() {
            if let Kind::Store { piece, delete, .. } = flight.kind {
                if delete && self.spec.delete == DeleteKind::Unsupported {
                    continue;
                }
                self.durable.apply(&piece, self.sector, || rng.chance(kept));
            }
        }
        self.free.clear();
        self.stalled.clear();
        self.view = self.durable.clone();
    }

    /// Every write that is not certainly on stable storage, in flight or cached.
    pub fn unsettled(&self) -> impl Iterator<Item = &Piece> {
        let cached = self.cache.iter();
        let flying = self
            .flights
            .iter()
            .flatten()
            .filter_map(|flight| match &flight.kind {
                Kind::Store { piece, .. } => Some(piece),
                _ => None,
            });
        cached.chain(flying)
    }

    /// Sectors of the data area that operations in flight write.
    pub fn writing(&self) -> impl Iterator<Item = std::ops::Range<u32>> + '_ {
        self.flights
            .iter()
            .flatten()
            .filter_map(|flight| match &flight.kind {
                Kind::Store {
                    piece: Piece::Data { first, cells },
                    ..
                } => Some(*first..first + super::content::number(cells.len())),
                _ => None,
            })
    }
}

impl Image {
    /// The present content of what `piece` touches.
    fn clone_touched(&self, piece: &Piece) -> Piece {
        match piece {
            Piece::Data { first, cells } => Piece::Data {
                first: *first,
                cells: self.data[index(*first)..index(*first) + cells.len()].to_vec(),
            },
            Piece::Map { offset, bytes } => Piece::Map {
                offset: *offset,
                bytes: self.map[*offset..offset + bytes.len()].to_vec(),
            },
            Piece::Meta(_) => Piece::Meta(Box::new(self.meta.clone())),
        }
    }
}

/// Replaces what of `old`, which begins at `old_at`, lies within `new`, which begins at `new_at`.
fn replace<T: Copy>(new_at: usize, new: &[T], old_at: usize, old: &mut [T]) {
    for (place, old) in (old_at..).zip(old) {
        if let Some(&newer) = place.checked_sub(new_at).and_then(|at| new.get(at)) {
            *old = newer;
        }
    }
}
