use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// 64 MiB in extents of 1 MiB, one sector of map.
fn small() -> Extents {
    Extents::new(64 * MIB, 1 << 20, 512, 2, vec![0; 512])
}

fn commit(extents: &mut Extents) -> Vec<MapRun> {
    let mut runs = Vec::new();
    assert!(extents.begin_commit(&mut runs).is_some());
    extents.end_commit(true);
    runs
}

#[test]
fn a_write_into_a_clean_extent_waits_for_its_bit() {
    let mut extents = small();
    let wait = extents.write_start(3 * MIB, 512);
    assert_eq!(wait, Some(1));
    assert!(extents.is_urgent());
    let mut runs = Vec::new();
    assert_eq!(extents.begin_commit(&mut runs), Some(1));
    assert_eq!(runs, [(0, 512)]);
    assert_eq!(extents.map_bytes(0, 1), [0b1000]);
    assert_eq!(
        extents.write_start(3 * MIB, 512),
        Some(1),
        "the same commit serves it"
    );
    assert_eq!(
        extents.write_start(5 * MIB, 512),
        Some(2),
        "too late for that one"
    );
    extents.end_commit(true);
    assert_eq!(extents.write_start(3 * MIB, 512), None);
    assert!(extents.is_urgent());
}

#[test]
fn a_range_over_two_extents_dirties_both() {
    let mut extents = small();
    extents.write_start(2 * MIB - 512, 1024);
    commit(&mut extents);
    assert_eq!(extents.map_bytes(0, 1), [0b110]);
    assert_eq!(extents.dirty_count(), 2);
}

#[test]
fn a_failed_commit_promises_nothing_and_is_repeated() {
    let mut extents = small();
    extents.write_start(0, 512);
    let mut runs = Vec::new();
    extents.begin_commit(&mut runs);
    extents.end_commit(false);
    assert_eq!(extents.write_start(0, 512), Some(2));
    assert!(extents.is_urgent());
    commit(&mut extents);
    assert_eq!(extents.write_start(0, 512), None);
}

#[test]
fn an_extent_becomes_clean_only_after_a_flush_and_rides_along() {
    let mut extents = small();
    for extent in 0..3 {
        extents.write_start(extent * MIB, 512);
        extents.write_end(extent * MIB, 512);
    }
    commit(&mut extents);
    assert_eq!(extents.cooling(), 1, "two stay hot");
    extents.begin_clean();
    assert_eq!(extents.dirty_count(), 3);
    extents.end_clean(true);
    assert_eq!(extents.dirty_count(), 2);
    assert!(extents.is_changed() && !extents.is_urgent());
    commit(&mut extents);
    assert_eq!(extents.map_bytes(0, 1), [0b110]);
}

#[test]
fn a_write_while_its_bit_is_being_cleared_waits_for_the_next_commit() {
    let mut extents = Extents::new(64 * MIB, 1 << 20, 512, 0, vec![0; 512]);
    extents.write_start(0, 512);
    extents.write_end(0, 512);
    commit(&mut extents);
    extents.begin_clean();
    extents.end_clean(true);
    let mut runs = Vec::new();
    assert_eq!(extents.begin_commit(&mut runs), Some(2));
    assert_eq!(extents.write_start(0, 512), Some(3));
    extents.end_commit(true);
    assert!(extents.is_urgent());
}

#[test]
fn what_the_disk_says_at_the_start_has_to_be_synchronised() {
    let mut map = vec![0; 512];
    map[0] = 0b101;
    map[8] = 0xff; // beyond the 64 extents
    let mut extents = Extents::new(64 * MIB, 1 << 20, 512, 2, map);
    assert_eq!((extents.dirty_count(), extents.sync_count()), (2, 2));
    assert_eq!(extents.next_sync(1), Some(2));
    extents.synced(0);
    extents.synced(2);
    assert_eq!(extents.next_sync(0), None);
    assert_eq!(extents.dirty_count(), 2, "until both disks are flushed");
    extents.begin_clean();
    extents.end_clean(true);
    assert_eq!(extents.dirty_count(), 0);
}

#[test]
fn merging_makes_everything_dirty_on_either_side_a_matter_of_synchronisation() {
    let mut extents = small();
    extents.write_start(9 * MIB, 512);
    commit(&mut extents);
    let mut peer = vec![0; 512];
    peer[0] = 0b10;
    peer[100] = 0xff;
    assert_eq!(extents.merge(&peer, false), Some(2));
    assert_eq!(extents.sync_count(), 2);
    assert!(extents.needs_sync(MIB, 512) && extents.needs_sync(9 * MIB, 512));
    assert!(!extents.needs_sync(2 * MIB, MIB));
    commit(&mut extents);
    assert_eq!(extents.merge(&[], false), None);
}

#[test]
fn only_changed_sectors_are_written_in_runs() {
    let mut extents = Extents::new(1 << 44, 2 << 20, 512, 64, vec![0; 1 << 20]);
    for sector in [7u64, 8, 9, 20] {
        extents.write_start(sector * 4096 * (2 << 20), 512);
    }
    assert_eq!(commit(&mut extents), [(7 * 512, 3 * 512), (20 * 512, 512)]);
}

#[test]
fn a_hundred_tebibytes_take_little_memory() {
    let extents = Extents::new(100 << 40, 2 << 20, 4096, 64, vec![0; 6_553_600]);
    assert_eq!(extents.count(), 52_428_800);
    let bytes = (extents.dirty.len() + extents.durable.len() + extents.sync.len()) * 8
        + extents.image.len();
    assert!(bytes <= 27 << 20, "{bytes}");
}

proptest! {
    /// At every moment: a write that may run has its bit on disk, whatever becomes of the commit
    /// under way; nothing in flight or unflushed is ever clean.
    #[test]
    fn no_write_runs_ahead_of_the_disk(
        steps in prop::collection::vec((0u8..7, 0u64..24), 1..300),
    ) {
        let mut extents = Extents::new(24 * MIB, 1 << 20, 512, 3, vec![0; 512]);
        let mut disk = vec![0u8; 512]; // what is certainly on disk
        let mut runs = Vec::new();
        let mut running: Vec<u64> = Vec::new();
        let mut waiting: Vec<(u64, u64)> = Vec::new();
        let mut cleaning = false;
        for (step, extent) in steps {
            match step {
                0 | 1 => match extents.write_start(extent * MIB, 512) {
                    None => running.push(extent),
                    Some(commit) => waiting.push((commit, extent)),
                },
                2 => if let Some(extent) = running.pop() {
                    extents.write_end(extent * MIB, 512);
                },
                3 if !extents.is_committing() => {
                    runs.clear();
                    extents.begin_commit(&mut runs);
                    if extents.is_committing() {
                        for (byte, new) in disk.iter_mut().zip(extents.map_bytes(0, 512)) {
                            *byte &= new; // cleared bits may be gone already
                        }
                    }
                }
                4 if extents.is_committing() => {
                    let durable = extent != 0;
                    if durable {
                        disk.copy_from_slice(extents.map_bytes(0, 512));
                        let done = extents.next_commit - 1;
                        running.extend(waiting.iter().filter(|w| w.0 == done).map(|w| w.1));
                        waiting.retain(|w| w.0 != done);
                    } else {
                        // Those writes wait for the repetition.
                        let failed = extents.next_commit - 1;
                        for wait in waiting.iter_mut().filter(|w| w.0 == failed) {
                            wait.0 += 1;
                        }
                    }
                    extents.end_commit(durable);
                }
                5 if !cleaning => {
                    extents.begin_clean();
                    cleaning = true;
                }
                6 if cleaning => {
                    extents.end_clean(extent % 4 != 0);
                    cleaning = false;
                }
                _ => {}
            }
            for &extent in &running {
                prop_assert!(disk[usize::try_from(extent / 8).unwrap()] >> (extent % 8) & 1 == 1);
                prop_assert!(get(&extents.dirty, extent));
            }
            if !waiting.is_empty() {
                prop_assert!(extents.is_urgent() || extents.is_committing());
            }
        }
    }
}

#[test]
fn what_is_copied_while_a_flush_is_under_way_waits_for_the_next() {
    let mut extents = small();
    for extent in 0..3 {
        extents.write_start(extent * MIB, 512);
        extents.write_end(extent * MIB, 512);
    }
    commit(&mut extents);
    assert!(extents.merge(&[], false).is_none());
    assert_eq!(extents.cooling(), 1, "extent 0, which is to be copied now");
    extents.begin_clean();
    extents.synced(0);
    extents.end_clean(true);
    assert_eq!(extents.dirty_count(), 3, "copied after the flush began");
    extents.begin_clean();
    extents.end_clean(true);
    assert_eq!(extents.dirty_count(), 2);
}
