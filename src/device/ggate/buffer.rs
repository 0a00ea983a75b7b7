//! Memory for one request's data, which costs nothing where it is not touched.
//!
//! The kernel of FreeBSD 12 and earlier wants a buffer as long as a *delete*, too, though it puts
//! nothing into it. So buffers may be very long, and come from an anonymous mapping.
#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory that is not touched needs no room in the swap space; on FreeBSD it never does.
#[cfg(target_os = "linux")]
const UNRESERVED: MapFlags = MapFlags::MAP_NORESERVE;
#[cfg(not(target_os = "linux"))]
const UNRESERVED: MapFlags = MapFlags::empty();

/// Bytes, zeros at first, page-aligned.
pub(super) struct Buffer {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: The mapping is plain memory that belongs to this value alone, as a `Box<[u8]>` would.
unsafe impl Send for Buffer {}

impl Buffer {
    /// A buffer of that length in bytes; at least one.
    ///
    /// # Errors
    /// The system refuses the address space.
    pub(super) fn new(length: usize) -> std::io::Result<Buffer> {
        let length = NonZeroUsize::new(length).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: A new anonymous mapping at an address of the kernel's choice touches no memory
        // that is in use.
        let start = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | UNRESERVED,
            )
        }?;
        Ok(Buffer {
            start: start.cast(),
            length: length.get(),
        })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: The range is mapped, readable and initialised (the kernel's zeros at first) for
        // as long as this value lives, and whoever writes borrows it exclusively.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and the exclusive borrow of this value excludes everybody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: The range was mapped by `new`, and no borrow outlives this value.
        let unmapped = unsafe { munmap(self.start.cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_buffer_costs_only_what_is_touched() {
        let mut buffer = Buffer::new(1 << 34).unwrap();
        let last = buffer.len() - 1;
        assert_eq!((buffer[0], buffer[last]), (0, 0));
        buffer[last] = 7;
        assert_eq!(buffer[last], 7);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        assert!(Buffer::new(usize::MAX / 2).is_err());
        assert_eq!(Buffer::new(0).unwrap().len(), 1);
    }
}
