//! What was found in a store, for people and for scripts.

use std::path::Path;

use super::queues;
use crate::{
    cli::text::{quoted, size},
    env::Env,
    store::{
        checkpoint::CheckpointFile,
        verify::{self, Place, Report},
    },
};

/// One line for scripts.
pub fn json(report: &Report) -> String {
    let problem = |problem: &verify::Problem| {
        format!(
            "{{\"file\":{},\"offset\":{},\"kind\":{},\"text\":{}}}",
            quoted(&problem.file.display().to_string()),
            problem.offset,
            quoted(&problem.kind.to_string()),
            quoted(&problem.text)
        )
    };
    let problems: Vec<String> = report.problems.iter().map(problem).collect();
    format!(
        "{{\"ok\":{},\"problems\":[{}],\"problems_more\":{},\"records\":{},\"log_end\":{},\"clean\":{},\"torn_end\":{},\"running\":{}}}\n",
        report.is_sound(),
        problems.join(","),
        report.unlisted,
        report.stat.records,
        report.stat.log_end,
        report.is_clean,
        report.has_torn_end,
        report.is_running
    )
}

/// Sentences for people.
pub fn table(root: &Path, report: &Report) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        text +=
            &format!("{} at byte {}: {} ({})\n", problem.file.display(), problem.offset, problem.text, problem.kind);
    }
    if report.unlisted > 0 {
        text += &format!("and {} more\n", report.unlisted);
    }
    let stat = &report.stat;
    text += &format!(
        "{}: {} records in {} of log, from offset {} to {}\n",
        root.display(),
        stat.records,
        size(stat.log_end.0.saturating_sub(stat.log_begin.0)),
        stat.log_begin,
        stat.log_end
    );
    if report.is_running {
        text += "a broker runs on it: what it is writing now was not checked\n";
    }
    if report.has_torn_end {
        text += "behind the end stands what a stop out of order left unfinished; the next start wipes it\n";
    }
    let problems = report.problems.len() as u64 + report.unlisted;
    text += &match problems {
        0 => "sound\n".to_owned(),
        _ => format!(
            "{problems} problems. Restore the files from a backup, or go on without what is damaged: \
             keelmq store repair {} --set-aside\n",
            root.display()
        ),
    };
    text
}

/// An overview in both forms.
pub struct Overview {
    pub table: String,
    pub json: String,
}

pub fn stat(env: &Env, root: &Path) -> Result<Overview, String> {
    let storage = &*env.storage;
    let place = Place { root: root.to_owned(), commit_log: root.join("commitlog"), index: None };
    let pieces = verify::pieces(storage, &place).map_err(|error| error.to_string())?;
    let begin = pieces.first().map_or(0, |first| first.base.0);
    let known = CheckpointFile::peek(storage, &root.join("checkpoint")).unwrap_or_default().known;
    let held = pieces.iter().map(|piece| piece.len).sum::<u64>();
    let is_clean = !storage.exists(&root.join("abort"));
    let segment_bytes = pieces.iter().map(|piece| piece.len).max().unwrap_or(0);
    let mut table = format!(
        "{}\n  log          {} files of {} ({} in all) from offset {begin}\n",
        root.display(),
        pieces.len(),
        size(segment_bytes),
        size(held)
    );
    table += &match known {
        Some(known) => {
            format!("  durable      up to offset {}, queues and index up to {}\n", known.flushed.0, known.derived.0)
        }
        None => "  durable      unknown: Java wrote last, or nobody\n".to_owned(),
    };
    table += &format!("  last stop    {}\n", if is_clean { "in order" } else { "not in order: a start recovers" });
    let mut topics = Vec::new();
    let directory = root.join("consumequeue");
    for topic in storage.list(&directory).unwrap_or_default().iter().filter(|entry| entry.is_dir) {
        let mut queues = Vec::new();
        for queue in storage.list(&directory.join(&topic.name)).unwrap_or_default() {
            let path = directory.join(&topic.name).join(&queue.name);
            let Ok(id) = queue.name.parse::<u32>() else { continue };
            let (min, max) = queues::bounds(storage, &path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            queues.push((id, min, max));
        }
        queues.sort_unstable();
        topics.push((topic.name.clone(), queues));
    }
    table += &format!("  topics       {}\n", topics.len());
    let mut json_topics = Vec::new();
    for (topic, queues) in &topics {
        let messages: u64 = queues.iter().map(|(_, min, max)| max - min).sum();
        table += &format!("    {topic}: {messages} messages in {} queues\n", queues.len());
        let queues: Vec<String> =
            queues.iter().map(|(id, min, max)| format!("{{\"id\":{id},\"min\":{min},\"max\":{max}}}")).collect();
        json_topics.push(format!("{{\"topic\":{},\"queues\":[{}]}}", quoted(topic), queues.join(",")));
    }
    let json = format!(
        "{{\"segments\":{},\"segment_bytes\":{},\"log_begin\":{begin},\"flushed\":{},\"derived\":{},\"clean\":{},\"topics\":[{}]}}\n",
        pieces.len(),
        segment_bytes,
        known.map_or("null".to_owned(), |known| known.flushed.0.to_string()),
        known.map_or("null".to_owned(), |known| known.derived.0.to_string()),
        is_clean,
        json_topics.join(",")
    );
    Ok(Overview { table, json })
}
