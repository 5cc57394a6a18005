//! Goes on without what is damaged: everything from the damage on is set aside, never thrown away, and what is derived
//! is left to be made anew. Done only when a person asks for it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    config_file::backup_of,
    segment::name_of,
    verify::{self, Kind, Piece, Place, Report, VerifyError},
};
use crate::{
    env::{Clock, Open, Storage, SyncFailed},
    model::LogOffset,
};

const COPY_BYTES: u64 = 1 << 20;
const CHECKPOINT_BYTES: u64 = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error("{path} is locked: a broker runs on it. Stop the broker first")]
    Running { path: String },
    #[error("{path} cannot be locked")]
    NotLocked { path: String },
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sync(#[from] SyncFailed),
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// Found before anything was done.
    pub report: Report,
    /// Where things went; `None`: nothing had to.
    pub aside: Option<PathBuf>,
    /// The log ends here now, if it was cut.
    pub log_end: Option<LogOffset>,
    pub moved: Vec<PathBuf>,
}

/// Sets aside the log from its first damage on, and queues and index if anything of them or of the log is wrong. May be
/// cut at any moment and done again. On a service or a tool's own thread.
pub async fn set_aside(
    storage: &dyn Storage,
    clock: &dyn Clock,
    place: &Place,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Repaired, RepairError> {
    verify::pieces(storage, place)?;
    let path = || place.root.display().to_string();
    let (lock, is_running) = verify::lock(storage, &place.root);
    if is_running {
        return Err(RepairError::Running { path: path() });
    }
    let Some(_lock) = lock else { return Err(RepairError::NotLocked { path: path() }) };
    let report = verify::verify_locked(storage, place, false, true, progress)?;
    let mut repaired = Repaired { report, ..Repaired::default() };
    let damaged = repaired.report.damaged_at;
    if repaired.report.is_sound() {
        return Ok(repaired);
    }
    let aside = directory(storage, clock, place).await?;
    // First of all: whatever of the rest happens, the next start reads the whole log and trusts nothing else.
    forget_derived(storage, place).await?;
    for name in ["consumequeue", "index"] {
        move_to(storage, &place.root.join(name), &aside, &mut repaired.moved).await?;
    }
    for problem in repaired.report.problems.iter().filter(|problem| problem.kind == Kind::Config) {
        for path in [problem.file.clone(), backup_of(&problem.file)] {
            move_to(storage, &path, &aside.join("config"), &mut repaired.moved).await?;
        }
    }
    if let Some((segment, at)) = damaged {
        cut(storage, place, segment, at, &aside.join("commitlog"), &mut repaired.moved).await?;
        repaired.log_end = Some(at);
    }
    repaired.aside = Some(aside);
    Ok(repaired)
}

/// A new directory beside the log: a rename does not leave its file system.
async fn directory(storage: &dyn Storage, clock: &dyn Clock, place: &Place) -> Result<PathBuf, RepairError> {
    let local = clock.local_ms(clock.wall_ms());
    let date = chrono::DateTime::from_timestamp_millis(local).unwrap_or_default().format("%Y%m%d-%H%M%S");
    let parent = place.commit_log.parent().unwrap_or(&place.root);
    let mut aside = parent.join(format!("set-aside-{date}"));
    let mut number = 1;
    while storage.exists(&aside) {
        number += 1;
        aside = parent.join(format!("set-aside-{date}-{number}"));
    }
    for directory in [aside.join("commitlog"), aside.join("config")] {
        storage.create_dir_all(&directory)?;
    }
    storage.sync_dir(&aside).await?;
    storage.sync_dir(parent).await?;
    Ok(aside)
}

/// Makes the next start one after a crash that knows nothing: `abort` is there and the checkpoint says nothing.
async fn forget_derived(storage: &dyn Storage, place: &Place) -> Result<(), RepairError> {
    let abort = storage.open(&place.root.join("abort"), Open::Sparse { len: 0 })?;
    abort.sync().await?;
    storage.sync_dir(&place.root).await?;
    let checkpoint = storage.open(&place.root.join("checkpoint"), Open::Sparse { len: CHECKPOINT_BYTES })?;
    checkpoint.zero(0..CHECKPOINT_BYTES)?;
    checkpoint.sync().await?;
    Ok(storage.sync_dir(&place.root).await?)
}

/// Moves a file or directory, durably. One that is not there was moved before.
async fn move_to(
    storage: &dyn Storage,
    from: &Path,
    aside: &Path,
    moved: &mut Vec<PathBuf>,
) -> Result<(), RepairError> {
    if !storage.exists(from) {
        return Ok(());
    }
    let to = aside.join(from.file_name().expect("it has a name"));
    storage.rename(from, &to)?;
    storage.sync_dir(aside).await?;
    storage.sync_dir(from.parent().expect("it lies in a directory")).await?;
    moved.push(from.to_owned());
    Ok(())
}

async fn cut(
    storage: &dyn Storage,
    place: &Place,
    segment: LogOffset,
    at: LogOffset,
    aside: &Path,
    moved: &mut Vec<PathBuf>,
) -> Result<(), RepairError> {
    let pieces = verify::pieces(storage, place)?;
    // Newest first: cut short, this leaves no hole.
    for piece in pieces.iter().rev().filter(|piece| piece.base > segment || (piece.base == segment && at == segment)) {
        move_to(storage, &piece.path, aside, moved).await?;
    }
    if at == segment {
        return Ok(());
    }
    let Some(piece) = pieces.iter().find(|piece| piece.base == segment) else { return Ok(()) };
    copy(storage, piece, &aside.join(name_of(segment.0))).await?;
    let file = storage.open(&piece.path, Open::Existing)?;
    file.zero(at - segment..piece.len)?;
    file.sync().await?;
    moved.push(piece.path.clone());
    Ok(())
}

/// Copies a segment; what the disk does not give stays zeros in the copy.
async fn copy(storage: &dyn Storage, piece: &Piece, to: &Path) -> Result<(), RepairError> {
    let source = storage.open(&piece.path, Open::ReadOnly)?;
    let target = storage.open(to, Open::Sparse { len: piece.len })?;
    let mut at = 0;
    while at < piece.len {
        let end = piece.len.min(at + COPY_BYTES);
        match source.read_cold(at..end) {
            Ok(bytes) if bytes.iter().any(|byte| *byte != 0) => target.write(at, &[&bytes])?,
            _ => {}
        }
        at = end;
    }
    target.sync().await?;
    Ok(storage.sync_dir(to.parent().expect("it lies in a directory")).await?)
}
