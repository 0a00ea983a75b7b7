//! The client's side of NBD's handshake, in its oldest form: every message has a fixed length.
//!
//! ```text
//! server  magic(8) "IHAVEOPT"(8) flags(2)
//! client  flags(4) "IHAVEOPT"(8) option 1 (4) length 0 (4): the default export
//! server  size(8) transmission flags(2)
//! ```

use std::io::{self, Read, Write};

const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;

/// NBD_FLAG_FIXED_NEWSTYLE and NBD_FLAG_NO_ZEROES, of both sides.
const FLAGS: u16 = 3;

/// NBD_OPT_EXPORT_NAME.
const EXPORT_NAME: u32 = 1;

/// The transmission flags that the kernel makes use of: what the device can do.
const KERNEL_FLAGS: u16 = 0b1_0110_1101;

/// What the server exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Export {
    pub(super) bytes: u64,
    pub(super) flags: u16,
}

/// Goes through the handshake on a new connection.
///
/// # Errors
/// The server does not say what it should, or is gone.
pub(super) fn shake(stream: &mut (impl Read + Write)) -> io::Result<Export> {
    let magic: [u8; 8] = receive(stream)?;
    let option: [u8; 8] = receive(stream)?;
    let flags: [u8; 2] = receive(stream)?;
    if u64::from_be_bytes(magic) != SERVER_MAGIC
        || u64::from_be_bytes(option) != OPTION_MAGIC
        || u16::from_be_bytes(flags) & FLAGS != FLAGS
    {
        return Err(io::Error::other("the worker does not speak NBD"));
    }
    let mut request = Vec::with_capacity(20);
    request.extend(u32::from(FLAGS).to_be_bytes());
    request.extend(OPTION_MAGIC.to_be_bytes());
    request.extend(EXPORT_NAME.to_be_bytes());
    request.extend(0_u32.to_be_bytes());
    stream.write_all(&request)?;
    let bytes: [u8; 8] = receive(stream)?;
    let flags: [u8; 2] = receive(stream)?;
    Ok(Export {
        bytes: u64::from_be_bytes(bytes),
        flags: u16::from_be_bytes(flags) & KERNEL_FLAGS,
    })
}

fn receive<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::device::nbd::connection::{Connection, Export as Exported, Step};

    /// Our own server's side, until the first request.
    pub(in super::super) fn serve(stream: &mut UnixStream, bytes: u64) {
        let export = Exported {
            name: "data".to_owned(),
            bytes,
        };
        let (mut input, mut out) = (Vec::new(), Vec::new());
        let mut machine = Connection::new(&mut out);
        while machine.in_handshake() {
            stream.write_all(&out).unwrap();
            out.clear();
            let (used, step) = machine.step(&export, &input, &mut out);
            input.drain(..used);
            if step == Step::More {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                input.push(byte[0]);
            }
        }
        stream.write_all(&out).unwrap();
    }

    #[test]
    fn our_own_server_is_understood() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || serve(&mut theirs, 64 << 20));
        let export = shake(&mut ours).unwrap();
        server.join().unwrap();
        assert_eq!(export.bytes, 64 << 20);
        // It has flags, and can flush, FUA, trim, write zeros and serve several connections.
        assert_eq!(export.flags, KERNEL_FLAGS);
    }

    #[test]
    fn what_speaks_something_else_is_refused() {
        for said in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"NBDMAGIC", b""] {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(said).unwrap();
            drop(theirs);
            assert!(shake(&mut ours).is_err(), "{said:?}");
        }
    }
}
