//! Datagrams with descriptors over a Unix socket: the part of the channel that meets the kernel.
//!
//! Receiving is done by hand: the wrapper of nix gives no access to the descriptors of a truncated
//! control message, which would then stay open for ever.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::DESCRIPTORS_MAX;

/// Room for control messages, in bytes: twice the header and the descriptors that are admitted.
/// More than that is reported by the kernel as truncated.
const CONTROL_BYTES: usize = 2 * (32 + DESCRIPTORS_MAX * size_of::<RawFd>());

/// A buffer aligned as `cmsghdr` requires.
#[repr(C, align(16))]
struct Control([u8; CONTROL_BYTES]);

/// What one call of recvmsg(2) brought.
pub(super) struct Datagram {
    /// Bytes of data received; 0 is the end of the channel.
    pub(super) length_bytes: usize,
    /// Descriptors received, all of them: dropping the datagram closes them.
    pub(super) descriptors: Vec<OwnedFd>,
    /// The data or the control part did not fit.
    pub(super) truncated: bool,
    /// There was a control message other than one that passes descriptors.
    pub(super) foreign_control: bool,
}

/// Receives one datagram; does not wait. Descriptors are received with close-on-exec set.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = ptr::from_mut(&mut vector);
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // A constant, far below what either type of this field (socklen_t, size_t) holds.
    #[allow(clippy::cast_possible_truncation)]
    {
        header.msg_controllen = CONTROL_BYTES as _;
    }

    let length = loop {
        // SAFETY: header points to one vector over `buffer` and to `control`, both alive and
        // exclusively ours for the duration of the call.
        let result = unsafe {
            libc::recvmsg(
                socket.as_raw_fd(),
                &mut header,
                libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
            )
        };
        if let Ok(length) = usize::try_from(result) {
            break length;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };

    let mut datagram = Datagram {
        length_bytes: length,
        descriptors: Vec::new(),
        truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        foreign_control: false,
    };
    // SAFETY: the kernel filled msg_control and msg_controllen; the macros stay within them.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&header) };
    while !message.is_null() {
        // SAFETY: not null, hence a header within `control`, which is aligned for it.
        let (level, kind, total) = unsafe {
            (
                (*message).cmsg_level,
                (*message).cmsg_type,
                (*message).cmsg_len,
            )
        };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: arithmetic on constants.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            #[allow(
                clippy::unnecessary_cast,
                reason = "socklen_t on FreeBSD, size_t on Linux"
            )]
            let count = (total as usize).saturating_sub(head) / size_of::<RawFd>();
            // SAFETY: as above; the data of the message follows its header.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(message) }.cast();
            for index in 0..count {
                // SAFETY: `count` descriptors lie there; the read need not be aligned. Each was
                // installed by the kernel in this call and belongs to nobody else.
                let descriptor =
                    unsafe { OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(index))) };
                datagram.descriptors.push(descriptor);
            }
        } else {
            datagram.foreign_control = true;
        }
        // SAFETY: `message` is a header within the control part of `header`.
        message = unsafe { libc::CMSG_NXTHDR(&header, message) };
    }
    Ok(datagram)
}

/// Sends one datagram; does not wait. `WouldBlock` says that nothing was sent.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    // MSG_EOR ends the record where the platform's SOCK_SEQPACKET asks for it (FreeBSD 15).
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_EOR;
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags,
            None,
        ) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(sent) => {
                return Err(io::Error::other(format!(
                    "sent {sent} of {} bytes",
                    bytes.len()
                )));
            }
            Err(Errno::EINTR) => {}
            // FreeBSD reports a full receiver as ENOBUFS.
            Err(Errno::ENOBUFS) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
}
