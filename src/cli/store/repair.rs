//! Sets damage aside, with consent: everything that is taken out of the store stays readable beside it.

use std::path::{Path, PathBuf};

use super::survey::{ProblemKind, Survey};
use crate::{
    cli::exit,
    env::{Env, Open, Storage},
};

/// Bytes copied at once.
const COPY_BYTES: u64 = 4 << 20;

pub async fn run(env: &Env, root: &Path) -> Result<i32, String> {
    let storage = &*env.storage;
    if !storage.exists(root) {
        return Err(format!("{} does not exist", root.display()));
    }
    // A broker must not run on the store while files move.
    let _held = storage
        .lock(&root.join("lock"), &format!("lock {}", env.host.pid))
        .map_err(|error| format!("{error}. Stop the broker first"))?;
    let survey = Survey::take(env, root, true, false)?;
    if survey.problems.is_empty() {
        println!("{} is sound, nothing is to be done", root.display());
        return Ok(exit::OK);
    }
    let aside = free_name(storage, root);
    let fail = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
        format!("{what} {}: {error}; what has been moved so far is in {}", path.display(), aside.display())
    };
    for directory in [aside.clone(), aside.join("commitlog"), aside.join("config")] {
        storage.create_dir_all(&directory).map_err(|error| fail("cannot create", &directory, &error))?;
    }
    let mut said = Vec::new();
    let take = |from: &Path, to: &Path| storage.rename(from, to).map_err(|error| fail("cannot move", from, &error));

    // First the sign that the last stop was not in order: whatever happens from here on, the next start reads all.
    let abort = root.join("abort");
    storage.replace(&abort, Vec::new()).await.map_err(|error| fail("cannot write", &abort, &error))?;
    // What follows from the log is built anew from it; the checkpoint must not say that it is there already.
    for name in ["checkpoint", "consumequeue", "index"] {
        let path = root.join(name);
        if storage.exists(&path) {
            take(&path, &aside.join(name))?;
            said.push(format!("{name}, which the next start builds anew"));
        }
    }
    if let Some(cut) = survey.cut {
        for segment in survey.segments.iter().rev() {
            let name = segment.path.file_name().expect("a listed file has a name");
            let copy = aside.join("commitlog").join(name);
            if segment.base >= cut {
                take(&segment.path, &copy)?;
                said.push(format!("{}, whole", segment.path.display()));
            } else if segment.base + segment.len > cut {
                copy_file(storage, &segment.path, &copy).await.map_err(|error| fail("cannot copy", &copy, &error))?;
                let file = storage
                    .open(&segment.path, Open::Existing)
                    .map_err(|error| fail("cannot open", &segment.path, &error))?;
                file.zero(cut - segment.base..segment.len)
                    .map_err(|error| fail("cannot clear", &segment.path, &error))?;
                file.sync().await.map_err(|error| fail("cannot clear", &segment.path, &error))?;
                said.push(format!(
                    "{} from byte {} on (a copy of all of it)",
                    segment.path.display(),
                    cut - segment.base
                ));
            }
        }
    }
    for problem in survey.problems.iter().filter(|problem| problem.kind == ProblemKind::Table) {
        let path = PathBuf::from(&problem.file);
        let name = path.file_name().expect("a listed file has a name");
        take(&path, &aside.join("config").join(name))?;
        said.push(format!("{}, which starts empty", path.display()));
    }
    for directory in [root.to_owned(), root.join("commitlog"), aside.clone()] {
        storage.sync_dir(&directory).await.map_err(|error| fail("cannot make durable", &directory, &error))?;
    }
    println!("set aside in {}:", aside.display());
    for line in &said {
        println!("  {line}");
    }
    if let Some(cut) = survey.cut {
        println!("the log now ends at offset {cut}; messages behind it are no longer delivered");
    }
    Ok(exit::OK)
}

/// `root/set-aside-N` with the first number that is free.
fn free_name(storage: &dyn Storage, root: &Path) -> PathBuf {
    (1..)
        .map(|number| root.join(format!("set-aside-{number}")))
        .find(|path| !storage.exists(path))
        .expect("one is free")
}

/// Copies what can be read; a part that cannot be is zeros in the copy.
async fn copy_file(storage: &dyn Storage, from: &Path, to: &Path) -> Result<(), String> {
    let source = storage.open(from, Open::ReadOnly).map_err(|error| error.to_string())?;
    let len = source.len();
    let copy = storage.open(to, Open::New { reserve: len }).map_err(|error| error.to_string())?;
    let mut at = 0;
    while at < len {
        let end = len.min(at + COPY_BYTES);
        if let Ok(bytes) = source.read_cold(at..end) {
            copy.write(at, &[&bytes]).map_err(|error| error.to_string())?;
        }
        at = end;
    }
    copy.sync().await.map_err(|error| error.to_string())
}
