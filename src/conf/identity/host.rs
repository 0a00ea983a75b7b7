//! What the system says about itself.
#![allow(unsafe_code)]

use super::{Identity, IdentityError};

pub(super) fn identity() -> Result<Identity, IdentityError> {
    let hostname = nix::unistd::gethostname().map_err(|errno| IdentityError {
        reason: format!("gethostname: {}", errno.desc()),
    })?;
    let hostname = hostname.into_string().map_err(|name| IdentityError {
        reason: format!("host name {name:?} is not UTF-8"),
    })?;
    if hostname.is_empty() {
        return Err(IdentityError {
            reason: "the host name is not set".to_owned(),
        });
    }
    Ok(Identity::Host {
        hostname,
        uuids: system::uuids(),
        hostid: system::hostid(),
    })
}

#[cfg(target_os = "linux")]
mod system {
    /// The machine id of machine-id(5) in dashed and in plain form; nothing where there is none.
    pub(super) fn uuids() -> Vec<String> {
        std::fs::read_to_string("/etc/machine-id")
            .map(|text| super::both_forms(text.trim()))
            .unwrap_or_default()
    }

    /// The 32 bits of gethostid(3).
    pub(super) fn hostid() -> Option<u64> {
        // SAFETY: gethostid takes no argument and returns a number.
        let id = unsafe { libc::gethostid() };
        // glibc sign-extends the 32 bits that it reads.
        #[allow(clippy::useless_conversion)] // A long has 32 bits on some machines.
        u64::try_from(i64::from(id) & 0xffff_ffff).ok()
    }
}

#[cfg(target_os = "freebsd")]
mod system {
    use std::ffi::CStr;

    /// kern.hostuuid; nothing if it is empty, as in a jail without one.
    pub(super) fn uuids() -> Vec<String> {
        let mut buffer = [0_u8; 128];
        let length = sysctl(c"kern.hostuuid", &mut buffer).unwrap_or(0);
        let text = buffer[..length].split(|&byte| byte == 0).next();
        text.and_then(|text| std::str::from_utf8(text).ok())
            .filter(|text| !text.is_empty())
            .map(|text| vec![text.to_owned()])
            .unwrap_or_default()
    }

    /// kern.hostid, an unsigned long: 64 bits, but on 32-bit platforms.
    #[allow(clippy::useless_conversion)]
    pub(super) fn hostid() -> Option<u64> {
        let mut buffer = [0_u8; size_of::<libc::c_ulong>()];
        let length = sysctl(c"kern.hostid", &mut buffer)?;
        (length == buffer.len()).then(|| u64::from(libc::c_ulong::from_ne_bytes(buffer)))
    }

    /// Reads the value into `buffer` and returns its length; `None` if it fails or does not fit.
    fn sysctl(name: &CStr, buffer: &mut [u8]) -> Option<usize> {
        let mut length = buffer.len();
        // SAFETY: `name` is terminated, `buffer` is writable for `length` bytes, and nothing is set.
        let result = unsafe {
            libc::sysctlbyname(
                name.as_ptr(),
                buffer.as_mut_ptr().cast(),
                &raw mut length,
                std::ptr::null(),
                0,
            )
        };
        (result == 0 && length <= buffer.len()).then_some(length)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
mod system {
    pub(super) fn uuids() -> Vec<String> {
        Vec::new()
    }

    pub(super) fn hostid() -> Option<u64> {
        None
    }
}

/// A UUID of 32 hexadecimal digits with dashes and as it is; nothing if it is no such thing.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn both_forms(plain: &str) -> Vec<String> {
    if plain.len() != 32 || !plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Vec::new();
    }
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &plain[range]);
    vec![groups.join("-"), plain.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::both_forms;

    #[test]
    fn a_machine_id_is_accepted_in_both_forms_and_nothing_else_is() {
        assert!(both_forms("").is_empty());
        assert!(both_forms("uninitialized").is_empty());
        assert!(both_forms(&"ä".repeat(16)).is_empty());
        assert_eq!(
            both_forms("00112233445566778899aabbccddeeff"),
            [
                "00112233-4455-6677-8899-aabbccddeeff",
                "00112233445566778899aabbccddeeff"
            ]
        );
    }
}
