//! A bounded pool of buffers, aligned to 4096 bytes, that never allocates once it is made.
//!
//! Buffers come in three sizes, so that a small request does not occupy the memory of the largest
//! one. All lie in one anonymous mapping: a page costs memory only once it is touched, free
//! buffers are handed out last in, first out, so that the touched set stays small, and
//! [`Pool::trim`] gives back what a burst has left behind.
//!
//! Every buffer counts its references ([`Pool::hold`], [`Pool::release`]) and, like a `RefCell`,
//! who looks at its bytes: any number of readers or one writer. An operation in flight counts as
//! one of them for as long as it lasts, on whichever thread it runs; that is what makes the bytes
//! safe to share with the disk threads. A conflict is a bug of this program and panics.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::engine::event::BufId;

/// Alignment of every buffer, in bytes: what any disk accepts for direct I/O.
pub const ALIGNMENT_BYTES: u32 = 4096;

/// Lengths of the buffers of each class, in bytes, ascending: a page, the largest request of most
/// file systems and peers, the largest request of all.
pub const CLASS_BYTES: [u32; 3] = [4096, 128 * 1024, crate::terms::REQUEST_BYTES_MAX];

/// Free buffers of a class that [`Pool::trim`] leaves untouched: those that are used next.
const TRIM_KEEPS: usize = 16;

/// How many buffers of each class of [`CLASS_BYTES`] a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Count per class, each at most 65536.
    pub buffers: [u32; CLASS_BYTES.len()],
}

impl Default for PoolLimits {
    /// 68 MiB at most: 1024 pages, 256 of 128 KiB, 32 of 1 MiB.
    fn default() -> PoolLimits {
        PoolLimits {
            buffers: [1024, 256, 32],
        }
    }
}

/// A range of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The buffer.
    pub buf: BufId,
    /// Where in it the range begins, in bytes.
    pub at: u32,
    /// How many bytes.
    pub length: u32,
}

impl Piece {
    /// The first `length` bytes of a buffer.
    pub fn first(buf: BufId, length: u32) -> Piece {
        Piece { buf, at: 0, length }
    }
}

/// The mapping that holds all buffers; unmapped when the last user is gone.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: The mapping is plain memory without any thread's affinity; who may touch which of its
// bytes is decided by the borrow counts of the pool.
unsafe impl Send for Mapping {}
// SAFETY: As above; nothing is done through a shared reference but pointer arithmetic.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The range was mapped by `Pool::new` and nothing refers to it: leases and guards
        // keep the mapping alive.
        let unmapped = unsafe { munmap(self.start.cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped cannot fail");
    }
}

/// Who has a buffer and who looks into it.
#[derive(Clone, Copy, Default)]
struct State {
    /// 0: free.
    refs: u32,
    /// Readers, or -1 for a writer.
    borrows: i32,
    /// May have pages of its own.
    touched: bool,
}

struct Class {
    bytes: u32,
    /// Index of its first buffer.
    first: u32,
    count: u32,
    /// Where its first buffer begins in the mapping.
    base: usize,
    /// Indices of free buffers; the last is used next.
    free: RefCell<Vec<u32>>,
}

struct Inner {
    mapping: Arc<Mapping>,
    classes: [Class; CLASS_BYTES.len()],
    states: Vec<Cell<State>>,
}

/// The pool. Clones are handles of the same pool; all stay on one thread.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

impl Pool {
    /// A pool of that many buffers.
    ///
    /// # Errors
    /// The system refuses the address space, or the limits are out of range.
    pub fn new(limits: PoolLimits) -> std::io::Result<Pool> {
        let too_many = || std::io::Error::other("buffer pool: more buffers than can be addressed");
        let (mut first, mut base) = (0u32, 0usize);
        let mut classes = Vec::with_capacity(CLASS_BYTES.len());
        for (&bytes, &count) in CLASS_BYTES.iter().zip(&limits.buffers) {
            if count > 65536 {
                return Err(too_many());
            }
            classes.push(Class {
                bytes,
                first,
                count,
                base,
                free: RefCell::new((first..first + count).rev().collect()),
            });
            first += count;
            base = (count as usize)
                .checked_mul(bytes as usize)
                .and_then(|length| base.checked_add(length))
                .ok_or_else(too_many)?;
        }
        let length = std::num::NonZeroUsize::new(base)
            .ok_or_else(|| std::io::Error::other("buffer pool: no buffers"))?;
        // SAFETY: A new anonymous mapping at an address of the kernel's choice touches no memory
        // that is in use.
        let start = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
        }?;
        // Huge pages would charge 2 MiB for the first touched buffer.
        #[cfg(target_os = "linux")]
        // SAFETY: The range is the new mapping; the advice does not change its content. A kernel
        // without huge pages refuses it, which is as good.
        let _ = unsafe { madvise(start, base, MmapAdvise::MADV_NOHUGEPAGE) };
        let classes = classes
            .try_into()
            .unwrap_or_else(|_| unreachable!("one class was made for each of CLASS_BYTES"));
        Ok(Pool(Rc::new(Inner {
            mapping: Arc::new(Mapping {
                start: start.cast(),
                length: base,
            }),
            classes,
            states: vec![Cell::default(); first as usize],
        })))
    }

    /// A buffer of at least `length` bytes, with one reference; its content is whatever its last
    /// user left. `None`: none is free, or none is that long; try again after a release.
    pub fn alloc(&self, length: u32) -> Option<BufId> {
        let fitting = self.0.classes.iter().filter(|class| class.bytes >= length);
        for class in fitting {
            if let Some(index) = class.free.borrow_mut().pop() {
                let state = &self.0.states[index as usize];
                assert_eq!(state.get().refs, 0, "a free buffer has no references");
                state.set(State {
                    refs: 1,
                    borrows: 0,
                    touched: true,
                });
                return Some(BufId(index));
            }
        }
        None
    }

    /// One more reference.
    pub fn hold(&self, buf: BufId) {
        let state = self.state(buf);
        let mut new = state.get();
        assert!(new.refs > 0, "only a buffer in use can be held");
        new.refs += 1;
        state.set(new);
    }

    /// One reference less; the last one frees the buffer.
    pub fn release(&self, buf: BufId) {
        let state = self.state(buf);
        let mut new = state.get();
        assert!(new.refs > 0, "a buffer is released as often as it is held");
        new.refs -= 1;
        state.set(new);
        if new.refs == 0 {
            assert_eq!(new.borrows, 0, "who looks into a buffer holds it");
            self.class(buf).free.borrow_mut().push(buf.0);
        }
    }

    /// Length of a buffer, in bytes; at least what was asked for.
    pub fn capacity(&self, buf: BufId) -> u32 {
        self.class(buf).bytes
    }

    /// Buffers that are free, per class.
    pub fn available(&self) -> [usize; CLASS_BYTES.len()] {
        self.0
            .classes
            .each_ref()
            .map(|class| class.free.borrow().len())
    }

    /// Looks at a range's bytes. Panics if an operation writes to the buffer.
    pub fn read(&self, piece: Piece) -> Bytes<'_> {
        Bytes {
            lease: self.lease(piece, Access::Shared),
            pool: self,
        }
    }

    /// Looks at a range's bytes to change them. Panics if anybody else looks at the buffer.
    pub fn write(&self, piece: Piece) -> BytesMut<'_> {
        BytesMut(Bytes {
            lease: self.lease(piece, Access::Exclusive),
            pool: self,
        })
    }

    /// Gives the memory of free buffers that were not used lately back to the system. For idle
    /// moments: it takes a system call per buffer.
    pub fn trim(&self) {
        for class in &self.0.classes {
            let free = class.free.borrow();
            let idle = free.len().saturating_sub(TRIM_KEEPS);
            for &index in &free[..idle] {
                let state = &self.0.states[index as usize];
                let mut new = state.get();
                if !std::mem::replace(&mut new.touched, false) {
                    continue;
                }
                state.set(new);
                let advice = if cfg!(target_os = "linux") {
                    MmapAdvise::MADV_DONTNEED
                } else {
                    MmapAdvise::MADV_FREE
                };
                let start = self.start(class, index);
                // SAFETY: The range is one buffer of the mapping; it is free, so nobody has a
                // reference to its bytes and their content does not matter.
                let advised = unsafe { madvise(start.cast(), class.bytes as usize, advice) };
                debug_assert!(advised.is_ok(), "the advice names pages of ours");
            }
        }
    }

    /// Registers somebody who reads or writes a range until [`Pool::end`], which may happen on
    /// another thread, and holds the buffer. Panics on a range outside the buffer or a conflict.
    pub(super) fn lease(&self, piece: Piece, access: Access) -> Lease {
        let class = self.class(piece.buf);
        let end = piece.at.checked_add(piece.length);
        assert!(
            end.is_some_and(|end| end <= class.bytes),
            "a range lies within its buffer"
        );
        let state = self.state(piece.buf);
        let mut new = state.get();
        assert!(new.refs > 0, "only a buffer in use has bytes");
        match access {
            Access::Shared => {
                assert!(new.borrows >= 0, "a buffer being written to is not read");
                new.borrows += 1;
            }
            Access::Exclusive => {
                assert_eq!(
                    new.borrows, 0,
                    "a buffer in use elsewhere is not written to"
                );
                new.borrows = -1;
            }
        }
        new.refs += 1;
        state.set(new);
        let start = self.start(class, piece.buf.0);
        Lease {
            // SAFETY: The offset is within the buffer, as checked above.
            start: unsafe { start.add(piece.at as usize) },
            length: piece.length as usize,
            buf: piece.buf,
            access,
            mapping: Arc::clone(&self.0.mapping),
        }
    }

    /// Ends a lease of this pool.
    pub(super) fn end(&self, lease: Lease) {
        self.ended(&lease);
        drop(lease);
    }

    fn ended(&self, lease: &Lease) {
        debug_assert!(
            Arc::ptr_eq(&lease.mapping, &self.0.mapping),
            "a lease ends in the pool that it came from"
        );
        let state = self.state(lease.buf);
        let mut new = state.get();
        new.borrows = match lease.access {
            Access::Shared => new.borrows - 1,
            Access::Exclusive => 0,
        };
        state.set(new);
        self.release(lease.buf);
    }

    fn class(&self, buf: BufId) -> &Class {
        let class = self
            .0
            .classes
            .iter()
            .find(|class| buf.0 >= class.first && buf.0 - class.first < class.count);
        class.expect("buffer ids come from the pool")
    }

    fn state(&self, buf: BufId) -> &Cell<State> {
        &self.0.states[buf.0 as usize]
    }

    fn start(&self, class: &Class, index: u32) -> NonNull<u8> {
        let offset = class.base + (index - class.first) as usize * class.bytes as usize;
        // SAFETY: `Pool::new` made the mapping as long as all classes together, and the index is
        // one of this class.
        unsafe { self.0.mapping.start.add(offset) }
    }
}

/// How a lease uses its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads; so may others.
    Shared,
    /// Writes; nobody else looks.
    Exclusive,
}

/// The right to a range's bytes, on any thread, until [`Pool::end`]. One that is lost keeps its
/// buffer out of use, and nothing worse.
pub(super) struct Lease {
    start: NonNull<u8>,
    length: usize,
    buf: BufId,
    access: Access,
    mapping: Arc<Mapping>,
}

// SAFETY: The lease is the registered right to these bytes of memory that its mapping keeps alive:
// while it exists, nobody writes to them but the holder of an exclusive lease.
unsafe impl Send for Lease {}

impl Lease {
    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: The range is mapped and initialised (the kernel's zeros at first). A shared
        // lease excludes writers; an exclusive one lends its bytes out under the rules of `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes of an exclusive lease.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        assert_eq!(self.access, Access::Exclusive, "only a writer writes");
        // SAFETY: As above, and an exclusive lease excludes everybody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

/// A range's bytes, to read.
pub struct Bytes<'a> {
    lease: Lease,
    pool: &'a Pool,
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.lease.bytes()
    }
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        self.pool.ended(&self.lease);
    }
}

/// A range's bytes, to read and write.
pub struct BytesMut<'a>(Bytes<'a>);

impl Deref for BytesMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for BytesMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.lease.bytes_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Pool {
        Pool::new(PoolLimits { buffers: [2, 1, 1] }).unwrap()
    }

    #[test]
    fn an_empty_class_borrows_from_a_longer_one_and_then_says_none() {
        let pool = small();
        let lengths: Vec<u32> = std::iter::from_fn(|| pool.alloc(1))
            .map(|buf| pool.capacity(buf))
            .collect();
        assert_eq!(lengths, [4096, 4096, 131_072, 1_048_576]);
        assert_eq!(pool.available(), [0, 0, 0]);
    }

    #[test]
    fn nothing_longer_than_the_largest_class_is_handed_out() {
        assert_eq!(small().alloc(CLASS_BYTES[2] + 1), None);
        assert!(Pool::new(PoolLimits { buffers: [0; 3] }).is_err());
        assert!(
            Pool::new(PoolLimits {
                buffers: [0, 0, 65537]
            })
            .is_err()
        );
    }

    #[test]
    fn a_held_buffer_survives_its_release() {
        let pool = small();
        let buf = pool.alloc(CLASS_BYTES[2]).unwrap();
        pool.hold(buf);
        pool.release(buf);
        assert_eq!(pool.alloc(CLASS_BYTES[2]), None);
        pool.release(buf);
        assert_eq!(pool.alloc(CLASS_BYTES[2]), Some(buf));
    }

    #[test]
    fn a_lease_holds_its_buffer_and_excludes_writers() {
        let pool = small();
        let buf = pool.alloc(4096).unwrap();
        pool.write(Piece::first(buf, 3)).copy_from_slice(b"abc");
        let lease = pool.lease(
            Piece {
                buf,
                at: 1,
                length: 2,
            },
            Access::Shared,
        );
        pool.release(buf);
        assert_eq!(lease.bytes(), b"bc");
        assert_eq!(&*pool.read(Piece::first(buf, 3)), b"abc");
        let write = std::panic::AssertUnwindSafe(|| drop(pool.write(Piece::first(buf, 1))));
        assert!(std::panic::catch_unwind(write).is_err());
        pool.end(lease);
        assert_eq!(pool.available(), [2, 1, 1]);
    }

    #[test]
    fn buffers_are_aligned_and_disjoint() {
        let pool = small();
        let bufs: Vec<BufId> = std::iter::from_fn(|| pool.alloc(1)).collect();
        for (value, &buf) in (0u8..).zip(&bufs) {
            let mut bytes = pool.write(Piece::first(buf, pool.capacity(buf)));
            assert_eq!(bytes.as_ptr() as usize % ALIGNMENT_BYTES as usize, 0);
            bytes.fill(value);
        }
        for (value, &buf) in (0u8..).zip(&bufs) {
            let bytes = pool.read(Piece::first(buf, pool.capacity(buf)));
            assert!(bytes.iter().all(|&byte| byte == value));
        }
    }

    #[test]
    #[should_panic(expected = "within its buffer")]
    fn a_range_outside_the_buffer_is_refused() {
        let pool = small();
        let buf = pool.alloc(4096).unwrap();
        let _ = pool.read(Piece {
            buf,
            at: u32::MAX,
            length: 2,
        });
    }

    #[test]
    fn trim_spares_what_is_in_use() {
        let pool = Pool::new(PoolLimits {
            buffers: [64, 0, 0],
        })
        .unwrap();
        let bufs: Vec<BufId> = std::iter::from_fn(|| pool.alloc(1)).collect();
        for &buf in &bufs {
            pool.write(Piece::first(buf, 4096)).fill(7);
        }
        for &buf in &bufs[1..] {
            pool.release(buf);
        }
        pool.trim();
        assert!(
            pool.read(Piece::first(bufs[0], 4096))
                .iter()
                .all(|&byte| byte == 7)
        );
        assert_eq!(pool.available(), [63, 0, 0]);
    }
}
