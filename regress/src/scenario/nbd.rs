//! A client of the device: the part of the NBD protocol that a load needs, with several requests
//! in flight, over a Unix socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const INFO_EXPORT: u16 = 0;

const FLAG_FUA: u16 = 1;

/// Longest reply to an option that is read, in bytes.
const OPTION_REPLY_MAX: u32 = 64 * 1024;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read.
    Read = 0,
    /// Write.
    Write = 1,
    /// Make everything written before durable.
    Flush = 3,
    /// The contents are of no interest any more.
    Trim = 4,
    /// Write zeros.
    WriteZeroes = 6,
}

/// An answer: which request it is for, and whether it failed (the number of the NBD protocol).
pub type Reply = (u64, Result<(), u32>);

/// A connection to a device.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    size: u64,
    cookie: u64,
}

impl Client {
    /// Connects to the socket.
    ///
    /// # Errors
    /// Nobody serves there, or it does not speak the protocol.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let mut stream = UnixStream::connect(path)?;
        // A server that hangs is a failure, not a reason to hang.
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        let greeting: [u8; 18] = receive(&mut stream)?;
        let mut expected = [0; 16];
        expected[..8].copy_from_slice(&SERVER_MAGIC.to_be_bytes());
        expected[8..].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
        if !greeting.starts_with(&expected) {
            return Err(invalid("that is no NBD server"));
        }
        let mut out = 3u32.to_be_bytes().to_vec();
        out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        out.extend_from_slice(&OPTION_GO.to_be_bytes());
        // An empty name, and no particular information.
        out.extend_from_slice(&6u32.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
        stream.write_all(&out)?;
        let mut size = None;
        loop {
            let head: [u8; 20] = receive(&mut stream)?;
            let (magic, kind, length) = (be64(&head, 0), be32(&head, 12), be32(&head, 16));
            if magic != OPTION_REPLY_MAGIC || length > OPTION_REPLY_MAX {
                return Err(invalid("that is no reply to an option"));
            }
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data)?;
            match kind {
                REPLY_ACK => break,
                REPLY_INFO if data.len() >= 10 && data.starts_with(&INFO_EXPORT.to_be_bytes()) => {
                    size = Some(be64(&data, 2));
                }
                REPLY_INFO => {}
                _ => return Err(invalid("the server refuses")),
            }
        }
        let size = size.ok_or_else(|| invalid("the server does not tell the size"))?;
        Ok(Client {
            stream,
            size,
            cookie: 0,
        })
    }

    /// Bytes of the device.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Sends a request; its number comes back with the reply.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(
        &mut self,
        command: Command,
        fua: bool,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<u64> {
        self.cookie += 1;
        let mut out = Vec::with_capacity(28 + data.len());
        out.extend_from_slice(&REQUEST_MAGIC.to_be_bytes());
        out.extend_from_slice(&(if fua { FLAG_FUA } else { 0 }).to_be_bytes());
        out.extend_from_slice(&(command as u16).to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(data);
        self.stream.write_all(&out)?;
        Ok(self.cookie)
    }

    /// Waits for the next reply to a request that returns no data.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let head: [u8; 16] = receive(&mut self.stream)?;
        if be32(&head, 0) != REPLY_MAGIC {
            return Err(invalid("that is no reply"));
        }
        let error = be32(&head, 4);
        let result = if error == 0 { Ok(()) } else { Err(error) };
        Ok((be64(&head, 8), result))
    }

    /// One request, waited for.
    fn ask(
        &mut self,
        command: Command,
        fua: bool,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let cookie = self.send(command, fua, offset, length, data)?;
        let (replied, result) = self.reply()?;
        if replied != cookie {
            return Err(invalid("that reply is for another request"));
        }
        result.map_err(|error| {
            io::Error::other(format!("{command:?} at {offset}: the device says {error}"))
        })
    }

    /// Writes.
    ///
    /// # Errors
    /// The connection is broken, or the write failed.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.ask(Command::Write, false, offset, length(data.len())?, data)
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// The connection is broken, or it failed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.ask(Command::Flush, false, 0, 0, &[])
    }

    /// Gives a range up.
    ///
    /// # Errors
    /// The connection is broken, or it failed.
    pub fn trim(&mut self, offset: u64, bytes: u32) -> io::Result<()> {
        self.ask(Command::Trim, false, offset, bytes, &[])
    }

    /// Reads.
    ///
    /// # Errors
    /// The connection is broken, or the read failed.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.ask(Command::Read, false, offset, length(data.len())?, &[])?;
        self.stream.read_exact(data)
    }
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn receive<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(value)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(value)
}
