//! A ring that is restricted: what goes around the filter is refused by the ring itself.

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};
use sandbox::policy::ring::OPERATIONS;

use crate::child::Descriptors;
use crate::sys::{address, call, entry, int, submit};

/// Beyond the operations of any kernel.
const NUMBERS: std::ops::Range<u8> = 0..128;

/// `IOSQE_FIXED_FILE`, and the flags that exist.
const FIXED_FILE: u8 = 1;
const OTHER_FLAGS: [u8; 6] = [2, 4, 8, 16, 32, 64];

/// A ring as a worker makes it, before it is confined; none where the system has none.
pub(crate) fn make(descriptors: &Descriptors) -> Option<IoUring> {
    let built = IoUring::builder().setup_r_disabled().build(8);
    let ring = match built {
        Ok(ring) => ring,
        Err(error) => {
            assert!(
                matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)),
                "{error}"
            );
            return None;
        }
    };
    let submitter = ring.submitter();
    submitter.register_files_sparse(4).unwrap();
    submitter
        .register_files_update(0, &[descriptors.stream])
        .unwrap();
    sandbox::restrict_ring(&ring).unwrap();
    submitter.register_enable_rings().unwrap();
    Some(ring)
}

/// Every operation that the policy does not name is refused, and every one that it names is, too,
/// with a file that is not registered or with another flag.
pub(crate) fn operations(ring: &mut IoUring, descriptors: &Descriptors) {
    for number in NUMBERS {
        let allowed = OPERATIONS.iter().any(|entry| entry.number == number);
        if !allowed {
            for flags in [FIXED_FILE, 0] {
                let result = submit(ring, &entry(number, flags, 0));
                let refused = [-libc::EACCES, -libc::EINVAL].contains(&result);
                // A number that the kernel does not know is invalid.
                assert!(refused, "operation {number}: {result}");
            }
            continue;
        }
        let bare = submit(ring, &entry(number, 0, descriptors.stream));
        assert_eq!(bare, -libc::EACCES, "operation {number} on a bare file");
        for flag in OTHER_FLAGS {
            let result = submit(ring, &entry(number, FIXED_FILE | flag, 0));
            assert!(
                [-libc::EACCES, -libc::EINVAL, -libc::EOPNOTSUPP].contains(&result),
                "operation {number} with flag {flag}: {result}"
            );
        }
    }
}

/// What the policy names works, under the filter.
pub(crate) fn service(ring: &mut IoUring, descriptors: &Descriptors) {
    let mut bytes = [0_u8; 4];
    let pointer = bytes.as_mut_ptr();
    let receive = |file: u32| opcode::Recv::new(Fixed(file), pointer, 4).build();
    assert_eq!(submit(ring, &receive(0)), 4);
    assert_eq!(submit(ring, &receive(1)), -libc::EBADF);
    ring.submitter()
        .register_files_update(1, &[descriptors.stream])
        .unwrap();
    assert_eq!(submit(ring, &receive(1)), 4);
    assert_eq!(bytes, [7; 4]);
    ring.submitter().register_files_update(1, &[-1]).unwrap();
    assert_eq!(submit(ring, &receive(1)), -libc::EBADF);
}

/// A registration that no rule allows: the filter kills.
pub(crate) fn register_buffers(ring: &IoUring) {
    let memory = [0_u8; 64];
    let vector = [address(&memory), 64];
    let number = int(std::os::fd::AsRawFd::as_raw_fd(ring));
    let _ = call(
        libc::SYS_io_uring_register,
        &[number, 0, address(&vector), 1],
    );
}

/// The same without the filter: the ring refuses.
pub(crate) fn register_unfiltered(ring: &IoUring) {
    let memory = [0_u8; 64];
    let vector = [address(&memory), 64];
    let number = int(std::os::fd::AsRawFd::as_raw_fd(ring));
    for operation in (0..40).filter(|operation| *operation != 6) {
        let result = call(
            libc::SYS_io_uring_register,
            &[number, operation, address(&vector), 1],
        );
        assert!(
            matches!(result, Err(libc::EACCES | libc::EINVAL | libc::EBADFD)),
            "registration {operation}: {result:?}"
        );
    }
}
