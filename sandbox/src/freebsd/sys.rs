//! jail(2), sysctl, and descriptors by number.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{mem, ptr};

/// Version of the structure that jail(2) takes (sys/jail.h).
const JAIL_API_VERSION: u32 = 2;

/// Puts this process into a jail of its own, around that directory and without any address.
pub(super) fn jail(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let name = CString::new(format!("hast-{}", std::process::id()))?;
    // SAFETY: all zeroes is a valid value: no name, no addresses.
    let mut jail: libc::jail = unsafe { mem::zeroed() };
    jail.version = JAIL_API_VERSION;
    jail.path = path.as_ptr().cast_mut();
    jail.hostname = c"confined".as_ptr().cast_mut();
    jail.jailname = name.as_ptr().cast_mut();
    // SAFETY: the strings are alive; jail(2) only reads what the structure points to.
    match unsafe { libc::jail(&mut jail) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// True if this process is in a jail.
pub(super) fn is_jailed() -> io::Result<bool> {
    let mut jailed: c_int = 0;
    let mut length = size_of::<c_int>();
    // SAFETY: the name ends with a NUL; the kernel writes an int at most.
    let result = unsafe {
        libc::sysctlbyname(
            c"security.jail.jailed".as_ptr(),
            ptr::from_mut(&mut jailed).cast::<c_void>(),
            &mut length,
            ptr::null(),
            0,
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(jailed != 0)
    }
}

/// Calls `action` with the descriptor of that number.
pub(super) fn with_descriptor(
    number: RawFd,
    action: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    // SAFETY: the audit has found the number to be open, and nothing is closed meanwhile.
    action(unsafe { BorrowedFd::borrow_raw(number) })
}
