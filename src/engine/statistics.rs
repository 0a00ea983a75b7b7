//! What an engine of either role has done so far.

use super::event::FailedOp;

/// Counters for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Reads of the application.
    pub reads: u64,
    /// Writes, those of zeros included.
    pub writes: u64,
    /// Deletes.
    pub deletes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Writes to the bitmap on disk.
    pub map_updates: u64,
    /// Local reads that failed.
    pub read_errors: u64,
    /// Local writes that failed.
    pub write_errors: u64,
    /// Local deletes that failed.
    pub delete_errors: u64,
    /// Local flushes that failed.
    pub flush_errors: u64,
}

impl Statistics {
    /// Counts an operation that failed on the local disk.
    pub(super) fn count_failure(&mut self, op: FailedOp) {
        let counter = match op {
            FailedOp::Read | FailedOp::SyncRead => &mut self.read_errors,
            FailedOp::Delete => &mut self.delete_errors,
            FailedOp::Flush => &mut self.flush_errors,
            FailedOp::Write | FailedOp::SyncWrite | FailedOp::Map | FailedOp::Metadata => {
                &mut self.write_errors
            }
        };
        *counter += 1;
    }
}
