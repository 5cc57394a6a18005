//! What a survey found, for people and for scripts.

use std::path::Path;

use super::{queues, survey::Survey};
use crate::{cli::text::quoted, cli::text::size, env::Env};

pub struct Report<'a> {
    survey: &'a Survey,
}

impl<'a> Report<'a> {
    pub fn of(survey: &'a Survey) -> Self {
        Report { survey }
    }

    pub fn json(&self) -> String {
        let problems: Vec<String> = self
            .survey
            .problems
            .iter()
            .map(|problem| {
                format!(
                    "{{\"file\":{},\"offset\":{},\"kind\":{},\"text\":{}}}",
                    quoted(&problem.file),
                    problem.offset,
                    quoted(problem.kind.name()),
                    quoted(&problem.text)
                )
            })
            .collect();
        format!(
            "{{\"ok\":{},\"problems\":[{}],\"problems_more\":{},\"records\":{},\"log_end\":{},\"clean\":{},\"torn_end\":{}}}\n",
            problems.is_empty(),
            problems.join(","),
            self.survey.problems_more,
            self.survey.records,
            self.survey.log_end,
            self.survey.is_clean,
            self.survey.has_torn_end
        )
    }

    pub fn table(&self) -> String {
        let survey = self.survey;
        let mut text = String::new();
        for problem in &survey.problems {
            text +=
                &format!("{} at byte {}: {} ({})\n", problem.file, problem.offset, problem.text, problem.kind.name());
        }
        if survey.problems_more > 0 {
            text += &format!("and {} more\n", survey.problems_more);
        }
        let begin = survey.segments.first().map_or(0, |first| first.base);
        text += &format!(
            "{}: {} records in {} of log, from offset {begin} to {}\n",
            survey.root.display(),
            survey.records,
            size(survey.log_end - begin),
            survey.log_end
        );
        if survey.has_torn_end {
            text += "behind the end stands what a stop out of order left unfinished; the next start wipes it\n";
        }
        let problems = survey.problems.len() as u64 + survey.problems_more;
        text += &match problems {
            0 => "sound\n".to_owned(),
            _ => format!(
                "{problems} problems. Restore the files from a backup, or go on without what is damaged: \
                 keelmq store repair {} --set-aside\n",
                survey.root.display()
            ),
        };
        text
    }
}

/// An overview in both forms.
pub struct Overview {
    pub table: String,
    pub json: String,
}

pub fn stat(env: &Env, root: &Path) -> Result<Overview, String> {
    let storage = &*env.storage;
    let survey = Survey::look(storage, root)?;
    let begin = survey.segments.first().map_or(0, |first| first.base);
    let known = survey.checkpoint.known;
    let held = survey.segments.iter().map(|segment| segment.len).sum::<u64>();
    let mut table = format!(
        "{}\n  log          {} files of {} ({} in all) from offset {begin}\n",
        root.display(),
        survey.segments.len(),
        size(survey.segment_bytes),
        size(held)
    );
    table += &match known {
        Some(known) => {
            format!("  durable      up to offset {}, queues and index up to {}\n", known.flushed.0, known.derived.0)
        }
        None => "  durable      unknown: Java wrote last, or nobody\n".to_owned(),
    };
    table +=
        &format!("  last stop    {}\n", if survey.is_clean { "in order" } else { "not in order: a start recovers" });
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
        survey.segments.len(),
        survey.segment_bytes,
        known.map_or("null".to_owned(), |known| known.flushed.0.to_string()),
        known.map_or("null".to_owned(), |known| known.derived.0.to_string()),
        survey.is_clean,
        json_topics.join(",")
    );
    Ok(Overview { table, json })
}
