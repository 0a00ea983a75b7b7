//! A small NBD client.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::rig::PATIENCE;

pub(crate) struct Nbd {
    socket: UnixStream,
    pub(crate) bytes: u64,
    cookie: u64,
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

impl Nbd {
    /// Connects, and waits until the server talks.
    pub(crate) fn connect(devices: &Path) -> Nbd {
        let socket = UnixStream::connect(devices.join("disk.nbd")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut client = Nbd {
            socket,
            bytes: 0,
            cookie: 0,
        };
        let greeting = client.receive(18);
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        client.socket.write_all(&3u32.to_be_bytes()).unwrap();
        client
            .socket
            .write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0")
            .unwrap();
        let export = client.receive(10);
        client.bytes = u64::from_be_bytes(export[..8].try_into().unwrap());
        client
    }

    fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn send(&mut self, flags: u16, kind: u16, offset: u64, length: u32, data: &[u8]) -> u64 {
        self.cookie += 1;
        let mut packet = 0x2560_9513u32.to_be_bytes().to_vec();
        packet.extend(flags.to_be_bytes());
        packet.extend(kind.to_be_bytes());
        packet.extend(self.cookie.to_be_bytes());
        packet.extend(offset.to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet.extend(data);
        self.socket.write_all(&packet).unwrap();
        self.cookie
    }

    /// Starts a write.
    pub(crate) fn submit(&mut self, offset: u64, data: &[u8]) -> u64 {
        self.send(0, 1, offset, u32::try_from(data.len()).unwrap(), data)
    }

    /// The next reply without data: its request, and its error.
    pub(crate) fn reply(&mut self) -> (u64, u32) {
        let head = self.receive(16);
        assert_eq!(be32(&head), 0x6744_6698);
        let cookie = u64::from_be_bytes(head[8..16].try_into().unwrap());
        (cookie, be32(&head[4..]))
    }

    fn done(&mut self, cookie: u64) {
        assert_eq!(self.reply(), (cookie, 0));
    }

    /// Writes; false if the server went away before it answered.
    pub(crate) fn try_write(&mut self, offset: u64, data: &[u8]) -> bool {
        self.cookie += 1;
        let mut packet = 0x2560_9513u32.to_be_bytes().to_vec();
        packet.extend([0, 0, 0, 1]);
        packet.extend(self.cookie.to_be_bytes());
        packet.extend(offset.to_be_bytes());
        packet.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
        let mut head = [0; 16];
        if self.socket.write_all(&packet).is_err() || self.socket.read_exact(&mut head).is_err() {
            return false;
        }
        assert_eq!(be32(&head[4..]), 0);
        true
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let cookie = self.submit(offset, data);
        self.done(cookie);
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        let cookie = self.send(0, 0, offset, length, &[]);
        self.done(cookie);
        self.receive(length as usize)
    }

    pub(crate) fn start_flush(&mut self) {
        self.send(0, 3, 0, 0, &[]);
    }

    pub(crate) fn start_trim(&mut self, offset: u64, length: u32) {
        self.send(0, 4, offset, length, &[]);
    }

    pub(crate) fn flush(&mut self) {
        let cookie = self.send(0, 3, 0, 0, &[]);
        self.done(cookie);
    }

    pub(crate) fn trim(&mut self, offset: u64, length: u32) {
        let cookie = self.send(0, 4, offset, length, &[]);
        self.done(cookie);
    }

    pub(crate) fn zero(&mut self, offset: u64, length: u32) {
        let cookie = self.send(1, 6, offset, length, &[]);
        self.done(cookie);
    }
}
