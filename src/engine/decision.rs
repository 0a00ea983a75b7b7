//! Which copy is the better one: the secondary's decision table (spec/01, 3).
//!
//! A node's `localcnt` counts the generations that it wrote alone, its `remotecnt` is the peer's
//! `localcnt` as last agreed.

use super::event::LostReason;
use crate::wire::message::{PrimaryHello, SyncSource};

/// A secondary's unique id and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Unique id of the resource; 0: none yet.
    pub resuid: u64,
    /// Generations written alone.
    pub localcnt: u64,
    /// The primary's, as last agreed.
    pub remotecnt: u64,
}

/// What the secondary answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The secondary is new: it takes the primary's id and, unless the primary is new too, all of
    /// its data.
    Adopt {
        /// Whether there is anything to copy.
        full: bool,
    },
    /// The dirty extents of both are copied from `source`.
    Merge {
        /// From whom.
        source: SyncSource,
        /// The counters agree, so nothing was written apart.
        in_step: bool,
    },
    /// The counters fit no history: everything is copied, to be safe.
    Impossible {
        /// From whom.
        source: SyncSource,
    },
    /// No cluster can be formed.
    Refuse(LostReason),
}

/// Compares the two copies.
pub fn decide(secondary: Copy, primary: &PrimaryHello) -> Decision {
    if secondary.resuid == 0 {
        return Decision::Adopt {
            full: !primary.virgin,
        };
    }
    if secondary.resuid != primary.resuid {
        return Decision::Refuse(LostReason::ResuidMismatch {
            primary: primary.resuid,
            secondary: secondary.resuid,
        });
    }
    let merge = |source, in_step| Decision::Merge { source, in_step };
    let ours = secondary.localcnt.cmp(&primary.remotecnt);
    let theirs = primary.localcnt.cmp(&secondary.remotecnt);
    use std::cmp::Ordering::{Equal, Greater, Less};
    match (ours, theirs) {
        (Greater, Equal) => merge(SyncSource::Secondary, false),
        (Equal, Equal) => merge(SyncSource::Primary, true),
        (Equal, Greater) => merge(SyncSource::Primary, false),
        (Greater, Greater) => Decision::Refuse(LostReason::SplitBrain),
        (Greater, Less) => Decision::Impossible {
            source: SyncSource::Secondary,
        },
        (Less, _) | (Equal, Less) => Decision::Impossible {
            source: SyncSource::Primary,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(s: (u64, u64), p: (u64, u64)) -> Decision {
        decide(
            Copy {
                resuid: 7,
                localcnt: s.0,
                remotecnt: s.1,
            },
            &PrimaryHello {
                virgin: false,
                resuid: 7,
                localcnt: p.0,
                remotecnt: p.1,
            },
        )
    }

    #[test]
    fn every_row_of_the_table() {
        let primary = SyncSource::Primary;
        let secondary = SyncSource::Secondary;
        assert_eq!(
            of((1, 0), (0, 0)),
            Decision::Merge {
                source: secondary,
                in_step: false
            }
        );
        assert_eq!(
            of((0, 0), (0, 0)),
            Decision::Merge {
                source: primary,
                in_step: true
            }
        );
        assert_eq!(
            of((3, 5), (5, 3)),
            Decision::Merge {
                source: primary,
                in_step: true
            }
        );
        assert_eq!(
            of((0, 0), (1, 0)),
            Decision::Merge {
                source: primary,
                in_step: false
            }
        );
        assert_eq!(of((1, 0), (1, 0)), Decision::Refuse(LostReason::SplitBrain));
        assert_eq!(
            of((1, 5), (4, 0)),
            Decision::Impossible { source: secondary }
        );
        assert_eq!(of((0, 5), (4, 0)), Decision::Impossible { source: primary });
        assert_eq!(of((0, 0), (0, 3)), Decision::Impossible { source: primary });
    }

    #[test]
    fn a_new_secondary_takes_everything_but_from_a_new_primary() {
        let new = Copy {
            resuid: 0,
            localcnt: 0,
            remotecnt: 0,
        };
        let hello = PrimaryHello {
            virgin: true,
            resuid: 7,
            localcnt: 0,
            remotecnt: 0,
        };
        assert_eq!(decide(new, &hello), Decision::Adopt { full: false });
        let old = PrimaryHello {
            virgin: false,
            ..hello
        };
        assert_eq!(decide(new, &old), Decision::Adopt { full: true });
    }

    #[test]
    fn another_resource_is_refused() {
        let copy = Copy {
            resuid: 8,
            localcnt: 0,
            remotecnt: 0,
        };
        let hello = PrimaryHello {
            virgin: true,
            resuid: 7,
            localcnt: 0,
            remotecnt: 0,
        };
        assert_eq!(
            decide(copy, &hello),
            Decision::Refuse(LostReason::ResuidMismatch {
                primary: 7,
                secondary: 8
            })
        );
    }

    /// The original's conditions as the specification writes them, against ours.
    #[test]
    fn agrees_with_the_specification_for_all_small_counters() {
        for bits in 0..4u64.pow(4) {
            let n = |shift: u32| bits >> (2 * shift) & 3;
            let ((sl, sr), (pl, pr)) = ((n(0), n(1)), (n(2), n(3)));
            let expected = if sl > pr && sr == pl {
                Decision::Merge {
                    source: SyncSource::Secondary,
                    in_step: false,
                }
            } else if sl == pr && sr == pl {
                Decision::Merge {
                    source: SyncSource::Primary,
                    in_step: true,
                }
            } else if sl == pr && sr < pl {
                Decision::Merge {
                    source: SyncSource::Primary,
                    in_step: false,
                }
            } else if sl > pr && pl > sr {
                Decision::Refuse(LostReason::SplitBrain)
            } else if sl > pr {
                Decision::Impossible {
                    source: SyncSource::Secondary,
                }
            } else {
                Decision::Impossible {
                    source: SyncSource::Primary,
                }
            };
            assert_eq!(of((sl, sr), (pl, pr)), expected, "S {sl},{sr} P {pl},{pr}");
        }
    }
}
