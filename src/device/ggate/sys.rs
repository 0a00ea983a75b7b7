//! /dev/ggctl of FreeBSD.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::gate::Gate;
use super::layout::{
    CMD_CANCEL, CMD_CREATE, CMD_DESTROY, CMD_DONE, CMD_MODIFY, CMD_START, Cancel, Create, Destroy,
    Io, Modify,
};

/// The control device.
const PATH: &str = "/dev/ggctl";

unsafe extern "C" {
    fn kldload(file: *const libc::c_char) -> c_int;
    fn modfind(name: *const libc::c_char) -> c_int;
}

/// The open control device.
#[derive(Debug)]
pub struct Control {
    file: File,
}

impl Control {
    /// Opens it; loads the kernel's module before, if need be.
    ///
    /// # Errors
    /// The module cannot be loaded, or the device not be opened: not root, or inside a jail.
    pub fn open() -> io::Result<Control> {
        load()?;
        let file = OpenOptions::new().read(true).write(true).open(PATH)?;
        Ok(Control { file })
    }

    /// Performs an ioctl that reads and writes one structure.
    fn call<T>(&self, command: u64, request: &mut T) -> io::Result<()> {
        // SAFETY: Each caller passes the structure that the command's number names, size included
        // (checked at compile time in `layout`); it is borrowed exclusively during the call. What
        // it points to, if anything, is the caller's to vouch for.
        let result = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                command as libc::c_ulong,
                ptr::from_mut(request),
            )
        };
        if result == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Gate for Control {
    fn create(&self, request: &mut Create) -> io::Result<()> {
        self.call(CMD_CREATE, request)
    }

    fn cancel(&self, request: &mut Cancel) -> io::Result<()> {
        self.call(CMD_CANCEL, request)
    }

    fn modify(&self, request: &mut Modify) -> io::Result<()> {
        self.call(CMD_MODIFY, request)
    }

    fn destroy(&self, request: &mut Destroy) -> io::Result<()> {
        self.call(CMD_DESTROY, request)
    }

    fn start(&self, request: &mut Io, data: &mut [u8]) -> io::Result<()> {
        // The kernel writes `length` bytes to `data` at most: both are set here, from one slice,
        // which stays borrowed for the call.
        request.length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        request.data = data.as_mut_ptr().cast::<c_void>();
        let started = self.call(CMD_START, request);
        request.data = ptr::null_mut();
        started
    }

    fn done(&self, request: &mut Io, data: &[u8]) -> io::Result<()> {
        // The kernel reads as many bytes as the request was told to have; it never writes to them.
        request.length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        request.data = data.as_ptr().cast_mut().cast::<c_void>();
        let done = self.call(CMD_DONE, request);
        request.data = ptr::null_mut();
        done
    }
}

/// Whether the kernel has its module. Without it there are no providers.
pub fn is_loaded() -> bool {
    // SAFETY: The name is a string that ends with a NUL.
    unsafe { modfind(c"g_gate".as_ptr()) != -1 }
}

/// Loads the kernel's module unless it is there.
fn load() -> io::Result<()> {
    if is_loaded() {
        return Ok(());
    }
    // SAFETY: The name is a string that ends with a NUL.
    if unsafe { kldload(c"geom_gate".as_ptr()) } != -1 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Somebody else was faster.
        Some(libc::EEXIST) => Ok(()),
        _ => Err(error),
    }
}

/// `kern.osreldate`: the release of the running kernel.
///
/// # Errors
/// The system does not tell.
pub fn osreldate() -> io::Result<u32> {
    let mut release: c_int = 0;
    let mut length = size_of::<c_int>();
    // SAFETY: The name ends with a NUL; the kernel writes an int at most.
    let result = unsafe {
        libc::sysctlbyname(
            c"kern.osreldate".as_ptr(),
            ptr::from_mut(&mut release).cast::<c_void>(),
            &mut length,
            ptr::null(),
            0,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(release).map_err(io::Error::other)
}
