//! Descriptors that whoever started a program left open.
#![allow(unsafe_code)]

/// Number of the first descriptor that is not a standard one.
const FIRST: u8 = 3;

/// Closes every descriptor but the standard ones, so that nothing that the program starts inherits
/// what the program was never meant to have. To be called before the process opens anything.
pub(crate) fn close_all() {
    #[cfg(target_os = "linux")]
    // SAFETY: nothing in this process owns a descriptor yet, as the caller promises. A kernel
    // without the call (before 5.9) leaves them open, which is what the original does.
    unsafe {
        libc::syscall(libc::SYS_close_range, u32::from(FIRST), u32::MAX, 0u32);
    }
    #[cfg(target_os = "freebsd")]
    // SAFETY: as above.
    unsafe {
        libc::closefrom(libc::c_int::from(FIRST));
    }
}
