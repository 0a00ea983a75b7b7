//! Why connections end, in words: for the log, for `hastctl status`, for the peer.

use crate::engine::event::{FailedOp, LostReason};
use crate::ipc::Cause;
use crate::terms::Errno;
use crate::wire::hello::SPLIT_BRAIN_TEXT;

/// The reason in the words of the original, where it has them.
pub(super) fn describe(reason: LostReason) -> String {
    match reason {
        LostReason::Broken => "The connection broke.".to_owned(),
        LostReason::Timeout => "The remote node did not answer in time.".to_owned(),
        LostReason::Protocol(what) => format!("The remote node violated the protocol: {what}."),
        LostReason::DatasizeMismatch { ours, theirs } => {
            format!("Data size differs between nodes (local={ours}, remote={theirs}).")
        }
        LostReason::ExtentsizeMismatch { ours, theirs } => {
            format!("Extent size differs between nodes (local={ours}, remote={theirs}).")
        }
        LostReason::ResuidMismatch { primary, secondary } => {
            format!("Resource unique ID mismatch (primary={primary}, secondary={secondary}).")
        }
        LostReason::SplitBrain => SPLIT_BRAIN_TEXT.to_owned(),
        LostReason::NoGoodCopy => "The local copy is incomplete and the remote node has lost the \
             one that it was copied from: neither may be used as it is."
            .to_owned(),
        LostReason::RemoteFailed(error) => {
            format!("A request failed on the remote node: {error}.")
        }
        LostReason::LocalFailed(error) => format!("A request failed on the local disk: {error}."),
        LostReason::Asked => "The connection was closed on request.".to_owned(),
    }
}

/// The reason for programs.
pub(super) fn cause(reason: LostReason) -> Cause {
    match reason {
        LostReason::Broken => Cause::Broken,
        LostReason::Timeout => Cause::Silent,
        LostReason::Protocol(_) => Cause::Protocol,
        LostReason::DatasizeMismatch { .. } | LostReason::ExtentsizeMismatch { .. } => {
            Cause::SizeMismatch
        }
        LostReason::ResuidMismatch { .. } => Cause::IdMismatch,
        LostReason::SplitBrain => Cause::SplitBrain,
        LostReason::NoGoodCopy => Cause::NoGoodCopy,
        LostReason::RemoteFailed(_) => Cause::PeerFailed,
        LostReason::LocalFailed(_) => Cause::LocalFailed,
        LostReason::Asked => Cause::Asked,
    }
}

/// Why the secondary refuses, by its text: the original has no other way of saying it.
pub(super) fn cause_of_refusal(message: &str) -> Cause {
    if message == SPLIT_BRAIN_TEXT {
        Cause::SplitBrain
    } else if message.starts_with("Resource unique ID mismatch") {
        Cause::IdMismatch
    } else if message.contains("size differs between nodes") {
        Cause::SizeMismatch
    } else {
        Cause::Refused
    }
}

/// Whether only an operator can do something about it.
pub(super) fn is_lasting(reason: LostReason) -> bool {
    matches!(
        reason,
        LostReason::DatasizeMismatch { .. }
            | LostReason::ExtentsizeMismatch { .. }
            | LostReason::ResuidMismatch { .. }
            | LostReason::SplitBrain
            | LostReason::NoGoodCopy
    )
}

/// A failed request as the original's log shows it.
pub(super) fn failed(whose: &str, op: FailedOp, offset: u64, length: u64, error: Errno) -> String {
    let name = match op {
        FailedOp::Read | FailedOp::SyncRead => "READ",
        FailedOp::Write | FailedOp::SyncWrite => "WRITE",
        FailedOp::Delete => "DELETE",
        FailedOp::Flush => return format!("{whose} request failed ({error}): FLUSH."),
        FailedOp::Map => return format!("Unable to write activemap: {error}."),
        FailedOp::Metadata => return format!("Unable to write metadata: {error}."),
    };
    let sync = if matches!(op, FailedOp::SyncRead | FailedOp::SyncWrite) {
        "synchronization "
    } else {
        ""
    };
    format!("{whose} {sync}request failed ({error}): {name}({offset}, {length}).")
}

/// A time as the original shows it: `1h2m3s`.
pub(super) fn duration(seconds: u64) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut left = seconds;
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if left >= length || !text.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{unit}", left / length);
            left %= length;
        }
    }
    let _ = write!(text, "{left}s");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_operators_know_are_the_originals() {
        assert_eq!(describe(LostReason::SplitBrain), "Split-brain condition!");
        assert_eq!(
            describe(LostReason::ResuidMismatch {
                primary: 15022754700844561440,
                secondary: 578437695752307201
            }),
            "Resource unique ID mismatch (primary=15022754700844561440, \
             secondary=578437695752307201)."
        );
        assert_eq!(
            describe(LostReason::ExtentsizeMismatch {
                ours: 2097152,
                theirs: 1048576
            }),
            "Extent size differs between nodes (local=2097152, remote=1048576)."
        );
        assert_eq!(
            failed("Local", FailedOp::Write, 512, 1024, Errno::EIO),
            format!("Local request failed ({}): WRITE(512, 1024).", Errno::EIO)
        );
    }

    #[test]
    fn a_refusal_that_this_program_words_is_recognised_again() {
        for reason in [
            LostReason::SplitBrain,
            LostReason::ResuidMismatch {
                primary: 1,
                secondary: 2,
            },
            LostReason::DatasizeMismatch { ours: 1, theirs: 2 },
            LostReason::ExtentsizeMismatch { ours: 1, theirs: 2 },
        ] {
            assert_eq!(cause_of_refusal(&describe(reason)), cause(reason));
        }
        assert_eq!(cause_of_refusal("No access."), Cause::Refused);
    }

    #[test]
    fn times_begin_with_their_largest_unit() {
        let texts = [0, 59, 60, 3723, 86_400].map(duration);
        assert_eq!(texts, ["0s", "59s", "1m0s", "1h2m3s", "1d0h0m0s"]);
    }
}
