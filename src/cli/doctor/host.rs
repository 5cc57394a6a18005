//! This host, where the broker's store is on it: limits of the process, space and speed of the disk. Everything else about
//! another machine only the broker can say.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    broker::Facts,
    findings::{Findings, Level},
};
use crate::{
    cli::text::size,
    env::{Env, Open},
};

/// A broker of many clients and queues needs more than a shell usually gives.
const FILES_MIN: u64 = 65_536;
/// How much of its files a process may use.
const FILES_USED_MAX: f64 = 0.8;
/// Writes and syncs that are measured, and their size.
const SYNCS: usize = 32;
const SYNC_BYTES: usize = 4_096;
/// A sync that takes longer makes each send under SYNC_FLUSH slow.
const SLOW: Duration = Duration::from_millis(20);
/// Free space below which it will soon be too late.
const FREE_MIN_BYTES: u64 = 2 << 30;

pub async fn examine(env: &Env, facts: &Facts, findings: &mut Findings) {
    let root = PathBuf::from(facts.setting("storePathRootDir"));
    let lock = env.storage.read(&root.join("lock")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pid =
        lock.as_deref().and_then(|text| text.trim_end_matches('\0').split_whitespace().nth(1)?.parse::<u32>().ok());
    if root.as_os_str().is_empty() || !env.storage.exists(&root.join("lock")) {
        let text = "its store is not on this machine (or not to be read by you), so limits and disk were not looked at";
        return findings.say(
            Level::Note,
            facts.about(),
            text,
            "run `keelmq doctor` there, in the broker's directory, too",
        );
    }
    if let Some(pid) = pid {
        files(env, facts, pid, findings);
    }
    let log = match facts.setting("storePathCommitLog") {
        "" => root.join("commitlog"),
        path => PathBuf::from(path),
    };
    space(env, facts, &log, findings);
    match sync_latency(env, &log).await {
        Ok((median, longest)) => {
            let text = format!(
                "a sync of 4 KiB beside its commit log takes {:.2} ms (median of {SYNCS}; longest {:.1} ms)",
                median.as_secs_f64() * 1e3,
                longest.as_secs_f64() * 1e3
            );
            match median > SLOW {
                true => findings.say(
                    Level::Warning,
                    facts.about(),
                    text,
                    "use a disk with a power-loss protected write cache, or one that is not shared: under SYNC_FLUSH every \
                     send waits for a sync",
                ),
                false => findings.good(facts.about(), text),
            }
        }
        Err(error) => findings.say(
            Level::Note,
            facts.about(),
            format!("the speed of its disk was not measured: {error}"),
            "run it as the user that the broker runs as",
        ),
    }
}

/// What the kernel allows the broker's process.
fn files(env: &Env, facts: &Facts, pid: u32, findings: &mut Findings) {
    let read = |path: String| env.storage.read(Path::new(&path)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(limit) = read(format!("/proc/{pid}/limits")).as_deref().and_then(open_files) else { return };
    let open = env.storage.list(Path::new(&format!("/proc/{pid}/fd"))).map_or(0, |entries| entries.len() as u64);
    let text = format!("its process (pid {pid}) may open {limit} files and has {open} open");
    if open as f64 > limit as f64 * FILES_USED_MAX {
        let advice = "raise the limit (ulimit -n, LimitNOFILE= of its unit): at the limit connections are refused";
        findings.say(Level::Wrong, facts.about(), text, advice);
    } else if limit < FILES_MIN {
        let advice = format!(
            "raise it to {FILES_MIN} or more (ulimit -n, LimitNOFILE= of its unit) before there are many clients"
        );
        findings.say(Level::Note, facts.about(), text, advice);
    } else {
        findings.good(facts.about(), text);
    }
}

/// The soft limit in `/proc/PID/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn space(env: &Env, facts: &Facts, log: &Path, findings: &mut Findings) {
    let Ok(space) = env.storage.space(log) else { return };
    let text = format!("{} of {} are free for its commit log", size(space.free_bytes), size(space.total_bytes));
    match space.free_bytes < FREE_MIN_BYTES {
        true => findings.say(Level::Wrong, facts.about(), text, "free space or add some before sends are refused"),
        false => findings.good(facts.about(), text),
    }
}

/// Median and longest of some small writes, each synced, in a file that goes again.
async fn sync_latency(env: &Env, directory: &Path) -> std::io::Result<(Duration, Duration)> {
    let path = directory.parent().unwrap_or(directory).join(format!("doctor-{}", env.host.pid));
    let file = env.storage.open(&path, Open::New { reserve: (SYNCS * SYNC_BYTES) as u64 })?;
    let measured = async {
        let mut took = Vec::with_capacity(SYNCS);
        for number in 0..SYNCS {
            let began = env.clock.monotonic();
            file.write((number * SYNC_BYTES) as u64, &[&[number as u8; SYNC_BYTES]])?;
            file.sync().await.map_err(std::io::Error::other)?;
            took.push(env.clock.monotonic() - began);
        }
        took.sort_unstable();
        Ok((took[SYNCS / 2], took[SYNCS - 1]))
    };
    let measured = measured.await;
    env.storage.remove(&path)?;
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             95982                95982                processes\n\
                      Max open files            20000                524288               files\n";
        assert_eq!(open_files(limits), Some(20_000));
        assert_eq!(
            open_files("Max open files            unlimited            unlimited            files\n"),
            Some(u64::MAX)
        );
        assert_eq!(open_files(""), None);
    }
}
