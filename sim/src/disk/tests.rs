//! The disk model against its own promises.

use super::*;

fn disk(seed: u64) -> Disk {
    let mut disk = Disk::new(Dice::new(seed, "disk"), Trace::default());
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/"));
    disk
}

fn sync(disk: &mut Disk, inode: Inode) -> bool {
    let mut job = disk.sync_begin(inode);
    loop {
        if let Some(outcome) = disk.sync_batch(&mut job) {
            return outcome;
        }
    }
}

const PATH: &str = "/d/log";

fn log(disk: &mut Disk, len: u64) -> Inode {
    let inode = disk.create(Path::new(PATH), len, 0).unwrap();
    assert!(sync(disk, inode) && disk.sync_dir(Path::new("/d")));
    inode
}

#[test]
fn synced_bytes_survive_and_others_are_old_new_or_noise() {
    let (mut dropped, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let mut disk = disk(seed);
        disk.faults.write_back = 200_000;
        let inode = log(&mut disk, 16 * PAGE);
        disk.write(inode, 100, &[&[1; 6000]], 0).unwrap();
        assert!(sync(&mut disk, inode));
        disk.write(inode, 6100, &[&[2; 3000], &[3; 3000]], 0).unwrap();
        disk.power_loss();
        let bytes = disk.peek(Path::new(PATH)).unwrap();
        assert!(bytes[100..6100].iter().all(|byte| *byte == 1), "seed {seed}: a synced byte changed");
        assert_eq!(bytes.len(), 16 * PAGE as usize);
        // The first sector of the unsynced part held synced bytes: old or new, never noise.
        let shared = &bytes[6100..6144];
        assert!(shared.iter().all(|byte| *byte == 0) || shared.iter().all(|byte| *byte == 2), "seed {seed}");
        let rest = &bytes[6100..12100];
        match (
            rest.iter().all(|byte| *byte == 0),
            rest[..3000].iter().all(|byte| *byte == 2) && rest[3000..].iter().all(|byte| *byte == 3),
        ) {
            (true, _) => dropped += 1,
            (_, true) => kept += 1,
            _ => torn += 1,
        }
        assert!(bytes[12288 + 512..].iter().all(|byte| *byte == 0), "seed {seed}: bytes from nowhere");
    }
    assert!(dropped > 20 && kept > 20 && torn > 20, "{dropped} {kept} {torn}");
}

#[test]
fn a_process_death_keeps_the_page_cache() {
    let mut disk = disk(1);
    let inode = log(&mut disk, PAGE);
    disk.write(inode, 0, &[b"here"], 0).unwrap();
    assert!(disk.lock(inode) && !disk.lock(inode));
    disk.process_death();
    assert!(disk.lock(inode), "the lock goes with the process");
    assert_eq!(&disk.peek(Path::new(PATH)).unwrap()[..4], b"here");
}

#[test]
fn a_failed_sync_marks_everything_clean() {
    let (mut lost, mut stayed) = (0, 0);
    for seed in 0..100 {
        let mut disk = disk(seed);
        let inode = log(&mut disk, PAGE);
        disk.write(inode, 0, &[b"here"], 0).unwrap();
        disk.faults.sync_fails = 1_000_000;
        assert!(!sync(&mut disk, inode));
        disk.faults.sync_fails = 0;
        assert!(sync(&mut disk, inode), "the error is reported once");
        assert_eq!(&disk.peek(Path::new(PATH)).unwrap()[..4], b"here");
        disk.power_loss();
        match &disk.peek(Path::new(PATH)).unwrap()[..4] {
            b"here" => stayed += 1,
            _ => lost += 1,
        }
    }
    assert!(lost > 20 && stayed > 20, "{lost} {stayed}");
}

#[test]
fn a_sync_cut_in_the_middle_leaves_a_subset() {
    let mut counts = BTreeSet::new();
    for seed in 0..100 {
        let mut disk = disk(seed);
        disk.faults.sync_in_batches = 1_000_000;
        let inode = log(&mut disk, 12 * PAGE);
        disk.write(inode, 0, &[&[7; 12 * PAGE as usize]], 0).unwrap();
        let mut job = disk.sync_begin(inode);
        assert!(disk.sync_batch(&mut job).is_none());
        disk.power_loss();
        let bytes = disk.peek(Path::new(PATH)).unwrap();
        counts.insert(
            (0..12).filter(|page| bytes[page * PAGE as usize..][..PAGE as usize].iter().all(|byte| *byte == 7)).count(),
        );
    }
    assert!(*counts.first().unwrap() >= 3 && counts.len() > 3, "{counts:?}");
}

#[test]
fn a_page_written_during_a_sync_is_dirty_again() {
    let mut disk = disk(1);
    let inode = log(&mut disk, PAGE);
    disk.write(inode, 0, &[b"one"], 0).unwrap();
    let mut job = disk.sync_begin(inode);
    assert_eq!(disk.sync_batch(&mut job), Some(true));
    disk.write(inode, 3, &[b"two"], 0).unwrap();
    assert!(disk.file(inode).dirty.contains(&0));
}

#[test]
fn reserved_space_never_runs_out() {
    let mut disk = disk(1);
    disk.quota = 4 * PAGE;
    let inode = log(&mut disk, 3 * PAGE);
    assert_eq!(disk.create(Path::new("/d/more"), 2 * PAGE, 0).unwrap_err().raw_os_error(), Some(28));
    disk.write(inode, 0, &[&[1; 3 * PAGE as usize]], 0).unwrap();
    let sparse = disk.create_sparse(Path::new("/d/sparse"), 9 * PAGE, 0).unwrap();
    disk.write(sparse, 5 * PAGE, &[b"one page is left"], 0).unwrap();
    assert_eq!(disk.write(sparse, 0, &[b"none is"], 0).unwrap_err().raw_os_error(), Some(28));
    disk.remove(Path::new("/d/sparse")).unwrap();
    disk.create(Path::new("/d/again"), PAGE, 0).unwrap();
}

#[test]
fn damage_is_visible_at_once() {
    let mut disk = disk(1);
    let inode = log(&mut disk, 2 * PAGE);
    disk.write(inode, 0, &[b"abc"], 0).unwrap();
    disk.rot(Path::new(PATH), 1, 0).unwrap();
    assert_eq!(&disk.peek(Path::new(PATH)).unwrap()[..3], b"acc");
    disk.misdirect(Path::new(PATH), 0, Some(1)).unwrap();
    let bytes = disk.peek(Path::new(PATH)).unwrap();
    assert_eq!((&bytes[..3], &bytes[PAGE as usize..][..3]), (&[0u8; 3][..], &b"acc"[..]));
}
