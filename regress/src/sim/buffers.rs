//! The buffer pool of a simulated worker, which notices every misuse.

use hast::engine::event::BufId;

use super::content::{Cell, index};
use super::trace::Violation;

/// Who holds a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Nobody.
    Pool,
    /// The engine.
    Engine,
    /// Released by the engine, still being transmitted.
    Wire,
}

#[derive(Debug)]
struct Buffer {
    cells: Vec<Cell>,
    holder: Holder,
    disk_uses: u32,
    wire_uses: u32,
}

/// The buffers of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    buffers: Vec<Buffer>,
    free: Vec<u32>,
}

impl Pool {
    /// Take a buffer for the engine.
    pub fn take(&mut self) -> BufId {
        if let Some(id) = self.free.pop() {
            self.buffers[index(id)].holder = Holder::Engine;
            return BufId(id);
        }
        self.buffers.push(Buffer {
            cells: Vec::new(),
            holder: Holder::Engine,
            disk_uses: 0,
            wire_uses: 0,
        });
        BufId(super::content::number(self.buffers.len() - 1))
    }

    /// Most buffers that were ever in use at once.
    pub fn peak(&self) -> usize {
        self.buffers.len()
    }

    /// Buffers in use.
    pub fn in_use(&self) -> usize {
        self.buffers.len() - self.free.len()
    }

    fn held(&mut self, id: BufId, what: &str) -> Result<&mut Buffer, Violation> {
        let buffer = self.buffers.get_mut(index(id.0));
        match buffer {
            Some(buffer) if buffer.holder == Holder::Engine => Ok(buffer),
            _ => Err(Violation::new(
                "buffer-ownership",
                format!("{what} uses {id:?}, which is not the engine's"),
            )),
        }
    }

    /// Fill `cells` in from the buffer's start on.
    pub fn fill(&mut self, id: BufId, cells: &[Cell]) -> Result<(), Violation> {
        self.fill_at(id, 0, cells)
    }

    /// Fill `cells` in from cell `first` on.
    pub fn fill_at(&mut self, id: BufId, first: u32, cells: &[Cell]) -> Result<(), Violation> {
        let buffer = self.held(id, "filling")?;
        let range = index(first)..index(first) + cells.len();
        if buffer.cells.len() < range.end {
            buffer.cells.resize(range.end, Cell::ZERO);
        }
        buffer.cells[range].copy_from_slice(cells);
        Ok(())
    }

    /// Copy `count` cells out, from cell `first` on.
    pub fn copy(
        &mut self,
        id: BufId,
        first: u32,
        count: u32,
        what: &str,
    ) -> Result<Vec<Cell>, Violation> {
        let buffer = self.held(id, what)?;
        let end = index(first) + index(count);
        if buffer.cells.len() < end {
            buffer.cells.resize(end, Cell::ZERO);
        }
        Ok(buffer.cells[index(first)..end].to_vec())
    }

    /// Look at the first `count` cells.
    pub fn peek(&self, id: BufId, count: u32) -> &[Cell] {
        let cells = &self.buffers[index(id.0)].cells;
        &cells[..index(count).min(cells.len())]
    }

    /// A disk operation begins to use the buffer.
    pub fn disk_begin(&mut self, id: BufId) -> Result<(), Violation> {
        self.held(id, "a disk operation")?.disk_uses += 1;
        Ok(())
    }

    /// A disk operation is done with it.
    pub fn disk_end(&mut self, id: BufId) {
        let buffer = &mut self.buffers[index(id.0)];
        buffer.disk_uses = buffer.disk_uses.saturating_sub(1);
    }

    /// A message keeps the buffer until it is transmitted.
    pub fn wire_begin(&mut self, id: BufId) -> Result<(), Violation> {
        self.held(id, "a message")?.wire_uses += 1;
        Ok(())
    }

    /// The message is transmitted: `sent` was taken when it was queued, and must still be there.
    pub fn wire_end(&mut self, id: BufId, first: u32, sent: &[Cell]) -> Result<(), Violation> {
        let buffer = &mut self.buffers[index(id.0)];
        let same = buffer.cells.get(index(first)..index(first) + sent.len()) == Some(sent);
        self.wire_drop(id);
        if same {
            return Ok(());
        }
        Err(Violation::new(
            "buffer-ownership",
            format!("{id:?} changed while a message was being sent from it"),
        ))
    }

    /// The message will never be transmitted.
    pub fn wire_drop(&mut self, id: BufId) {
        let buffer = &mut self.buffers[index(id.0)];
        buffer.wire_uses = buffer.wire_uses.saturating_sub(1);
        if buffer.wire_uses == 0 && buffer.holder == Holder::Wire {
            buffer.holder = Holder::Pool;
            self.free.push(id.0);
        }
    }

    /// The engine needs the buffer no more.
    pub fn release(&mut self, id: BufId) -> Result<(), Violation> {
        let buffer = self.held(id, "a release")?;
        if buffer.disk_uses > 0 {
            return Err(Violation::new(
                "buffer-ownership",
                format!("{id:?} is released while the disk uses it"),
            ));
        }
        if buffer.wire_uses > 0 {
            buffer.holder = Holder::Wire;
        } else {
            buffer.holder = Holder::Pool;
            self.free.push(id.0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Pool};

    #[test]
    fn release_under_a_disk_operation_is_noticed() {
        let mut pool = Pool::default();
        let id = pool.take();
        pool.disk_begin(id).unwrap();
        assert!(pool.release(id).is_err());
        pool.disk_end(id);
        assert!(pool.release(id).is_ok());
        assert!(pool.release(id).is_err(), "released twice");
    }

    #[test]
    fn buffer_on_the_wire_is_not_given_out_again() {
        let mut pool = Pool::default();
        let id = pool.take();
        pool.fill(id, &[Cell::of(1, 1)]).unwrap();
        pool.wire_begin(id).unwrap();
        pool.release(id).unwrap();
        assert_ne!(pool.take(), id);
        pool.wire_end(id, 0, &[Cell::of(1, 1)]).unwrap();
        assert_eq!(pool.take(), id);
    }

    #[test]
    fn change_under_a_message_is_noticed() {
        let mut pool = Pool::default();
        let id = pool.take();
        pool.fill(id, &[Cell::of(1, 1)]).unwrap();
        pool.wire_begin(id).unwrap();
        pool.fill(id, &[Cell::of(2, 1)]).unwrap();
        assert!(pool.wire_end(id, 0, &[Cell::of(1, 1)]).is_err());
    }
}
