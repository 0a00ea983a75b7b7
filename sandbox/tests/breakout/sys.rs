//! Bare system calls.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

/// Makes a system call; its result, or the error number.
pub(crate) fn call(number: c_long, arguments: &[u64]) -> Result<i64, i32> {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: that depends on the call; the tests pass pointers to memory that is alive, or null.
    let result = unsafe { libc::syscall(number, six[0], six[1], six[2], six[3], six[4], six[5]) };
    if result == -1 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        Ok(result)
    }
}

/// The address of what the kernel reads, as an argument.
pub(crate) fn address<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<()>() as u64
}

/// The address of what the kernel writes to.
pub(crate) fn written<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<()>() as u64
}

/// A descriptor or another number that may be negative as an argument.
pub(crate) fn int(value: c_int) -> u64 {
    i64::from(value).cast_unsigned()
}

/// Forks; the child calls `action` and exits with 0. The result is the child's number.
pub(crate) fn fork(action: impl FnOnce()) -> nix::unistd::Pid {
    // SAFETY: the process has one thread.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            action();
            // SAFETY: ends the process without handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// A handler that does nothing, for SIGABRT.
pub(crate) fn catch_abort() {
    extern "C" fn nothing(_: c_int) {}
    let handler = nix::sys::signal::SigHandler::Handler(nothing);
    // SAFETY: the handler does nothing.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGABRT, handler) }.unwrap();
}

/// Submits one entry to a ring, waits for its completion, and gives its result: a negative error
/// number, or what the operation returns.
pub(crate) fn submit(ring: &mut io_uring::IoUring, entry: &io_uring::squeue::Entry) -> i32 {
    // SAFETY: that depends on the entry; the tests pass pointers to memory that is alive until
    // the completion, or null, or expect the ring to refuse before it looks at them.
    unsafe { ring.submission().push(entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    let done = ring.completion().next();
    done.unwrap().result()
}

/// An entry of which the kernel gets to see all, flags and number included.
pub(crate) fn entry(operation: u8, flags: u8, file: i32) -> io_uring::squeue::Entry {
    let mut bytes = [0_u8; 64];
    bytes[0] = operation;
    bytes[1] = flags;
    bytes[4..8].copy_from_slice(&file.to_ne_bytes());
    // SAFETY: the entry is the kernel's `struct io_uring_sqe`, 64 bytes without any of Rust's
    // rules.
    unsafe { std::mem::transmute::<[u8; 64], io_uring::squeue::Entry>(bytes) }
}
