//! There is no nbd but Linux's: devices are the worker's business here.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::{EntryId, Parent};

/// None.
#[derive(Debug, Default)]
pub(super) struct BlockDevices {}

impl BlockDevices {
    pub(super) fn polled(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        std::iter::empty()
    }

    pub(super) fn next_deadline(&self, _now: Instant) -> Option<Instant> {
        None
    }

    pub(super) fn is_idle(&self) -> bool {
        true
    }
}

impl Parent {
    pub(super) fn attach_device(&mut self, _id: EntryId) {}

    pub(super) fn detach_device(&mut self, _id: EntryId) {}

    pub(super) fn tick_block_devices(&mut self, _now: Instant) {}
}
