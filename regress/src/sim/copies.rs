//! What must be true of the two copies themselves.
//!
//! **No extent is clean while its copies may differ.** Checked every few hundred events, at every
//! crash and at the end. For each node all versions are considered of what a power failure might
//! leave: of a bitmap's bit (clear if any version is clear), of the metadata, and of each sector.
//! If some combination of the two metadata lets the handshake decide for a partial synchronisation,
//! then every extent that may be clean in the merged bitmap must be settled: all versions of each of
//! its sectors, on both disks, are equal. Without `metaflush` only what readers see is compared, as
//! power failures are not survived then (and do not happen in such runs).
//!
//! **Nothing that differs is left out of a synchronisation**: at each handshake, every sector that
//! differs is in a dirty extent of the merged bitmap.
//!
//! **The copies are equal after a synchronisation**, but for requests in flight.

use hast::disk::layout::Metadata;

use super::content::index;
use super::disk::{Disk, Piece};
use super::world::World;

/// Whether a bitmap marks an extent.
pub fn is_dirty(map: &[u8], extent: u32) -> bool {
    map.get(index(extent / 8))
        .is_some_and(|byte| byte >> (extent % 8) & 1 == 1)
}

/// What a handshake between these metadata leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// The extents of both bitmaps are copied.
    Both,
    /// Everything is copied, or nothing happens.
    Safe,
}

/// The table of the handshake (spec/01, 3), reduced to which bitmaps count.
fn decide(primary: &Metadata, secondary: &Metadata) -> Decision {
    if secondary.resuid == 0 {
        return if primary.resuid == 0 {
            Decision::Both
        } else {
            Decision::Safe
        };
    }
    if primary.resuid != secondary.resuid {
        return Decision::Safe;
    }
    let (p, s) = (primary, secondary);
    let primary_behind = s.localcnt > p.remotecnt && s.remotecnt == p.localcnt;
    let level = s.localcnt == p.remotecnt && s.remotecnt <= p.localcnt;
    if primary_behind || level {
        Decision::Both
    } else {
        Decision::Safe
    }
}

/// The versions of a node's bitmap and metadata, reduced to the worst.
struct Marks {
    /// Set if set in every version.
    surely: Vec<u8>,
    metas: Vec<Metadata>,
}

impl Marks {
    fn of(disk: &Disk, power: bool) -> Marks {
        let mut marks = Marks {
            surely: disk.view.map.clone(),
            metas: vec![disk.view.meta.clone()],
        };
        if power {
            for (sure, durable) in marks.surely.iter_mut().zip(&disk.durable.map) {
                *sure &= durable;
            }
            marks.metas.push(disk.durable.meta.clone());
        }
        for piece in disk.unsettled().filter(|_| power) {
            match piece {
                Piece::Map { offset, bytes } => {
                    for (sure, byte) in marks.surely[*offset..].iter_mut().zip(bytes) {
                        *sure &= byte;
                    }
                }
                Piece::Meta(meta) if !marks.metas.contains(meta) => {
                    marks.metas.push((**meta).clone());
                }
                _ => {}
            }
        }
        marks
    }
}

/// Sectors that have more than one version.
fn unsettled(disk: &Disk, power: bool) -> Vec<bool> {
    let view = &disk.view.data;
    if !power {
        return vec![false; view.len()];
    }
    let mut unsettled: Vec<bool> = view
        .iter()
        .zip(&disk.durable.data)
        .map(|(seen, durable)| seen.differs(*durable))
        .collect();
    for piece in disk.unsettled() {
        if let Piece::Data { first, cells } = piece {
            for (s, cell) in (index(*first)..).zip(cells) {
                unsettled[s] |= cell.differs(view[s]);
            }
        }
    }
    unsettled
}

impl World {
    /// No extent is clean while its copies may differ.
    pub fn check_copies(&mut self, when: &str) {
        let power = self.scenario.parameters.metaflush;
        let marks = [
            Marks::of(&self.nodes[0].disk, power),
            Marks::of(&self.nodes[1].disk, power),
        ];
        let mut maps: Vec<Vec<u8>> = Vec::new();
        for primary in [0, 1] {
            let decisions = marks[primary]
                .metas
                .iter()
                .flat_map(|p| marks[1 - primary].metas.iter().map(move |s| decide(p, s)));
            for decision in decisions {
                let map = match decision {
                    Decision::Safe => continue,
                    Decision::Both => {
                        let both = marks[0].surely.iter().zip(&marks[1].surely);
                        both.map(|(a, b)| a | b).collect()
                    }
                };
                if !maps.contains(&map) {
                    maps.push(map);
                }
            }
        }
        if maps.is_empty() {
            return;
        }
        let loose = [
            unsettled(&self.nodes[0].disk, power),
            unsettled(&self.nodes[1].disk, power),
        ];
        let [zero, one] = &self.nodes;
        let mut found = None;
        for (s, (a, b)) in zero
            .disk
            .view
            .data
            .iter()
            .zip(&one.disk.view.data)
            .enumerate()
        {
            if !(loose[0][s] || loose[1][s] || a.differs(*b)) {
                continue;
            }
            let extent = super::content::number(s) / self.scenario.extent_sectors;
            if maps.iter().any(|map| !is_dirty(map, extent)) {
                found = Some(format!(
                    "{when}: sector {s} of extent {extent}, clean on disk, is {a} and {b}; on \
                     stable storage {} and {}; metadata {:?}, {:?}",
                    zero.disk.durable.data[s],
                    one.disk.durable.data[s],
                    marks[0].metas,
                    marks[1].metas,
                ));
                break;
            }
        }
        if let Some(detail) = found {
            self.fail("clean-means-equal", detail);
        }
    }

    /// Nothing that differs is left out of a synchronisation.
    pub fn check_merged(&mut self, node: usize, merged: &[u8]) {
        let extent_sectors = self.scenario.extent_sectors;
        let [zero, one] = &self.nodes;
        let found = (0..)
            .zip(zero.disk.view.data.iter().zip(&one.disk.view.data))
            .find(|&(s, (a, b))| a.differs(*b) && !is_dirty(merged, s / extent_sectors))
            .map(|(s, (a, b))| format!("node {node} connects: sector {s}: {a} and {b}"));
        if let Some(detail) = found {
            self.fail("clean-means-equal", detail);
        }
    }

    /// The copies are equal after a synchronisation, but for requests in flight.
    pub fn check_equal(&mut self, primary: usize) {
        let left = |worker: &super::node::PrimaryWorker| worker.engine.status().sync_left_bytes;
        if self.nodes[primary]
            .as_primary()
            .is_some_and(|worker| left(worker) > 0)
        {
            // While the end was being recorded something else came up, such as a delete that the
            // peer cannot do: another synchronisation follows.
            return;
        }
        let sectors = index(self.scenario.sectors);
        let mut busy = vec![false; sectors];
        let mut mark = |range: std::ops::Range<u32>| {
            busy[index(range.start)..index(range.end)].fill(true);
        };
        for node in &self.nodes {
            node.disk.writing().for_each(&mut mark);
        }
        let this = &self.nodes[primary];
        if let Some(worker) = this.as_primary() {
            for &(_, first, count) in &worker.outstanding {
                mark(first..first + count);
            }
        }
        for pending in this.device.pending.iter().flatten() {
            mark(pending.first..pending.first + pending.count);
        }
        let [zero, one] = &self.nodes;
        let found = zero
            .disk
            .view
            .data
            .iter()
            .zip(&one.disk.view.data)
            .enumerate()
            .find(|&(s, (a, b))| !busy[s] && a.differs(*b))
            .map(|(s, (a, b))| format!("synchronised, yet sector {s} is {a} and {b}"));
        if let Some(detail) = found {
            self.fail("equal-after-synchronisation", detail);
        }
    }
}
