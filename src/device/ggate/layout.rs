//! The structures of /dev/ggctl, version 3, as FreeBSD's g_gate.h lays them out, and the numbers
//! of its ioctls.
//!
//! The kernel copies exactly these bytes in and out, so size and offset of every field are checked
//! when this is compiled, on every platform with 64-bit pointers. The figures are those of
//! FreeBSD 8.1 to 15 on its 64-bit platforms.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};

/// Version of the interface; the kernel refuses any other.
pub const VERSION: u32 = 3;

/// Length of a name or path, its NUL included (`NAME_MAX`).
pub const NAME_BYTES: usize = 255;

/// Length of the free text, its NUL included.
pub const INFO_BYTES: usize = 2048;

/// In `unit`: the name tells which provider is meant.
pub const UNIT_NAME_GIVEN: i32 = -2;

/// In [`Modify::modify`]: change the provider that reads go to.
pub const MODIFY_READPROV: u32 = 4;

/// In [`Modify::modify`]: change where in it the data begin.
pub const MODIFY_READOFFSET: u32 = 8;

/// `G_GATE_CMD_CREATE`: makes a provider.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Create {
    /// [`VERSION`].
    pub version: u32,
    /// Size of the provider in bytes.
    pub mediasize: i64,
    /// Its sectors, in bytes.
    pub sectorsize: u32,
    /// 0: readable and writable.
    pub flags: u32,
    /// Requests that may wait; 0: the kernel's limit.
    pub maxcount: u32,
    /// Seconds until a request fails; 0: never.
    pub timeout: u32,
    /// Name below /dev.
    pub name: [u8; NAME_BYTES],
    /// For `ggatel list` and `geom gate list`.
    pub info: [u8; INFO_BYTES],
    /// Provider that serves reads; empty: none.
    pub readprov: [u8; NAME_BYTES],
    /// Where in it the data begin, in bytes.
    pub readoffset: i64,
    /// In: [`UNIT_NAME_GIVEN`]. Out: the unit.
    pub unit: i32,
}

/// `G_GATE_CMD_MODIFY`: changes a provider in use.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Modify {
    /// [`VERSION`].
    pub version: u32,
    /// Which provider.
    pub unit: i32,
    /// What: `MODIFY_*`.
    pub modify: u32,
    /// Unused by this program.
    pub mediasize: i64,
    /// Unused by this program.
    pub info: [u8; INFO_BYTES],
    /// Provider that serves reads from now on; empty: none.
    pub readprov: [u8; NAME_BYTES],
    /// Where in it the data begin, in bytes.
    pub readoffset: i64,
}

/// `G_GATE_CMD_DESTROY`: takes a provider away.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Destroy {
    /// [`VERSION`].
    pub version: u32,
    /// Which provider, or [`UNIT_NAME_GIVEN`].
    pub unit: i32,
    /// Not 0: although it is open.
    pub force: i32,
    /// Which, by name.
    pub name: [u8; NAME_BYTES],
}

/// `G_GATE_CMD_CANCEL`: requests that were handed out are queued again.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Cancel {
    /// [`VERSION`].
    pub version: u32,
    /// In: which provider, or [`UNIT_NAME_GIVEN`]. Out: its unit.
    pub unit: i32,
    /// Which request; 0: all.
    pub seq: usize,
    /// Which, by name.
    pub name: [u8; NAME_BYTES],
}

/// `G_GATE_CMD_START`: waits for a request. `G_GATE_CMD_DONE`: answers one.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Io {
    /// [`VERSION`].
    pub version: u32,
    /// Which provider.
    pub unit: i32,
    /// Number of the request.
    pub seq: usize,
    /// A command of bio(9).
    pub cmd: u32,
    /// Where, in bytes.
    pub offset: i64,
    /// How many bytes. Into START: length of `data`.
    pub length: i64,
    /// A write's data from START, a read's to DONE. Set by who makes the call.
    pub data: *mut c_void,
    /// From START: 0, `ECANCELED` or `ENOMEM`. To DONE: how the request went.
    pub error: i32,
}

impl Io {
    /// Of that unit, all else zero.
    pub fn new(unit: i32) -> Io {
        Io {
            version: VERSION,
            unit,
            seq: 0,
            cmd: 0,
            offset: 0,
            length: 0,
            data: std::ptr::null_mut(),
            error: 0,
        }
    }
}

/// A text as a field of fixed length, padded with NULs; `None`: it does not fit, or has a NUL.
pub fn text<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut field = [0; LENGTH];
    if text.len() >= LENGTH || text.contains('\0') {
        return None;
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    Some(field)
}

/// The number of an ioctl `_IOWR('m', number, T)`, as sys/ioccom.h builds it.
const fn in_out<T>(number: u64) -> u64 {
    const IN_OUT: u64 = 0xc000_0000;
    const LENGTH_MASK: u64 = 0x1fff;
    IN_OUT | (size_of::<T>() as u64 & LENGTH_MASK) << 16 | (b'm' as u64) << 8 | number
}

/// `G_GATE_CMD_CREATE`.
pub const CMD_CREATE: u64 = in_out::<Create>(0);
/// `G_GATE_CMD_MODIFY`.
pub const CMD_MODIFY: u64 = in_out::<Modify>(1);
/// `G_GATE_CMD_DESTROY`.
pub const CMD_DESTROY: u64 = in_out::<Destroy>(2);
/// `G_GATE_CMD_CANCEL`.
pub const CMD_CANCEL: u64 = in_out::<Cancel>(3);
/// `G_GATE_CMD_START`.
pub const CMD_START: u64 = in_out::<Io>(4);
/// `G_GATE_CMD_DONE`.
pub const CMD_DONE: u64 = in_out::<Io>(5);

macro_rules! check_layout {
    ($type:ty, $size:literal, { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };
    };
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the layout of GEOM gate's structures is known for 64-bit platforms only");

check_layout!(Create, 2608, {
    version: 0, mediasize: 8, sectorsize: 16, flags: 20, maxcount: 24, timeout: 28, name: 32,
    info: 287, readprov: 2335, readoffset: 2592, unit: 2600,
});
check_layout!(Modify, 2336, {
    version: 0, unit: 4, modify: 8, mediasize: 16, info: 24, readprov: 2072, readoffset: 2328,
});
check_layout!(Destroy, 268, { version: 0, unit: 4, force: 8, name: 12 });
check_layout!(Cancel, 272, { version: 0, unit: 4, seq: 8, name: 16 });
check_layout!(Io, 56, {
    version: 0, unit: 4, seq: 8, cmd: 16, offset: 24, length: 32, data: 40, error: 48,
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fills_its_field_leaves_no_room_for_the_nul() {
        assert_eq!(text::<4>("abc"), Some(*b"abc\0"));
        assert_eq!(text::<4>(""), Some([0; 4]));
        assert_eq!(text::<4>("abcd"), None);
        assert_eq!(text::<4>("a\0"), None);
    }

    #[test]
    fn numbers_of_the_ioctls_are_those_of_sys_ioccom() {
        assert_eq!(CMD_CREATE, 0xca30_6d00);
        assert_eq!(CMD_MODIFY, 0xc920_6d01);
        assert_eq!(CMD_DESTROY, 0xc10c_6d02);
        assert_eq!(CMD_CANCEL, 0xc110_6d03);
        assert_eq!(CMD_START, 0xc038_6d04);
        assert_eq!(CMD_DONE, 0xc038_6d05);
    }

    #[test]
    fn the_confinement_allows_exactly_these_ioctls() {
        use sandbox::policy::Ioctl;
        let allowed = [
            Ioctl::GateModify,
            Ioctl::GateDestroy,
            Ioctl::GateStart,
            Ioctl::GateDone,
        ];
        assert_eq!(
            allowed.map(|ioctl| u64::from(ioctl.code())),
            [CMD_MODIFY, CMD_DESTROY, CMD_START, CMD_DONE]
        );
    }
}
