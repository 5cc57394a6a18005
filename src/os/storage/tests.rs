//! Real files in a temporary folder, and the devices that fail by nature.

use super::*;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_new_file_is_reserved_zero_filled_and_new() {
    let folder = temp();
    let path = folder.path().join("00000000000000000000");
    let file = Disk.open(&path, Open::New { reserve: 1 << 20 }).unwrap();
    assert_eq!(file.len(), 1 << 20);
    assert!(file.read(0..1 << 20).unwrap().iter().all(|byte| *byte == 0));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap());
    assert!(blocks * 512 >= 1 << 20, "only {blocks} blocks are reserved");
    let error = Disk.open(&path, Open::New { reserve: 1 }).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("00000000000000000000"), "{error}");
}

#[test]
fn a_reservation_that_fails_leaves_no_file() {
    let folder = temp();
    let path = folder.path().join("huge");
    // Beyond what any file system lets one file have.
    let error = Disk.open(&path, Open::New { reserve: 1 << 60 }).err().unwrap();
    assert!(error.to_string().contains("cannot reserve 1152921504606846976 bytes"), "{error}");
    assert!(!path.exists());
}

#[test]
fn parts_are_written_one_behind_the_other_and_read_everywhere() {
    let folder = temp();
    for (name, how) in [("new", Open::New { reserve: 8192 }), ("sparse", Open::Sparse { len: 8192 })] {
        let path = folder.path().join(name);
        let file = Disk.open(&path, how).unwrap();
        // Read before writing: the mapping of an early reader shows later writes.
        assert_eq!(&file.read(0..4).unwrap()[..], &[0; 4]);
        file.write(4090, &[b"abc", b"", b"defghijk"]).unwrap();
        assert_eq!(&file.read(4089..4102).unwrap()[..], b"\0abcdefghijk\0", "{name}");
        assert_eq!(file.read(4090..4096).unwrap(), file.read_cold(4090..4096).unwrap());
        let many: Vec<Vec<u8>> = (0..3000u32).map(|number| vec![number as u8; 1]).collect();
        let parts: Vec<&[u8]> = many.iter().map(|part| &part[..]).collect();
        file.write(0, &parts).unwrap();
        assert_eq!(file.read(2999..3000).unwrap()[0], 2999u32 as u8, "more parts than one call takes");
        file.zero(1..2999).unwrap();
        assert_eq!(file.read(1..2999).unwrap().iter().filter(|byte| **byte != 0).count(), 0);
        assert_eq!(file.read(2999..3000).unwrap()[0], 2999u32 as u8);
        assert_eq!(file.len(), 8192);
        file.write(8190, &[b"over"]).unwrap();
        assert_eq!(&file.read(8188..8194).unwrap()[..], b"\0\0over");
        for beyond in [8190..8195, 9000..9001] {
            assert_eq!(file.read(beyond.clone()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(file.read_cold(beyond).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        file.start_write_back(0..8192);
        drop(file);
        let again = Disk.open(&path, Open::Existing).unwrap();
        assert_eq!((again.len(), &again.read(4090..4093).unwrap()[..]), (8194, &b"abc"[..]));
        let only = Disk.open(&path, Open::ReadOnly).unwrap();
        assert_eq!(&only.read(8190..8194).unwrap()[..], b"over");
        assert!(only.write(0, &[b"x"]).is_err());
    }
    assert_eq!(Disk.open(&folder.path().join("absent"), Open::Existing).err().unwrap().kind(), io::ErrorKind::NotFound);
}

#[test]
fn bytes_outlive_their_file() {
    let folder = temp();
    let path = folder.path().join("segment");
    let file = Disk.open(&path, Open::New { reserve: 4096 }).unwrap();
    file.write(0, &[b"held by a slow reader"]).unwrap();
    let held = file.read(8..21).unwrap();
    drop(file);
    Disk.remove(&path).unwrap();
    assert_eq!(&held[..], b"a slow reader");
}

#[test]
fn a_sparse_file_takes_no_blocks_until_they_are_reserved() {
    let folder = temp();
    let path = folder.path().join("queue");
    let file = Disk.open(&path, Open::Sparse { len: 6_000_000 }).unwrap();
    let blocks = || std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap());
    assert_eq!((file.len(), blocks()), (6_000_000, 0));
    file.reserve(0..65_536).unwrap();
    assert!(blocks() * 512 >= 65_536 && blocks() * 512 < 6_000_000);
    // Every start zeroes a queue's file behind its end. It once reserved all of it: 40,000 queues filled the disk.
    file.zero(4_096..6_000_000).unwrap();
    assert_eq!(blocks() * 512, 4_096);
    assert_eq!(Disk.open(&path, Open::Sparse { len: 10 }).unwrap().len(), 6_000_000, "never shortened");
}

#[test]
fn a_full_device_is_an_error_value() {
    let file = Disk.open(Path::new("/dev/full"), Open::Existing).unwrap();
    let error = file.write(0, &[b"x"]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().starts_with("cannot write /dev/full: No space left"), "{error}");
}

#[tokio::test]
async fn a_failed_sync_is_final() {
    let folder = temp();
    let good = Disk.open(&folder.path().join("good"), Open::New { reserve: 4096 }).unwrap();
    good.write(0, &[b"x"]).unwrap();
    good.sync().await.unwrap();
    // A device that cannot be synced at all.
    let bad = Disk.open(Path::new("/dev/full"), Open::ReadOnly).unwrap();
    let first = bad.sync().await.unwrap_err();
    assert!(first.to_string().starts_with("sync of /dev/full failed: "), "{first}");
    assert_eq!(bad.sync().await.unwrap_err(), first);
    Disk.sync_dir(folder.path()).await.unwrap();
    let absent = folder.path().join("absent");
    assert!(Disk.sync_dir(&absent).await.unwrap_err().path.ends_with("absent"));
}

#[tokio::test]
async fn replacing_keeps_the_old_content_beside_it() {
    let folder = temp();
    let path = folder.path().join("topics.json");
    let names = || Disk.list(folder.path()).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    Disk.replace(&path, b"one".to_vec()).await.unwrap();
    assert_eq!(names(), ["topics.json"]);
    for (content, before) in [("two!", "one"), ("", "two!"), ("three", "")] {
        Disk.replace(&path, content.into()).await.unwrap();
        assert_eq!(Disk.read(&path).unwrap(), content.as_bytes());
        assert_eq!(Disk.read(&folder.path().join("topics.json.bak")).unwrap(), before.as_bytes());
        assert_eq!(names(), ["topics.json", "topics.json.bak"]);
    }
    // Left over by a crash in the middle.
    fs::write(folder.path().join("topics.json.bak.tmp"), b"old").unwrap();
    Disk.replace(&path, b"four".to_vec()).await.unwrap();
    assert_eq!(names(), ["topics.json", "topics.json.bak"]);
    let nowhere = Disk.replace(&folder.path().join("absent/x"), Vec::new()).await.unwrap_err();
    assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_lock_excludes_a_second_open_and_a_java_broker() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let folder = temp();
    let path = folder.path().join("lock");
    fs::write(&path, "left over by a longer holder").unwrap();
    let held = Disk.lock(&path, "lock 42").unwrap();
    assert_eq!(Disk.read(&path).unwrap(), b"lock 42");
    let taken = Disk.lock(&path, "lock 43").err().unwrap();
    assert_eq!(taken, LockError::Taken { path: shown(&path), holder: Some("lock 42".into()) });
    // What a JVM's FileChannel.lock does.
    let java = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    assert!(fcntl_lock(&java, FlockOperation::NonBlockingLockExclusive).is_err());
    drop(held);
    fcntl_lock(&java, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(matches!(Disk.lock(&path, "lock 44"), Err(LockError::Taken { .. })));
    drop(java);
    drop(Disk.lock(&path, "lock 45").unwrap());
    let nowhere = Disk.lock(&folder.path().join("absent/lock"), "x").err().unwrap();
    assert!(matches!(nowhere, LockError::Failed { .. }), "{nowhere}");
}

#[test]
fn directories() {
    let folder = temp();
    let deep = folder.path().join("a/b");
    Disk.create_dir_all(&deep).unwrap();
    for name in ["2", "10", "1"] {
        fs::write(deep.join(name), name).unwrap();
    }
    let entries = Disk.list(&deep).unwrap();
    assert_eq!(
        entries.iter().map(|entry| (&entry.name[..], entry.len)).collect::<Vec<_>>(),
        [("1", 1), ("10", 2), ("2", 1)]
    );
    assert!(entries.iter().all(|entry| !entry.is_dir && entry.modified_ms > 1_700_000_000_000));
    assert!(Disk.list(folder.path()).unwrap()[0].is_dir);
    Disk.rename(&deep.join("1"), &deep.join("3")).unwrap();
    assert!(Disk.exists(&deep.join("3")) && !Disk.exists(&deep.join("1")));
    assert_eq!(Disk.list(&folder.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    let space = Disk.space(&folder.path().join("not/there/yet")).unwrap();
    assert!(space.free_bytes > 0 && space.total_bytes >= space.free_bytes);
    Disk.remove_dir_all(&folder.path().join("a")).unwrap();
    assert!(!deep.exists());
}
