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
